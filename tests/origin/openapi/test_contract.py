"""The published contract: every operation, parameter and shape of it is spoken here, but for what DESIGN decides."""

from __future__ import annotations

import copy
import json
from typing import Any

import httpx2
import pytest
import yaml
from jsonschema import Draft202012Validator

from origin.openapi import published
from origin.openapi.published import Operation
from support.service import Service

in_module = pytest.mark.asyncio(loop_scope="module")
NULL = {"type": "null"}

OVERRIDES: dict[str, tuple[dict[str, Any], str]] = {
    "description": ({"anyOf": [{"type": "string"}, NULL]}, "always present, null when unset"),
    "expiresOn": ({"anyOf": [{"type": "string"}, NULL]}, "always present, null for a key without expiry"),
    "sub": ({"anyOf": [{"type": "string"}, NULL]}, "null in an invite, which has no user yet"),
    "metadata": ({"anyOf": [{"type": "object"}, NULL]}, "any JSON object, not texts alone; null in audit entries"),
    "name": ({"type": "string"}, "the guides' names (`org_123`) break the published pattern of consumers"),
}
"""Where answers differ from the published schemas, by field, and why (DESIGN.md section 4)."""

BODIES: dict[str, Any] = {
    "POST /key-buckets": {"name": "contract-bucket", "description": "Of the test", "tags": {"a": "b"}},
    "PATCH /key-buckets/{bucketName}": {"description": "Of the test", "tags": {"a": "b"}},
    "POST /consumers": {
        "name": "contract-consumer",
        "description": "Of the test",
        "tags": {"a": "b"},
        "metadata": {"id": "343"},
        "managers": [{"id": "1", "email": "eve@example.com", "sub": "s|1", "createdOn": "2023-06-19T17:32:11.990Z"}],
        "apiKeys": [
            {
                "id": "key_1",
                "createdOn": "2023-06-19T17:32:11.990Z",
                "updatedOn": "2023-06-19T17:32:11.990Z",
                "description": "Of the test",
                "expiresOn": "2050-04-18T05:54:34.408Z",
                "key": "contract-custom-key-0",
            }
        ],
    },
    "PATCH /consumers/{consumerName}": {"description": "Of the test", "tags": {}, "metadata": {"id": "343"}},
    "POST /roll-key": {"expiresOn": "2050-04-18T05:54:34.408Z"},
    "POST /keys": {"description": "Of the test", "expiresOn": "2050-04-18T05:54:34.408Z", "key": "contract-custom-1"},
    "POST /$bulk": [{"description": "One", "key": "contract-custom-2"}, {"expiresOn": "2050-04-18T05:54:34.408Z"}],
    "PATCH /keys/{keyId}": {"description": "Of the test", "expiresOn": "2050-04-18T05:54:34.408Z"},
    "POST /managers": {"email": "bob@example.com", "sub": "oauth2|1"},
}
"""Bodies with every published field, by method and end of the path."""

ABSENT = {
    "email": "a management key is no person: who-am-i has an account and a subject",
    "data.actor.actingAs.": "nobody acts as another yet: actingAs is null",
    "apiKeys": "only where include-api-keys asked for it",
}
"""Published fields that an answer may lack, by the beginning of their names."""


QUERY = {
    "limit": "10", "offset": "0", "include-api-keys": "true", "include-manager-invites": "true",
    "include-managers": "true", "key-format": "visible", "manager-email": "ada@example.com", "with-api-key": "true",
    "action": "consumer.create", "startDate": "2020-01-01T00:00:00Z", "endDate": "2099-01-01T00:00:00Z",
    "actor": "nobody", "success": "true",
}  # fmt: skip
"""A value for every published parameter. `tag` is the name of a family: it is sent as `tag.<name>`."""


def body_of(operation: Operation) -> Any:
    for end, body in BODIES.items():
        method, _, path = end.partition(" ")
        if operation.method == method and operation.path.endswith(path):
            return copy.deepcopy(body)
    return None


async def place_of(service: Service, operation: Operation) -> str:
    """The path of an operation on things made for it."""
    consumer = await service.new_consumer(tags={"plan": "gold"})
    key = await service.new_key(consumer["name"])
    manager = await service.call(
        "POST", f"{service.consumers_url}/{consumer['name']}/managers", json={"email": "ada@example.com", "sub": "s"}
    )
    bucket = service.bucket
    if operation.method == "DELETE" and operation.path.endswith("{bucketName}"):
        bucket = "to-be-deleted"
        await service.call("POST", f"{service.account_url}/key-buckets", json={"name": bucket})
    return operation.path.format(
        accountName=service.account,
        bucketName=bucket,
        consumerName=consumer["name"],
        keyId=key["id"],
        managerId=manager["id"],
    )


async def ask(service: Service, operation: Operation, body: Any) -> httpx2.Response:
    query = {name: QUERY[name] for name in operation.parameters if name != "tag"}
    if "tag" in operation.parameters:
        query["tag.plan"] = "gold"
    if "actor" in query:
        query["actor"] = (await service.call("GET", "/v1/who-am-i"))["sub"]
    path = await place_of(service, operation)
    return await service.client.request(operation.method, path, params=query, **({"json": body} if body else {}))


def decided(schema: Any, name: str = "") -> Any:
    """A published schema as JSON Schema, with our decisions in place of what it says of single fields."""
    if name in OVERRIDES:
        return OVERRIDES[name][0]
    made = {key: value for key, value in schema.items() if key not in {"nullable", "properties", "items", "allOf"}}
    if "properties" in schema:
        made["properties"] = {field: decided(one, field) for field, one in schema["properties"].items()}
    if "items" in schema:
        made["items"] = decided(schema["items"])
    if "allOf" in schema:
        made["allOf"] = [decided(one) for one in schema["allOf"]]
    return {"anyOf": [made, NULL]} if schema.get("nullable") else made


def fields_of(schema: Any, place: str = "") -> set[str]:
    """The dotted names of every field of a published schema."""
    found = set()
    for name, one in schema.get("properties", {}).items():
        found |= {f"{place}{name}"} | fields_of(one, f"{place}{name}.")
    for one in [*schema.get("allOf", []), *([schema["items"]] if "items" in schema else [])]:
        found |= fields_of(one, place)
    return found


def present(value: Any, place: str = "") -> set[str]:
    found = set()
    if isinstance(value, dict):
        for name, one in value.items():
            found |= {f"{place}{name}"} | present(one, f"{place}{name}.")
    elif isinstance(value, list):
        for one in value:
            found |= present(one, place)
    return found


@pytest.mark.parametrize("operation", published.operations(), ids=str)
@in_module
async def test_every_published_operation_answers_as_published(shared: Service, operation: Operation) -> None:
    response = await ask(shared, operation, body_of(operation))
    status, schema = next(iter(operation.answers.items()))
    assert response.status_code == int(status), response.text
    if schema is None:
        assert response.content == b""
        return
    assert response.headers["content-type"] == "application/json"
    Draft202012Validator(decided(schema)).validate(response.json())
    missing = fields_of(schema) - present(response.json())
    assert not {name for name in missing if not name.startswith(tuple(ABSENT))}


@in_module
async def test_every_published_parameter_is_in_our_document(shared: Service) -> None:
    document = await shared.call("GET", "/openapi.json")
    for operation in published.operations():
        ours = document["paths"][operation.path][operation.method.lower()]
        names = {one["name"] for one in ours["parameters"] if one["in"] == "query"} if operation.parameters else set()
        assert names >= set(operation.parameters), str(operation)


@in_module
async def test_every_published_body_field_is_in_our_document(shared: Service) -> None:
    document = await shared.call("GET", "/openapi.json")
    for operation in published.operations():
        if operation.body is None:
            continue
        ours = document["paths"][operation.path][operation.method.lower()]["requestBody"]["content"]
        wanted = {name.partition(".")[0] for name in fields_of(operation.body)}
        assert wanted <= set(_properties(ours["application/json"]["schema"], document)), str(operation)


def _properties(schema: Any, document: Any) -> set[str]:
    if "$ref" in schema:
        return _properties(document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], document)
    for one in schema.get("anyOf", []):
        if one != NULL:
            return _properties(one, document)
    return _properties(schema["items"], document) if "items" in schema else set(schema["properties"])


PATCHED_KEY = "PATCH /v1/accounts/{accountName}/key-buckets/{bucketName}/consumers/{consumerName}/keys/{keyId}"


@in_module
async def test_the_published_examples_of_bodies_are_accepted(shared: Service) -> None:
    examples = published.body_examples()
    if not examples:
        pytest.skip("the published documents are not beside this checkout")
    for operation in published.operations():
        if operation.body is not None:
            body = examples[str(operation)]
            if str(operation) == PATCHED_KEY:
                # The value of a key can't be changed (it is digested); it may be sent back as it was read.
                del body["key"]
            response = await ask(shared, operation, body)
            assert response.status_code < 300 or response.status_code == 409, f"{operation}: {response.text}"


def test_the_kept_copy_is_what_was_published() -> None:
    documents = sorted(published.DOCUMENTS.glob("*.openapi.yml"))
    if not documents:
        pytest.skip("the published documents are not beside this checkout")
    for document in documents:
        kept = json.loads((published.COPY / f"{document.name.removesuffix('.openapi.yml')}.json").read_text())
        assert kept == json.loads(json.dumps(published.compact(yaml.safe_load(document.read_text()))))
