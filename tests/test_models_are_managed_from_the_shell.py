"""`manage.py velo_models`: what the admin decides, from a shell."""

import getpass
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from tests.rows import PASSED, a_model, a_version, a_worker, holding
from tests.stack import manage
from tests.waiting import eventually
from workers.catalog import lifecycle
from workers.management.commands import velo_models
from workers.models import Change, GoldenInput, ModelVersion, ServedModel, Worker

pytestmark = [pytest.mark.usefixtures("redis"), pytest.mark.django_db(transaction=True)]

ME = f"shell:{getpass.getuser()}"


def run(*words: str) -> str:
    """What it prints. Raises CommandError."""
    said = StringIO()
    call_command("velo_models", *words, stdout=said)
    return said.getvalue()


def last_change() -> tuple[str, str, str, int | None, str, str]:
    change = Change.objects.latest("pk")
    return (
        *(change.action, str(change.to_version), change.reason),
        *(change.share, change.by, change.outcome),
    )


@contextmanager
def meanwhile(work: Callable[[], object]) -> Iterator[None]:
    """`work` in another thread, as a worker does it in another process."""

    def do() -> None:
        work()
        connection.close()

    thread = threading.Thread(target=do)
    thread.start()
    yield
    thread.join(30)
    assert not thread.is_alive()


@pytest.fixture
def model() -> ServedModel:
    """With an active version 1 and a version 2 that may follow."""
    made = a_model(is_default=True)
    a_version(made, "1", state="active")
    a_version(made, "2")
    return made


def test_it_lists_what_serves(model: ServedModel) -> None:
    lifecycle.set_canary(model, model.versions.get(version="2"), 10, by="anna", reason="r")
    a_version(model, "3")
    lifecycle.activate(model.versions.get(version="3"), by="anna", reason="faster")
    a_worker("w", held={"m@1": holding("ready"), "m@2": holding("loading")})
    assert run("list").splitlines() == [
        "m (embed, the default; people decide)",
        "  m@3: ready, 0 workers",
        "  m@2: ready, canary 10 %, 0 workers",
        "  m@1: active, 1 workers",
        "  anna activate m: m@1 → m@3, pending: faster: 0 of 1 workers have it",
    ]


def test_checks_that_wait_are_listed_as_such(model: ServedModel) -> None:
    for version in ("2", "3"):
        lifecycle.request_check(
            model.versions.filter(version=version).first() or a_version(model, version)
        )
    lines = run("list").splitlines()
    assert "  m@2: checking, waits for a worker, 0 workers" in lines
    assert "  m@3: checking, waits for its turn, after 1 other check, 0 workers" in lines


def test_it_registers_a_version() -> None:
    said = run("add", "s", "1", "", "--kind", "sleep", "--option", "a=1", "--option", 'b="x"')
    assert said == "s@1 is registered.\n"
    version = ModelVersion.objects.get()
    assert (version.state, version.options) == ("checking", {"a": 1, "b": "x"})
    assert last_change() == ("register", "s@1", "from sleep", None, ME, "done")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["add", "s", "-", "", "--kind", "sleep"], "A version of a model without files needs a"),
        (["add", "m", "1", "", "--kind", "sleep"], "m is a model of kind embed"),
        (["add", "m", "9", "", "--option", "a"], "a names no option. Write KEY=JSON"),
        (["add", "m", "9", "", "--option", "a=b"], "b isn't JSON: "),
        (["check", "m@9"], "There is no version m@9. Known: m@1, m@2."),
        (["check", "m@1"], "m@1 is active: it can't become checking"),
        (["activate", "m@1", "--reason", "r"], "m@1 is active already."),
        (["activate", "m@2"], "the following arguments are required: --reason"),
        (["rollback", "m", "--reason", "r"], "there is nothing to go back to"),
        (["rollback", "n", "--reason", "r"], "There is no model n. Known: m."),
        (["cancel", "m"], "Nothing is being activated for m"),
        (["canary", "m@2", "--reason", "r"], "Say how many per cent of the requests, or --stop."),
        (["canary", "m@2", "100", "--reason", "r"], "The share of a canary is 1 to 99 per cent."),
        (["shadow", "m", "--stop", "--reason", "r"], "m has no shadow."),
        (["default", "m", "--reason", "r"], "m is the default already."),
        (["golden", "m", "a text"], "a text isn't JSON: "),
        (["golden", "m", '"a"', "--tolerance", "-1"], "greater than or equal to 0"),
    ],
)
def test_what_is_refused_is_said_in_a_line(model: ServedModel, words: list[str], says: str) -> None:
    before = Change.objects.count()
    with pytest.raises(CommandError) as refused:
        run(*words)
    assert says in str(refused.value)
    assert Change.objects.count() == before


def test_it_decides(model: ServedModel) -> None:
    run("activate", "m@2", "--reason", "faster")
    assert last_change() == ("activate", "m@2", "faster", None, ME, "pending")
    run("cancel", "m")
    assert last_change()[-1] == "cancelled"
    for role in ("canary", "shadow"):
        run(role, "m@2", "7", "--reason", "try")
        assert last_change() == (role, "m@2", "try", 7, ME, "done")
        run(role, "m", "--stop", "--reason", "tried")
        assert last_change() == (role, "None", "tried", 0, ME, "done")
    other = a_model("other")
    a_version(other, "1", state="active")
    run("default", "other", "--reason", "newer")
    assert last_change() == ("default", "other@1", "newer", None, ME, "done")


def test_it_keeps_golden_inputs(model: ServedModel) -> None:
    run("golden", "m", '"Тест!"')
    run("golden", "m", '{"a": 1}', "--expected", "[1, 2]", "--tolerance", "0.5")
    run("golden", "m", '"null"', "--expected", "null")
    kept = GoldenInput.objects.values_list("input", "expected", "tolerance", "recorded_from")
    assert list(kept) == [
        ("Тест!", None, 0.01, ""),
        ({"a": 1}, [1, 2], 0.5, ME),
        ("null", None, 0.01, ME),
    ]
    assert GoldenInput.objects.unanswered().get().input == "Тест!"


def test_it_says_what_a_golden_input_without_an_answer_comes_to(model: ServedModel) -> None:
    assert run("golden", "m", '"a"').splitlines() == [
        "Every version of m must answer a alike.",
        "The next check of another version records m@1's answer.",
    ]
    a_model("new")
    assert run("golden", "new", '"a"') == (
        "new has no active version, so checks skip a until it has. Or say what to expect, with "
        "--expected.\n"
    )
    assert run("golden", "new", '"a"', "--expected", "1") == (
        "Every version of new must answer a alike.\n"
    )


def test_it_shows_the_audit_trail(model: ServedModel) -> None:
    run("canary", "m@2", "7", "--reason", "try")
    run("activate", "m@2", "--reason", "better")
    run("cancel", "m")
    a_model("other")
    lines = run("audit", "m").splitlines()
    assert [line[20:] for line in lines] == [
        f"{ME} activate m: m@1 → m@2, cancelled (Cancelled by {ME}.): better",
        f"{ME} canary m: - → m@2 7 %, done: try",
    ]
    assert run("audit").splitlines() == lines
    assert run("audit", "other") == ""


def test_it_waits_for_a_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(velo_models, "LOOK", 0.05)

    def check(to: str, **fields: Any) -> None:
        checking = ModelVersion.objects.filter(state="checking")
        eventually(checking.exists)
        checking.update(state=to, checks=PASSED, **fields)

    with meanwhile(lambda: check("ready")):
        said = run("add", "s", "1", "", "--kind", "sleep", "--wait")
    assert said.splitlines()[-1] == "s@1 is ready: source passed, load passed, golden passed"
    with (
        meanwhile(lambda: check("rejected", reason="too slow")),
        pytest.raises(CommandError, match="s@1 is rejected: too slow"),
    ):
        run("check", "s@1", "--wait")


def test_it_waits_for_an_activation(model: ServedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(velo_models, "LOOK", 0.05)
    a_worker("w", last_seen="2999-01-01T00:00Z")

    def load(**held: Any) -> None:
        eventually(Change.objects.filter(outcome="pending").exists)
        Worker.objects.update(held={"m@2": holding(**held)})

    with (
        meanwhile(lambda: load(state="failed", error="no memory")),
        pytest.raises(CommandError, match="m@2 isn't active: no memory"),
    ):
        run("activate", "m@2", "--reason", "r", "--wait")
    Worker.objects.update(held={})
    with meanwhile(lambda: load(state="ready")):
        said = run("activate", "m@2", "--reason", "r", "--wait")
    assert said.splitlines()[0] == "m@2 is being activated."
    assert said.splitlines()[-1] == "m@2: done"
    model.refresh_from_db()
    assert str(model.active) == "m@2"


def test_it_does_not_wait_for_ever(
    model: ServedModel, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    monkeypatch.setattr(velo_models, "GRACE", 0)
    settings.VELO_CHECK_TIMEOUT = 0.1
    with pytest.raises(CommandError, match="m@2 is checking: waits for a worker, and nothing m"):
        run("check", "m@2", "--wait")


def test_a_refusal_is_an_exit_code_and_one_line(tmp_path: Path) -> None:
    knobs = {"DJANGO_SECRET_KEY": "a-key", "DJANGO_ALLOWED_HOSTS": "localhost"}
    manage(tmp_path, "migrate", **knobs)
    ended = manage(tmp_path, "velo_models", "activate", "m@1", "--reason", "r", **knobs)
    assert ended.returncode == 1
    assert ended.stderr == "CommandError: There is no version m@1. Known: none.\n"
