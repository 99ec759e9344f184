"""Bad bodies and paths, to every operation there is: a problem document names field and rule, and nothing changes."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from origin.world import (
    AUTHORIZATION,
    JSON,
    Operation,
    address,
    ask,
    check,
    operations,
    record_of,
    send,
)
from support.service import Service

in_module = pytest.mark.asyncio(loop_scope="module")

ALL = operations()
WITH_BODY = [operation for operation in ALL if operation.body is not None]
Names = dict[str, str]

# Bodies ----------------------------------------------------------------------------------------------------------

WRONG = ["text", 7, 1.5, True, None, [], {}, [[]], {"a": {"b": []}}]


def wrong_bodies(schema: dict[str, Any], example: Any) -> Iterator[tuple[Any, str]]:
    """Bodies that break one rule of the schema, each with the field that does."""
    if schema["type"] == "array":
        yield {}, "body"
        yield [example[0]] * (schema["maxItems"] + 1), "body"
        for body, field in wrong_bodies(schema["items"], example[0]):
            yield [example[0], body], field.replace("body", "body.1", 1)
        return
    yield from ((value, "body") for value in WRONG if not isinstance(value, (dict, type(None))))
    for name in schema.get("required", []):
        yield {other: value for other, value in example.items() if other != name}, f"body.{name}"
    for name, field in schema["properties"].items():
        validator = Draft202012Validator(field)
        for value in [*WRONG, *too_much(field)]:
            if not validator.is_valid(value):
                yield {**example, name: value}, f"body.{name}"


def too_much(schema: dict[str, Any]) -> Iterator[Any]:
    """Values just beyond the documented limits."""
    for one in schema.get("anyOf", [schema]):
        if "maxLength" in one:
            yield "x" * (one["maxLength"] + 1)
        if one.get("minLength"):
            yield ""
        if "maxItems" in one:
            yield ["ada@example.com"] * (one["maxItems"] + 1)
        if "maxProperties" in one:
            yield {f"tag{number}": "validate" for number in range(one["maxProperties"] + 1)}


@pytest.mark.parametrize("operation", WITH_BODY, ids=str)
@in_module
async def test_wrong_types_missing_fields_and_too_much(shared: Service, names: Names, operation: Operation) -> None:
    assert operation.body is not None
    schema = operation.body if "type" in operation.body else operation.body["anyOf"][0]
    before = await record_of(shared)
    count = 0
    for body, field in wrong_bodies(schema, operation.example):
        answer = await ask(shared, operation.method, address(operation, names), json.dumps(body).encode())
        assert answer.status == 400, f"{body!r}: {answer.content[:300]!r}"
        fields = [error["field"] for error in answer.json()["errors"]]
        assert all(one.startswith(field) for one in fields), f"{body!r}: {fields}"
        count += 1
    assert count > 5
    assert await record_of(shared) == before


DEEP = 10_000
NOT_JSON = {
    "half": (b'{"name":', "is not JSON"),
    "text": (b"name=x", "is not JSON"),
    "two": (b"{} {}", "is not JSON"),
    "single quotes": (b"{'name': 'x'}", "is not JSON"),
    "comment": (b"{} // x", "is not JSON"),
    "control character": (b'{"name": "a\x00b"}', "is not JSON"),
    "byte order mark": (b"\xef\xbb\xbf{}", "is not JSON"),
    "UTF-16": ("{}".encode("utf-16"), "is not UTF-8"),
    "not UTF-8": (b'{"name": "\xff"}', "is not UTF-8"),
    "encoded surrogate": (b'{"name": "\xed\xa0\x80"}', "is not UTF-8"),
    "NaN": (b'{"metadata": {"a": NaN}}', "is not JSON that can be kept"),
    "Infinity": (b'{"metadata": {"a": -Infinity}}', "is not JSON that can be kept"),
    "5000 digits": (b'{"metadata": {"a": ' + b"1" * 5000 + b"}}", "is not JSON that can be kept"),
    "deep lists": (b"[" * DEEP + b"]" * DEEP, ""),
    "deep objects": (b'{"a":' * DEEP + b"1" + b"}" * DEEP, ""),
    "unclosed": (b"[" * 60_000, ""),
}


@pytest.mark.parametrize("operation", WITH_BODY, ids=str)
@in_module
async def test_what_is_not_json(shared: Service, names: Names, operation: Operation) -> None:
    before = await record_of(shared)
    for about, (body, message) in NOT_JSON.items():
        answer = await ask(shared, operation.method, address(operation, names), body)
        check(answer, about, field="body", message=message)
    if operation.is_body_required:
        for body, message in ((b"", "is required"), (b"null", "must be a")):
            answer = await ask(shared, operation.method, address(operation, names), body)
            check(answer, "empty", field="body", message=message)
    assert await record_of(shared) == before


NOT_TEXT = ["\\u0000", "a\\u0000b", "\\ud800", "\\udfff\\ud800", "x\\udc00"]


@pytest.mark.parametrize("operation", WITH_BODY, ids=str)
@in_module
async def test_nul_and_lone_surrogates_in_every_string_and_name(
    shared_on_both: Service, names_on_both: Names, operation: Operation
) -> None:
    before = await record_of(shared_on_both)
    for place in places(operation.example):
        for text in NOT_TEXT:
            body = json.dumps(marked(operation.example, place)).replace("MARK", text)
            answer = await ask(shared_on_both, operation.method, address(operation, names_on_both), body.encode())
            assert answer.status == 400, f"{body}: {answer.content[:300]!r}"
            assert answer.json()["errors"][0]["message"] == "holds a NUL character or a lone surrogate", body
    assert await record_of(shared_on_both) == before


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where a string stands in a JSON value: every member, every name, and a name that is not there yet."""
    if isinstance(value, dict):
        yield (*place, "MARK")
        for name, one in value.items():
            yield from places(one, (*place, name))
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from places(one, (*place, index))
    else:
        yield place


def marked(value: Any, place: tuple[Any, ...]) -> Any:
    changed = copy.deepcopy(value)
    holder = changed
    for part in place[:-1]:
        holder = holder[part]
    holder[place[-1]] = "MARK"
    return changed


@pytest.mark.parametrize("operation", WITH_BODY, ids=str)
@in_module
async def test_ten_megabytes(shared: Service, names: Names, operation: Operation) -> None:
    before = await record_of(shared)
    target, megabyte = address(operation, names), b'"' + b"x" * 1_000_000
    declared = [AUTHORIZATION, JSON, ("content-length", "10000000")]
    for headers, chunks in (
        (declared, []),
        ([AUTHORIZATION, JSON, ("content-length", "9" * 30)], []),
        ([AUTHORIZATION, JSON], [megabyte] * 10),
        ([AUTHORIZATION, JSON, ("content-length", "5")], [megabyte] * 10),
    ):
        answer = await send(shared.app, operation.method, target, headers=headers, chunks=chunks)
        assert answer is not None
        check(answer, "10 MB", 413)
    assert await record_of(shared) == before


@pytest.mark.parametrize("operation", WITH_BODY, ids=str)
@in_module
async def test_a_body_that_is_not_announced_as_json(shared: Service, names: Names, operation: Operation) -> None:
    before = await record_of(shared)
    body = json.dumps(operation.example).encode()
    for wrong in (
        "", "text/plain", "text/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
        "application/json/x", "application/jsonx", "json", "application/", "*/*", "\xe9",
    ):  # fmt: skip
        answer = await ask(shared, operation.method, address(operation, names), body, ("content-type", wrong))
        check(answer, wrong, 415)
    headers = [AUTHORIZATION]
    none = await send(shared.app, operation.method, address(operation, names), headers=headers, chunks=[body])
    assert none is not None
    check(none, "no content type", 415)
    packed = await ask(shared, operation.method, address(operation, names), body, ("content-encoding", "gzip"))
    check(packed, "compressed", 415)
    nowhere = address(operation, names, accountName="no-such-account")
    if nowhere != address(operation, names):
        for right in (
            "application/json; charset=utf-8",
            "APPLICATION/JSON",
            "application/merge-patch+json",
            "application/json;",
        ):
            answer = await ask(shared, operation.method, nowhere, body, ("content-type", right))
            check(answer, right, 404)
    assert await record_of(shared) == before


# Paths -----------------------------------------------------------------------------------------------------------

SEGMENTS = [
    "%00", "a%00b", "%0A", "%FF", "%C3%28", "%ED%A0%80", "%2F", "%2f", "a%2Fb", "..%2F..", "%2e%2e", "%252F", "%2500",
    "%25", "%", "%zz", "*", "_system", "'%3B--", "%F0%9F%94%91", "%20", "a%20", "x" * 5000, "$bulk%00",
]  # fmt: skip


@pytest.mark.parametrize("operation", [one for one in ALL if "{" in one.path], ids=str)
@in_module
async def test_no_strange_segment_of_a_path_is_found(
    shared_on_both: Service, names_on_both: Names, operation: Operation
) -> None:
    before = await record_of(shared_on_both)
    body = None if operation.body is None else json.dumps(operation.example).encode()
    parameters = [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]
    for parameter in parameters:
        # All of them in the last place; elsewhere those that a database could mind.
        for segment in SEGMENTS if parameter == parameters[-1] else SEGMENTS[:6]:
            target = address(operation, names_on_both, **{parameter: segment})
            answer = await ask(shared_on_both, operation.method, target, body)
            check(answer, target, 404)
        target = address(operation, names_on_both, **{parameter: names_on_both[parameter] + "%0A"})
        check(await ask(shared_on_both, operation.method, target, body), target, 404)
    for target in (
        address(operation, names_on_both) + "%0A",
        address(operation, names_on_both) + "%2F",
        address(operation, names_on_both) + "//",
    ):
        # Whatever follows $bulk, it is the id of a key, and those answer no POST.
        status = 405 if "$bulk%" in target else 404
        check(await ask(shared_on_both, operation.method, target, body), target, status)
    swallowed = address(operation, names_on_both).replace("/", "%2F").replace("%2Fv1%2F", "/v1/", 1)
    check(await ask(shared_on_both, operation.method, swallowed, body), swallowed, 404)
    assert await record_of(shared_on_both) == before


@pytest.mark.parametrize("operation", [one for one in ALL if one.method == "GET"], ids=str)
@in_module
async def test_an_encoded_legal_name_is_found(shared: Service, names: Names, operation: Operation) -> None:
    encoded = "".join(one if one == "/" else f"%{ord(one):02x}" for one in address(operation, names))
    assert (await ask(shared, "GET", encoded)).status == 200
