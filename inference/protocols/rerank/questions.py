"""A request for a ranking, read, checked, and cut into parts for several workers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from inference.choice import Target
from inference.errors import BlankInput, InputTooLong, InvalidInput, TooManyInputs
from inference.protocols import fields
from workers.values.blank import SOMETHING

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


def question(body: Any, key: str | None = None) -> Question:
    """Of a request's body. Fields that aren't known are ignored, and null is as if a field
    weren't there. `key`: of X-Request-Key. Raises InvalidInput, BlankInput, InputTooLong and
    TooManyInputs."""
    if not isinstance(body, Mapping):
        raise fields.not_an_object(body, '{"query": "…", "documents": ["…"]}')
    most, with_documents = body.get("top_n"), body.get("return_documents")
    if most is not None and (not fields.is_count(most) or most < 1):
        raise fields.wrong("top_n", most, "a whole number of at least 1")
    if not isinstance(with_documents, bool | None):
        raise fields.wrong("return_documents", with_documents, "true or false")
    query, documents = checked(body.get("query"), _documents(body.get("documents")))
    target = fields.target(body.get("model"), KINDS, key)
    return Question(query, documents, target, most, bool(with_documents))


def checked(query: Any, documents: Sequence[Any], noun: str = "documents") -> tuple[str, list[str]]:
    """The query and the documents; each must be a string that isn't blank, and short enough beside
    the query. `noun`: what errors call the documents. Raises InvalidInput, BlankInput and
    InputTooLong."""
    query = _text("query", query)
    texts = [_text(f"{noun}[{place}]", one) for place, one in enumerate(documents)]
    for place, text in enumerate(texts):
        if len(query) + len(text) > settings.VELO_MAX_INPUT_CHARS:
            raise InputTooLong(
                f"{noun}[{place}]: with the query it has {len(query) + len(text)} characters; "
                f"at most {settings.VELO_MAX_INPUT_CHARS} are taken. Split it, or raise "
                "VELO_MAX_INPUT_CHARS on the server.",
                param=f"{noun}[{place}]",
            )
    return query, texts


def _documents(given: Any) -> list[Any]:
    if not isinstance(given, list):
        raise fields.wrong("documents", given, "an array of strings")
    if not given:
        raise InvalidInput("documents: the array is empty. Send at least one.", param="documents")
    if len(given) > settings.VELO_MAX_INPUTS:
        raise TooManyInputs(
            f"documents: {len(given)} of them; at most {settings.VELO_MAX_INPUTS} are taken. Send "
            "fewer, or raise VELO_MAX_INPUTS on the server.",
            param="documents",
        )
    return [one.get("text") if isinstance(one, Mapping) else one for one in given]


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise fields.wrong(name, value, "a string")
    if not SOMETHING.search(value):
        raise BlankInput(f"{name}: the string is blank. Send some text.", param=name)
    return value
