"""Cuts long texts before they are tokenized, so that tokenizing costs what the model reads."""

from collections.abc import Sequence
from unicodedata import combining

from tokenizers import Encoding, Tokenizer

CHARS_PER_TOKEN = 8  # of the first try; most languages and vocabularies have 2 to 6
GROWTH = 4  # of the next try, where the first was too short
LOOKAHEAD = 64  # characters after a word that may change how it is tokenized


class Shortener:
    """Gives beginnings of texts that the tokenizer turns into the same tokens as the whole texts.

    Tokenizers split a text into words from left to right, and then each word into tokens. A
    beginning is long enough if another word starts after the last token that is kept, and at least
    LOOKAHEAD characters before the cut: the cut then changes nothing before that word. A text for
    which this can't be shown stays whole (one endless word, a tokenizer without words), as does
    every text if the tokenizer keeps the end of a text instead of its beginning.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        """`tokenizer` truncates, and its truncation doesn't change afterwards."""
        truncation = tokenizer.truncation
        assert truncation
        self._tokenizer = tokenizer
        self._keeps_end = truncation["direction"] == "left"
        # Tokens that are looked for in the text before it is split into words.
        added = (len(token.content) for token in tokenizer.get_added_tokens_decoder().values())
        self._lookahead = max(LOOKAHEAD, *added, 0)
        self._first = CHARS_PER_TOKEN * truncation["max_length"] + self._lookahead

    def shortened(self, texts: Sequence[str]) -> list[str]:
        """As many as texts, in their order."""
        found = list(texts)
        characters = self._first
        # A try that isn't much shorter than the text isn't worth its time.
        while long := [
            number
            for number, text in enumerate(found)
            if len(text) > 2 * characters and text is texts[number] and not self._keeps_end
        ]:
            tried = [_cut(texts[number], characters) for number in long]
            for number, text, encoding in zip(
                long, tried, self._tokenizer.encode_batch(tried), strict=True
            ):
                if self._is_enough(encoding, len(text)):
                    found[number] = text
            characters *= GROWTH
        return found

    def _is_enough(self, encoding: Encoding, cut: int) -> bool:
        kept = max((word for word in encoding.word_ids if word is not None), default=None)
        for part in encoding.overflowing:
            for word, (start, _) in zip(part.word_ids, part.offsets, strict=True):
                if word is not None and word != kept:
                    return bool(start <= cut - self._lookahead)
        return False


def _cut(text: str, characters: int) -> str:
    """The beginning, of at least `characters`; no combining mark is cut off from its character."""
    while characters < len(text) and combining(text[characters]):
        characters += 1
    return text[:characters]
