"""The time of the Redis server, which all who share a queue share."""

import threading
import time

from redis.exceptions import RedisError

from workers.broker.connection import connection


class Clock:
    """The time of the Redis server, in Unix seconds, read without a round trip.

    All who share a queue share this clock: deadlines and waiting times stay right when a machine's
    own clock is wrong or jumps, since between two readings only the monotonic clock counts.
    """

    MAX_AGE = 60  # seconds until the server is asked again
    READINGS = 5  # the reading with the shortest round trip counts, as in NTP (RFC 5905)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._offset = 0.0
        self._read_at = -float("inf")

    def learn(self, time_now: float) -> None:
        """The server has just said what time it is."""
        self._offset = time_now - time.monotonic()
        self._read_at = time.monotonic()

    def now(self) -> float:
        """Raises RedisError only if the server has never said what time it is."""
        if time.monotonic() - self._read_at > self.MAX_AGE:
            self._read()
        return time.monotonic() + self._offset

    def _read(self) -> None:
        with self._lock:
            if time.monotonic() - self._read_at <= self.MAX_AGE:
                return  # another thread has just done it
            try:
                _, self._offset = min(self._reading() for _ in range(self.READINGS))
            except RedisError:
                if self._read_at == -float("inf"):
                    raise
            self._read_at = time.monotonic()

    @staticmethod
    def _reading() -> tuple[float, float]:
        """Round trip, and the server's time less our monotonic one, both in seconds."""
        asked = time.monotonic()
        seconds, microseconds = connection().time()
        answered = time.monotonic()
        return answered - asked, seconds + microseconds / 1e6 - (asked + answered) / 2


clock = Clock()
