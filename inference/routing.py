"""What a web process knows of the plan and of the workers, read again several times a second."""

import threading
import time
from collections.abc import Collection
from functools import cache
from itertools import count
from math import sqrt
from random import SystemRandom
from typing import Any

from inference import callers
from inference.choice import Known, Point, Route, Target, choose
from inference.errors import APIError
from workers.broker import leases
from workers.broker.connection import is_suspended
from workers.broker.names import QUEUE
from workers.catalog import plan
from workers.catalog.plan import Share
from workers.host.ticker import Ticker

REFRESH = 0.25  # seconds between two looks

# Additive recurrences: after n steps, a share of the requests is met to within some 1/n. The steps
# are irrational and independent of each other (Weyl), the golden ratio being the most even one.
STEPS = (sqrt(2) - 1, (sqrt(5) - 1) / 2, sqrt(3) - 1)  # as in Point
MIDDLE = Point(0.5, 0.5, 0.5)


class Draws:
    """Points for a model's requests: spread evenly, which chance alone wouldn't do."""

    def __init__(self) -> None:
        self._starts = tuple(SystemRandom().random() for _ in STEPS)  # so that processes differ
        self._counts: dict[str, count[int]] = {}

    def __call__(self, name: str) -> Point:
        number = next(self._counts.setdefault(name, count()))
        found = [
            (start + number * step) % 1 for start, step in zip(self._starts, STEPS, strict=True)
        ]
        return Point(*found)


class Routes:
    """Chooses where requests go. What was known last stays while Redis is away, or has lost the
    plan."""

    def __init__(self) -> None:
        self._known: Known | None = None
        # By the models that a caller may ask: what is known, and what such a caller may see of it.
        self._views: dict[frozenset[str], tuple[Known, Known]] = {}
        self._draw = Draws()
        self._reading = threading.Lock()
        self._began = -float("inf")  # the last look that succeeded
        self._failed: tuple[Exception, float] | None = None  # why the last one didn't, and when
        self._ticker = Ticker("routes", REFRESH, self.refresh)

    def keep_fresh(self) -> None:
        """Start the thread that refreshes them."""
        self._ticker.start()

    def close(self) -> None:
        """End that thread."""
        self._ticker.stop()

    def known(self) -> Known:
        """As the caller may see it. Raises RedisError if no plan is known yet, and none can be
        read."""
        if self._known is None or self._known.plan is None:
            self.refresh()
        known, models = self._known, callers.current().models
        assert known is not None
        if models is None:
            return known
        if models not in self._views or self._views[models][0] is not known:
            self._views[models] = known, known.of_models(models)
        return self._views[models][1]

    def choose(self, target: Target, without: Collection[str] = frozenset()) -> Route:
        """Raises UnknownModel, UnknownVersion, NotServing and NoWorker, after a fresh look, and
        RedisError."""
        try:
            return choose(self.known(), target, self._draw, without)
        except APIError:
            self.refresh()  # it may have come a moment ago
            return choose(self.known(), target, self._draw, without)

    def likely(self, target: Target, without: Collection[str] = frozenset()) -> Route:
        """Where most such requests go. Raises as `choose` does, and draws nothing."""
        try:
            return choose(self.known(), target, lambda _: MIDDLE, without)
        except APIError:
            self.refresh()
            return choose(self.known(), target, lambda _: MIDDLE, without)

    def has_another(self, target: Target, without: Collection[str]) -> bool:
        """Whether somebody else could be asked."""
        try:
            route = choose(self.known(), target, lambda _: MIDDLE, without)
        except APIError:
            return False
        return bool(self.known().holders.get(route.label))

    def refresh(self) -> None:
        """See to it that what is known was read after this call. Raises RedisError."""
        asked = time.monotonic()
        with self._reading:
            if self._began >= asked:
                return  # others have come for the same, and one of them has just read it
            if self._failed and self._failed[1] >= asked:
                raise self._failed[0]
            try:
                self._read()
                self._failed = None
            except Exception as error:
                self._failed = error, time.monotonic()
                raise

    def _read(self) -> None:
        began = time.monotonic()
        published = plan.published() or (self._known.plan if self._known else None)
        self._known = Known.of(
            published,
            leases.registered(),
            failed_start=leases.failed_start(QUEUE),
            suspended=is_suspended(),
        )
        self._began = began

    def listing(self) -> dict[str, Any]:
        """The models and their versions, for people and programs. Raises as `known` does."""
        known = self.known()
        planned = known.plan or plan.Plan()
        return {
            "default": planned.default,
            "models": {
                name: {
                    "kind": model.kind,
                    "active": model.active,
                    "canary": _share(model.canary),
                    "shadow": _share(model.shadow),
                    "versions": {
                        version: {
                            "state": one.state,
                            "workers": known.holders.get(one.label, 0),
                        }
                        for version, one in model.versions.items()
                    },
                }
                for name, model in planned.models.items()
            },
        }


def _share(share: Share | None) -> dict[str, Any] | None:
    return {"version": share.version, "percent": share.percent} if share else None


@cache
def routes() -> Routes:
    """This process's, kept fresh."""
    shared = Routes()
    shared.keep_fresh()
    return shared
