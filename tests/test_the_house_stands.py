"""The rooms and the arrow of imports between them, and a web process without torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stack import ROOT, Stack, command_line, environment, resident_megabytes

HEAVY = {"torch", "transformers", "sentence_transformers", "openvino"}

# The rooms, and what each may import of the others: itself, and what stands behind its name.
ARROW = {
    "workers.host": [],
    "workers.values": [],
    "workers.broker": ["workers.host", "workers.values", "workers.jobs"],
    "workers.models": ["workers.broker", "workers.values", "workers.host"],
    "workers.predictors": ["workers.broker", "workers.values", "workers.host"],
    "workers.catalog": [
        "workers.models",
        "workers.predictors",
        "workers.broker",
        "workers.values",
        "workers.host",
    ],
    "workers.metrics": ["workers.models", "workers.broker", "workers.values", "workers.host"],
    "workers.runtime": [
        "workers.catalog",
        "workers.metrics",
        "workers.models",
        "workers.predictors",
        "workers.broker",
        "workers.values",
        "workers.host",
        "workers.jobs",
    ],
    "workers.jobs": ["workers.values"],  # the job function, by the path that stands in queued jobs
    "workers": ["workers"],  # admin, management, and the dotted paths that people's files name
    "inference": ["workers"],
    "velo_site": ["inference", "workers"],
}


def imports(path: Path) -> set[str]:
    """Dotted names of the modules, or of what is taken from them, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def top(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def inside(name: str, room: str) -> bool:
    return name == room or name.startswith(f"{room}.")


def room_of(path: Path) -> str:
    """The narrowest that ARROW names."""
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return max((room for room in ARROW if inside(name, room)), key=len)


def files() -> list[Path]:
    return [
        path
        for room in ("workers", "inference", "velo_site")
        for path in (ROOT / room).rglob("*.py")
    ]


def test_the_arrow_of_imports_holds() -> None:
    """workers → inference → velo_site, and within workers from host to runtime."""
    wrong = []
    for path in files():
        room = room_of(path)
        for name in imports(path):
            ours = any(
                inside(name, root) for root in ("workers", "inference", "velo_site", "tests")
            )
            if ours and not any(inside(name, allowed) for allowed in [room, *ARROW[room]]):
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong


@pytest.mark.parametrize("room", ["host", "values", "broker", "models", "predictors", "catalog"])
def test_each_room_of_the_table_is_there(room: str) -> None:
    assert any(room_of(path) == f"workers.{room}" for path in files())


def test_values_are_pure() -> None:
    for path in (ROOT / "workers/values").rglob("*.py"):
        assert not top(imports(path)) & ({"django", "redis", "rq"} | HEAVY), path


def test_only_predictors_import_torch() -> None:
    for path in files():
        if "predictors" not in path.parts:
            assert not top(imports(path)) & HEAVY, path


def test_only_dispatch_and_its_exchange_know_rq() -> None:
    for path in (ROOT / "inference").rglob("*.py"):
        if path.name not in ("dispatch.py", "exchange.py"):
            assert not top(imports(path)) & {"rq", "redis", "django_rq"}, path


def test_the_web_application_leaves_torch_out(tmp_path: Path) -> None:
    code = (
        "import sys; from velo_site.wsgi import application; from django.test import Client; "
        "assert Client().get('/schema').status_code == 200; "
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    knobs = {"DJANGO_SECRET_KEY": "x", "DJANGO_ALLOWED_HOSTS": "testserver", "DJANGO_HTTPS": "0"}
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment(tmp_path, **knobs),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout.strip() == "[]", ended.stderr


def test_processes_stay_within_their_memory(velo: Stack) -> None:
    for number in range(20):
        assert velo.transform(f"text {number}").status == 200
    sizes = {pid: resident_megabytes(pid) for pid in velo.pids()}
    web = [size for pid, size in sizes.items() if "granian" in command_line(pid)]
    workers = [size for pid, size in sizes.items() if "rqworker" in command_line(pid)]
    assert len(web) == 2  # the server and its one process
    assert len(workers) == 2
    assert max(web) < 150
    assert max(workers) < 1200
