"""LitServe with two workers of one thread each.

`python litserve_server.py PORT` serves POST /transform.
"""

import sys
from typing import Any

import litserve
from embedder import Embedder
from fastapi import Request

WORKERS, BATCH = 2, 32
TIMEOUT = 0.005  # seconds that a batch may wait for more


class Embedding(litserve.LitAPI):
    def setup(self, device: Any) -> None:
        self._embedder = Embedder()

    def decode_request(self, request: Request, **kwargs: Any) -> Any:
        return request  # its JSON, whatever its annotation says, by which LitServe reads it

    def predict(self, x: list[str], **kwargs: Any) -> Any:
        return self._embedder.embed(x).tolist()

    def encode_response(self, output: Any, **kwargs: Any) -> Any:
        return output


if __name__ == "__main__":
    api = Embedding(max_batch_size=BATCH, batch_timeout=TIMEOUT, api_path="/transform")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=WORKERS)
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="error"
    )
