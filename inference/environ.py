"""The WSGI environment of a request, from what the web server has read.

Whatever Django, or Velo, believes about a request stands in it. So nothing gets in that a caller
could make pass for something else, and none of the process's environment variables.
"""

import sys
from io import BytesIO
from wsgiref.types import WSGIEnvironment

from granian.rsgi import Scope

from inference.errors import BadRequest, LengthRequired

# In CGI's names, with the reason why there may be but one: two parties that read the same request
# must not each follow another.
SINGLE = {"HTTP_HOST": "Host", "HTTP_CONTENT_LENGTH": "Content-Length"}


def environ_of(scope: Scope) -> WSGIEnvironment:
    """A body in chunks has HTTP_TRANSFER_ENCODING and no CONTENT_LENGTH. Raises BadRequest if the
    request can be read in two ways, and LengthRequired for a body in another transfer encoding."""
    environ: WSGIEnvironment = {
        "SERVER_PROTOCOL": "HTTP/1.0" if scope.http_version == "1" else "HTTP/1.1",
        "REQUEST_METHOD": scope.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": _bytes(scope.path),
        "QUERY_STRING": _bytes(scope.query_string),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.scheme,
        "wsgi.input": BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    environ["SERVER_NAME"], environ["SERVER_PORT"] = _address(scope.server)
    environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = _address(scope.client)
    _add_headers(environ, scope)
    if "HTTP_TRANSFER_ENCODING" in environ:
        if "HTTP_CONTENT_LENGTH" in environ:
            raise BadRequest("The request has Transfer-Encoding and Content-Length. Send one.")
        if environ["HTTP_TRANSFER_ENCODING"].lower() != "chunked":
            raise LengthRequired
    authority = scope.authority
    host = environ.setdefault("HTTP_HOST", authority or "")
    if authority is not None and authority.lower() != host.lower():
        raise BadRequest("The request names one host in its address and another in Host.")
    environ["CONTENT_TYPE"] = environ.pop("HTTP_CONTENT_TYPE", "")
    length = environ.pop("HTTP_CONTENT_LENGTH", "")
    if length and not (length.isascii() and length.isdecimal()):
        raise BadRequest("Content-Length isn't a number of bytes.")
    environ["CONTENT_LENGTH"] = length
    return environ


def _add_headers(environ: WSGIEnvironment, scope: Scope) -> None:
    """Without names that have an underscore: they would pass for names with a hyphen."""
    headers = scope.headers
    for name, value in headers.items():
        if "_" in name:
            continue
        key = f"HTTP_{name.upper().replace('-', '_')}"
        before = environ.get(key)
        if before is None:
            environ[key] = value
        elif key in SINGLE:
            raise BadRequest(f"The request has more than one {SINGLE[key]}. Send one.")
        else:
            environ[key] = f"{before}{'; ' if key == 'HTTP_COOKIE' else ','}{value}"
    for name in headers.keys():  # noqa: SIM118 - it isn't a dictionary
        if "_" not in name:  # `items` leaves out values with non-ASCII characters
            environ.setdefault(f"HTTP_{name.upper().replace('-', '_')}", "")


def _bytes(text: str) -> str:
    """As WSGI has them: each byte a character."""
    return text if text.isascii() else text.encode().decode("latin-1")


def _address(text: str) -> tuple[str, str]:
    """Of `127.0.0.1:80` or `[::1]:80`."""
    host, _, port = text.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), port
