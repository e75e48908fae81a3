"""How a job and its answer look on the wire: RQ's serializer, in JSON, and vectors as numbers.

RQ's own default is pickle: with it, write access to Redis means running code in every worker.

A packed answer is MARK, then a line of JSON, then the numbers of its arrays as they are in memory:
float32, little-endian, row by row, array after array. The line is a list of two objects: everything
that isn't such an array, and the shape of each array by its key. For example:

    FF [{"model_version":"m@1","tokens":3},{"output":[384]}] LF 1,536 bytes

Spaces before the line feed let the numbers begin at a multiple of four bytes.

The answer of a job with several inputs is an object: "several" is a list of their answers, each
without its output where that is an array; the array stands under the answer's position, as "0".
If an input failed, or a worker crashed that had the job, it is {"apart": {"crashes": 0 or 1}}: each
input must be asked in a job of its own, which tells which of them is to blame.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy
import orjson
from numpy.typing import NDArray
from rq import serializers
from rq.results import Result

# The type of an entry in a job's stream of results, as Redis has it.
SUCCESSFUL = str(Result.Type.SUCCESSFUL.value).encode()
RETRIED = str(Result.Type.RETRIED.value).encode()

MARK = b"\xff"  # no UTF-8 has this byte, so no JSON has it
FLOAT32 = numpy.dtype("<f4")


class JSONSerializer:
    """Reads and writes the same JSON as `rq.serializers.JSONSerializer`, several times faster;
    a numpy array of float32 is written as a list, each number in its shortest form. It reads
    packed answers too."""

    @staticmethod
    def dumps(value: Any) -> bytes:
        """UTF-8 JSON. Raises TypeError for a value that JSON can't represent."""
        return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)

    @staticmethod
    def loads(data: bytes) -> Any:
        """What JSON says; an array is a list. Raises ValueError for bytes that are neither JSON nor
        packed."""
        value = unpack(data)
        if data[:1] != MARK:
            return value
        return {
            key: orjson.loads(JSONSerializer.dumps(one)) if isinstance(one, numpy.ndarray) else one
            for key, one in value.items()
        }


def pack(value: Any) -> bytes:
    """Packed, if it is an object that has arrays of float32; else JSON. Raises TypeError for a
    value that JSON can't represent."""
    named = value if isinstance(value, dict) else {}
    arrays = {key: one for key, one in named.items() if _is_floats(one)}
    if not arrays:
        return JSONSerializer.dumps(value)
    rest = {key: one for key, one in value.items() if key not in arrays}
    line = MARK + JSONSerializer.dumps([rest, {key: one.shape for key, one in arrays.items()}])
    line = line.ljust(len(line) + -(len(line) + 1) % FLOAT32.itemsize) + b"\n"
    return b"".join([line, *(one.astype(FLOAT32, copy=False).tobytes() for one in arrays.values())])


def _is_floats(value: Any) -> bool:
    return isinstance(value, numpy.ndarray) and value.dtype == numpy.float32 and value.ndim > 0


def unpack(data: bytes) -> Any:
    """What JSON says, or what was packed: its arrays share the memory of `data`. Raises ValueError
    for bytes that are neither."""
    if data[:1] != MARK:
        return orjson.loads(data)
    line, _, _ = data.partition(b"\n")
    try:
        rest, shapes = orjson.loads(line[1:])
        return _arrays(data, len(line) + 1, shapes) | rest
    except (AttributeError, TypeError) as error:
        raise ValueError("It begins as a packed answer does, but it isn't one.") from error


def _arrays(data: bytes, start: int, shapes: dict[str, list[int]]) -> dict[str, Any]:
    arrays: dict[str, NDArray[numpy.float32]] = {}
    for key, shape in shapes.items():
        count = math.prod(shape)
        arrays[key] = numpy.frombuffer(data, FLOAT32, count, start).reshape(shape)
        start += count * FLOAT32.itemsize
    if start != len(data):
        raise ValueError("A packed answer has more or fewer numbers than its shapes say.")
    return arrays


def together(answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The answer of a job with several inputs; `answers` have an "output" each."""
    arrays = {str(place): one["output"] for place, one in enumerate(answers)}
    arrays = {place: output for place, output in arrays.items() if _is_floats(output)}
    rest = [
        {key: value for key, value in one.items() if key != "output" or str(place) not in arrays}
        for place, one in enumerate(answers)
    ]
    return {"several": rest, **arrays}


def apart(crashes: int) -> dict[str, Any]:
    """The answer that says so; `crashes` of workers that had the job."""
    return {"apart": {"crashes": crashes}}


def each(value: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The answers in what `together` made; None if they are to be asked apart."""
    if "apart" in value:
        return None
    return [
        {"output": value[str(place)], **one} if str(place) in value else one
        for place, one in enumerate(value["several"])
    ]


def insist() -> None:
    """Make RQ take this serializer also where it is told of none and would take pickle.

    So it is wherever RQ's tools make a job or a worker by themselves: a pickle could run code.
    """
    serializers.PickleSerializer = JSONSerializer  # type: ignore[assignment]
