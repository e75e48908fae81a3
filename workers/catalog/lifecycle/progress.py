"""How far the workers are with a version that is being activated."""

from collections.abc import Iterable

from workers.catalog.lifecycle.states import Outcome
from workers.models import Change, ModelVersion, ServedModel, Worker


def pending(model: ServedModel) -> Change | None:
    """The activation that is going on."""
    changes = Change.objects.select_related("to_version__model")
    return changes.filter(model=model, outcome=Outcome.PENDING).first()


def all_pending(models: Iterable[ServedModel]) -> dict[str, tuple[Change, "Progress"]]:
    """By model: the activation that is going on, and how far it is. Two queries at most."""
    changes = Change.objects.select_related("to_version__model")
    found = list(changes.filter(model__in=list(models), outcome=Outcome.PENDING))
    living = followers() if found else []
    return {
        change.model_id: (change, Progress(change.to_version, living))
        for change in found
        if change.to_version
    }


def progress(change: Change) -> "Progress":
    """Of a pending activation, in the workers that follow the plan."""
    assert change.to_version
    return Progress(change.to_version, followers())


def followers() -> list[Worker]:
    """The live workers that follow the plan."""
    return list(Worker.objects.alive().filter(follows=True))


class Progress:
    """How far the workers are with a version that is being activated."""

    def __init__(self, version: ModelVersion, followers: list[Worker]) -> None:
        said = [worker.held.get(version.label, {}) for worker in followers]
        states = [one.get("state") for one in said]
        self.workers = len(followers)
        self.ready = states.count("ready")
        self.waiting = states.count("waiting")  # without the memory for two
        self.failures = [str(one.get("error")) for one in said if one.get("state") == "failed"]

    @property
    def enough(self) -> bool:
        """All have it, or as many as may without leaving too few to the version before: workers
        without memory for two versions get their turn afterwards."""
        reported = self.ready + self.waiting == self.workers
        return reported and self.ready >= max(1, self.waiting)

    def __str__(self) -> str:
        parts = [f"{self.ready} of {self.workers} workers have it"]
        if self.waiting:
            parts.append(f"{self.waiting} wait for memory")
        return ", ".join(parts)
