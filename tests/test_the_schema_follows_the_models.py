"""What the Swagger schema says of the models that are there, and without any."""

from typing import Any

import pytest
from django.test import Client
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema

from inference.errors import INPUT_ERRORS, APIError
from tests.answering import model, plan_of, publish, version
from workers.catalog.plan import PlannedModel
from workers.models.versions import Kind
from workers.predictors import protocol
from workers.predictors.kinds import KINDS, schemas

EACH = "/models/{model}/transform"
PINNED = "/models/{model}/versions/{version}/transform"


def schema(*models: PlannedModel) -> Any:
    publish(plan_of(*models), {})
    found = Client().get("/schema").json()
    validate_schema(found)
    return found


def takes(found: Any, path: str) -> Any:
    return found["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]


def gives(found: Any, path: str) -> Any:
    responses = found["paths"][path]["post"]["responses"]
    return responses["200"]["content"]["application/json"]["schema"]


def component(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def kinds_of_errors(kind: type[APIError] = APIError) -> set[type[APIError]]:
    found = set(kind.__subclasses__())
    return found.union(*map(kinds_of_errors, found))


def test_each_kind_has_a_contract_whose_examples_keep_it() -> None:
    assert list(KINDS) == [kind.name for kind in KINDS.values()]
    assert set(KINDS) == set(Kind.values)
    for kind in KINDS.values():
        assert {kind.takes, kind.gives} <= schemas().keys()
        for example in kind.inputs.values():
            assert kind.check(example, None) == example
        assert not kind.difference(kind.output, kind.output, 0.0)
        assert kind.similarity(kind.output, kind.output) == 1.0


def test_each_reason_to_refuse_an_input_is_an_error_of_the_api() -> None:
    codes = {
        protocol.INVALID,
        protocol.NOT_A_STRING,
        protocol.BLANK,
        protocol.TOO_LONG,
        protocol.TOO_MANY_TOKENS,
    }
    assert set(INPUT_ERRORS) == codes


@pytest.mark.usefixtures("redis")
def test_each_model_has_an_address_of_its_own_described_by_its_kind() -> None:
    found = schema(
        model("first", "1", active="1", kind="classify"),
        model("second.я", "1", kind="rerank"),
        model("third", "1", kind="embed"),
    )
    assert EACH not in found["paths"]
    assert takes(found, "/transform") == component("Text")
    assert gives(found, "/transform") == gives(found, "/models/first/transform")
    assert gives(found, "/transform") == component("Scores")
    assert takes(found, "/models/second.%D1%8F/transform") == component("QueryAndTexts")
    operations = [one["post"] for path, one in found["paths"].items() if path[:8] == "/models/"]
    assert len({operation["operationId"] for operation in operations}) == 4
    [first, second, *_] = operations
    assert "Version 1 is active" in first["description"]
    assert "No version is active" in second["description"]
    assert [one["name"] for one in first["parameters"] if one["in"] == "path"] == []


@pytest.mark.usefixtures("redis")
def test_a_version_may_bring_its_own_schema() -> None:
    plain = {"type": "object", "properties": {"n": {"type": "integer"}}}
    with_references = {"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer"}}}
    schemas = {"input": {"$schema": "…", **plain}, "output": with_references}
    versions = {"1": version("own", "1", schemas=schemas)}
    found = schema(model("own", kind="custom", active="1", versions=versions))
    assert takes(found, "/models/own/transform") == plain
    body = found["paths"]["/models/own/transform"]["post"]["requestBody"]["content"]
    assert not body["application/json"]["examples"]
    assert gives(found, "/models/own/transform") == component("Anything")


@pytest.mark.usefixtures("redis")
def test_a_base_address_takes_what_the_default_model_does() -> None:
    found = schema(model("sentiment", "1", kind="classify", active="1"))
    assert "top_k" in takes(found, "/")["properties"]["parameters"]["properties"]
    assert "/embed" not in found["paths"]
    assert list(schema(model("own", "1", kind="custom", active="1"))["paths"]["/"]) == ["get"]
    prompted = version("e", "1", facts={"prompts": ["query"]})
    found = schema(model("e", kind="embed", active="1", versions={"1": prompted}))
    assert takes(found, "/embed")["properties"]["prompt_name"]["enum"] == ["query", None]


@pytest.mark.usefixtures("redis")
def test_one_version_may_be_of_any_kind_that_is_there() -> None:
    found = schema(model("a", "1", active="1"), model("b", "1", kind="rerank"))
    assert gives(found, PINNED)["anyOf"] == [component("Embedding"), component("Ranking")]
    assert takes(found, PINNED)["anyOf"] == [component("Text"), component("QueryAndTexts")]
    names = {one["$ref"].rpartition("/")[2] for one in gives(schema(), PINNED)["anyOf"]}
    assert names == {kind.gives for kind in KINDS.values()}


def test_without_redis_all_kinds_are_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference.dispatch.routes", None)  # nobody asks
    found = SchemaGenerator().get_schema(request=None, public=True)
    assert takes(found, "/transform") == component("Text")
    assert "anyOf" in takes(found, EACH)


@pytest.mark.usefixtures("redis")
def test_every_error_of_an_address_is_there_with_an_example() -> None:
    found = schema()
    codes = {
        example["summary"].lower().replace(" ", "_")
        for operations in found["paths"].values()
        for operation in operations.values()
        for status, response in operation["responses"].items()
        for content in response["content"].values()
        for example in content.get("examples", {}).values()
        if status >= "400"
    }
    assert codes >= {kind.default_code for kind in kinds_of_errors()}
    assert found["paths"][PINNED]["post"]["responses"].keys() >= {"404", "409"}
