"""Reading a model's folder: from what is kept of it, or with transformers the first time."""

from collections.abc import Callable
from functools import cached_property
from importlib import import_module
from typing import Any

from tokenizers import Tokenizer

from workers.predictors.kept import Facts, Kept
from workers.predictors.protocol import Spec

READER = "workers.predictors.weights"  # it imports torch and transformers


class Read:
    """A model's folder: what it says, and the weights if somebody asks for them."""

    def __init__(self, spec: Spec, auto: str, within: str = "", unused: str = "") -> None:
        """The model in the folder's part `within`, as the transformers class `auto` makes it.
        Tensors whose names begin with `unused` may be missing. Raises ModelError."""
        self._from = spec, auto, within, unused
        self.kept = Kept(spec)
        known = self.kept.read()
        self._is_kept = known is not None
        self.facts, self.tokenizer = known or self._whole[:2]

    @property
    def model(self) -> Any:
        """In torch, in fp32. Raises ModelError."""
        return self._whole[2]

    @cached_property
    def _whole(self) -> tuple[Facts, Tokenizer, Any]:
        found: tuple[Facts, Tokenizer, Any] = import_module(READER).read(*self._from)
        return found

    def keep(self) -> None:
        """For the next process that serves this model, which then needs no torch."""
        if not self._is_kept:
            self.kept.write(self.facts, self.tokenizer)


class Graph:
    """What an engine computes of a model: one of the modules in engines/torch.py around it."""

    def __init__(
        self, read: Read, name: str, module: Callable[[Any, Any], Any], takes: int = 2
    ) -> None:
        """`name` tells apart graphs of the same weights. `module` makes it, of engines/torch.py and
        the model. `takes`: its inputs."""
        self.name = name
        self.takes = takes
        self.folder = read.kept.graph(name)
        self.quantised = read.kept.graph(f"{name}-int8")  # the folder of its quantised form
        self._read = read
        self._module = module

    @cached_property
    def module(self) -> Any:
        """In torch, in fp32."""
        return self._module(import_module("workers.predictors.engines.torch"), self._read.model)


def prepare(spec: Spec) -> None:
    """Import what serving the model takes: torch, unless it was served without it before."""
    if spec.folder and not Kept(spec).is_there():
        import_module(READER)
