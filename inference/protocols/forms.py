"""In which form an error is said. The path decides: no foreign client negotiates it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from inference.errors import MEDIA_TYPE, Failure, problem
from inference.protocols import oip, openai, rerank
from inference.protocols.oip import errors as oip_errors
from inference.protocols.openai import errors as openai_errors

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
        return _openai
    return _oip if oip.speaks(path) else _problem_details


def _openai(failure: Failure) -> Said:
    return Said(*openai_errors.said(failure), JSON)


def _oip(failure: Failure) -> Said:
    return Said(*oip_errors.said(failure), JSON)


def _problem_details(failure: Failure) -> Said:
    body = problem(failure.status, failure.code, failure.title, failure.detail, **failure.extra)
    return Said(failure.status, failure.headers, body, MEDIA_TYPE)
