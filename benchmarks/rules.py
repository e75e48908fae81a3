"""Velo's settings for workers that claim by another rule than Velo's own, for comparison.

CLAIM_RULE names it; see RULES. The rule stands in claim.lua between two functions, and is replaced
there before the script is sent.
"""

import os
import re
from functools import cache
from pathlib import Path

from redis.commands.core import Script

from velo_site.settings import *  # noqa: F403
from workers.broker import connection

OURS = "level"
# What a worker may claim, of one queue and in all; a claim ahead is that of a worker with something
# in hand. `limit` is VELO_BATCH_MAX.
RULES = {
    OURS: ("(waiting + in_hand) / workers", "math.ceil(shares - own)"),
    "greedy": ("waiting + in_hand", "limit"),
    "waiting": ("waiting / workers", "math.ceil(shares)"),
    "waiting, none ahead": ("waiting / workers", "own > 0 and 0 or math.ceil(shares)"),
    "level, none ahead": (
        "(waiting + in_hand) / workers",
        "own > 0 and 0 or math.ceil(shares)",
    ),
    "level, in halves": (
        "(waiting + in_hand) / workers",
        "math.ceil(own > 0 and shares - own or shares / 2)",
    ),
}


def rewritten(source: str, rule: str) -> str:
    """claim.lua with this rule instead of Velo's own."""
    for ours, other in zip(RULES[OURS], RULES[rule], strict=True):
        source, count = re.subn(f"return {re.escape(ours)}\n", f"return {other}\n", source)
        assert count == 1, ours
    return source


@cache
def script(name: str) -> Script:
    """As workers.broker.connection has it, but for the rule."""
    source = (Path(connection.__file__).parent / "lua" / f"{name}.lua").read_text()
    if name == "claim":
        source = rewritten(source, os.environ["CLAIM_RULE"])
    return connection.connection().register_script(source)


connection.script = script
