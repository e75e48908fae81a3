"""Whether the client of a request is still there: the door finds out, and tells its thread."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rest_framework.exceptions import APIException


class ClientGone(APIException):
    """The client has closed its connection: nobody reads the answer."""

    status_code = 400
    default_code = "client_gone"
    default_detail = "The client has closed the connection."


class Client:
    """The client of one request."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_gone = False
        self._tell: Callable[[], object] | None = None

    def leave(self) -> None:
        """It has closed its connection. Any thread may say so."""
        with self._lock:
            self._is_gone = True
            tell = self._tell
        if tell:
            tell()

    @contextmanager
    def telling(self, tell: Callable[[], object]) -> Iterator[None]:
        """`tell` is called, perhaps in another thread, when the client leaves meanwhile. Raises
        ClientGone if it has left before."""
        with self._lock:
            if self._is_gone:
                raise ClientGone
            self._tell = tell
        try:
            yield
        finally:
            with self._lock:
                self._tell = None


_here = threading.local()


@contextmanager
def of(client: Client) -> Iterator[None]:
    """In this thread, what is done is done for this client."""
    _here.client = client
    try:
        yield
    finally:
        del _here.client


def client() -> Client:
    """For whom this thread works; without the door, for a client that never leaves."""
    found: Client = getattr(_here, "client", None) or Client()
    return found
