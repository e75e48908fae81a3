"""Every mistake gets its status, its stable code, and a sentence that says what to do."""

import json
import socket

import pytest

from tests.stack import Answer, Stack
from velo_site import settings

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
        (b'"\xff\xfe"', 400, "invalid_json", "UTF-8"),
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
        (TOO_LONG, 413, "input_too_long", "200001 characters; at most 200000"),
        (TOO_LARGE, 413, "body_too_large", "2097152 bytes"),
    ],
)
def test_a_bad_body(velo: Stack, body: bytes, status: int, code: str, says: str) -> None:
    assert_problem(velo.post(body), status, code, says)


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


def test_a_body_in_chunks(velo: Stack) -> None:
    headers = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}
    answer = velo.request("POST", "/transform", b'3\r\n"a"\r\n0\r\n\r\n', headers)
    assert_problem(answer, 411, "length_required", "Content-Length")


def test_a_client_that_leaves_in_the_middle_harms_nobody(velo: Stack) -> None:
    with socket.create_connection(("127.0.0.1", velo.port)) as client:
        client.sendall(
            b"POST /transform HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b'Content-Length: 100\r\n\r\n"half'
        )
    assert velo.transform("the next one").status == 200
