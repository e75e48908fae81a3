"""Which version answers a request: by the plan, the live workers, and chance where shares are.

Nothing here reads or waits; routing.py brings what is known.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any, NamedTuple

from inference.errors import (
    NotServing,
    NoWorker,
    Suspended,
    UnknownModel,
    UnknownVersion,
    WrongKind,
)
from workers.broker.leases import Registration
from workers.broker.names import is_version
from workers.catalog.plan import Plan, PlannedModel, Share
from workers.values.version_id import VersionId

SHOWN = 20  # names that an error lists
SHOWN_CHARS = 100  # of a name that a caller has sent


@dataclass(frozen=True)
class Target:
    """The model, and perhaps the version, that a caller wants the answer of."""

    model: str | None = None  # None: the default one
    version: str | None = None  # pins it
    key: str | None = None  # equal keys get the same version, as long as the shares don't shrink
    kinds: frozenset[str] = frozenset()  # of which the model has to be; empty: of any


@dataclass(frozen=True)
class Known:
    """The plan, and how many workers there are for it."""

    plan: Plan | None = None
    holders: Mapping[str, int] = field(default_factory=dict)  # by label: workers that serve it
    declared: Mapping[str, int] = field(default_factory=dict)  # and that were started with it
    # Labels that are served by a worker which takes no jobs with several inputs.
    one_by_one: frozenset[str] = frozenset()
    # By label, why a live worker doesn't serve a version that it is to hold; "": what its
    # environment names.
    problems: Mapping[str, str] = field(default_factory=dict)
    failed_start: str | None = None  # why the last worker couldn't start, if it was the last event
    suspended: bool = False  # RQ takes no jobs: `manage.py rqsuspend`

    @classmethod
    def of(
        cls,
        plan: Plan | None,
        registered: Iterable[Registration],
        *,
        failed_start: str | None = None,
        suspended: bool = False,
    ) -> "Known":
        """Counts the registered workers by the versions that they serve and declare."""
        holders: Counter[str] = Counter()
        declared: Counter[str] = Counter()
        problems: dict[str, str] = {}
        one_by_one: set[str] = set()
        for worker in registered:
            holders.update(worker.queues)
            if not worker.takes_several:
                one_by_one |= set(worker.queues)
            problems |= worker.problems
            if worker.declares in worker.queues:
                declared[worker.declares] += 1
        return cls(
            plan, holders, declared, frozenset(one_by_one), problems, failed_start, suspended
        )

    def of_models(self, names: Collection[str]) -> "Known":
        """The same, as if there were no other models than these."""

        def is_seen(label: str) -> bool:
            return is_version(label) and VersionId.parse(label).model in names

        plan = self.plan
        if plan is not None:
            default = plan.default if plan.default in names else None
            plan = Plan(default, {name: plan.models[name] for name in plan.models.keys() & names})
        return replace(
            self,
            plan=plan,
            holders={label: count for label, count in self.holders.items() if is_seen(label)},
            declared={label: count for label, count in self.declared.items() if is_seen(label)},
            problems={label: why for label, why in self.problems.items() if is_seen(label)},
            failed_start=None,
        )

    def nobody(self, label: str | None = None, otherwise: str = "") -> NoWorker:
        """The error for a version that no live worker serves, or for no version at all, with the
        reason as far as a worker has told it, or else with the text `otherwise`."""
        reason = self.problems.get(label or "") or self.problems.get("") or self.failed_start
        if not reason:
            return NoWorker(otherwise)
        what = f"{label} is served by no live worker" if label else "No live worker holds a model"
        return NoWorker(f"{what}: {reason}")

    def serving(self, model: PlannedModel) -> list[str]:
        """Its versions that a worker serves."""
        held = (
            VersionId.parse(label)
            for label, count in self.holders.items()
            if count and is_version(label)
        )
        return sorted(one.version for one in held if one.model == model.name)


class Point(NamedTuple):
    """Three independent draws, each from 0 to below 1."""

    swap: float
    canary: float
    shadow: float


@dataclass(frozen=True)
class Route:
    """Where a request goes."""

    label: str  # "name@version"
    kind: str
    schema: Mapping[str, Any] | None = None  # of the input, if the version has its own
    pinned: bool = False  # the caller wants this version and no other
    shadow: str | None = None  # the label of the version that gets a copy
    drawn: float = 0.0  # below the canary's share: the canary's


def choose(
    known: Known,
    target: Target,
    draw: Callable[[str], Point],
    without: Collection[str] = frozenset(),
) -> Route:
    """`draw` gives a point for a model's name. `without`: labels that nobody serves any more.

    Raises UnknownModel, UnknownVersion, WrongKind, NotServing, NoWorker and Suspended.
    """
    if known.suspended:
        raise Suspended
    if known.plan is None:
        raise known.nobody()
    model = _model(known, target)
    if target.version is not None:
        return _pinned(known, model, target.version)
    point = draw(model.name)
    label = _main(known, model, target, point.swap, without)
    answering = known.plan.models.get(VersionId.parse(label).model, model)
    drawn = point.canary if target.key is None else _hashed(answering.name, target.key)
    canary = _served(known, answering, answering.canary, drawn)
    if canary and canary not in without:
        label = canary
    shadow = _served(known, answering, answering.shadow, point.shadow)
    return Route(
        label,
        answering.kind,
        _schema(known.plan, label),
        shadow=None if shadow == label else shadow,
        drawn=drawn,
    )


def _model(known: Known, target: Target) -> PlannedModel:
    plan = known.plan
    assert plan is not None
    name = target.model
    model = _default(plan, target.kinds) if name is None else plan.models.get(name)
    if model:
        if target.kinds and model.kind not in target.kinds:
            raise WrongKind(
                f"{model.name} is a model of the kind {model.kind}; this address takes "
                f"{_listed(sorted(target.kinds))}."
            )
        return model
    if name is None and target.kinds:
        raise known.nobody(
            otherwise=f"No model of the kind {_listed(sorted(target.kinds))} is known. Register "
            "one, or start a worker with one."
        )
    if name is None:
        raise known.nobody(
            otherwise="No model is the default one. Choose it in the admin, under models, or start "
            "a worker."
        )
    raise UnknownModel(
        f"There is no model {name[:SHOWN_CHARS]!r}. Known: {_listed(sorted(plan.models))}."
    )


def _default(plan: Plan, kinds: Collection[str]) -> PlannedModel | None:
    """The default model; where its kind isn't among these kinds, the first model by its name of
    which a version is active, or else the first."""
    default = plan.models.get(plan.default or "")
    if not kinds or (default and default.kind in kinds):
        return default
    fitting = [model for model in plan.models.values() if model.kind in kinds]
    return min(fitting, key=lambda model: (model.active is None, model.name), default=None)


def _pinned(known: Known, model: PlannedModel, version: str) -> Route:
    label = f"{model.name}@{version}"
    assert known.plan is not None
    if known.holders.get(label):  # perhaps not in the plan yet: the database was away
        return Route(label, model.kind, _schema(known.plan, label), pinned=True)
    if version not in model.versions:
        states = [f"{one.version} ({one.state})" for one in model.versions.values()]
        raise UnknownVersion(
            f"{model.name} has no version {version[:SHOWN_CHARS]!r}. Known: {_listed(states)}."
        )
    raise not_serving(known, model, version)


def not_serving(known: Known, model: PlannedModel, version: str) -> NotServing:
    """The error for a version without workers. It lists the served versions of the model."""
    others = [other for other in known.serving(model) if other != version]
    state = f" (it is {model.versions[version].state})" if version in model.versions else ""
    return NotServing(
        f"No worker serves {model.name}@{version}{state}. Versions of {model.name} that are "
        f"served: {_listed(others)}. Ask one of them, or let this one serve: activate it in the "
        "admin, or start a worker with it."
    )


def unanswered(known: Known, label: str) -> NotServing | NoWorker:
    """The error for a pinned version whose last worker has just gone."""
    wanted = VersionId.parse(label)
    model = known.plan.models.get(wanted.model) if known.plan else None
    if model and any(other != wanted.version for other in known.serving(model)):
        return not_serving(known, model, wanted.version)
    return known.nobody(label)


def _main(
    known: Known, model: PlannedModel, target: Target, swap: float, without: Collection[str]
) -> str:
    """The label, but for the canary's share."""
    declared = _declared(known, model, target)
    if left := {label: count for label, count in declared.items() if label not in without}:
        return _weighted(left, swap if target.key is None else _hashed("", target.key))
    if model.active:
        label = f"{model.name}@{model.active}"
        if label not in without:
            return label
    if declared or model.active:
        raise known.nobody(f"{model.name}@{model.active}" if model.active else None)
    nothing = f"{model.name} has no active version, and no worker was started with one."
    if target.model is None:
        raise known.nobody(otherwise=f"{nothing} Activate one in the admin, or start a worker.")
    raise NotServing(
        f"{nothing} These of its versions can be asked by their own address: "
        f"{_listed(known.serving(model))}. Activate one in the admin."
    )


def _declared(known: Known, model: PlannedModel, target: Target) -> dict[str, int]:
    """What workers were started with: of `model`, or where the target names none, of every model
    that follows the environment and is of a fitting kind.

    A model that isn't in the plan follows the environment: the database was away when its worker
    came, and will say so.
    """
    if not model.follows_environment or known.plan is None:
        return {}
    found = {}
    for label, count in known.declared.items():
        name = VersionId.parse(label).model
        other = known.plan.models.get(name)
        follows = other is None or (
            other.follows_environment and (not target.kinds or other.kind in target.kinds)
        )
        if name == model.name or (target.model is None and follows):
            found[label] = count
    return found


def _weighted(counts: Mapping[str, int], drawn: float) -> str:
    labels = sorted(counts)
    rest = drawn * sum(counts.values())
    for label in labels[:-1]:
        rest -= counts[label]
        if rest < 0:
            return label
    return labels[-1]


def _served(known: Known, model: PlannedModel, share: Share | None, drawn: float) -> str | None:
    """The label of a version that has a share of the requests, if this request is in it."""
    if share is None or drawn >= share.percent / 100:
        return None
    label = f"{model.name}@{share.version}"
    return label if known.holders.get(label) else None


def _hashed(name: str, key: str) -> float:
    """From 0 to below 1, the same in every process. A key in a share stays in a greater one."""
    words = f"{name}\0{key}".encode("utf-8", "surrogatepass")
    return (int.from_bytes(blake2b(words, digest_size=8).digest()) >> 11) / 2**53


def _schema(plan: Plan, label: str) -> Mapping[str, Any] | None:
    version = plan.version(label)
    return version.schemas.get("input") if version else None


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return (", ".join(names[:SHOWN]) or "none") + more
