"""How far the workers are with a version that is being activated."""

from workers.catalog.lifecycle.states import Outcome
from workers.models import Change, ModelVersion, ServedModel, Worker


def pending(model: ServedModel) -> Change | None:
    """The activation that is going on."""
    changes = Change.objects.select_related("to_version__model")
    return changes.filter(model=model, outcome=Outcome.PENDING).first()


def progress(change: Change) -> "Progress":
    """Of a pending activation, in the workers that follow the plan."""
    assert change.to_version
    followers = list(Worker.objects.alive().filter(follows=True))
    return Progress(change.to_version, followers)


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
        """All have it, or as many as may without leaving too few to the version before: those who
        have no memory for two get their turn afterwards."""
        reported = self.ready + self.waiting == self.workers
        return reported and self.ready >= max(1, self.waiting)

    def __str__(self) -> str:
        parts = [f"{self.ready} of {self.workers} workers have it"]
        if self.waiting:
            parts.append(f"{self.waiting} wait for memory")
        return ", ".join(parts)
