"""What `manage.py check` says of settings that work, but not as one would want."""

from typing import Any

from django.conf import settings
from django.core import checks


@checks.register
def no_chaos_in_production(**kwargs: Any) -> list[checks.CheckMessage]:
    if not settings.VELO_CHAOS or settings.DEBUG:
        return []
    return [
        checks.Warning(
            "VELO_CHAOS is on: whoever may send a text can kill workers with it.",
            hint="Unset VELO_CHAOS, unless this Velo is there to be tried out.",
            id="velo.W001",
        )
    ]
