"""The race: of the engines that are right, the one serves that is fastest on this processor."""

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass

from django.conf import settings

from workers.host import memory
from workers.predictors.engines import Candidate, Engine, Measure, Outputs, Tokens
from workers.predictors.protocol import ModelError

log = logging.getLogger(__name__)

ROUNDS = 5  # the fastest counts
SECONDS = 0.3  # after which no further round begins
# How much faster a candidate must be than the candidates before it: torch, which comes after
# OpenVINO, takes seconds more to start and hundreds of megabytes more, and times vary.
LEAD = 1.2


@dataclass(frozen=True)
class Course:
    """What the engines are timed with, and judged by."""

    golden: tuple[Tokens, ...]
    wanted: Outputs  # what the reference makes of the golden texts
    measure: Measure
    one: tuple[Tokens, ...]  # a single text
    full: tuple[Tokens, ...]  # a full batch
    cure: str = "Set all three to auto."  # where no engine is right


@dataclass(frozen=True)
class Entrant:
    """An engine that is right, and how fast."""

    name: str
    alike: float | None  # to the reference, by the course's measure; None: it is the reference
    one: float = 0.0  # seconds that a call with a single text takes; 0: not timed
    full: float = 0.0  # the same with a full batch


@dataclass(frozen=True)
class Result:
    """Of a race; the first of `entrants` has won."""

    entrants: tuple[Entrant, ...]
    texts: int  # in the full batch
    refused: tuple[str, ...] = ()  # why others didn't run

    @property
    def winner(self) -> str:
        """The candidate's name."""
        return self.entrants[0].name


@dataclass(frozen=True)
class Choice:
    """The engine that serves, and why."""

    engine: Engine
    reason: str
    result: Result


def run(candidates: Iterable[Candidate], course: Course) -> Choice:
    """The fastest with a full batch, of the candidates that make of the golden texts what is
    wanted; a later candidate needs LEAD. A single candidate isn't timed. Raises ModelError if none
    is right."""
    several = list(candidates)
    entrants: list[Entrant] = []
    refused: list[str] = []
    best: tuple[Entrant, Engine] | None = None
    for candidate in several:
        try:
            engine = candidate.make()
            entrant = _judged(candidate, engine, course)
            if len(several) > 1:
                entrant = _timed(entrant, engine, course)
        except Exception as error:  # noqa: BLE001 - each library fails in ways of its own
            why = "refused" if isinstance(error, _Wrong) else f"failed: {type(error).__name__}"
            refused.append(f"{candidate.name} {why}: {error}")
            log.warning("%s", refused[-1])
            continue
        entrants.append(entrant)
        if best is None or entrant.full * LEAD < best[0].full:
            best = entrant, engine
        del engine
    if best is None:
        raise ModelError(
            f"No engine serves this model with VELO_ENGINE={settings.VELO_ENGINE} "
            f"VELO_DTYPE={settings.VELO_DTYPE} VELO_DEVICE={settings.VELO_DEVICE}: "
            f"{'; '.join(refused) or 'there is no such combination'}. {course.cure}"
        )
    if len(entrants) > 1:
        memory.give_back()  # what the others took
    winner = best[0]
    entrants.sort(key=lambda entrant: (entrant is not winner, entrant.full))
    result = Result(tuple(entrants), len(course.full[0]), tuple(refused))
    return Choice(best[1], reason(best[1], result, course), result)


def repeat(candidates: Iterable[Candidate], result: Result, course: Course) -> Choice | None:
    """The engine that won before, without a race; None if it isn't there, or not right now."""
    for candidate in candidates:
        if candidate.name == result.winner:
            try:
                engine = candidate.make()
                _judged(candidate, engine, course)
            except Exception as error:  # noqa: BLE001 - each library fails in ways of its own
                log.warning("%s, which was the fastest: %s", candidate.name, error)
                return None
            return Choice(engine, reason(engine, result, course), result)
    return None


class _Wrong(Exception):
    """An engine isn't like the reference."""


def _judged(candidate: Candidate, engine: Engine, course: Course) -> Entrant:
    if candidate.is_reference:
        return Entrant(candidate.name, None)
    measure = course.measure
    alike = measure.of(engine.forward(*course.golden), course.wanted)
    if not alike >= measure.least:
        raise _Wrong(
            f"{measure.name} {alike:.6f} to torch fp32 on the golden texts, at least "
            f"{measure.least} is asked for"
        )
    return Entrant(candidate.name, alike)


def _timed(entrant: Entrant, engine: Engine, course: Course) -> Entrant:
    return Entrant(
        entrant.name, entrant.alike, _seconds(engine, course.one), _seconds(engine, course.full)
    )


def _seconds(engine: Engine, inputs: tuple[Tokens, ...]) -> float:
    engine.forward(*inputs)  # the first call of a shape sets up what later calls reuse
    times: list[float] = []
    while len(times) < ROUNDS and sum(times) < SECONDS:
        begun = time.perf_counter()
        engine.forward(*inputs)
        times.append(time.perf_counter() - begun)
    return min(times)


def reason(engine: Engine, result: Result, course: Course) -> str:
    """In a sentence: how near the engine is to the reference, how fast, and why not the others."""
    first, *others = result.entrants
    found = "it is the reference itself"
    if first.alike is not None:
        found = (
            f"{course.measure.name} to torch fp32 on {len(course.wanted)} golden texts: "
            f"{first.alike:.6f}"
        )
    parts = [f"{engine.name}: {found}"]
    if others:
        times = (
            f"{one.name} {one.one * 1000:.1f} and {one.full * 1000:.1f}" for one in result.entrants
        )
        parts.append(f"ms for 1 text and for {result.texts}: {', '.join(times)}")
    return "; ".join([*parts, *result.refused])
