"""What can go wrong, and the one shape in which a caller hears of it (RFC 9457).

APIError
├── 400 BadRequest           the request can be read in two ways, or its host isn't known
├── 400 InvalidJSON          the body isn't JSON
├── 400 InvalidEncoding      the body isn't compressed as its Content-Encoding says
├── 400 NotAString           the body is JSON, but not a string, and the model takes a string
├── 400 InvalidInput         the body is JSON, but not of the shape that the model takes
├── 400 BlankInput           nothing in the string can be seen
├── 400 EmptyBatch           the array of inputs is empty
├── 400 TokenIds             the input is numbers of a client's own tokenizer
├── 400 WrongKind            the model is of another kind than the address asks for
├── 400 InvalidTimeout       X-Request-Timeout isn't a number greater than 0
├── 401 Unauthorized         the key is missing, unknown, revoked or expired (VELO_AUTH=keys)
├── 404 UnknownModel         no model has this name
├── 404 UnknownVersion       the model has no such version
├── 408 BodyTimeout          the body came too slowly
├── 409 NotServing           the version that is asked for has no live worker, but others have
├── 411 LengthRequired       the body's Transfer-Encoding isn't chunked
├── 413 TooManyInputs        the request has more than VELO_MAX_INPUTS inputs
├── 413 InputTooLong         the text, or all texts together, are over VELO_MAX_INPUT_CHARS
├── 413 BodyTooLarge         the body is over VELO_MAX_BODY_BYTES or VELO_MAX_INPUTS_BYTES
├── 415 UnsupportedMediaType Content-Type isn't application/json
├── 415 UnsupportedEncoding  Content-Encoding is neither gzip nor deflate
├── 422 TooManyTokens        the input is longer than the model reads, and may not be truncated
├── 429 QueueFull            VELO_MAX_QUEUE inputs wait already, or the web process is full
├── 429 ClientShare          the address has VELO_CLIENT_MAX requests here already
├── 429 RateLimited          the key's client is over one of its limits
├── 500 ModelFailed          every attempt of the job raised
├── 500 Poisonous            workers crashed while they had the job
├── 500 ServerError          nobody has thought of it
├── 503 NoWorker             no live worker serves the model
├── 503 Suspended            RQ is suspended: workers take no jobs
├── 503 QueueAway            Redis can't be reached, or refuses to be written to
├── 503 JobLost              Redis lost the job twice
├── 503 DatabaseAway         the database can't be reached, and nothing is known without it
└── 504 DeadlinePassed       no answer within the time that the request has

The framework's own errors (403, 404, 405) take the same shape. Foreign protocols say all of them in
their own form: see protocols/forms.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rest_framework import exceptions

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True)
class Failure:
    """What is to be said of an error, in the form of whatever protocol the caller speaks."""

    status: int
    code: str  # stable, for programs
    title: str
    detail: str  # what came, and what to do
    headers: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)  # further members of the answer
    param: str | None = None  # the field of the request that is wrong


class APIError(exceptions.APIException):
    """Carries its status, its stable code, a title, and an example for the schema.

    `detail` says what came and what to do; `extra` are further members of the answer; `param` is
    the field of the request that is wrong.
    """

    title = "Something went wrong"
    example = ""
    retry_after: int | None = None  # seconds
    try_again = True  # False: the same request would fail again, and perhaps do harm

    def __init__(self, detail: str = "", *, param: str | None = None, **extra: Any) -> None:
        super().__init__(detail or self.example)
        self.param = param
        self.extra = extra

    @property
    def body(self) -> dict[str, Any]:
        return problem(
            self.status_code, self.default_code, self.title, str(self.detail), **self.extra
        )

    @property
    def headers(self) -> dict[str, str]:
        found = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return found if self.try_again else found | {"X-Should-Retry": "false"}

    @property
    def failure(self) -> Failure:
        return Failure(
            self.status_code,
            self.default_code,
            self.title,
            str(self.detail),
            self.headers,
            self.extra,
            self.param,
        )


class BadRequest(APIError):
    status_code = 400
    default_code = "bad_request"
    title = "The request can't be read"
    example = "The request has more than one Host. Send one."


class InvalidJSON(APIError):
    status_code = 400
    default_code = "invalid_json"
    title = "The body is not JSON"
    example = (
        "The body isn't JSON: unexpected character: line 1 column 1 (char 0). "
        'Expected JSON, for example the string "Hello!" with its quotes.'
    )


class InvalidEncoding(APIError):
    status_code = 400
    default_code = "invalid_encoding"
    title = "The body can't be decompressed"
    example = (
        "Content-Encoding says gzip, but the body can't be decompressed so: Error -3 while "
        "decompressing data: incorrect header check. Send the whole compressed body, or an "
        "uncompressed one without Content-Encoding."
    )


class NotAString(APIError):
    status_code = 400
    default_code = "not_a_string"
    title = "The body is not a JSON string"
    example = 'Expected a JSON string, for example "Hello!"; got an object.'


class InvalidInput(APIError):
    status_code = 400
    default_code = "invalid_input"
    title = "The input hasn't the shape that the model takes"
    example = "texts[3]: expected a string with something in it; got null."


class BlankInput(APIError):
    status_code = 400
    default_code = "blank_input"
    title = "The text is blank"
    example = (
        "The string is empty or holds only white space, control characters and characters that are "
        "never shown. Send some text."
    )


class EmptyBatch(APIError):
    status_code = 400
    default_code = "empty_batch"
    title = "The array of inputs is empty"
    example = "input: the array is empty. Send at least one string."


class TokenIds(APIError):
    status_code = 400
    default_code = "token_ids"
    title = "The input is token ids"
    example = (
        "The input is numbers: ids of a tokenizer that isn't the model's. Send the texts as "
        "strings. In LangChain's OpenAIEmbeddings, set check_embedding_ctx_length=False."
    )


class WrongKind(APIError):
    status_code = 400
    default_code = "wrong_kind"
    title = "The model is of another kind"
    example = "sentiment is a model of the kind classify; this address takes embed, sleep."


class InvalidTimeout(APIError):
    status_code = 400
    default_code = "invalid_timeout"
    title = "X-Request-Timeout is not a number of seconds"
    example = "X-Request-Timeout: 'soon' is not a number of seconds above 0. Send for example 2.5."


class Unauthorized(APIError):
    status_code = 401
    default_code = "invalid_api_key"
    title = "The API key is missing or not valid"
    example = (
        "The request has no valid API key: it is missing, unknown, revoked or expired. Send it as "
        "Authorization: Bearer KEY, or as X-API-Key."
    )

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": "Bearer"}


class UnknownModel(APIError):
    status_code = 404
    default_code = "unknown_model"
    title = "There is no such model"
    example = "There is no model 'sentimnet'. Known: all-MiniLM-L6-v2, sentiment."


class UnknownVersion(APIError):
    status_code = 404
    default_code = "unknown_version"
    title = "The model has no such version"
    example = "sentiment has no version '3'. Known: 1 (retired), 2 (active)."


class BodyTimeout(APIError):
    status_code = 408
    default_code = "body_timeout"
    title = "The body came too slowly"
    example = (
        "The body didn't arrive within 15 s, or blocked other requests because it was slow. Send "
        "it again, in one piece."
    )


class NotServing(APIError):
    status_code = 409
    default_code = "not_serving"
    title = "This version doesn't serve"
    example = (
        "No worker serves sentiment@1 (it is retired). Versions of sentiment that are served: 2. "
        "Ask one of them, or let this one serve: activate it in the admin, or start a worker with "
        "it."
    )


class LengthRequired(APIError):
    status_code = 411
    default_code = "length_required"
    title = "The Transfer-Encoding isn't supported"
    example = (
        "The only Transfer-Encoding that is supported is chunked. Send the body so, or with "
        "Content-Length."
    )


class TooManyInputs(APIError):
    status_code = 413
    default_code = "too_many_inputs"
    title = "The request has too many inputs"
    example = (
        "input: 3000 strings; at most 2048 are taken. Send them in several requests, or raise "
        "VELO_MAX_INPUTS on the server."
    )


class InputTooLong(APIError):
    status_code = 413
    default_code = "input_too_long"
    title = "The text is too long"
    example = "The text has 250000 characters; at most 200000 are taken. Split it."


class TooManyTokens(APIError):
    status_code = 422
    default_code = "too_many_tokens"
    title = "The input has too many tokens"
    example = (
        "The input has 300 tokens, and may not be truncated; the model reads 256. Send a shorter "
        "one, or let it be truncated."
    )


# What a kind says of an input, by its code.
INPUT_ERRORS: dict[str, type[APIError]] = {
    error.default_code: error
    for error in (NotAString, InvalidInput, BlankInput, InputTooLong, TooManyTokens)
}


class BodyTooLarge(APIError):
    status_code = 413
    default_code = "body_too_large"
    title = "The body is too large"
    example = "The body is larger than 2097152 bytes. Send a shorter text."


class UnsupportedMediaType(APIError):
    status_code = 415
    default_code = "unsupported_media_type"
    title = "The body isn't declared as JSON"
    example = "Unsupported media type 'text/plain'. Send JSON with Content-Type: application/json."


class UnsupportedEncoding(APIError):
    status_code = 415
    default_code = "unsupported_encoding"
    title = "The Content-Encoding isn't supported"
    example = (
        "Content-Encoding 'br' isn't supported. Send the body uncompressed, or compressed with "
        "gzip or deflate."
    )

    @property
    def headers(self) -> dict[str, str]:
        return {"Accept-Encoding": "gzip, deflate"}


class QueueFull(APIError):
    status_code = 429
    default_code = "queue_full"
    title = "The queue is full"
    example = "1000 inputs wait already, and no more may. Try again in 1 s, or add workers."
    retry_after = 1


class ClientShare(APIError):
    status_code = 429
    default_code = "client_share"
    title = "This address has its share"
    example = (
        "500 inputs of your address are being answered already, and no more may. Try again in "
        "1 s, with fewer requests at a time."
    )
    retry_after = 1


class RateLimited(APIError):
    status_code = 429
    default_code = "rate_limited"
    title = "The client is over its limit"
    example = (
        "The key's client may send 600 inputs a minute. It may send 3 now; this request has 32. "
        "Try again in 3 s."
    )
    retry_after: int | None = 1

    def __init__(
        self, detail: str = "", *, retry_after: int | None = 1, try_again: bool = True
    ) -> None:
        """`retry_after` in seconds."""
        super().__init__(detail)
        self.retry_after, self.try_again = retry_after, try_again


class ModelFailed(APIError):
    try_again = False
    status_code = 500
    default_code = "model_failed"
    title = "The model failed on this text"
    example = (
        "Every attempt of job 4f0c6a2e-5a5f-4b0a-9df5-1c6b8f1f7f6e raised an error. Its traceback "
        "is in the admin, under failed jobs."
    )


class Poisonous(APIError):
    try_again = False
    status_code = 500
    default_code = "poisonous"
    title = "Workers crash on this text"
    example = (
        "2 workers crashed while they had job 4f0c6a2e-5a5f-4b0a-9df5-1c6b8f1f7f6e, so it isn't "
        "tried again. Its history is in the admin, under failed jobs."
    )


class ServerError(APIError):
    status_code = 500
    default_code = "server_error"
    title = "The server failed"
    example = "An error of the server's own. Its log says more."


class NoWorker(APIError):
    status_code = 503
    default_code = "no_worker"
    title = "No worker is alive"
    example = (
        "No live worker holds a model: it may still be loading. Try again in 5 s; if that doesn't "
        "help, start one with `manage.py rqworker`."
    )
    retry_after = 5


class Suspended(APIError):
    status_code = 503
    default_code = "suspended"
    title = "The workers are suspended"
    example = (
        "RQ is suspended, so no worker takes a request. Run `manage.py rqresume` to resume, then "
        "try again."
    )
    retry_after = 5


class QueueAway(APIError):
    status_code = 503
    default_code = "queue_away"
    title = "The queue can't be reached"
    example = "Redis doesn't answer. Try again in 5 s; if that doesn't help, check REDIS_URL."
    retry_after = 5


class JobLost(APIError):
    status_code = 503
    default_code = "job_lost"
    title = "The queue lost the job"
    example = (
        "Redis lost the job twice: once after it was re-enqueued. Redis was probably emptied, or "
        "restarted without its append-only file. Try again in 1 s."
    )
    retry_after = 1


class DatabaseAway(APIError):
    status_code = 503
    default_code = "database_away"
    title = "The database can't be reached"
    example = (
        "The database doesn't answer, and this web process has read nothing from it before. "
        "/transform does without it. Try again in 5 s; if that doesn't help, check DATABASE_URL."
    )
    retry_after = 5


class DeadlinePassed(APIError):
    status_code = 504
    default_code = "deadline_passed"
    title = "No answer in time"
    example = (
        "No answer within 30 s. The job was dropped. Try again when fewer requests wait, or add "
        "workers."
    )


def problem(status: int, code: str, title: str, detail: str, **extra: Any) -> dict[str, Any]:
    """The body of an error."""
    return {
        "type": f"urn:velo:error:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        **extra,
    }
