"""What `manage.py check` says about settings that work, but are dangerous."""

from typing import Any

from django.conf import settings
from django.core import checks


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
