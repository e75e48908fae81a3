"""What the protocol says of the server and of models before any request."""

from typing import Any

from django.conf import settings

from inference.choice import Target
from inference.errors import UnknownModel, UnknownVersion
from inference.protocols.oip.signatures import outputs_of, signature
from workers.catalog.plan import Plan, PlannedModel, PlannedVersion

SHOWN = 100  # characters of a name that isn't known


def server() -> dict[str, Any]:
    """The server's."""
    return {
        "name": "velo",
        "version": settings.SPECTACULAR_SETTINGS["VERSION"],
        "extensions": ["binary_tensor_data"],
    }


def model(plan: Plan, target: Target) -> dict[str, Any]:
    """A model's, or that of one version. Raises UnknownModel, UnknownVersion and WrongKind."""
    name = target.model or plan.default or ""
    known = plan.models.get(name)
    if known is None:
        raise UnknownModel(f"There is no model {name[:SHOWN]!r}. /models lists them.")
    if target.version and target.version not in known.versions:
        raise UnknownVersion(
            f"{name} has no version {target.version[:SHOWN]!r}. /models lists them."
        )
    takes = signature(known.kind, name).inputs
    gives = outputs_of(known.kind, _version(known, target))
    return {
        "name": name,
        "versions": list(known.versions),
        "platform": f"velo_{known.kind}",
        "inputs": [one.described() for one in takes],
        "outputs": [one.described() for one in gives],
    }


def _version(known: PlannedModel, target: Target) -> PlannedVersion | None:
    """The version that is asked for, or the active one, or the only version."""
    name = target.version or known.active
    if name is None and len(known.versions) == 1:
        [name] = known.versions
    return known.versions.get(name or "")
