"""A class of the user's own as a model: what it takes and gives is its own affair."""

import logging
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import MappingProxyType
from typing import Any

from django.conf import settings
from jsonschema import Draft202012Validator, SchemaError

from workers.broker.wire import JSONSerializer
from workers.host import memory
from workers.predictors import options
from workers.predictors.protocol import (
    NO_PARAMETERS,
    Encoded,
    InputError,
    ModelError,
    Parameters,
    Spec,
    check_parameters,
)

log = logging.getLogger(__name__)

OPTIONS = {"class": str}


class CustomPredictor:
    """Hands each batch to an object of that class. docs/kinds.md says what such a class has."""

    task = "custom"
    dimensions = 0
    facts: Mapping[str, Any] = MappingProxyType({})  # none
    call_tokens = 0  # every input counts as one token: batches are as large as they may be

    def __init__(self, spec: Spec, model: Any) -> None:
        self.spec = spec
        self.kind = spec.kind
        self.name, self.version = spec.name, spec.version
        self.source = str(spec.folder or spec.options["class"])
        self.engine_chosen = f"{spec.options['class']}: its own"
        self.sample = getattr(model, "sample", None)
        self.input_schema = getattr(model, "input_schema", None)
        self.output_schema = getattr(model, "output_schema", None)
        self._takes = _validator(spec, "input_schema", self.input_schema)
        self._gives = _validator(spec, "output_schema", self.output_schema)
        self._model = model

    def encode(
        self, inputs: Sequence[Any], parameters: Parameters = NO_PARAMETERS
    ) -> list[Encoded]:
        """Raises InputError if an input doesn't match the class's input_schema."""
        check_parameters(parameters, {}, self.kind)
        for given in inputs:
            if found := _misfit(given, self._takes):
                raise InputError(f"{self.spec.label} takes no such input: {found}")
        return [Encoded(given, tokens=1, truncated=False) for given in inputs]

    def predict(self, batch: Sequence[Encoded]) -> list[Any]:
        """Raises what the class raises, and TypeError for anything but a list of JSON values."""
        outputs = self._model.predict([encoded.ids for encoded in batch])
        if not isinstance(outputs, list):
            raise TypeError(f"predict has to return a list, not {type(outputs).__name__}")
        for output in outputs:
            JSONSerializer.dumps(output)  # raises for what can't be sent
        return outputs

    def problem(self, given: Any, output: Any) -> str:
        """See Predictor.problem: the class's output_schema decides."""
        return _misfit(output, self._gives)

    def warm_up(self) -> None:
        """Raises ModelError where the class can't take its own sample."""
        if self.sample is None:
            return
        try:
            self.predict(self.encode([self.sample]))
        except Exception as error:
            raise ModelError(
                f"{self.spec.options['class']} fails on its own sample: "
                f"{type(error).__name__}: {error}"
            ) from error

    def use_threads(self, threads: int) -> None:
        if hasattr(self._model, "use_threads"):
            self._model.use_threads(threads)

    def close(self) -> None:
        try:
            if hasattr(self._model, "close"):
                self._model.close()
        except Exception:
            log.exception("%s: its close failed", self.spec.label)
        del self._model
        memory.give_back()


def _misfit(value: Any, schema: Draft202012Validator) -> str:
    """Why it doesn't fit; empty if it does."""
    error = next(schema.iter_errors(value), None)
    return f"{error.json_path}: {error.message}" if error else ""


def _validator(spec: Spec, name: str, schema: Any) -> Draft202012Validator:
    """Without a schema, of whatever there is. Raises ModelError."""
    try:
        Draft202012Validator.check_schema({} if schema is None else schema)
    except SchemaError as error:
        raise ModelError(
            f"The {name} of {spec.options['class']} isn't a JSON Schema: {error.message}"
        ) from error
    return Draft202012Validator({} if schema is None else schema)


def _allowed(module: str) -> bool:
    return any(
        module == one or module.startswith(f"{one}.") for one in settings.VELO_CUSTOM_MODULES
    )


def _class(spec: Spec) -> type[Any]:
    """That the option names, once it may be imported. Raises ModelError."""
    path = options.checked(spec, OPTIONS).get("class", "")
    module, _, name = path.rpartition(".")
    if not module or not name:
        raise ModelError(
            f"The option 'class' of {spec.label} is {path!r}; the kind 'custom' needs it to be the "
            "dotted path of a class, for example my_models.Shouting."
        )
    refusal = (
        f"{path} may not be imported: its module isn't in VELO_CUSTOM_MODULES, which is "
        f"{','.join(settings.VELO_CUSTOM_MODULES) or 'empty'}. If you trust it, add it there."
    )
    if not _allowed(module):
        raise ModelError(refusal)
    try:
        found = getattr(import_module(module), name)
    except Exception as error:
        raise ModelError(
            f"{path} can't be imported: {type(error).__name__}: {error}. Its folder has to be on "
            "the PYTHONPATH of the worker."
        ) from error
    if not isinstance(found, type) or not all(
        callable(getattr(found, method, None)) for method in ("load", "predict")
    ):
        raise ModelError(f"{path} isn't a class with the methods load and predict.")
    if not _allowed(found.__module__):  # it was only imported there
        raise ModelError(refusal)
    return found


def prepare(spec: Spec) -> None:
    """Its class imports what it takes."""


def load(spec: Spec, threads: int) -> CustomPredictor:
    """An object of the class, loaded. Raises ModelError."""
    found = _class(spec)
    try:
        model = found()
        model.load(spec.folder, threads)
    except Exception as error:
        raise ModelError(
            f"{spec.options['class']} can't load {spec.folder or spec.label}: "
            f"{type(error).__name__}: {error}"
        ) from error
    return CustomPredictor(spec, model)
