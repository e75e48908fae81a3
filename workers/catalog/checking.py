"""What must hold of a version before it may serve, tried out in a process of its own.

A worker starts that process, which may crash, hang or fill its memory without harm to requests.
"""

import logging
import os
import signal
import subprocess  # nosec B404 # our own manage.py
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connections
from django.utils import timezone

from workers import predictors
from workers.catalog import lifecycle, plan, sources
from workers.catalog.specs import spec_of
from workers.host import machine
from workers.host.ticker import Ticker
from workers.models import GoldenInput, ModelVersion
from workers.predictors import ModelError, Predictor, Spec

log = logging.getLogger(__name__)

BEAT = 2.0  # seconds between two signs of life
TOLD = 2000  # characters of what a process said before it died


class Failed(Exception):
    """A step didn't pass. The message says why, and what to do."""


def start(pk: int) -> str:
    """The job: start the process, and don't wait for it."""
    process = subprocess.Popen(  # nosec B603
        [
            *(sys.executable, str(settings.BASE_DIR / "manage.py")),
            *("check_version", str(pk), "--parent", str(os.getpid())),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    threading.Thread(target=_watch, args=(pk, process), name="check", daemon=True).start()
    return f"process {process.pid}"


def _watch(pk: int, process: subprocess.Popen[str]) -> None:
    """See how it ends; a check that ended without a result has rejected its version."""
    with suppress(DatabaseError, InterfaceError):
        _beat(pk)  # if both processes die before its own first beat, its silence is still noticed
        connections.close_all()
    try:
        _, said = process.communicate(timeout=settings.VELO_CHECK_TIMEOUT)
        why = f"its process ended with {_reason(process.returncode)}"
    except subprocess.TimeoutExpired:
        process.kill()
        _, said = process.communicate()
        why = (
            f"it took longer than {settings.VELO_CHECK_TIMEOUT} s. Raise VELO_CHECK_TIMEOUT if a "
            "model of this size needs more"
        )
    if process.returncode:
        log.error("the check of version %s failed: %s\n%s", pk, why, said)
        try:
            _reject(ModelVersion.objects.get(pk=pk), f"The check failed: {why}.\n{said[-TOLD:]}")
        except lifecycle.Refused as error:  # it had said so itself
            log.info("%s", error)
        finally:
            connections.close_all()


def _reason(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _reject(version: ModelVersion, reason: str) -> None:
    lifecycle.move(version, ModelVersion.State.REJECTED, reason=reason.strip())
    plan.publish()


# --- in the process of its own ------------------------------------------------------------------


def run(pk: int) -> ModelVersion:
    """All steps; the version is ready then, or rejected with the reason."""
    version = ModelVersion.objects.select_related("model").get(pk=pk)
    if version.state != ModelVersion.State.CHECKING:
        raise lifecycle.Refused(f"{version} is {version.state}: nobody asked for its check.")
    beat = Ticker("check", BEAT, lambda: _beat(pk))
    beat.start()
    try:
        found = Check(version).run()
    except Failed as error:
        _reject(version, str(error))
    else:
        lifecycle.move(version, ModelVersion.State.READY, reason="", **found)
        plan.publish()
    finally:
        beat.stop()
    return version


def _beat(pk: int) -> None:
    ModelVersion.objects.filter(pk=pk).update(checked_at=timezone.now())


class Check:
    """Of one version: its steps write down how they went as they go."""

    def __init__(self, version: ModelVersion) -> None:
        self.version = version
        self._steps: list[dict[str, Any]] = []

    def run(self) -> dict[str, Any]:
        """What was measured, as fields of ModelVersion. Raises Failed."""
        with self._step("files") as say:
            spec = self._spec()
            say(f"{spec.folder or 'none'}, SHA-256 {self.version.digest[:12] or '–'}")
        before = machine.resident()
        with self._step("load") as say:
            predictor = predictors.load(spec, threads=1)
            say(predictor.engine_chosen)
        with self._step("warm-up"):
            predictor.warm_up()
        with self._step("shape") as say:
            self._try_shape(predictor)
            say(f"{predictor.dimensions} numbers" if predictor.dimensions else "as its kind says")
        memory = max(0, machine.resident() - before)
        with self._step("memory") as say:
            self._try_memory(memory)
            say(f"{memory / 1024**2:.0f} MB")
        for number, golden in enumerate(self.version.model.golden_inputs.all(), 1):
            with self._step(f"golden input {number}") as say:
                say(self._try_golden(predictor, golden))
        return {
            "dimensions": predictor.dimensions,
            "engine": predictor.engine_chosen,
            "memory": memory,
            "schemas": _schemas(predictor),
            "checked_at": timezone.now(),
        }

    def _spec(self) -> Spec:
        version = self.version
        try:
            sources.open_source(version.source)
        except sources.SourceError as error:
            raise ModelError(str(error)) from error
        planned = plan.decided().version(version.label)
        assert planned
        spec = spec_of(planned, version.model.kind)
        # Before memory is measured: what is the same for all versions isn't theirs.
        predictors.prepare(spec.kind)
        return spec

    def _try_shape(self, predictor: Predictor) -> None:
        if predictor.sample is not None:
            self._answer(predictor, predictor.sample)

    def _answer(self, predictor: Predictor, given: Any) -> Any:
        [output] = predictor.predict(predictor.encode([given]))
        if problem := predictor.problem(given, output):
            raise Failed(f"To {str(given)[:80]!r} it answers something wrong: {problem}")
        return output

    def _try_memory(self, memory: int) -> None:
        budget = settings.VELO_WORKER_MEMORY_MB * 1024**2
        if budget and memory > budget:
            raise Failed(
                f"It takes {memory / 1024**2:.0f} MB; a worker may hold "
                f"{settings.VELO_WORKER_MEMORY_MB} MB. Raise VELO_WORKER_MEMORY_MB."
            )

    def _try_golden(self, predictor: Predictor, golden: GoldenInput) -> str:
        """What to say of it. Raises Failed."""
        output = plain(self._answer(predictor, golden.input))
        if golden.expected is None:
            GoldenInput.objects.filter(pk=golden.pk, expected=None).update(
                expected=output, recorded_from=self.version.label
            )
            return "recorded: later versions must agree"
        kind = predictors.KINDS[predictor.kind]
        if wrong := kind.difference(golden.expected, output, golden.tolerance):
            raise Failed(f"To {golden} the answer differs from the expected answer: {wrong}")
        return f"within {golden.tolerance:g}"

    @contextmanager
    def _step(self, name: str) -> Iterator[Callable[[str], None]]:
        """Whatever a model raises is the reason why its version is rejected."""
        step: dict[str, Any] = {"step": name, "outcome": "running", "detail": "", "seconds": None}
        self._steps.append(step)
        self._save()
        started = time.monotonic()
        try:
            yield lambda detail: step.update(detail=detail)
        except Exception as error:
            told = isinstance(error, (Failed, ModelError, predictors.InputError))
            detail = str(error) if told else f"{type(error).__name__}: {error}"
            step.update(outcome="failed", detail=detail)
            raise Failed(f"{name}: {detail}") from error
        else:
            step.update(outcome="passed")
        finally:
            step.update(seconds=round(time.monotonic() - started, 3))
            self._save()

    def _save(self) -> None:
        ModelVersion.objects.filter(pk=self.version.pk).update(
            checks=self._steps, checked_at=timezone.now()
        )


def _schemas(predictor: Predictor) -> dict[str, Any]:
    """A kind whose inputs and outputs aren't always the same says what they are."""
    found = {side: getattr(predictor, f"{side}_schema", None) for side in ("input", "output")}
    return {side: schema for side, schema in found.items() if schema is not None}


def plain(output: Any) -> Any:
    """As JSON has it."""
    return output.tolist() if hasattr(output, "tolist") else output
