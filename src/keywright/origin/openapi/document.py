"""Owns the OpenAPI document of the Developer API: what the framework can't tell of it by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from keywright.origin.openapi import validation_endpoints as validation
from keywright.origin.openapi import validation_schemas
from keywright.origin.openapi.bodies import CLOSED
from keywright.origin.openapi.examples import example_of
from keywright.origin.openapi.fields import LIMIT, ListOf
from keywright.origin.openapi.problem_responses import ProblemDocument
from keywright.origin.pipeline.query import KEY_TAG, TAG
from keywright.origin.pipeline.unit_of_work import Limits

DESCRIPTION = """Manage buckets, consumers and API keys.

Every request carries a management key: `Authorization: Bearer <key>`. A key sees its own account; what belongs to
another account is answered with 404. Lists are answered newest first as `{data, limit, offset, total}`. Refusals are
problem documents (RFC 9457) whose `errors` name the fields. A change has happened when the call returns: a revoked key
is refused from the next request on, on the machine that answers; `?wait=all` waits until all edges refuse it,
too. No text may hold NUL characters or lone surrogates."""

TAGS = [
    {"name": "Accounts", "description": "Tenants, their projects and management keys."},
    {"name": "Buckets", "description": "Top-level groups of consumers, their owner keys, and sharing them."},
    {"name": "Plans", "description": "Scopes and limits under a name, for many consumers of a bucket."},
    {"name": "Consumers", "description": "The identities that keys authenticate as."},
    {"name": "Quotas", "description": "What is left of a consumer's quotas in the running period."},
    {"name": "Keys", "description": "The credentials of a consumer."},
    {"name": "Usage", "description": "How often keys were validated, by whom, and which nobody uses."},
    {"name": "Managers", "description": "End users who look after a consumer's keys, and invites."},
    {"name": "Self-serve", "description": "For an end user's own browser, with a token of the identity provider."},
    {"name": "Edges", "description": "The replicas that judge keys, and how far each has got."},
    {"name": "Audit log", "description": "Every change, and every attempt that was refused."},
    {"name": "Validation", "description": "For the provider's gateways: whether a key is good, and whose it is."},
    {"name": "Health", "description": "For whatever keeps the service running."},
]

HEADERS = {
    "x-request-id": {
        "description": "The id of this request: the one that was sent, or a new one. It is in the audit log, too.",
        "schema": {"type": "string"},
    },
    "Keywright-Revision": {
        "description": "The newest change of the record once this was written: what `Min-Revision` may ask for.",
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    },
    "Keywright-Applied": {
        "description": "Where `wait` was sent: how many edges have applied it, of how many that were waited for.",
        "schema": {"type": "string", "pattern": "^[0-9]+/[0-9]+$"},
    },
    "Keywright-Pending": {
        "description": "Where the time ran out: the names of edges that have not and may still answer, at most 50.",
        "schema": {"type": "string"},
    },
    "Keywright-Refusing": {
        "description": "The names of edges, at most 50, that have not and are not waited for: they are silent, and by"
        " now refuse every key, as they promised for that case.",
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "Seconds until another try may succeed.",
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    },
    "WWW-Authenticate": {"description": "What to authenticate with (RFC 6750).", "schema": {"type": "string"}},
}

# Written out, a tag is a parameter whose name is chosen by the caller: in OpenAPI, a member of an exploded object.
TAG_PARAMETERS = {
    name: {
        "style": "form",
        "explode": True,
        "schema": {
            "type": "object",
            "patternProperties": {rf"^{name}\.[\s\S]+$": {"type": "string"}},
            "examples": [{f"{name}.plan": "gold"}],
        },
    }
    for name in (TAG, KEY_TAG)
}


def document_of(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """The function that makes the document once, at its first use."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                openapi_version="3.1.0",
                summary="API keys for the consumers of your API: issue, revoke, validate.",
                description=app.description,
                contact={"name": "The Keywright maintainers"},
                license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
                servers=[{"url": "/", "description": "This deployment"}],
                routes=app.routes,
                tags=TAGS,
                separate_input_output_schemas=False,
            )
            app.openapi_schema = _complete(document, app.state.services.dependencies.limits)
        return app.openapi_schema

    return openapi


def _complete(document: dict[str, Any], limits: Limits) -> dict[str, Any]:
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["ProblemDocument"] = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(schemas["ProblemDocument"].pop("$defs", {}))
    schemas.update(validation_schemas.SCHEMAS)
    schemas["Environment"]["description"] = "What a bucket of a project is for."
    components["headers"] = HEADERS
    components["securitySchemes"] = {
        "managementKey": {"type": "http", "scheme": "bearer", "description": "A management key."},
        "endUserToken": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "A token of the identity provider, for an end user whose e-mail address is verified.",
        },
        "consumerKey": {"type": "http", "scheme": "bearer", "description": "A key of a consumer."},
        "validationToken": {
            "type": "apiKey",
            "in": "header",
            "name": "Keywright-Token",
            "description": "A management key that may validate in the bucket, where the deployment demands one.",
        },
    }
    document["security"] = [{"managementKey": []}]
    _rename(document)
    document["paths"].update(validation.PATHS)
    for path in document["paths"].values():
        for operation in path.values():
            _complete_operation(operation, components["schemas"])
    for schema in _nodes(document):
        _complete_schema(schema, limits)
    return document


def _complete_operation(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    # Invalid data is answered with 400 here; 422 is what the framework would say by itself.
    operation["responses"].pop("422", None)
    for parameter in operation.get("parameters", []):
        if parameter["name"] in TAG_PARAMETERS:
            parameter.update(TAG_PARAMETERS[parameter["name"]])
        schema = parameter["schema"]
        if "anyOf" in schema:
            # A parameter may be left out; it can't be null.
            parameter["schema"] = schema = schema["anyOf"][0]
        if schema.get("description") == parameter.get("description"):
            schema.pop("description", None)
    bodies = list(operation.get("requestBody", {}).get("content", {}).values())
    for status, response in operation["responses"].items():
        response.setdefault("headers", {})["x-request-id"] = {"$ref": "#/components/headers/x-request-id"}
        if status.startswith("2") and any(one["name"] == "wait" for one in operation.get("parameters", [])):
            for name in ("Keywright-Revision", "Keywright-Applied", "Keywright-Pending", "Keywright-Refusing"):
                response["headers"][name] = {"$ref": f"#/components/headers/{name}"}
        if status.startswith("2"):
            bodies += response.get("content", {}).values()
    for body in bodies:
        # A body that may be left out is shown as it is where it is sent.
        schema = body["schema"].get("anyOf", [body["schema"]])[0]
        body.setdefault("example", example_of(schema, schemas))


def _complete_schema(schema: dict[str, Any], limits: Limits) -> None:
    if isinstance(schema.get("title"), str) and ("type" in schema or "anyOf" in schema or "$ref" in schema):
        # The framework repeats the name of each field in other letters.
        del schema["title"]
    if schema.pop(CLOSED, False) and not limits.ignores_unknown_members:
        schema["additionalProperties"] = False
    match schema.pop(LIMIT, None):
        case "tags":
            schema["maxProperties"] = limits.tags
        case "metadata":
            limit = f"At most {limits.metadata_bytes} bytes when written as JSON."
            schema["description"] = f"{schema.get('description', '')} {limit}".strip()


def _rename(document: dict[str, Any]) -> None:
    """Names schemas by what they are: `ConsumerShape` is `Consumer`, a list of them is `ConsumerList`."""
    schemas = document["components"]["schemas"]
    names = {}
    for name in schemas:
        item = name.removeprefix("ListOf_").removesuffix("_")
        short = item.removesuffix("Shape")
        names[name] = short if item == name else f"{short}List"
        if item != name:
            schemas[name]["description"] = ListOf.__doc__
    document["components"]["schemas"] = {names[name]: schema for name, schema in sorted(schemas.items())}
    for node in _nodes(document):
        reference = node.get("$ref")
        if isinstance(reference, str) and reference.startswith("#/components/schemas/"):
            node["$ref"] = "#/components/schemas/" + names.get(name := reference.rpartition("/")[2], name)


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Every object of the document, examples aside."""
    if isinstance(value, dict):
        yield value
        for name, child in list(value.items()):
            if name not in {"example", "examples"}:
                yield from _nodes(child)
    elif isinstance(value, list):
        for child in value:
            yield from _nodes(child)
