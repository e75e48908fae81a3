"""A request's body: JSON, and behind it perhaps the raw bytes of tensors."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import IO, Any

from rest_framework.parsers import BaseParser
from rest_framework.request import Request

from inference import codecs
from inference.errors import InvalidInput, UnsupportedMediaType

JSON_LENGTH = "Inference-Header-Content-Length"  # the header that says where the JSON ends
BINARY, JSON = "application/octet-stream", "application/json"
TAKEN = ("", JSON, BINARY)  # Triton's client sends no Content-Type
DIGITS = 18  # of the header's number
SHOWN = 40  # characters of it, if it is wrong


@dataclass(frozen=True)
class Body:
    """What a request carries, decompressed."""

    json: Any
    tensors: bytes  # of the binary tensors, in the order of `inputs`


class BodyParser(BaseParser):
    """Reads a body, compressed or not. The header counts bytes of the decompressed body."""

    media_type = BINARY

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """A Body. Raises InvalidInput, and what `codecs.received` and `codecs.read` do."""
        assert parser_context
        request = parser_context["request"]
        found = codecs.received(stream, request)
        length = _length(request.headers.get(JSON_LENGTH), len(found))
        return Body(codecs.read(found[:length]), found[length:])


def _length(header: str | None, whole: int) -> int:
    """Of the JSON. Raises InvalidInput."""
    if header is None:
        return whole
    if not (header.isascii() and header.isdigit() and len(header) <= DIGITS):
        raise InvalidInput(
            f"{JSON_LENGTH}: expected the number of bytes of the JSON; got {header[:SHOWN]!r}."
        )
    length = int(header)
    if length > whole:
        raise InvalidInput(
            f"{JSON_LENGTH} is {length}, but the body has only {whole} bytes. Count the bytes of "
            "the JSON before compression, and send the whole body."
        )
    return length


class AnyBody(codecs.JSONAlways):
    """Takes a body that is declared as JSON, as bytes, or not at all."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser:
        """Raises UnsupportedMediaType."""
        given = codecs.media_type(request)
        if given not in TAKEN:
            raise UnsupportedMediaType(
                f"Unsupported media type {given[:SHOWN]!r}. Send JSON with Content-Type: {JSON}, "
                f"or JSON and binary tensors with Content-Type: {BINARY}."
            )
        [parser] = parsers
        return parser
