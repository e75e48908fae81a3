"""Finds words that plain technical English avoids: `python -m tests.words`, in `make lint`.

Prose is the text of Markdown pages and templates, and the comments and strings of programs. Code in
backticks isn't prose.
"""

import io
import re
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACES = (
    "*.md",
    "docs/*.md",
    "velo_site/**/*.py",
    "inference/**/*.py",
    "workers/**/*.py",
    "workers/**/*.lua",
    "templates/**/*.html",
    "locustfile.py",
    "Makefile",
    "Dockerfile",
    "docker-compose.yml",
    "pyproject.toml",
)
START = r"(?:^|[.:;!|]|[-*]\s)\s*"  # of a sentence; code is masked with |
# What follows a pronoun, but not a numeral or a determiner: "the one that", "the old one."
AFTER = (
    r"(?=\s+(?:that|which|who|whose|of|in|with|it|they|is|are|was|were|for|from|to|on|has)\b"
    r"|[.,;:!?)]|\s*$)"
)
ADVICE = {
    r"\bshall\b": "write will or must",
    r"\banew\b": "write again, or name the action: recreate, re-enqueue",
    r"\bwho(?:so|m)?ever\b": "name the subject: anyone who, the process that",
    rf"(?:{START}|\b(?:to|of|for|from|by|and|or|than|if|as|but)\s+)who\s+(?=\w)(?![^.]*\?)": (
        "name the subject: the caller that, the worker that"
    ),
    r"(?<!there )\b(?:is|are|was|were|be|being)\s+no\s+(?!longer\b|more\b)": "write isn't a",
    r"\bbut\s+no\s+(?:string|number|object|array|folder|file|version|model|text)\b": (
        "write but not a"
    ),
    r"\bso\s+(?:many|much)\b": "give the number and its unit",
    r"\bones\b": "repeat the noun",
    r"\banother\s+one\b": "repeat the noun",
    r"\b(?:each|every|any|this|that|which|old|new|first|last|next|only|own|right)\s+one\b"
    rf"{AFTER}": "repeat the noun",
    rf"\bthe\s+one\b{AFTER}": "repeat the noun",
    r"\bone\s+(?:is|was|has|had|may|can|could|must|would|should|will|does|wants?|that|who)\b": (
        "name the subject"
    ),
    r"\bthose\b(?=\s+(?:that|which|who|whose|of|in|with|it|he|they|are|were|for|from|to|on|at|by|"
    r"there|under|without|has|have|had)\b|[.,;:!?)]|\s*$)": "repeat the noun",
    r"\b(?:he|she|his|himself|herself)\b": "name the process or the person",
    r"\bmend(?:s|ed|ing)?\b": "write fix or correct",
    r"\b(?:otherwise|another|else)\s+than\b": "write other than, or different from",
    r"\b(?:whilst|amongst|hitherto|hereby|herein|thereof|therein|thereby|wherein|whence|hence|"
    r"thence|lest|albeit|nought|nevertheless|begotten)\b": "use the everyday word",
    rf"{START}(?:Nor|Neither|Never|Only then)\s+(?:is|are|was|does|do|did|has|have|can|may)\b": (
        "put the subject before the verb"
    ),
}
PATTERNS = {
    re.compile(pattern, re.IGNORECASE | re.MULTILINE): advice for pattern, advice in ADVICE.items()
}


@dataclass(frozen=True)
class Finding:
    path: str
    line: int
    words: str
    advice: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.words!r}: {self.advice}"


def without(text: str, pattern: str) -> str:
    """`text` with every match replaced by underscores; line breaks stay."""
    return re.sub(pattern, lambda found: re.sub(r"[^\n]", "_", found[0]), text, flags=re.DOTALL)


def without_code(text: str) -> str:
    """`text` without code in backticks and without placeholders in braces."""
    return without(without(text, r"`[^`\n]+`"), r"\{[^{}\n]*\}")


def of_markdown(text: str) -> str:
    text = without(text, r"(?m:^```.*?^```)")
    return without_code(without(text, r"(?<=\]\()[^)\s]+"))


def of_template(text: str) -> str:
    text = without(text, r"<(style|script)\b.*?</\1>")
    return without(without(without(text, r"\{%.*?%\}"), r"\{\{.*?\}\}"), r"<[^>]*>")


def of_python(text: str) -> str:
    """Only comments and strings, each where it is in the file; adjacent pieces are one text."""
    lines = text.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    found = list(re.sub(r"\S", "|", text))
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in PROSE_TOKENS:
            begin = starts[token.start[0] - 1] + token.start[1]
            end = starts[token.end[0] - 1] + token.end[1]
            piece = text[begin:end]
            piece = re.sub(r"^(#+|[a-zA-Z]{0,2}(?:\"\"\"|'''|\"|'))", blank, piece)
            piece = re.sub(r"(\"\"\"|'''|\"|')$", blank, piece)
            found[begin:end] = without_code(piece)
    return "".join(found)


PROSE_TOKENS = {
    tokenize.COMMENT,
    tokenize.STRING,
    getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING),  # since Python 3.12
}


def blank(found: re.Match[str]) -> str:
    return " " * len(found[0])


def of_comments(mark: str, text: str) -> str:
    """Only what follows `mark` on each line."""
    kept = []
    for line in text.splitlines(keepends=True):
        before, found, after = line.partition(mark)
        kept.append(re.sub(r"\S", "|", before) + " " * len(found) + after)
    return without_code("".join(kept))


def prose(path: Path) -> str:
    """The text of the file with the same line breaks, and everything but prose masked."""
    text = path.read_text()
    match path.suffix:
        case ".md":
            return of_markdown(text)
        case ".html":
            return of_template(text)
        case ".py":
            return of_python(text)
        case ".lua":
            return of_comments("--", text)
        case _:
            return of_comments("#", text)


def findings(path: Path, root: Path = ROOT) -> Iterator[Finding]:
    text = prose(path)
    for pattern, advice in PATTERNS.items():
        for found in pattern.finditer(text):
            line = text.count("\n", 0, found.end() - len(found[0].lstrip(" \n|.:;!-*")))
            words = " ".join(found[0].strip("|").split())
            yield Finding(str(path.relative_to(root)), line + 1, words, advice)


def files(root: Path = ROOT) -> Iterator[Path]:
    for place in PLACES:
        for path in sorted(root.glob(place)):
            if ".ru." not in path.name and "migrations" not in path.parts:
                yield path


def main() -> int:
    found = [finding for path in files() for finding in findings(path)]
    for finding in found:
        print(finding)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
