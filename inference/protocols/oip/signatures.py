"""Which tensors the kinds of model take and give."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from inference.errors import WrongKind
from workers.catalog.plan import PlannedVersion

BYTES, FP32 = "BYTES", "FP32"
ANY = -1  # a dimension of any length


@dataclass(frozen=True)
class Tensor:
    """What is known of a tensor before any request."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def described(self) -> dict[str, Any]:
        """As a model's metadata has it."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


@dataclass(frozen=True)
class Signature:
    """The tensors of a model."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


TEXT = Tensor("text", BYTES, (ANY,))
EMBEDDING = Signature((TEXT,), (Tensor("embedding", FP32, (ANY, ANY)),))
# Of the kinds whose answers are tensors.
SIGNATURES: Mapping[str, Signature] = {
    "embed": EMBEDDING,
    "sleep": EMBEDDING,
    "classify": Signature(
        (TEXT,), (Tensor("scores", FP32, (ANY, ANY)), Tensor("label", BYTES, (ANY,)))
    ),
    "rerank": Signature(
        (Tensor("query", BYTES, (1,)), Tensor("texts", BYTES, (ANY,))),
        (Tensor("score", FP32, (ANY,)),),
    ),
}


def signature(kind: str, model: str | None) -> Signature:
    """Of models of this kind. `model`: the name that was asked for; None: the default model.
    Raises WrongKind."""
    if kind in SIGNATURES:
        return SIGNATURES[kind]
    address = f"/models/{model}/transform" if model else "/transform"
    raise WrongKind(
        f"{model or 'The default model'} is of the kind {kind}, whose inputs and answers "
        f"aren't tensors. Send its input as JSON to {address}."
    )


def outputs_of(kind: str, version: PlannedVersion | None) -> list[Tensor]:
    """With the lengths that are known of this version."""
    lengths = {
        "embedding": version.dimensions if version else 0,
        "scores": len(labels(version)),
    }
    return [
        Tensor(one.name, one.datatype, (ANY, lengths[one.name] or ANY))
        if one.name in lengths
        else one
        for one in SIGNATURES[kind].outputs
    ]


def labels(version: PlannedVersion | None) -> list[str]:
    """Of a classifier, in the order of its columns; empty where the plan doesn't know them."""
    return list(version.facts.get("labels", ())) if version else []
