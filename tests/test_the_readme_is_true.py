"""What README and docs say of settings, commands, endpoints, errors and packages is true."""

import ast
import inspect
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import get_commands, load_command_class
from django.urls import resolve

from inference import errors, urls
from tests.stack import ROOT, Stack
from tests.test_the_house_stands import ARROW
from velo_site import env

PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
}
ENGLISH = "\n".join(text for name, text in PAGES.items() if not name.endswith(".ru.md"))
REFERENCE = PAGES["docs/reference.md"]
READERS = {
    name: inspect.signature(function)
    for name, function in inspect.getmembers(env, inspect.isfunction)
    if function.__module__ == env.__name__ and not name.startswith("_")
}
NO_DEFAULT = object()


def section(title: str, page: str = REFERENCE) -> str:
    """The page from this heading to the next of the same level."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def rows(text: str) -> Iterator[list[str]]:
    """The cells of every row of every table."""
    for line in text.splitlines():
        if line.startswith("|"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def fenced(text: str) -> list[str]:
    """The content of each code block."""
    return re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def prose(text: str) -> str:
    """The text without its code blocks."""
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def code(text: str) -> str:
    """Code blocks and inline code, one piece a line."""
    return "\n".join([*fenced(text), *re.findall(r"`([^`\n]+)`", prose(text))])


def commands(text: str) -> Iterator[list[str]]:
    """The words of each shell command in a code block that names a program of `.venv`."""
    for block in fenced(text):
        for line in block.splitlines():
            if ".venv/bin/" in line:
                yield shlex.split(line.removeprefix("$ "), comments=True)


def anchors(text: str) -> set[str]:
    """The anchors of the page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


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
IN_THE_REFERENCE = {
    cells[0].strip("`"): cells[1:]
    for cells in rows(section("Settings"))
    if re.fullmatch(r"`[A-Z_]+`", cells[0])
}
IN_COMPOSE = {
    name
    for line in (ROOT / "docker-compose.yml").read_text().splitlines()
    # With a default, or bare: passed on if it is set.
    for pair in re.findall(r"\$\{([A-Z_]+)|^ +([A-Z_]+):$", line.partition("# ")[0])
    for name in pair
    if name
}


def test_the_table_has_every_variable_once_and_no_other() -> None:
    assert set(IN_THE_REFERENCE) == set(IN_THE_CODE)
    named = re.findall(r"^\| `([A-Z_]+)` \|", ENGLISH, re.MULTILINE)
    assert len(named) == len(set(named))


@pytest.mark.parametrize("name", sorted(IN_THE_CODE))
def test_a_default_in_the_table_is_that_of_the_code(name: str) -> None:
    written, meaning = IN_THE_REFERENCE[name]
    assert written
    assert meaning
    if IN_THE_CODE[name] is not NO_DEFAULT:
        assert written == in_the_table(IN_THE_CODE[name])


@pytest.mark.parametrize("page", PAGES)
def test_every_variable_of_velo_that_is_named_exists(page: str) -> None:
    named = set(re.findall(r"\b(?:VELO|DJANGO)_[A-Z_]*[A-Z]\b", PAGES[page]))
    assert named <= {*IN_THE_CODE, *IN_COMPOSE}


@pytest.mark.parametrize("page", PAGES)
def test_every_make_target_that_is_named_exists(page: str) -> None:
    assert set(re.findall(r"\bmake ([a-z]+)", code(PAGES[page]))) <= make_targets()


def test_every_make_target_is_described() -> None:
    described = set(re.findall(r"\bmake ([a-z]+)", code(PAGES["README.md"])))
    assert make_targets() - described <= {"help", "load"}  # `make load` is in docs/run.md


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("page", PAGES)
def test_every_management_command_that_is_named_exists(page: str) -> None:
    named = set(re.findall(r"\bmanage\.py ([a-z][a-z_-]*)", code(PAGES[page])))
    assert named <= set(get_commands())


@pytest.mark.parametrize("readme", ["README.ru.md", "docs/run.md"])
def test_the_commands_that_people_need_are_there(readme: str) -> None:
    written = code(PAGES[readme])
    for command in ("make run", "make load", "manage.py rqworker", "docker-compose up"):
        assert command in written


@pytest.mark.parametrize("page", PAGES)
def test_every_command_takes_the_arguments_that_it_is_given(page: str) -> None:
    for words in commands(PAGES[page]):
        while "=" in words[0]:
            assert words.pop(0).partition("=")[0] in IN_THE_CODE
        program, *arguments = words
        if arguments[:1] == ["manage.py"]:
            _, name, *arguments = arguments
            command = load_command_class(get_commands()[name], name)
            command.create_parser("manage.py", name).parse_args(arguments)  # exits if wrong
        else:
            assert program in (".venv/bin/locust", ".venv/bin/python")


def test_every_endpoint_is_there_and_in_the_table() -> None:
    named = {
        found[1]
        for cells in rows(section("Endpoints"))
        if (found := re.fullmatch(r"`(?:GET|POST) (/\S*)`", cells[0]))
    }
    for path in named:
        resolve(path)  # raises Resolver404
    there = {re.sub(r"<str:(\w+)>", r"{\1}", f"/{one.pattern}") for one in urls.urlpatterns}
    assert there <= named


def errors_in_the_table() -> set[tuple[int, str]]:
    return {
        (int(cells[0]), cells[1].strip("`"))
        for cells in rows(section("Errors"))
        if re.fullmatch(r"[45]\d\d", cells[0])
    }


def test_the_table_has_every_error_with_its_status_and_no_other() -> None:
    kinds = errors.APIError.__subclasses__()
    assert errors_in_the_table() == {(kind.status_code, kind.default_code) for kind in kinds}


@pytest.mark.parametrize("page", PAGES)
def test_every_error_that_is_named_has_its_status(page: str) -> None:
    named = re.findall(r"\b([45]\d\d)\s+`([a-z_]+)`", PAGES[page])
    assert {(int(status), code) for status, code in named} <= errors_in_the_table()


def test_every_variable_of_docker_compose_is_mentioned() -> None:
    assert IN_COMPOSE
    assert not {name for name in IN_COMPOSE if f"`{name}`" not in REFERENCE + PAGES["docs/run.md"]}


def test_the_table_of_packages_is_the_one_that_is_enforced() -> None:
    table = {
        cells[0].strip("`"): re.findall(r"`([a-z._]+)`", cells[1])
        for cells in rows(section("The packages", PAGES["docs/how-it-works.md"]))
        if cells[0].startswith("`")
    }
    assert {room: set(others) for room, others in table.items()} == {
        room: set(others) for room, others in ARROW.items()
    }


@pytest.mark.parametrize("page", PAGES)
def test_every_relative_link_leads_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", prose(PAGES[page]))
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent.joinpath(path).resolve() if path else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text()), link


def test_every_page_is_linked_from_the_readme() -> None:
    linked = set(re.findall(r"\]\(([^)#\s]+)", PAGES["README.md"]))
    assert set(PAGES) - {"README.md"} <= linked


@pytest.mark.parametrize("page", ["README.md", "README.ru.md", "docs/use.md"])
def test_the_first_request_gets_the_answer_that_is_shown(page: str, velo: Stack) -> None:
    found = re.search(
        r"^\$ curl -s localhost:8877(/transform) -H '([\w-]+): (\S+)' -d '(.+)'\n(\[[^…]+),…",
        PAGES[page],
        re.MULTILINE,
    )
    assert found
    path, name, value, body, shown = found.groups()
    answer = velo.request("POST", path, body.encode(), {name: value})
    numbers = json.loads(f"{shown}]")
    assert len(numbers) == 3
    assert answer.json[:3] == pytest.approx(numbers, abs=0.005)  # the format may be bfloat16


def fields(value: Any, ids: tuple[str, ...] = ("workers", "model_versions", "sizes")) -> Any:
    """The names in an object at every depth, with ids and versions left out."""
    if not isinstance(value, dict):
        return None
    return {
        name: next(iter(map(fields, inner.values())), None)
        if name in ids and isinstance(inner, dict)
        else fields(inner)
        for name, inner in value.items()
    }


@pytest.mark.parametrize("page", ["README.ru.md", "docs/use.md"])
def test_the_example_of_the_statistics_has_their_fields(page: str, velo: Stack) -> None:
    assert velo.transform("a text").status == 200
    example = next(block for block in fenced(PAGES[page]) if block.startswith("{\n"))
    assert fields(json.loads(example)) == fields(velo.get("/stat").json)
