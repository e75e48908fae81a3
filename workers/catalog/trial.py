"""What must hold of a version before it may serve, tried out in the process of its check."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.utils import timezone

from workers import predictors
from workers.catalog import lifecycle, plan, sources
from workers.catalog.checking import reject
from workers.catalog.specs import spec_of
from workers.host import machine
from workers.models import GoldenInput, ModelVersion
from workers.predictors import ModelError, Predictor, Spec

NOTHING_TO_COMPARE = "nothing to compare with: no active version; give an expected answer"


class Failed(Exception):
    """A step didn't pass. The message says why, and what to do."""


class NotJudged(Exception):
    """The version can't be judged, and it isn't its own fault. The message says why, and what to
    do."""


def run(pk: int) -> ModelVersion:
    """All steps; the version is ready then, or rejected with the reason. If it couldn't be judged,
    it is registered, with the reason. Raises Refused if nobody asked for its check."""
    version = ModelVersion.objects.select_related("model__active").get(pk=pk)
    if version.state != ModelVersion.State.CHECKING:
        raise lifecycle.Refused(f"{version} is {version.state}: nobody asked for its check.")
    try:
        found = Trial(version).run()
    except Failed as error:
        reject(version, str(error))
    except NotJudged as error:
        lifecycle.move(version, ModelVersion.State.REGISTERED, reason=str(error))
        plan.publish()
    else:
        lifecycle.move(version, ModelVersion.State.READY, reason="", **found)
        plan.publish()
    return version


class Trial:
    """Of one version: its steps write down how they went as they go."""

    def __init__(self, version: ModelVersion) -> None:
        self.version = version
        self._steps: list[dict[str, Any]] = list(version.checks)  # that it has had its turn

    def run(self) -> dict[str, Any]:
        """What was measured, as fields of ModelVersion. Raises Failed and NotJudged."""
        with self._step("files") as say:
            spec = _spec(self.version)
            say(f"{spec.folder or 'none'}, SHA-256 {self.version.digest[:12] or '–'}")
        self._record_expected()
        before = machine.resident()
        with self._step("load") as say:
            predictor = predictors.load(spec, threads=1)
            say(predictor.engine_chosen)
        with self._step("warm-up"):
            predictor.warm_up()
        with self._step("shape") as say:
            if predictor.sample is not None:
                answer(predictor, predictor.sample)
            say(f"{predictor.dimensions} numbers" if predictor.dimensions else "as its kind says")
        memory = max(0, machine.resident() - before)
        with self._step("memory") as say:
            _try_memory(memory)
            say(f"{memory / 1024**2:.0f} MB")
        unanswered = set(self._golden().unanswered().values_list("pk", flat=True))
        for number, golden in enumerate(self._golden(), 1):
            with self._step(f"golden input {number}") as say:
                output = answer(predictor, golden.input)
                if golden.pk in unanswered:
                    say(NOTHING_TO_COMPARE, "skipped")
                    continue
                kind = predictors.KINDS[predictor.kind]
                if wrong := kind.difference(golden.expected, output, golden.tolerance):
                    raise Failed(
                        f"To {golden} the answer differs from the expected answer: {wrong}"
                    )
                say(f"within {golden.tolerance:g}")
        return {
            "dimensions": predictor.dimensions,
            "facts": dict(predictor.facts),
            "engine": predictor.engine_chosen,
            "memory": memory,
            "schemas": _schemas(predictor),
            "checked_at": timezone.now(),
        }

    def _golden(self) -> Any:
        return GoldenInput.objects.filter(model=self.version.model_id)

    def _record_expected(self) -> None:
        """What golden inputs without an expected answer expect is what the active version answers,
        never what the version answers that is judged. Without an active version they stay as they
        are. Raises NotJudged."""
        active = self.version.model.active
        unanswered = list(self._golden().unanswered())
        if active is None or active.pk == self.version.pk or not unanswered:
            return
        with self._step("expected answers", NotJudged) as say:
            predictor = predictors.load(_spec(active), threads=1)
            try:
                for golden in unanswered:
                    golden.record(answer(predictor, golden.input), active.label)
            except (Failed, predictors.InputError) as error:
                raise NotJudged(
                    f"{active}, the active version, doesn't answer {golden}: {error} Correct or "
                    "delete this golden input, or give it an expected answer."
                ) from error
            finally:
                predictor.close()
            say(f"{len(unanswered)} recorded from {active}, the active version")

    @contextmanager
    def _step(self, name: str, failure: type[Exception] = Failed) -> Iterator[Callable[..., None]]:
        """Whatever a model raises is the reason why its version is rejected."""
        step: dict[str, Any] = {"step": name, "outcome": "running", "detail": "", "seconds": None}
        self._steps.append(step)
        self._save()
        started = time.monotonic()

        def say(detail: str, outcome: str = "passed") -> None:
            step.update(detail=detail, outcome=outcome)

        try:
            yield say
        except Exception as error:
            told = isinstance(error, (Failed, NotJudged, ModelError, predictors.InputError))
            detail = str(error) if told else f"{type(error).__name__}: {error}"
            say(detail, "failed")
            raise failure(f"{name}: {detail}") from error
        else:
            if step["outcome"] == "running":
                say("")
        finally:
            step.update(seconds=round(time.monotonic() - started, 3))
            self._save()

    def _save(self) -> None:
        ModelVersion.objects.filter(pk=self.version.pk).update(
            checks=self._steps, checked_at=timezone.now()
        )


def _spec(version: ModelVersion) -> Spec:
    """Raises ModelError."""
    try:
        sources.open_source(version.source)
    except sources.SourceError as error:
        raise ModelError(str(error)) from error
    planned = plan.decided().version(version.label)
    assert planned
    spec = spec_of(planned, version.model.kind)
    # Before memory is measured: what is the same for all versions isn't theirs.
    predictors.prepare(spec)
    return spec


def answer(predictor: Predictor, given: Any) -> Any:
    """To one input, as JSON has it. Raises Failed if its form is wrong, InputError."""
    [output] = predictor.predict(predictor.encode([given]))
    if problem := predictor.problem(given, output):
        raise Failed(f"To {str(given)[:80]!r} it answers something wrong: {problem}")
    return output.tolist() if hasattr(output, "tolist") else output


def _try_memory(memory: int) -> None:
    budget = settings.VELO_WORKER_MEMORY_MB * 1024**2
    if budget and memory > budget:
        raise Failed(
            f"It takes {memory / 1024**2:.0f} MB; a worker may hold "
            f"{settings.VELO_WORKER_MEMORY_MB} MB. Raise VELO_WORKER_MEMORY_MB."
        )


def _schemas(predictor: Predictor) -> dict[str, Any]:
    """A kind whose inputs and outputs aren't always the same says what they are."""
    found = {side: getattr(predictor, f"{side}_schema", None) for side in ("input", "output")}
    return {side: schema for side, schema in found.items() if schema is not None}
