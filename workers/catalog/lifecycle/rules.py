"""What must hold of a version before it is let near requests, or tried out again."""

from django.db.models import Max

from workers.catalog.lifecycle.progress import pending
from workers.catalog.lifecycle.states import SERVABLE, Refused, State
from workers.models import ModelVersion, ServedModel, Worker


def must_be_servable(version: ModelVersion) -> None:
    """Raises Refused unless the version has passed its check."""
    version.refresh_from_db(fields=["state", "reason", "checked_at"])
    if version.state in SERVABLE:
        return
    cure = {
        State.REGISTERED: "Check it first.",
        State.CHECKING: "Wait until its check is over.",
        State.REJECTED: f"It was rejected: {version.reason}",
    }
    raise Refused(f"{version} is {version.state}. {cure.get(State(version.state), '')}".strip())


def must_have_met_golden_inputs(version: ModelVersion) -> None:
    """As they are now. A rollback may go to a version that was never asked for them."""
    newest = version.model.golden_inputs.aggregate(newest=Max("changed"))["newest"]
    if newest and (version.checked_at is None or newest > version.checked_at):
        raise Refused(
            f"The golden inputs of {version.model_id} are newer than the check of {version}. Check "
            "it again first."
        )
    model = ServedModel.objects.select_related("active").get(pk=version.model_id)
    active = model.active
    if active and active.pk != version.pk and model.golden_inputs.unanswered().exists():
        raise Refused(
            f"Some golden inputs of {model} have no expected answer, so {version} hasn't been "
            f"compared with {active}, the active version. Check it again first: the answers of "
            f"{active} are recorded then."
        )


def must_be_loadable(version: ModelVersion) -> None:
    """What a worker said of an earlier try would end this one before it has begun."""
    for worker in Worker.objects.alive().holding(version.label):
        if worker.held[version.label]["state"] == "failed":
            raise Refused(
                f"Worker {worker} couldn't load {version}: "
                f"{worker.held[version.label]['error'].rstrip('.')}. Fix that first and wait some "
                "seconds, until the workers have dropped the earlier attempt."
            )


def must_be_spare(model: ServedModel, version: ModelVersion) -> None:
    """A check may end in a rejection, and what is rejected must not serve."""
    roles = [role for role in ("canary", "shadow") if getattr(model, f"{role}_id") == version.pk]
    if roles:
        raise Refused(f"{version} is the {roles[0]}. Stop that first.")
    change = pending(model)
    if change and change.to_version_id == version.pk:
        raise Refused(f"{change.by} is activating {version}. Wait for the end, or cancel it.")
