"""JSON in and out of HTTP, by orjson, compressed or not, and nothing but JSON."""

import zlib
from codecs import BOM_UTF8
from collections.abc import Iterable, Mapping
from typing import IO, Any

import orjson
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from inference import bodies
from inference.errors import (
    InvalidEncoding,
    InvalidJSON,
    UnsupportedEncoding,
    UnsupportedMediaType,
)

# zlib's `wbits` by Content-Encoding.
COMPRESSIONS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
GZIP = b"\x1f\x8b"


class JSONParser(BaseParser):
    """Reads a JSON body, compressed or not, of at most the bytes that its address takes."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """Raises what `received` and `read` do."""
        assert parser_context
        return read(received(stream, parser_context["request"]))


def received(stream: IO[bytes], request: Request) -> bytes:
    """A request's body, decompressed. Raises BodyTooLarge, UnsupportedEncoding and
    InvalidEncoding."""
    limit = bodies.limit(request.path)
    body = stream.read(limit.bytes + 1)
    if encoding := request.META.get("HTTP_CONTENT_ENCODING"):
        body = _decompressed(body, encoding, limit.bytes)
    if len(body) > limit.bytes:
        raise bodies.too_large(limit)
    return body


def read(body: bytes) -> Any:
    """JSON. Raises InvalidJSON."""
    try:
        return orjson.loads(body.removeprefix(BOM_UTF8))
    except orjson.JSONDecodeError as error:
        raise InvalidJSON(_why_not(body, error)) from error


def _decompressed(body: bytes, encoding: str, limit: int) -> bytes:
    """At most one byte more than `limit`, so that a small body can't fill the memory."""
    name = encoding.strip().lower()
    if name == "identity":
        return body
    if name not in COMPRESSIONS:
        raise UnsupportedEncoding(
            f"Content-Encoding {encoding[:40]!r} isn't supported. Send the body uncompressed, or "
            "compressed with gzip or deflate."
        )
    decompressor = zlib.decompressobj(COMPRESSIONS[name])
    try:
        found = decompressor.decompress(body, limit + 1)
        if len(found) > limit:
            return found
        if not decompressor.eof:
            raise zlib.error("the compressed data isn't complete")
        if decompressor.unused_data:
            raise zlib.error("something follows the compressed data")
    except zlib.error as error:
        raise InvalidEncoding(
            f"Content-Encoding says {name}, but the body can't be decompressed so: {error}. Send "
            "the whole compressed body, or an uncompressed one without Content-Encoding."
        ) from error
    return found


def _why_not(body: bytes, error: orjson.JSONDecodeError) -> str:
    """What keeps the body from being JSON. orjson calls all that isn't UTF-8 surrogates."""
    if body.startswith(GZIP):
        return "The body is compressed with gzip. Say so in Content-Encoding: gzip."
    if b"\0" in body[:4]:  # JSON has no such byte, but UTF-16 and UTF-32 have for ASCII
        return "The body isn't valid UTF-8: it looks like UTF-16 or UTF-32. Send JSON in UTF-8."
    try:
        body.decode()
    except UnicodeDecodeError as wrong:
        return (
            f"The body isn't valid UTF-8: {wrong.reason}, byte 0x{body[wrong.start]:02x} at "
            f"position {wrong.start}. Send JSON in UTF-8."
        )
    return (
        f"The body isn't JSON: {error}. Expected JSON, for example the string "
        '"Hello!" with its quotes.'
    )


def rendered(data: Any) -> bytes:
    """JSON; an array of numpy's is a list, each number in its shortest form.

    The same bytes as of the list that a client reads from them. Where orjson writes a number as
    float32 in another form than the same number as Python's, 0.0000012 instead of 1.2e-6, it goes
    through the list.
    """
    text = orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY)
    if b"0.00000" in text or b"+" in text:
        return orjson.dumps(orjson.loads(text))
    return text


class JSONRenderer(BaseRenderer):
    media_type = "application/json"
    format = "json"
    charset = None  # JSON is UTF-8 by definition
    render_style = "binary"

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        return rendered(data)


def media_type(request: Request) -> str:
    """That the request declares its body to have, without parameters; "" if it declares none."""
    return (request.content_type or "").partition(";")[0].strip().lower()


class JSONAlways(BaseContentNegotiation):
    """There is one form of every answer; a client that asks for another gets it all the same."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser:
        """Raises UnsupportedMediaType."""
        given = media_type(request)
        for parser in parsers:
            if parser.media_type == given:
                return parser
        raise UnsupportedMediaType(
            f"Unsupported media type {given[:40]!r}. Send JSON with Content-Type: application/json."
        )

    def select_renderer(
        self,
        request: Request,
        renderers: Iterable[BaseRenderer],
        format_suffix: str | None = None,
    ) -> tuple[BaseRenderer, str]:
        [renderer] = renderers
        return renderer, renderer.media_type
