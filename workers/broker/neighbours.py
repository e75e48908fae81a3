"""The workers that share cores, so that each takes its part of them."""

from typing import cast

from workers.broker.connection import connection, script

NEIGHBOURS = "velo:neighbours:"  # and what they share, see machine.shares
COUNTS_FOR = 5.0  # seconds after it was last counted


def count(worker: str, shares: str) -> int:
    """How many workers share these cores with `worker`, itself included. Call it several times
    within COUNTS_FOR. Raises RedisError."""
    found = script("neighbours")(
        keys=[f"{NEIGHBOURS}{shares}"], args=[worker, COUNTS_FOR], client=connection()
    )
    return cast(int, found)


def leave(worker: str, shares: str) -> None:
    """It needs none from now on. Raises RedisError."""
    connection().zrem(f"{NEIGHBOURS}{shares}", worker)
