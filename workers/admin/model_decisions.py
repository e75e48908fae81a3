"""What may be decided about a model."""

from workers.admin.decisions import CanaryOfModel, Confirm, Decision, ShadowOfModel
from workers.catalog import lifecycle
from workers.models import ModelVersion, ServedModel


def rollback(model: ServedModel, *, by: str, reason: str) -> str:
    change = lifecycle.rollback(model, by=by, reason=reason)
    return f"{model} goes back to {change.to_version} as soon as the workers have it."


def cancel(model: ServedModel, *, by: str) -> str:
    lifecycle.cancel(model, by=by)
    return "The activation is cancelled: what served before goes on."


def canary(model: ServedModel, *, by: str, reason: str, version: ModelVersion, percent: int) -> str:
    lifecycle.set_canary(model, version, percent, by=by, reason=reason)
    return f"{version} is the canary, for {percent} % of the requests."


def stop_canary(model: ServedModel, *, by: str, reason: str) -> str:
    lifecycle.set_canary(model, None, 0, by=by, reason=reason)
    return f"{model} has no canary any more."


def shadow(model: ServedModel, *, by: str, reason: str, version: ModelVersion, percent: int) -> str:
    lifecycle.set_shadow(model, version, percent, by=by, reason=reason)
    return f"{version} is the shadow, with a copy of {percent} % of the requests."


def stop_shadow(model: ServedModel, *, by: str, reason: str) -> str:
    lifecycle.set_shadow(model, None, 0, by=by, reason=reason)
    return f"{model} has no shadow any more."


def make_default(model: ServedModel, *, by: str, reason: str) -> str:
    lifecycle.make_default(model, by=by, reason=reason)
    return f"/transform asks {model} from now on."


def giving_up(model: ServedModel) -> str:
    change = lifecycle.pending(model)
    if change is None:
        return "Nothing is being activated any more."
    return (
        f"{change.by} wants {change.to_version} since {change.at:%H:%M:%S}: {change.reason}. It is "
        f"given up, and {model.active or 'nothing'} goes on answering."
    )


DECISIONS = (
    Decision(
        "rollback",
        "Roll back",
        offered=lambda model: model.previous_id and not lifecycle.pending(model),
        question=lambda model: (
            f"{model.previous} will answer the requests for {model} instead of {model.active}, "
            "as soon as the workers have it."
        ),
        carry_out=rollback,
    ),
    Decision(
        "cancel",
        "Cancel the activation",
        offered=lambda model: lifecycle.pending(model) is not None,
        question=giving_up,
        form=Confirm,
        carry_out=cancel,
    ),
    Decision(
        "canary",
        "Set a canary",
        offered=lambda model: model.active_id,
        question=lambda model: (
            f"One version will answer a share of the requests for {model} instead of "
            f"{model.active}. Callers get its answers."
        ),
        form=CanaryOfModel,
        carry_out=canary,
    ),
    Decision(
        "stop-canary",
        "Stop the canary",
        offered=lambda model: model.canary_id,
        question=lambda model: f"{model.active} will answer all requests, {model.canary} none.",
        carry_out=stop_canary,
    ),
    Decision(
        "shadow",
        "Set a shadow",
        offered=lambda model: model.active_id,
        question=lambda model: (
            f"One version will get a copy of a share of the requests for {model}. Callers get "
            f"{model.active}'s answers; how alike both are is counted."
        ),
        form=ShadowOfModel,
        carry_out=shadow,
    ),
    Decision(
        "stop-shadow",
        "Stop the shadow",
        offered=lambda model: model.shadow_id,
        question=lambda model: f"{model.shadow} will get no copies of requests any more.",
        carry_out=stop_shadow,
    ),
    Decision(
        "default",
        "Make default",
        offered=lambda model: model.active_id and not model.is_default,
        question=lambda model: f"/transform will ask {model} from now on.",
        carry_out=make_default,
    ),
)
