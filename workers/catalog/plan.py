"""The plan: what the database says of models and versions, published in Redis for all processes.

The database decides; Redis carries it, so that requests find their way, and workers their models,
while the database is away.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, cast

from django.db import transaction

from workers.broker.connection import connection
from workers.models import Change, ModelVersion, ServedModel
from workers.predictors.protocol import Spec
from workers.values.version_id import VersionId

log = logging.getLogger(__name__)

KEY = "velo:plan"


@dataclass(frozen=True)
class Share:
    """A version and the per cent of a model's requests that concern it."""

    version: str
    percent: int


@dataclass(frozen=True)
class PlannedVersion:
    """What a worker must know to load it, and a web process to take its inputs."""

    model: str
    version: str
    state: str  # of ModelVersion.State
    source: str
    digest: str
    options: Mapping[str, Any]
    memory: int | None  # bytes, as its check measured
    dimensions: int
    schemas: Mapping[str, Any]  # "input" and "output" in JSON Schema, if it has its own
    registered: int = 0  # Unix seconds; 0: not known yet
    facts: Mapping[str, Any] = field(default_factory=dict)  # see Predictor; empty: not known yet

    @property
    def label(self) -> str:
        """ "name@version", the name of its queue."""
        return VersionId(self.model, self.version).label


@dataclass(frozen=True)
class PlannedModel:
    """A model in the plan, with its versions by name."""

    name: str
    kind: str
    follows_environment: bool  # each worker serves the version it was started with
    active: str | None = None  # these are versions, without the name
    target: str | None = None  # that is being activated
    canary: Share | None = None
    shadow: Share | None = None
    versions: Mapping[str, PlannedVersion] = field(default_factory=dict)  # all that are known

    def wanted(self) -> list[str]:
        """Versions that workers must hold, the most important first."""
        found = [self.active, self.target]
        found += [share.version for share in (self.canary, self.shadow) if share]
        return list(dict.fromkeys(version for version in found if version))


@dataclass(frozen=True)
class Plan:
    """All models and versions, as the database had them when the plan was published."""

    default: str | None = None  # the model that /transform asks
    models: Mapping[str, PlannedModel] = field(default_factory=dict)

    def version(self, label: str) -> PlannedVersion | None:
        """The version with this label, "name@version"; None if the plan has no such version."""
        wanted = VersionId.parse(label)
        model = self.models.get(wanted.model)
        return model.versions.get(wanted.version) if model else None

    def has_pending(self) -> bool:
        """Whether a version is being activated."""
        return any(model.target for model in self.models.values())

    def has_checks(self) -> bool:
        """Whether a version is checked, or waits for its check."""
        found = (one for model in self.models.values() for one in model.versions.values())
        return any(one.state == ModelVersion.State.CHECKING for one in found)

    def to_json(self) -> str:
        """The form in which Redis holds it. Equal plans give equal strings."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, raw: str | bytes) -> "Plan":
        """Raises ValueError, KeyError or TypeError if `raw` isn't what `to_json` gave."""
        kept = json.loads(raw)
        return cls(
            default=kept["default"],
            models={name: _model(one) for name, one in kept["models"].items()},
        )


def _model(kept: dict[str, Any]) -> PlannedModel:
    def share(one: dict[str, Any] | None) -> Share | None:
        return Share(**one) if one else None

    versions = {version: _version(one) for version, one in kept["versions"].items()}
    shares = {"canary": share(kept["canary"]), "shadow": share(kept["shadow"])}
    return PlannedModel(**{**kept, **shares, "versions": versions})


def _version(kept: dict[str, Any]) -> PlannedVersion:
    """Without what a newer Velo may have added."""
    known = {one.name for one in fields(PlannedVersion)}
    return PlannedVersion(**{name: value for name, value in kept.items() if name in known})


def decided() -> Plan:
    """As the database has it. Three queries."""
    versions: dict[str, dict[str, PlannedVersion]] = {}
    names: dict[int, str] = {}  # of versions, by primary key
    for row in ModelVersion.objects.all():
        names[row.pk] = row.version
        versions.setdefault(row.model_id, {})[row.version] = PlannedVersion(
            model=row.model_id,
            version=row.version,
            state=row.state,
            source=row.source,
            digest=row.digest,
            options=row.options,
            memory=row.memory,
            dimensions=row.dimensions,
            schemas=row.schemas,
            registered=int(row.first_seen.timestamp()),
            facts=row.facts,
        )
    pending = Change.objects.filter(outcome=Change.Outcome.PENDING)
    targets = dict(pending.values_list("model_id", "to_version_id"))

    def name(pk: int | None) -> str | None:
        return names.get(pk) if pk else None

    def share(pk: int | None, percent: int) -> Share | None:
        version = name(pk)
        return Share(version, percent) if version and percent else None

    default, models = None, {}
    for model in ServedModel.objects.all():
        models[model.name] = PlannedModel(
            name=model.name,
            kind=model.kind,
            follows_environment=model.follows_environment,
            active=name(model.active_id),
            target=name(targets.get(model.name)),
            canary=share(model.canary_id, model.canary_share),
            shadow=share(model.shadow_id, model.shadow_share),
            versions=versions.get(model.name, {}),
        )
        default = model.name if model.is_default else default
    return Plan(default, models)


def published() -> Plan | None:
    """None if there is none yet, or Redis has lost it. Raises RedisError."""
    raw = cast(bytes | None, connection().get(KEY))
    return Plan.from_json(raw) if raw else None


def publish() -> Plan:
    """See to it that Redis has what the database says; returns that."""
    plan = decided()
    if connection().get(KEY) == plan.to_json().encode():
        return plan
    # One at a time, so that nobody writes an older plan over a newer one.
    with transaction.atomic():
        list(ServedModel.objects.select_for_update().order_by("pk"))
        plan = decided()
        connection().set(KEY, plan.to_json())
    return plan


def publish_if_there_is_none(declared: Spec) -> None:
    """While the database is away, and Redis has no plan: the version that a worker was started with
    is all there is."""
    version = PlannedVersion(
        model=declared.name,
        version=declared.version,
        state=ModelVersion.State.ACTIVE,
        source="",
        digest=declared.digest,
        options=declared.options,
        memory=None,
        dimensions=0,
        schemas={},
    )
    model = PlannedModel(
        name=declared.name,
        kind=declared.kind,
        follows_environment=True,
        active=declared.version,
        versions={declared.version: version},
    )
    plan = Plan(declared.name, {declared.name: model})
    connection().set(KEY, plan.to_json(), nx=True)
