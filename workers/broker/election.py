"""Elections: of all processes that stand for a seat one holds it, until it resigns or is silent."""

from uuid import uuid4

from workers.broker.connection import connection, script


class Seat:
    """A key in Redis with this process's token. A process that is stopped or cut off loses the seat
    after `seconds` and may not know it yet, so two processes may act for a moment: what the holder
    does must be right also when another does the same."""

    def __init__(self, key: str, seconds: float) -> None:
        self._key = key
        self._seconds = seconds
        self._token = uuid4().hex

    def hold(self) -> bool:
        """Take the seat if it is free, or renew it; whether this process holds it now. Call it
        several times within `seconds`. Raises RedisError."""
        held = script("elect")(
            keys=[self._key],
            args=[self._token, round(self._seconds * 1000)],
            client=connection(),
        )
        return bool(held)

    def resign(self) -> bool:
        """Let another process take it at once; whether this process held it. Raises RedisError."""
        held = script("resign")(keys=[self._key], args=[self._token], client=connection())
        return bool(held)
