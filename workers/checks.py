"""What `manage.py check` says about settings that work, but are dangerous."""

from typing import Any

from django.conf import settings
from django.core import checks

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@checks.register
def no_chaos_in_production(**kwargs: Any) -> list[checks.CheckMessage]:
    """W001: VELO_CHAOS is on outside of debug mode."""
    if not settings.VELO_CHAOS or settings.DEBUG:
        return []
    return [
        checks.Warning(
            "VELO_CHAOS is on: every caller that can send a text can kill workers with it.",
            hint="Unset VELO_CHAOS, except on a system for tests.",
            id="velo.W001",
        )
    ]


@checks.register
def keys_on_open_networks(**kwargs: Any) -> list[checks.CheckMessage]:
    """W002: the web server binds another address than loopback, and anybody may ask."""
    if settings.VELO_AUTH == "keys" or settings.HOST in LOOPBACK:
        return []
    return [
        checks.Warning(
            f"The web server binds {settings.HOST}, and the API takes requests without a key.",
            hint="Set VELO_AUTH=keys and make keys (`manage.py velo_keys create CLIENT`), unless "
            "a proxy or a firewall decides who reaches it.",
            id="velo.W002",
        )
    ]
