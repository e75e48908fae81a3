"""Waits for jobs in several queues at a time, as Redis can't do without taking one out."""

import threading
import time
from collections.abc import Sequence

from redis import Redis
from redis.exceptions import RedisError

LOOK = 1  # seconds that one look into a queue lasts
PAUSE = 0.2  # seconds after an error; the next claim raises the error itself


class Doorman:
    """A thread for each queue, as long as there are several."""

    def __init__(self, connection: Redis) -> None:
        self._connection = connection
        self._rung = threading.Event()
        self._asked = threading.Condition()
        self._times = 0  # how often somebody has asked
        self._watched: frozenset[str] = frozenset()
        self._watching: set[str] = set()  # keys that have a thread, which may not know of its end

    def wait(self, keys: Sequence[str], seconds: int) -> None:
        """Until a job waits in one of these queues, or not for long. Raises RedisError."""
        several = frozenset(keys) if len(keys) > 1 else frozenset()
        self._rung.clear()
        with self._asked:
            for key in several - self._watching:
                self._watching.add(key)
                name = f"worker waits for {key}"
                threading.Thread(target=self._watch, args=(key,), name=name, daemon=True).start()
            self._watched = several
            self._times += 1
            self._asked.notify_all()
        if several:
            self._rung.wait(seconds)
        else:
            self._look(keys[0], seconds)

    def _watch(self, key: str) -> None:
        seen = 0
        while True:
            with self._asked:
                while self._times == seen and key in self._watched:
                    self._asked.wait()
                seen = self._times
                if key not in self._watched:
                    self._watching.remove(key)
                    return
            try:
                if self._look(key, LOOK):
                    self._rung.set()
            except RedisError:
                time.sleep(PAUSE)

    def _look(self, key: str, seconds: int) -> bool:
        """Moving the first job to where it is takes nothing."""
        return self._connection.blmove(key, key, seconds, "LEFT", "LEFT") is not None
