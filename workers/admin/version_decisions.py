"""What may be decided about a model version."""

from workers.admin.decisions import REGISTER, Canary, Confirm, Decision, Shadow
from workers.catalog import lifecycle
from workers.models import ModelVersion

State = ModelVersion.State


def pending(version: ModelVersion) -> bool:
    change = lifecycle.pending(version.model)
    return change is not None and change.to_version_id == version.pk


def servable(version: ModelVersion) -> bool:
    return version.state in lifecycle.SERVABLE and not pending(version)


def checkable(version: ModelVersion) -> bool:
    serves = version.pk in (version.model.canary_id, version.model.shadow_id)
    moves = version.state in (State.CHECKING, State.ACTIVE)
    return not serves and not moves and not pending(version)


def instead_of(version: ModelVersion) -> str:
    active = version.model.active
    return f" instead of {active}" if active else ""


def check(version: ModelVersion, *, by: str) -> str:
    lifecycle.request_check(version)
    return f"{version} is being checked."


def cancel(version: ModelVersion, *, by: str) -> str:
    lifecycle.cancel(version.model, by=by)
    return "The activation is cancelled: what served before goes on."


def activate(version: ModelVersion, *, by: str, reason: str) -> str:
    lifecycle.activate(version, by=by, reason=reason)
    return f"{version} is being activated: it answers as soon as the workers have it."


def canary(version: ModelVersion, *, by: str, reason: str, percent: int) -> str:
    lifecycle.set_canary(version.model, version, percent, by=by, reason=reason)
    return f"{version} is the canary, for {percent} % of the requests."


def shadow(version: ModelVersion, *, by: str, reason: str, percent: int) -> str:
    lifecycle.set_shadow(version.model, version, percent, by=by, reason=reason)
    return f"{version} is the shadow, with a copy of {percent} % of the requests."


DECISIONS = (
    Decision(
        "activate",
        "Activate",
        offered=servable,
        question=lambda version: (
            f"{version} will answer the requests for {version.model}{instead_of(version)}, as "
            "soon as the workers have loaded it. If one of them can't, nothing changes."
        ),
        carry_out=activate,
    ),
    Decision(
        "cancel",
        "Cancel the activation",
        offered=pending,
        question=lambda version: f"{version} won't be activated: what serves now goes on.",
        form=Confirm,
        carry_out=cancel,
    ),
    Decision(
        "canary",
        "Try as canary",
        offered=servable,
        question=lambda version: (
            f"{version} will answer a share of the requests for {version.model}"
            f"{instead_of(version)}. Callers get its answers."
        ),
        form=Canary,
        carry_out=canary,
    ),
    Decision(
        "shadow",
        "Try as shadow",
        offered=servable,
        question=lambda version: (
            f"{version} will get a copy of a share of the requests for {version.model}. Callers "
            "get the active version's answers; how alike both are is counted."
        ),
        form=Shadow,
        carry_out=shadow,
    ),
    Decision(
        "check",
        "Check",
        offered=checkable,
        question=lambda version: (
            f"A worker will load {version} and try it out. What serves isn't touched."
        ),
        form=Confirm,
        carry_out=check,
        permission=REGISTER,
        at_once=True,
    ),
)
