"""What the READMEs say of settings, commands, endpoints and errors is what the code says."""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import get_commands
from django.urls import resolve

from inference import errors, urls
from tests.stack import ROOT
from velo_site import env

README = (ROOT / "README.md").read_text()
BOTH = {name: (ROOT / name).read_text() for name in ("README.md", "README.ru.md")}
READERS = {
    name: inspect.signature(function)
    for name, function in inspect.getmembers(env, inspect.isfunction)
    if function.__module__ == env.__name__ and not name.startswith("_")
}
NO_DEFAULT = object()


def section(title: str) -> str:
    """README.md from this heading to the next of the same level."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def rows(text: str) -> Iterator[list[str]]:
    """The cells of every row of every table."""
    for line in text.splitlines():
        if line.startswith("|"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def code(text: str) -> str:
    """What stands in fences and between backticks, one piece a line."""
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return "\n".join([*fenced, *re.findall(r"`([^`\n]+)`", prose)])


def read_from_the_environment(path: Path) -> dict[str, object]:
    """Each variable's default, where that is a number or a string; else NO_DEFAULT."""
    found: dict[str, object] = {}
    for node in ast.walk(ast.parse(path.read_text())):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "env"
            and node.func.attr in READERS
        ):
            assert node.args, ast.unparse(node)
            assert isinstance(node.args[0], ast.Constant), ast.unparse(node)
            found[str(node.args[0].value)] = default(node)
    return found


def default(call: ast.Call) -> object:
    assert isinstance(call.func, ast.Attribute)
    signature = READERS[call.func.attr]
    given = signature.bind(*call.args, **{word.arg: word.value for word in call.keywords})
    given.apply_defaults()
    value = given.arguments.get("default", NO_DEFAULT)
    return computed(value) if isinstance(value, ast.AST) else value


def computed(node: ast.AST) -> object:
    """The value of a number, a string or a product of them."""
    match node:
        case ast.Constant(value):
            return value
        case ast.BinOp(left, ast.Mult(), right):
            factors = computed(left), computed(right)
            if all(isinstance(factor, int) for factor in factors):
                return factors[0] * factors[1]  # type: ignore[operator]
    return NO_DEFAULT


def in_the_table(value: object) -> str:
    """How the table writes a default."""
    if value == "":
        return "empty"
    return f"`{int(value) if isinstance(value, bool) else value}`"


IN_THE_CODE = {
    **read_from_the_environment(ROOT / "velo_site" / "settings.py"),
    **read_from_the_environment(ROOT / "velo_site" / "state.py"),
}
IN_THE_README = {
    cells[0].strip("`"): cells[1:]
    for cells in rows(section("Configuration"))
    if re.fullmatch(r"`[A-Z_]+`", cells[0])
}


def test_the_table_has_every_variable_and_no_other() -> None:
    assert set(IN_THE_README) == set(IN_THE_CODE)
    named = re.findall(r"^\| `([A-Z_]+)`", section("Configuration"), re.MULTILINE)
    assert len(named) == len(set(named))


@pytest.mark.parametrize("name", sorted(IN_THE_CODE))
def test_a_default_in_the_table_is_that_of_the_code(name: str) -> None:
    written, meaning = IN_THE_README[name]
    assert written
    assert meaning
    if IN_THE_CODE[name] is not NO_DEFAULT:
        assert written == in_the_table(IN_THE_CODE[name])


@pytest.mark.parametrize("readme", BOTH)
def test_every_make_target_exists(readme: str) -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = set(re.findall(r"\bmake ([a-z]+)", code(BOTH[readme])))
    assert {"run", "load"} <= named
    assert named <= set(targets)


@pytest.mark.parametrize("readme", BOTH)
def test_every_management_command_exists(readme: str) -> None:
    named = set(re.findall(r"\bmanage\.py ([a-z][a-z_-]*)", code(BOTH[readme])))
    assert "rqworker" in named
    assert named <= set(get_commands())


def test_every_endpoint_is_there_and_in_the_table() -> None:
    named = {
        found[1]
        for cells in rows(section("What you get"))
        if (found := re.fullmatch(r"`(?:GET|POST) (/\S*)`", cells[0]))
    }
    for path in named:
        resolve(path)  # raises Resolver404
    there = {re.sub(r"<str:(\w+)>", r"{\1}", f"/{one.pattern}") for one in urls.urlpatterns}
    assert there <= named


def test_the_table_has_every_error_with_its_status_and_no_other() -> None:
    in_the_table = {
        (int(cells[0]), cells[1].strip("`"))
        for cells in rows(section("What you get"))
        if re.fullmatch(r"[45]\d\d", cells[0])
    }
    kinds = errors.APIError.__subclasses__()
    assert in_the_table == {(kind.status_code, kind.default_code) for kind in kinds}


def test_every_variable_of_docker_compose_is_mentioned() -> None:
    lines = (ROOT / "docker-compose.yml").read_text().splitlines()
    compose = "\n".join(line.partition("# ")[0] for line in lines)
    # With a default, or bare: passed on if it is set.
    named = re.findall(r"\$\{([A-Z_]+)|^ +([A-Z_]+):$", compose, re.MULTILINE)
    assert named
    missing = {name for pair in named for name in pair if name and f"`{name}`" not in README}
    assert not missing
