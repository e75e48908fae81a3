"""Every mistake gets its status, its stable code, and a sentence that says what to do."""

import gzip
import json
import re
import socket
import sys
import unicodedata
import zlib
from typing import Any

import numpy
import pytest

from tests.stack import Answer, Stack
from velo_site import settings
from workers.values.blank import PATTERN, SOMETHING

TOO_LONG = json.dumps("a" * (settings.VELO_MAX_INPUT_CHARS + 1)).encode()
TOO_LARGE = b'"' + b"a" * settings.VELO_MAX_BODY_BYTES + b'"'


def assert_problem(answer: Answer, status: int, code: str, says: str) -> None:
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json
    assert problem["status"] == status
    assert problem["code"] == code
    assert problem["type"] == f"urn:velo:error:{code}"
    assert problem["title"]
    assert says in problem["detail"]


@pytest.mark.parametrize(
    ("body", "status", "code", "says"),
    [
        (b"", 400, "invalid_json", "empty"),
        (b"not json", 400, "invalid_json", "Expected JSON"),
        (b'"unclosed', 400, "invalid_json", "Expected JSON"),
        (b'"\xff\xfe"', 400, "invalid_json", "isn't valid UTF-8: invalid start byte, byte 0xff at"),
        ('"naïve"'.encode("latin-1"), 400, "invalid_json", "isn't valid UTF-8"),
        ('"Hello"'.encode("utf-16"), 400, "invalid_json", "UTF-16"),
        ('"Hello"'.encode("utf-16-le"), 400, "invalid_json", "UTF-16"),
        ('"Hello"'.encode("utf-16-be"), 400, "invalid_json", "UTF-16"),
        ('"Тест"'.encode("utf-16"), 400, "invalid_json", "isn't valid UTF-8"),
        (gzip.compress(b'"Hello"', mtime=0), 400, "invalid_json", "Content-Encoding: gzip"),
        (b'"\\ud800"', 400, "invalid_json", "surrogate"),
        (b'"lone \\udc00 inside"', 400, "invalid_json", "surrogate"),
        (b"{}", 400, "not_a_string", "got an object"),
        (b'{"text": "a"}', 400, "not_a_string", "got an object"),
        (b'["a"]', 400, "not_a_string", "got an array"),
        (b"1", 400, "not_a_string", "got a number"),
        (b"1.5", 400, "not_a_string", "got a number"),
        (b"true", 400, "not_a_string", "got a boolean"),
        (b"null", 400, "not_a_string", "got null"),
        (b'""', 400, "blank_input", "Send some text"),
        (b'" \\t\\n\\u00a0\\u2003"', 400, "blank_input", "Send some text"),
        (b'"\\u200b\\u200d\\ufeff\\u00ad"', 400, "blank_input", "never shown"),
        (b'"\\u0000\\u0007\\u009f"', 400, "blank_input", "control characters"),
        (TOO_LONG, 413, "input_too_long", "200001 characters; at most 200000"),
        (TOO_LARGE, 413, "body_too_large", "2097152 bytes"),
    ],
)
def test_a_bad_body(velo: Stack, body: bytes, status: int, code: str, says: str) -> None:
    assert_problem(velo.post(body), status, code, says)


def test_a_byte_order_mark_is_no_mistake(velo: Stack) -> None:
    answer = velo.post('\ufeff"Hello"'.encode())
    assert answer.status == 200
    assert numpy.allclose(answer.json, velo.transform("Hello").json, atol=1e-2)


def test_texts_without_anything_to_see_are_blank_also_to_the_schema() -> None:
    for character in map(chr, range(sys.maxunicode + 1)):
        if unicodedata.category(character) in {"Cc", "Cf", "Zs", "Zl", "Zp"}:
            assert not SOMETHING.search(character), ascii(character)
            assert character > "\uffff" or not re.search(PATTERN, character), ascii(character)
        elif unicodedata.category(character)[0] in "LNPS":
            filler = character in "\u115f\u1160\u2800\u3164\uffa0"  # letters only by their name
            assert bool(SOMETHING.search(character)) is not filler, ascii(character)


def compressed(velo: Stack, body: bytes, encoding: str) -> Answer:
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
    return velo.request("POST", "/transform", body, headers)


@pytest.mark.parametrize(
    ("compress", "encoding"),
    [
        (gzip.compress, "gzip"),
        (gzip.compress, "X-GZIP"),
        (zlib.compress, "deflate"),
        (bytes, "identity"),
    ],
)
def test_a_compressed_body_is_read(velo: Stack, compress: Any, encoding: str) -> None:
    answer = compressed(velo, compress(b'"Hello"'), encoding)
    assert answer.status == 200
    assert numpy.allclose(answer.json, velo.transform("Hello").json, atol=1e-2)


@pytest.mark.parametrize(
    ("body", "encoding", "status", "code", "says"),
    [
        (gzip.compress(TOO_LARGE, mtime=0), "gzip", 413, "body_too_large", "2097152 bytes"),
        (zlib.compress(TOO_LARGE), "deflate", 413, "body_too_large", "2097152 bytes"),
        (b'"Hello"', "gzip", 400, "invalid_encoding", "incorrect header"),
        (
            gzip.compress(b'"Hello"', mtime=0)[:-9],
            "gzip",
            400,
            "invalid_encoding",
            "isn't complete",
        ),
        (zlib.compress(b'"Hello"') + b"a", "deflate", 400, "invalid_encoding", "follows"),
        (gzip.compress(b"Hello", mtime=0), "gzip", 400, "invalid_json", "Expected JSON"),
        (b"anything", "br", 415, "unsupported_encoding", "'br' isn't supported"),
        (b"anything", "gzip, gzip", 415, "unsupported_encoding", "gzip or deflate"),
    ],
)
def test_a_body_that_is_compressed_badly(
    velo: Stack, body: bytes, encoding: str, status: int, code: str, says: str
) -> None:
    answer = compressed(velo, body, encoding)
    assert_problem(answer, status, code, says)
    assert answer.headers.get("accept-encoding") == ("gzip, deflate" if status == 415 else None)


@pytest.mark.parametrize("content_type", ["text/plain", "multipart/form-data; boundary=x", "", "%"])
def test_another_content_type(velo: Stack, content_type: str) -> None:
    answer = velo.post(b'"a"', content_type)
    assert_problem(answer, 415, "unsupported_media_type", "Unsupported media type")


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "TRACE"])
def test_another_method(velo: Stack, method: str) -> None:
    answer = velo.request(method, "/transform")
    assert_problem(answer, 405, "method_not_allowed", method)
    assert "POST" in answer.headers["allow"]


def test_an_unknown_address(velo: Stack) -> None:
    assert_problem(velo.get("/nowhere"), 404, "not_found", "/docs")


def test_another_host(velo: Stack) -> None:
    answer = velo.request("GET", "/stat", headers={"Host": "evil.example"})
    assert_problem(answer, 400, "bad_request", "DJANGO_ALLOWED_HOSTS")


CHUNKED = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}


def in_chunks(body: bytes, size: int) -> bytes:
    parts = [body[begin : begin + size] for begin in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in [*parts, b""])


def test_a_body_in_chunks_is_read(velo: Stack) -> None:
    whole = velo.transform("Hello, world!")
    for size in (1, 5, 1000):
        body = in_chunks(b'"Hello, world!"', size)
        answer = velo.request("POST", "/transform", body, CHUNKED)
        assert (answer.status, answer.json) == (200, whole.json)
    compressed = in_chunks(gzip.compress(b'"Hello, world!"'), 7)
    headers = {**CHUNKED, "Content-Encoding": "gzip"}
    answer = velo.request("POST", "/transform", compressed, headers)
    assert (answer.status, answer.json) == (200, whole.json)


def test_a_body_in_chunks_is_held_against_the_limit_as_it_comes(velo: Stack) -> None:
    body = in_chunks(json.dumps("a" * (3 * 1024 * 1024)).encode(), 64 * 1024)
    answer = velo.request("POST", "/transform", body, CHUNKED)
    assert_problem(answer, 413, "body_too_large", "VELO_MAX_BODY_BYTES")
    answer = velo.request("POST", "/transform", in_chunks(b"", 1), CHUNKED)
    assert_problem(answer, 400, "invalid_json", "The body is empty")
    assert velo.transform("the next one").status == 200


def test_a_client_that_leaves_in_the_middle_harms_nobody(velo: Stack) -> None:
    with socket.create_connection(("127.0.0.1", velo.port)) as client:
        client.sendall(
            b"POST /transform HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b'Content-Length: 100\r\n\r\n"half'
        )
    assert velo.transform("the next one").status == 200
