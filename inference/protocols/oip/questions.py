"""A request for inference, read and checked."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from inference.errors import InvalidInput, TooManyInputs
from inference.protocols import fields
from inference.protocols.oip.body import JSON_LENGTH, Body
from inference.protocols.oip.signatures import BYTES, Signature, Tensor

EXAMPLE = '{"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["Hello"]}]}'
LENGTH = struct.Struct("<I")  # before each element of a binary tensor
COLUMN = 2  # dimensions of a tensor of one column


@dataclass(frozen=True)
class Question:
    """What a model is asked, and which tensors come back."""

    id: str | None
    inputs: Mapping[str, list[Any]]  # elements by the tensor's name; the kind's check looks at them
    outputs: Mapping[str, bool]  # name: whether as raw bytes


def question(body: Body, known: Signature) -> Question:
    """Of a request's body. Fields that aren't known are ignored, and null is as if a field weren't
    there. Raises InvalidInput and TooManyInputs."""
    given = body.json
    if not isinstance(given, Mapping):
        raise fields.not_an_object(given, EXAMPLE)
    name = given.get("id")
    if not isinstance(name, str | None):
        raise fields.wrong("id", name, "a string")
    outputs = _outputs(given, known)
    return Question(name, _inputs(given.get("inputs"), body.tensors, known), outputs)


def _inputs(given: Any, tensors: bytes, known: Signature) -> dict[str, list[Any]]:
    """Elements by the tensor's name."""
    expected = {one.name: one for one in known.inputs}
    found: dict[str, list[Any]] = {}
    begin = 0  # of the next binary tensor
    for number, one in enumerate(_objects("inputs", given)):
        name = _name(f"inputs[{number}]", one, expected)
        if name in found:
            raise InvalidInput(f"{name}: the tensor is in inputs twice. Send it once.", param=name)
        count = _count(expected[name], one)
        size = _parameter(name, one, "binary_data_size")
        if size is None:
            found[name] = _elements(name, one.get("data"), count)
            continue
        if not fields.is_count(size):
            raise fields.wrong(f"{name}.parameters.binary_data_size", size, "a whole number")
        if size > len(tensors) - begin:
            raise InvalidInput(
                f"{name}: binary_data_size is {size}, but {len(tensors) - begin} bytes are left "
                f"behind the JSON. Say in the header {JSON_LENGTH} where the JSON ends.",
                param=name,
            )
        if one.get("data") is not None:
            raise InvalidInput(
                f"{name}: the tensor has data and binary_data_size. Send one of them.", param=name
            )
        found[name] = _binary(name, tensors[begin : begin + size], count)
        begin += size
    for name in expected:
        if name not in found:
            raise InvalidInput(f"{name}: the tensor is missing in inputs.", param=name)
    if begin < len(tensors):
        raise InvalidInput(
            f"{len(tensors) - begin} bytes are left behind the last tensor. The binary_data_size "
            "of all tensors must add up to what follows the JSON."
        )
    return found


def _outputs(given: Mapping[str, Any], known: Signature) -> dict[str, bool]:
    """Whether each comes back as raw bytes; without a choice, all of them."""
    always = bool(_parameter("", given, "binary_data_output", bool))
    names = [one.name for one in known.outputs]
    chosen = given.get("outputs")
    if chosen is None or chosen == []:
        return dict.fromkeys(names, always)
    found = {}
    for number, one in enumerate(_objects("outputs", chosen)):
        name = _name(f"outputs[{number}]", one, names)
        binary = _parameter(f"outputs[{number}]", one, "binary_data", bool)
        found[name] = always if binary is None else binary
    return found


def _objects(name: str, given: Any) -> list[Mapping[str, Any]]:
    if not isinstance(given, list):
        raise fields.wrong(name, given, "an array of tensors")
    for number, one in enumerate(given):
        if not isinstance(one, Mapping):
            raise fields.wrong(f"{name}[{number}]", one, "an object")
    return given


def _name(place: str, one: Mapping[str, Any], known: Sequence[str] | Mapping[str, Any]) -> str:
    name = one.get("name")
    if not isinstance(name, str):
        raise fields.wrong(f"{place}.name", name, "a string")
    if name not in known:
        raise InvalidInput(
            f"{place}: the model has no such tensor {name[: fields.SHOWN]!r}. Known: "
            f"{', '.join(known)}.",
            param=place,
        )
    return name


def _parameter(place: str, one: Mapping[str, Any], name: str, kind: type = object) -> Any:
    """Of this name among the parameters of the request or of a tensor."""
    path = f"{place}.parameters".removeprefix(".")
    given = one.get("parameters")
    if not isinstance(given, Mapping | None):
        raise fields.wrong(path, given, "an object")
    value = given.get(name) if given else None
    if value is not None and not isinstance(value, kind):
        raise fields.wrong(f"{path}.{name}", value, "true or false")
    return value


def _count(expected: Tensor, one: Mapping[str, Any]) -> int:
    """How many elements the tensor has by its shape, [n] or [n, 1]."""
    name, datatype, shape = expected.name, one.get("datatype"), one.get("shape")
    if datatype != BYTES:
        raise fields.wrong(f"{name}.datatype", datatype, f'"{BYTES}"')
    if not isinstance(shape, list) or not all(map(fields.is_count, shape)):
        raise fields.wrong(f"{name}.shape", shape, "an array of whole numbers")
    if not 1 <= len(shape) <= COLUMN or shape[1:] not in ([], [1]):
        raise InvalidInput(f"{name}.shape: expected [n] or [n, 1]; got {shape[:8]}.", param=name)
    count: int = shape[0]
    if not count:
        raise InvalidInput(f"{name}: the tensor is empty. Send at least one text.", param=name)
    if expected.shape == (1,) and count > 1:
        raise InvalidInput(f"{name}.shape: expected one element; got {count}.", param=name)
    most = settings.VELO_MAX_INPUTS
    if count > most:
        raise TooManyInputs(
            f"{name}: {count} elements; at most {most} are taken. Send them in several requests, "
            "or raise VELO_MAX_INPUTS on the server.",
            param=name,
        )
    return count


def _elements(name: str, data: Any, count: int) -> list[Any]:
    """Of `data`, flat or in rows of one element."""
    if not isinstance(data, list):
        raise fields.wrong(f"{name}.data", data, "an array of strings")
    if len(data) != count:
        raise _not_as_many(name, count, str(len(data)))
    return [one[0] if isinstance(one, list) and len(one) == 1 else one for one in data]


def _binary(name: str, raw: bytes, count: int) -> list[Any]:
    """Of a tensor's bytes: before each element its length."""
    found: list[Any] = []
    at = 0
    while at < len(raw):
        if len(found) == count:
            raise _not_as_many(name, count, "more")
        begin = at + LENGTH.size
        end = begin + LENGTH.unpack_from(raw, at)[0] if begin <= len(raw) else begin
        if end > len(raw):
            raise InvalidInput(
                f"{name}[{len(found)}]: the tensor's bytes end within the element. Send before "
                "each element its length in bytes, as 4 bytes, the lowest first.",
                param=name,
            )
        try:
            found.append(raw[begin:end].decode())
        except UnicodeDecodeError as error:
            raise InvalidInput(
                f"{name}[{len(found)}]: the text isn't valid UTF-8: {error.reason} at position "
                f"{error.start}.",
                param=f"{name}[{len(found)}]",
            ) from None
        at = end
    if len(found) < count:
        raise _not_as_many(name, count, str(len(found)))
    return found


def _not_as_many(name: str, count: int, found: str) -> InvalidInput:
    return InvalidInput(
        f"{name}: by its shape the tensor has {count} elements; it has {found}.", param=name
    )
