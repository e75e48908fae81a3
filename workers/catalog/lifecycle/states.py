"""The states of a version, and the ways from one to another."""

from collections.abc import Mapping
from typing import Any

from workers.models import Change, ModelVersion

State = ModelVersion.State
Outcome = Change.Outcome
Action = Change.Action

NEXT: Mapping[State, frozenset[State]] = {
    State.REGISTERED: frozenset({State.CHECKING, State.ACTIVE}),
    State.CHECKING: frozenset({State.READY, State.REJECTED, State.REGISTERED, State.ACTIVE}),
    State.READY: frozenset({State.CHECKING, State.ACTIVE}),
    State.ACTIVE: frozenset({State.RETIRED}),
    State.RETIRED: frozenset({State.CHECKING, State.ACTIVE}),
    State.REJECTED: frozenset({State.CHECKING, State.ACTIVE}),
}
SERVABLE = State.READY, State.RETIRED  # what a person may activate, or try as canary or shadow


class Refused(Exception):
    """What was asked for can't be done. The message says why, and what to do."""


def move(version: ModelVersion, to: State, **fields: Any) -> None:
    """From whatever state it is in, if the way there is open; sets `fields` with it.

    Raises Refused, also if somebody else has just moved it.
    """
    allowed = [state for state, following in NEXT.items() if to in following]
    found = ModelVersion.objects.filter(pk=version.pk, state__in=allowed)
    if not found.update(state=to, **fields):
        version.refresh_from_db(fields=["state"])
        raise Refused(
            f"{version} is {version.state}: it can't become {to.value} from there. Look again."
        )
    version.state = to
    for name, value in fields.items():
        setattr(version, name, value)
