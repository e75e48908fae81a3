"""In which form an error is said. The path decides: no foreign client negotiates it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from inference.errors import MEDIA_TYPE, Failure, problem
from inference.protocols import oip, openai, rerank, tei
from inference.protocols.oip import errors as oip_errors
from inference.protocols.openai import errors as openai_errors
from inference.protocols.tei import errors as tei_errors

JSON = "application/json"


@dataclass(frozen=True)
class Said:
    """An error as an HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: Mapping[str, Any]
    media_type: str


Form = Callable[[Failure], Said]


def form(path: str) -> Form:
    """Of the protocol that the path belongs to."""
    if openai.speaks(path) or rerank.speaks(path):
        return as_openai
    if oip.speaks(path):
        return as_oip
    return as_tei if tei.speaks(path) else as_problem_details


def as_openai(failure: Failure) -> Said:
    return Said(*openai_errors.said(failure), JSON)


def as_oip(failure: Failure) -> Said:
    return Said(*oip_errors.said(failure), JSON)


def as_tei(failure: Failure) -> Said:
    return Said(*tei_errors.said(failure), JSON)


def as_problem_details(failure: Failure) -> Said:
    body = problem(failure.status, failure.code, failure.title, failure.detail, **failure.extra)
    return Said(failure.status, failure.headers, body, MEDIA_TYPE)
