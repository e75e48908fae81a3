"""What a person may do to queues and jobs: each action has a permission, a question, and an entry
in the audit trail."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django import forms
from django.conf import settings
from django.utils import timezone
from redis.exceptions import RedisError

from workers.admin.decisions import Reason
from workers.broker import steering
from workers.broker.inspecting import JobLine, Place
from workers.models import Intervention

Outcome = Intervention.Outcome


class NotDone(Exception):
    """Redis didn't do it. The message says so."""


@dataclass(frozen=True)
class Action:
    """One button of a queue's page, or of a job's."""

    name: Intervention.Action
    button: str
    places: tuple[Place, ...]  # the jobs for which it is offered
    question: str
    done: str  # said of the jobs, afterwards
    others: str  # said of the jobs that weren't touched
    carry_out: Callable[[str, Sequence[str]], Sequence[str] | int]  # queue and ids; what was done
    whole_queue: bool = False

    def ask(self, queue: str, count: int) -> str:
        what = "This job" if count == 1 else f"Each of these {count} jobs"
        return self.question.format(queue=queue, what=what)

    @property
    def permission(self) -> str:
        what = "queue" if self.whole_queue else "job"
        return f"workers.{self.name.value}_{what}"


ACTIONS = {
    action.name.value: action
    for action in (
        Action(
            Intervention.Action.EMPTY,
            "Empty the queue",
            (Place.QUEUED,),
            "All jobs that wait in {queue} will be deleted. Callers who wait for them get 504 when "
            "their time is over. Jobs that have started go on.",
            "deleted",
            "",
            lambda queue, ids: steering.empty(queue),
            whole_queue=True,
        ),
        Action(
            Intervention.Action.REQUEUE,
            "Requeue",
            (Place.FAILED, Place.FINISHED, Place.CANCELED, Place.SCHEDULED),
            "{what} will be put at the end of {queue} and computed again, though nobody waits for "
            "the answer any more.",
            "requeued",
            "gone, or waiting or running already",
            steering.requeue,
        ),
        Action(
            Intervention.Action.CANCEL,
            "Cancel",
            (Place.QUEUED, Place.SCHEDULED, Place.DEFERRED),
            "{what} will never run. Callers who wait for it get 504 when their time is over.",
            "canceled",
            "gone, or running or ended already",
            steering.cancel,
        ),
        Action(
            Intervention.Action.DELETE,
            "Delete",
            tuple(place for place in Place if place is not Place.STARTED),
            "{what} will be deleted, with the answers and the tracebacks. Callers who wait for it "
            "get 504 when their time is over.",
            "deleted",
            "gone, or running",
            steering.delete,
        ),
    )
}


class Poisonous(Reason):
    """Asks more than a click."""

    confirm = forms.CharField(
        label="Job id",
        widget=forms.TextInput(attrs={"class": "vTextField", "autocomplete": "off"}),
        help_text="Type or paste the job's id, to confirm that a worker may crash.",
    )
    field_order = ("confirm", "reason")

    def clean_confirm(self) -> str:
        """`row` is the job's id."""
        typed: str = self.cleaned_data["confirm"].strip()
        if typed != self.row:
            raise forms.ValidationError(f"This isn't the job's id, which is {self.row}.")
        return typed


@dataclass(frozen=True)
class Choice:
    """The jobs that an action is asked for, and what has to be said about them."""

    ids: list[str]
    warnings: list[str]
    form: type[Reason] = Reason


def choose(action: Action, lines: Sequence[JobLine]) -> Choice:
    """A job that was in a crash is requeued alone, by a person who knows."""
    ids = [line.id for line in lines]
    suspects = [line for line in lines if line.crashes]
    if action.name is not Intervention.Action.REQUEUE or not suspects:
        return Choice(ids, [])
    if len(lines) == 1:
        return Choice(ids, [_danger(suspects[0].crashes)], Poisonous)
    said = f"{_jobs(len(suspects))} left out: in flight when a worker crashed. "
    return Choice(
        [line.id for line in lines if not line.crashes],
        [f"{said}Requeue such a job on its own page."],
    )


def _danger(crashes: int) -> str:
    more = max(1, settings.VELO_MAX_CRASHES - crashes)
    workers = "1 worker" if crashes == 1 else f"{crashes} workers"
    return (
        f"This job may be poisonous: {workers} crashed with it in flight. It stays a suspect: it "
        f"runs alone, and can take down {more} more; then it fails and isn't tried again "
        f"(VELO_MAX_CRASHES={settings.VELO_MAX_CRASHES})."
    )


def carry_out(action: Action, queue: str, ids: Sequence[str], *, by: str, reason: str) -> str:
    """Do it, with an entry in the audit trail from before the first step; returns what to say.

    Raises NotDone.
    """
    row = Intervention.objects.create(
        action=action.name, queue=queue, jobs="\n".join(ids), by=by, reason=reason
    )
    try:
        done = action.carry_out(queue, ids)
    except RedisError as error:
        _end(row, Outcome.FAILED, f"Redis: {error}. Some of it may be done.")
        raise NotDone(f"Redis: {error}. Look again what is done.") from error
    count = done if isinstance(done, int) else len(done)
    said = f"{_jobs(count)} {action.done}"
    if not action.whole_queue and count < len(ids):
        said += f"; {len(ids) - count} not: {action.others}"
    _end(row, Outcome.DONE, f"{said}.")
    return f"{said}."


def _end(row: Intervention, outcome: Any, detail: str) -> None:
    row.outcome, row.detail, row.ended = outcome, detail, timezone.now()
    row.save(update_fields=["outcome", "detail", "ended"])


def _jobs(count: int) -> str:
    return "1 job is" if count == 1 else f"{count} jobs are"
