"""The arrow of imports, velo_site → inference → workers, and a web process without torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stack import ROOT, Stack, command_line, environment, resident_megabytes

HEAVY = {"torch", "transformers", "sentence_transformers", "openvino"}
FORBIDDEN = {
    "workers": {"inference", "velo_site", "tests"},
    "inference": {"velo_site", "tests"} | HEAVY,
    "velo_site": {"tests"} | HEAVY,
}


def imports(path: Path) -> set[str]:
    """Top-level names of the modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize("room", sorted(FORBIDDEN))
def test_the_arrow_of_imports_holds(room: str) -> None:
    files = list((ROOT / room).rglob("*.py"))
    assert files
    against = {
        str(path.relative_to(ROOT)): wrong
        for path in files
        if (wrong := imports(path) & FORBIDDEN[room])
    }
    assert not against


def test_only_predictors_import_torch() -> None:
    for path in (ROOT / "workers").rglob("*.py"):
        if "predictors" not in path.parts:
            assert not imports(path) & HEAVY, path


def test_only_dispatch_and_its_exchange_know_rq() -> None:
    for path in (ROOT / "inference").rglob("*.py"):
        if path.name not in ("dispatch.py", "exchange.py"):
            assert not imports(path) & {"rq", "redis", "django_rq"}, path


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
