"""Puts into the Swagger schema what the models at hand take and give: drf-spectacular's hooks."""

import re
import threading
from collections.abc import Sequence
from copy import deepcopy
from typing import Any
from urllib.parse import quote

import orjson
from django.conf import settings
from django.http import HttpResponse
from drf_spectacular.renderers import OpenApiJsonRenderer
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView
from rest_framework.request import Request

from inference import dispatch, keys
from inference.errors import APIError
from inference.protocols import oip, openai, rerank, tei
from inference.protocols.fields import ANY_MODEL
from inference.protocols.oip.schema import RANKED, TEXTS
from inference.protocols.oip.signatures import SIGNATURES
from inference.protocols.rerank.questions import KINDS as RANKING
from inference.protocols.tei import asking
from inference.protocols.tei.schema import HOSTED, HOSTED_EXAMPLES
from workers.catalog.plan import Plan, PlannedModel
from workers.predictors.kinds import EMBED, EMBEDDING_KINDS, KINDS, Kind, schemas

DEFAULT = "/transform"
MODEL = "/models/{model}/transform"
VERSION = "/models/{model}/versions/{version}/transform"
OWN_REFERENCES = re.compile(rb'"\$(ref|defs|dynamicRef)"')
JSON = "application/json"
# Addresses of foreign protocols that ask models: the kinds of these models.
ASKING = {
    **dict.fromkeys(openai.EMBEDDINGS, EMBEDDING_KINDS),
    **dict.fromkeys(rerank.RERANK, RANKING),
    "/embed": EMBEDDING_KINDS,
    "/embed_all": asking.DENSE,
    "/embed_sparse": asking.SPARSE,
    "/predict": asking.CLASSIFYING,
    "/similarity": EMBEDDING_KINDS,
    "/tokenize": asking.TOKENIZING,
}


def leave_out_bases(endpoints: list[Any]) -> list[Any]:
    """Without TEI's endpoints below each model's address: they are as at the server's own."""
    return [
        one for one in endpoints if one[0] in (MODEL, VERSION) or not one[0].startswith(tei.MODELS)
    ]


def require_bodies(result: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    """Says that a body must come: drf-spectacular doesn't where its schema is given by hand."""
    for operations in result["paths"].values():
        for operation in operations.values():
            if "requestBody" in operation:
                operation["requestBody"]["required"] = True
    return result


def require_keys(result: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    """With VELO_AUTH=keys: Swagger UI asks for a key, and sends it."""
    if settings.VELO_AUTH == "keys":
        schemes = result.setdefault("components", {}).setdefault("securitySchemes", {})
        schemes["key"] = {"type": "http", "scheme": "bearer"}
        for path, operations in result["paths"].items():
            for method, operation in operations.items():
                is_open = keys.is_open(method.upper(), path)
                operation["security"] = [] if is_open else [{"key": []}]
    return result


def describe_models(result: dict[str, Any], request: Any, **kwargs: Any) -> dict[str, Any]:
    """/transform is described as the default model; each model gets its own address, in place
    of the address for all models. Where no models are known, all kinds are described."""
    plan = _plan() if request else Plan()
    components = result.setdefault("components", {}).setdefault("schemas", {})
    components |= schemas()
    paths = result["paths"]
    default = plan.models.get(plan.default or "")
    operation = paths[DEFAULT]["post"]
    if default:
        _describe(operation, KINDS[default.kind], default)
        operation["description"] += f" The default model, {default.name}, answers."
    else:
        _describe(operation, EMBED)
    known = {model.kind for model in plan.models.values()} or KINDS.keys() - {"sleep"}
    for path in (MODEL, VERSION):
        _describe_all(paths[path]["post"], [kind for kind in KINDS.values() if kind.name in known])
    if plan.models:
        _fit_protocols(paths, plan)
        _fit_tensors(paths, plan)
    result["paths"] = {
        path: operations
        for old in paths
        for path, operations in (
            _of_each(paths[old], plan) if old == MODEL and plan.models else {old: paths[old]}
        ).items()
    }
    return result


def _fit_protocols(paths: dict[str, Any], plan: Plan) -> None:
    """Each address of a foreign protocol names the models that answer there; where none does, it is
    left out."""
    for path, kinds in ASKING.items():
        fitting = [model for model in plan.models.values() if model.kind in kinds]
        if not fitting:
            del paths[path]
            continue
        body = paths[path]["post"]["requestBody"] = deepcopy(paths[path]["post"]["requestBody"])
        _fit(body["content"][JSON]["schema"], fitting)
    default = plan.models.get(plan.default or "")
    if default is None or default.kind not in HOSTED:
        del paths[tei.BASE]["post"]
        return
    body = paths[tei.BASE]["post"]["requestBody"] = deepcopy(paths[tei.BASE]["post"]["requestBody"])
    schema = deepcopy(HOSTED[default.kind])
    _fit(schema, [default])
    examples = {"Example": {"value": HOSTED_EXAMPLES[default.kind]}}
    body["content"][JSON] = {"schema": schema, "examples": examples}


def _fit(schema: dict[str, Any], models: list[PlannedModel]) -> None:
    """A request's schema, to what these models take."""
    for one in schema.get("anyOf", []):
        _fit(one, models)
    properties = schema.get("properties", {})
    if "model" in properties:
        names = sorted(model.name for model in models)
        versions = f"^({'|'.join(map(re.escape, names))})@.+$"
        properties["model"] = {
            "anyOf": [
                {"type": "string", "nullable": True, "enum": [*names, *sorted(ANY_MODEL), None]},
                {"type": "string", "pattern": versions},
            ],
            "description": properties["model"]["description"],
        }
    versions_of = [one for model in models for one in model.versions.values()]
    lengths = [one.dimensions for one in versions_of]
    if "dimensions" in properties and any(lengths):
        properties["dimensions"]["maximum"] = min(filter(None, lengths))
    for place in (properties, properties.get("parameters", {}).get("properties", {})):
        if "prompt_name" in place:
            prompts = sorted({name for one in versions_of for name in one.facts.get("prompts", [])})
            place["prompt_name"]["enum"] = [*prompts, None]


def _fit_tensors(paths: dict[str, Any], plan: Plan) -> None:
    """The addresses of the Open Inference Protocol have a model as their example, the default model
    where it has tensors, and what that model takes; where none has, nothing can be asked."""
    fitting = [model for model in plan.models.values() if model.kind in SIGNATURES]
    if not fitting:
        for path in filter(oip.asks, list(paths)):
            del paths[path]
        return
    model = min(fitting, key=lambda one: (one.name != plan.default, one.active is None))
    found = {"model": model.name, "version": model.active or next(iter(model.versions), "1")}
    takes = {"value": RANKED if model.kind in RANKING else TEXTS}
    for path, operations in paths.items():
        if not path.startswith(oip.MODELS):
            continue
        for operation in operations.values():
            operation["parameters"] = [
                one | {"example": found[one["name"]]} if one["in"] == "path" else one
                for one in operation["parameters"]
            ]
            if "requestBody" in operation:
                body = operation["requestBody"] = deepcopy(operation["requestBody"])
                body["content"][JSON]["examples"] = {model.name: takes}


class SchemaView(SpectacularAPIView):
    """Generates the document again only when the plan has changed: that takes a tenth of a second
    of processor time, and a client that asks again and again would take all of it."""

    renderer_classes = [OpenApiJsonRenderer]

    @extend_schema(exclude=True)
    def get(self, request: Request) -> HttpResponse:
        plan = _plan()
        with _making:  # requests that come meanwhile get what the first request makes
            if not _made or _made[0][0] != plan:
                document = self.generator_class().get_schema(request=request, public=True)
                _made[:] = [(plan, OpenApiJsonRenderer().render(document))]
            [(_, content)] = _made
        return HttpResponse(content, content_type=OpenApiJsonRenderer.media_type)


_making = threading.Lock()
_made: list[tuple[Plan, bytes]] = []  # the document of the last plan, if there was one


def _plan() -> Plan:
    try:
        return dispatch.known_plan()
    except APIError:  # the documentation does without them
        return Plan()


def _of_each(operations: dict[str, Any], plan: Plan) -> dict[str, Any]:
    found = {}
    for number, model in enumerate(plan.models.values(), 1):
        operation = deepcopy(operations["post"])
        plain = re.sub(r"\W+", "_", model.name, flags=re.ASCII).strip("_")
        operation["operationId"] = f"transform_model_{number}_{plain}".rstrip("_")
        operation["parameters"] = [one for one in operation["parameters"] if one["in"] != "path"]
        _describe(operation, KINDS[model.kind], model)
        operation["summary"] += f": {model.name}"
        operation["description"] += " " + (
            f"Version {model.active} is active."
            if model.active
            else "No version is active: those answer that workers were started with."
        )
        found[f"/models/{quote(model.name, safe='')}/transform"] = {"post": operation}
    return found


def _describe(operation: dict[str, Any], kind: Kind, model: PlannedModel | None = None) -> None:
    operation["summary"] = kind.summary
    operation["description"] = kind.description
    takes, gives = _own(model, "input"), _own(model, "output")
    _fill(
        operation,
        takes or _component(kind.takes),
        {} if takes else {name: {"value": value} for name, value in kind.inputs.items()},
        gives or _component(kind.gives),
        {} if gives else {"Example": {"value": kind.output}},
    )


def _describe_all(operation: dict[str, Any], kinds: Sequence[Kind]) -> None:
    """As a model of any of these kinds. `anyOf`, since a text is what several of them take."""
    takes = dict.fromkeys(kind.takes for kind in kinds)
    gives = dict.fromkeys(kind.gives for kind in kinds)
    _fill(
        operation,
        {"anyOf": [_component(name) for name in takes]},
        {
            f"{kind.name}: {name}": {"value": value}
            for kind in kinds
            for name, value in kind.inputs.items()
        },
        {"anyOf": [_component(name) for name in gives]},
        {kind.name: {"value": kind.output} for kind in kinds},
    )


def _fill(operation: dict[str, Any], takes: Any, inputs: Any, gives: Any, outputs: Any) -> None:
    operation["requestBody"]["content"] = {JSON: {"schema": takes, "examples": inputs}}
    operation["responses"]["200"]["content"] = {JSON: {"schema": gives, "examples": outputs}}


def _component(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _own(model: PlannedModel | None, side: str) -> dict[str, Any] | None:
    """The schema that the active version has brought, if it can stand inside another document."""
    version = model.versions.get(model.active or "") if model else None
    schema = version.schemas.get(side) if version else None
    if not isinstance(schema, dict) or OWN_REFERENCES.search(orjson.dumps(schema)):
        return None
    return {name: value for name, value in schema.items() if not name.startswith("$")}
