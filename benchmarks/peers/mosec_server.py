"""mosec with two workers of one thread each.

`python mosec_server.py --address 127.0.0.1 --port PORT` serves POST /transform.
"""

from typing import Any

import orjson
from embedder import Embedder
from mosec import Server, Worker

WORKERS, BATCH = 2, 32


class Embedding(Worker):
    def __init__(self) -> None:
        super().__init__()
        self._embedder = Embedder()

    def deserialize(self, data: bytes) -> Any:
        return orjson.loads(data)

    def forward(self, data: list[str]) -> list[Any]:
        return list(self._embedder.embed(data))

    def serialize(self, data: Any) -> bytes:
        return orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY)


if __name__ == "__main__":
    server = Server()
    server.append_worker(Embedding, num=WORKERS, max_batch_size=BATCH, route="/transform")
    server.run()
