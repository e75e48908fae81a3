"""Answers that a web process has read: from then on Redis keeps them for seconds only."""

from collections import deque

from rq.defaults import RQ_KEY_PREFIX

from workers.broker.connection import connection, script
from workers.broker.enqueue import NewJob
from workers.host.ticker import Ticker

KEPT = 5  # seconds that Redis keeps an answer that was collected, unless VELO_RESULT_TTL is less
EVERY = 0.5  # seconds between two messages to Redis
AT_MOST = 128  # answers in one step: a longer step would hold up others


class Collected:
    """Starts a thread that tells Redis, every now and then, so that no caller waits for it. What
    it can't tell, because Redis or this process is away, stays for VELO_RESULT_TTL."""

    def __init__(self) -> None:
        self._jobs: deque[tuple[str, str]] = deque()  # id and queue
        self._ticker = Ticker("collected answers", EVERY, self.tell)
        self._ticker.start()

    def add(self, job: NewJob) -> None:
        """Its answer has been collected. Any thread may say so."""
        self._jobs.append((job.id, job.queue))

    def tell(self) -> None:
        """Shorten the life of what was collected since the last time. Raises RedisError."""
        while self._jobs:
            some = [self._jobs.popleft() for _ in range(min(AT_MOST, len(self._jobs)))]
            script("collected")(
                args=[RQ_KEY_PREFIX, KEPT, *(word for job in some for word in job)],
                client=connection(),
            )

    def close(self) -> None:
        """End the thread."""
        self._ticker.stop()
