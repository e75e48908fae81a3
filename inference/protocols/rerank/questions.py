"""A request for a ranking, read, checked, and cut into parts for several workers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from inference.choice import Target
from inference.errors import InputTooLong
from inference.protocols import fields

KINDS = frozenset({"rerank"})


@dataclass(frozen=True)
class Part:
    """Documents that follow one another, ranked together by one worker."""

    begin: int  # the place of the first of them
    texts: list[str]


@dataclass(frozen=True)
class Question:
    """What is to be ranked, by which model, and what comes back."""

    query: str
    documents: list[str]
    target: Target
    most: int | None  # of the results; None: all
    with_documents: bool

    def parts(self) -> list[Part]:
        """Each at most VELO_BATCH_MAX documents and, with the query, VELO_MAX_INPUT_CHARS
        characters."""
        found: list[Part] = []
        room = 0
        for place, text in enumerate(self.documents):
            last = found[-1] if found else None
            if last is None or len(last.texts) == settings.VELO_BATCH_MAX or len(text) > room:
                last = Part(place, [])
                found.append(last)
                room = settings.VELO_MAX_INPUT_CHARS - len(self.query)
            last.texts.append(text)
            room -= len(text)
        return found


def question(body: Any, key: str | None = None, model: str | None = None) -> Question:
    """Of a request's body. Fields that aren't known are ignored, and null is as if a field
    weren't there. `key`: of X-Request-Key. `model`: in the address, if it is there. Raises
    InvalidInput, EmptyBatch, BlankInput, InputTooLong and TooManyInputs."""
    if not isinstance(body, Mapping):
        raise fields.not_an_object(body, '{"query": "…", "documents": ["…"]}')
    most = body.get("top_n")
    if most is not None and (not fields.is_count(most) or most < 1):
        raise fields.wrong("top_n", most, "a whole number of at least 1")
    with_documents = fields.flag(body, "return_documents")
    query, documents = texts(body.get("query"), body.get("documents"), "documents")
    target = fields.target(model or body.get("model"), KINDS, key)
    return Question(query, documents, target, most, bool(with_documents))


def texts(query: Any, given: Any, noun: str) -> tuple[str, list[str]]:
    """The query and the documents, checked; a document may be an object with its text. `noun`: the
    name of their field. Raises as `question` does."""
    query = fields.text("query", query)
    found = [
        fields.text(f"{noun}[{place}]", one.get("text") if isinstance(one, Mapping) else one)
        for place, one in enumerate(fields.array(noun, given, "an array of strings"))
    ]
    for place, text in enumerate(found):
        if len(query) + len(text) > settings.VELO_MAX_INPUT_CHARS:
            raise InputTooLong(
                f"{noun}[{place}]: with the query it has {len(query) + len(text)} characters; "
                f"at most {settings.VELO_MAX_INPUT_CHARS} are taken. Split it, or raise "
                "VELO_MAX_INPUT_CHARS on the server.",
                param=f"{noun}[{place}]",
            )
    return query, found
