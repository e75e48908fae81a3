"""Velo's settings for workers that claim by another rule than Velo's own, for comparison.

CLAIM_RULE names it; see RULES. The rule stands in two functions of claim.lua, and is replaced there
before the script is sent.
"""

import os
from functools import cache
from pathlib import Path

from redis.commands.core import Script

from velo_site.settings import *  # noqa: F403
from workers.broker import connection

OURS = "level, in halves"
# What a worker may claim: of one queue, with an empty hand, and in all. A claim ahead is that of a
# worker with something in hand. `limit` is VELO_BATCH_MAX.
LEVEL, HALF, LESS = "(waiting + in_hand) / workers", "part / 2", "math.ceil(shares - own)"
RULES = {
    OURS: (LEVEL, HALF, LESS),
    "level": (LEVEL, "part", LESS),
    "level, none ahead": (LEVEL, "part", "own > 0 and 0 or math.ceil(shares)"),
    "waiting": ("waiting / workers", "part", "math.ceil(shares)"),
    "waiting, none ahead": ("waiting / workers", "part", "own > 0 and 0 or math.ceil(shares)"),
    "greedy": ("waiting + in_hand", "part", "limit"),
}


def rewritten(source: str, rule: str) -> str:
    """claim.lua with this rule instead of Velo's own."""
    places = ("local part = {}\n", "workers > 1 and {} or part\n", "return {}\n")
    for place, ours, other in zip(places, RULES[OURS], RULES[rule], strict=True):
        assert source.count(place.format(ours)) == 1, ours
        source = source.replace(place.format(ours), place.format(other))
    return source


@cache
def script(name: str) -> Script:
    """As workers.broker.connection has it, but for the rule."""
    source = (Path(connection.__file__).parent / "lua" / f"{name}.lua").read_text()
    if name == "claim":
        source = rewritten(source, os.environ["CLAIM_RULE"])
    return connection.connection().register_script(source)


connection.script = script
