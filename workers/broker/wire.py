"""How a job looks on the wire: RQ's serializer, in JSON.

RQ's own default is pickle: with it, write access to Redis means running code in every worker.
"""

from typing import Any

import orjson
from rq import serializers
from rq.results import Result

# The type of an entry in a job's stream of results, as Redis has it.
SUCCESSFUL = str(Result.Type.SUCCESSFUL.value).encode()
RETRIED = str(Result.Type.RETRIED.value).encode()


class JSONSerializer:
    """Reads and writes the same JSON as `rq.serializers.JSONSerializer`, several times faster;
    a numpy array of float32 is written as a list, each number in its shortest form."""

    @staticmethod
    def dumps(value: Any) -> bytes:
        """UTF-8 JSON. Raises TypeError for a value that JSON can't represent."""
        return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)

    @staticmethod
    def loads(data: bytes) -> Any:
        """Raises ValueError for bytes that aren't JSON."""
        return orjson.loads(data)


def insist() -> None:
    """Make RQ take this serializer also where it is told of none and would take pickle.

    So it is wherever RQ's tools make a job or a worker by themselves: a pickle could run code.
    """
    serializers.PickleSerializer = JSONSerializer  # type: ignore[assignment]
