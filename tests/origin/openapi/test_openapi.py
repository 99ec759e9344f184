"""Our OpenAPI document: valid 3.1, complete, and true in its examples."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

from keywright.domain.problems import CONTENT_TYPE
from origin.world import Operation, address, document, make_names, operations, resolved
from support.service import Service

in_module = pytest.mark.asyncio(loop_scope="module")


def every_operation() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document()["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


OPERATIONS = dict(every_operation())


def test_it_is_valid_openapi_3_1() -> None:
    OPENAPI_31_VALIDATOR.validate(document())
    assert document()["openapi"] == "3.1.0"
    assert {"title", "summary", "description", "contact", "license", "version"} <= document()["info"].keys()
    assert document()["servers"] == [{"url": "/", "description": "This deployment"}]


def test_every_schema_is_valid_json_schema() -> None:
    for name, schema in document()["components"]["schemas"].items():
        Draft202012Validator.check_schema(schema)
        assert "description" in schema, name


def test_every_reference_points_at_something() -> None:
    for reference in re.findall(r"'\$ref': '#/([^']+)'", str(document())):
        found = document()
        for part in reference.split("/"):
            found = found[part]


def test_every_operation_has_a_readable_id_and_is_described() -> None:
    ids = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(set(ids)) == len(ids)
    assert {"createConsumer", "listKeys", "createKeys", "rollKeys", "validateKey", "whoAmI"} <= set(ids)
    tags = {tag["name"] for tag in document()["tags"]}
    for label, operation in OPERATIONS.items():
        assert operation["description"], label
        assert operation["summary"], label
        assert set(operation["tags"]) <= tags, label
        assert re.fullmatch("[a-z][A-Za-z]+", operation["operationId"]), label
        for parameter in operation.get("parameters", []):
            assert parameter["description"], f"{label} {parameter['name']}"
            assert "null" not in str(parameter["schema"].get("anyOf")), f"{label} {parameter['name']}"


def test_the_edges_endpoints_are_told_of() -> None:
    assert OPERATIONS["POST /v1/validate/{bucketName}"]["security"] == [{}, {"validationToken": []}]


@pytest.mark.parametrize("label", OPERATIONS)
def test_every_answer_is_described_and_its_example_fits(label: str) -> None:
    operation = OPERATIONS[label]
    assert "422" not in operation["responses"]
    for status, answer in operation["responses"].items():
        assert answer["description"]
        assert "x-request-id" in answer["headers"]
        if status in {"429"}:
            assert "Retry-After" in answer["headers"]
        if int(status) >= 400 and label != "GET /readyz":
            assert list(answer["content"]) == [CONTENT_TYPE]
        for content in answer.get("content", {}).values():
            Draft202012Validator(resolved(content["schema"])).validate(content["example"])
    for content in operation.get("requestBody", {}).get("content", {}).values():
        Draft202012Validator(resolved(content["schema"])).validate(content["example"])


@pytest.mark.parametrize("operation", [one for one in operations() if one.body is not None], ids=str)
@in_module
async def test_the_example_of_every_body_is_accepted(shared: Service, operation: Operation) -> None:
    names = await made_names(shared)
    example = operation.example
    if operation.path.endswith("/projects"):
        example = {"name": "example-project"}
    if operation.path == "/v1/accounts":
        example = {"name": "example-account"}
    headers = {"Idempotency-Key": "example"} if operation.path.endswith("/top-ups") else {}
    expected = 204 if "roll" in operation.path else 200
    await shared.call(operation.method, address(operation, names), json=example, headers=headers, expect=expected)


async def made_names(service: Service) -> dict[str, str]:
    known: dict[str, str] | None = getattr(service, "made_names", None)
    if known is None:
        known = await make_names(service)
        service.made_names = known  # type: ignore[attr-defined]
    return known


BEYOND = {"AccountCreate", "ProjectCreate", "BucketCreate", "ConsumerCreate"}


def test_what_is_documented_is_what_is_enforced() -> None:
    schemas = document()["components"]["schemas"]
    fields = {name: schemas[name]["properties"] for name in (*BEYOND, "KeyCreate", "ManagerCreate")}
    assert fields["ConsumerCreate"]["name"]["pattern"] == "^[a-z0-9_-]{1,128}$"
    assert fields["BucketCreate"]["name"]["pattern"] == "^[a-z0-9-]{5,128}$"
    tags = fields["ConsumerCreate"]["tags"]
    assert (tags["maxProperties"], tags["propertyNames"], tags["additionalProperties"]["maxLength"]) == (
        5, {"minLength": 1, "maxLength": 128}, 256,
    )  # fmt: skip
    assert fields["KeyCreate"]["key"]["pattern"] == "^[!-~]{8,512}$"
    assert "x-limit" not in str(document())


@in_module
async def test_the_document_needs_no_key_and_is_the_one_that_is_tested(shared: Service) -> None:
    response = await shared.client.get("/openapi.json", headers={"Authorization": ""})
    assert response.status_code == 200
    assert response.json() == document()
