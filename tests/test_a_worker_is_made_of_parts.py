"""Each part of a worker owns its state; RQ's private names stand in the glue alone, and exist."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from rq import SimpleWorker
from rq.job import Job

from tests.stack import ROOT
from workers.broker.connection import connection, queue
from workers.broker.wire import JSONSerializer

GLUE = ROOT / "workers/runtime/worker.py"
OF_RQ = {
    SimpleWorker: {
        "_finalize_failure",
        "_ordered_queues",
        "_shutdown",
        "_state",
        "_stop_requested",
    },
    Job: {"_result", "_status"},
}
PUBLIC = {"_asdict", "_exit", "_meta", "_replace"}  # documented by Django and by Python


def private(path: Path) -> Iterator[tuple[ast.Attribute, bool]]:
    """Accesses to attributes with a leading underscore, and whether they are on `self`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            if node.attr.startswith("__") or node.attr in PUBLIC:
                continue
            owner = node.value
            of_super = isinstance(owner, ast.Call) and ast.unparse(owner.func) == "super"
            own = isinstance(owner, ast.Name) and owner.id in ("self", "cls")
            yield node, own or of_super


def test_no_attribute_crosses_the_border_of_a_class() -> None:
    files = [path for room in ("workers", "inference") for path in (ROOT / room).rglob("*.py")]
    assert GLUE in files
    crossing = [
        f"{path.relative_to(ROOT)}:{node.lineno} {ast.unparse(node)}"
        for path in files
        for node, own in private(path)
        if not own and not (path == GLUE and node.attr in OF_RQ[Job])
    ]
    assert not crossing


def own_names() -> set[str]:
    """That the glue defines itself, as attributes or methods."""
    [glue] = [node for node in ast.parse(GLUE.read_text()).body if isinstance(node, ast.ClassDef)]
    found = {one.name for one in glue.body if isinstance(one, ast.FunctionDef)}
    [init] = [
        one for one in glue.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"
    ]
    for node in ast.walk(init):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {one.attr for one in targets if isinstance(one, ast.Attribute)}
    return found


@pytest.mark.usefixtures("redis")
def test_the_private_names_of_rq_that_the_glue_touches_exist() -> None:
    overridden = {"_shutdown"}
    touched = {node.attr for node, own in private(GLUE) if own} - own_names() | overridden
    assert touched == OF_RQ[SimpleWorker]
    worker = SimpleWorker([queue()], connection=connection(), serializer=JSONSerializer)
    job = queue().create_job("operator.add", args=(1, 1))
    for owner, names in ((worker, OF_RQ[SimpleWorker]), (job, OF_RQ[Job])):
        for name in names:
            assert hasattr(owner, name), f"{type(owner).__name__} of this RQ has no {name}"
