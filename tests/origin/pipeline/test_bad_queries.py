"""Bad values of every parameter, and strange times: a problem document names field and rule, and nothing changes."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from origin.world import Operation, address, ask, check, operations, record_of
from support.service import Service

in_module = pytest.mark.asyncio(loop_scope="module")

Names = dict[str, str]
ALL = operations()
WITH_QUERY = [operation for operation in ALL if operation.query]
WITH_BODY = [operation for operation in ALL if operation.body is not None]

INTEGERS = ["", "x", "1.5", "1.0", "1e3", "-1", "--1", "%2B1", "%201", "1_000", "0x10", "NaN", "null", "%00",
            "%D9%A1%D9%A2", "-" + "9" * 30, "9" * 5000]  # fmt: skip
BY_NAME = {
    "limit": [*INTEGERS, "0"],
    "offset": [*INTEGERS, "9223372036854775807", "9" * 30],
    "wait": ["", "0", "-1", "1001", "ALL", "all%00", "1.5", "%D9%A3"],
    "timeout": ["", "0", "-1", "30001", "1.5", "x", "9" * 400],
    "key-format": ["", "None", "VISIBLE", "visible%00", "null", "1", "none,visible"],
    "manager-email": ["x" * 321, "a@" + "b" * 400],
    "format": ["", "CSV", "csv%00", "xml", "json,csv"],
    "by": ["", "KEY", "key%00", "nobody", "key,verdict"],
    "interval": ["", "HOUR", "hour%00", "week", "hour,day"],
    "action": ["%00", "x" * 321],
    "actor": ["a%00b", "x" * 321],
}
FLAGS = ["", "2", "-1", "10", "yes", "null", "tru", "%00", "true,true", "true%00"]
MOMENTS = [
    "", "tomorrow", "2027-01-31", "2027-01-31T12:00:00", "2027-01-31T12:00Z", "2027-01-31 12:00:00Z",
    "0000-01-31T12:00:00Z", "10000-01-31T12:00:00Z",
    "+002027-01-31T12:00:00Z", "-2027-01-31T12:00:00Z", "2027-02-30T12:00:00Z", "2027-13-01T12:00:00Z",
    "2027-00-01T12:00:00Z", "2027-01-31T24:00:00Z", "2027-01-31T12:60:00Z", "2027-01-31T12:00:60Z",
    "2027-01-31T12:00:00+25:00", "2027-01-31T12:00:00+0530", "2027-01-31T12:00:00+05", "2027-01-31T12:00:00.Z",
    "2027-01-31T12:00:00,5Z", "2027-01-31T12:00:00.0000000001Z", " 2027-01-31T12:00:00Z", "2027-01-31T12:00:00Z ",
    "2027-01-31T12:00:00Z\n", "20270131T120000Z", "2027-W04-7T12:00:00Z", "2027-031T12:00:00Z", "1800000000",
    "1800000000000", "-1", "0", "٢٠٢٧-01-31T12:00:00Z", "2027-01-31T12:00:00\u22120100",
    "0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01", "Sun, 31 Jan 2027 12:00:00 GMT", "x" * 10_000,
]  # fmt: skip


def values_for(name: str, schema: dict[str, Any]) -> list[str]:
    if schema["type"] == "boolean":
        return FLAGS
    return MOMENTS if schema.get("format") == "date-time" else BY_NAME[name]


@pytest.mark.parametrize("operation", WITH_QUERY, ids=str)
@in_module
async def test_strange_values_of_every_parameter(
    shared_on_both: Service, names_on_both: Names, operation: Operation
) -> None:
    before = await record_of(shared_on_both)
    body = None if operation.body is None else json.dumps(operation.example).encode()
    for name, schema in operation.query.items():
        for value in values_for(name, schema):
            sent = "".join(
                one if one.isascii() and one > " " else "".join(f"%{b:02X}" for b in one.encode()) for one in value
            )
            answer = await ask(
                shared_on_both,
                operation.method,
                f"{address(operation, names_on_both)}?{name}={sent.replace('+', '%2B')}",
                body,
            )
            check(answer, f"{name}={value[:80]!r}", field=f"query.{name}")
        two = {"boolean": "true&{}=false", "integer": "1&{}=2"}.get(schema["type"], "a&{}=b").format(name)
        answer = await ask(shared_on_both, operation.method, f"{address(operation, names_on_both)}?{name}={two}", body)
        check(answer, two, field=f"query.{name}", message="is given twice with different values")
    assert await record_of(shared_on_both) == before


@in_module
async def test_a_huge_limit_is_cut_and_a_repeated_value_is_one(shared_on_both: Service, names_on_both: Names) -> None:
    for query in ("limit=" + "9" * 30, "limit=18446744073709551617", "limit=5&limit=5", "offset=9007199254740991"):
        answer = await ask(shared_on_both, "GET", f"{shared_on_both.consumers_url}?{query}")
        assert answer.status == 200, query
        assert answer.json()["limit"] <= 1000


@in_module
async def test_unknown_parameters_are_ignored(shared_on_both: Service, names_on_both: Names) -> None:
    query = "x=1&x=2&%00=%00&tags=a&%FF=%FF&limit[]=0&=&&&" + "y" * 10_000
    assert (await ask(shared_on_both, "GET", f"{shared_on_both.consumers_url}?{query}")).status == 200


@pytest.mark.parametrize("operation", [one for one in WITH_BODY if "expiresOn" in json.dumps(one.example)], ids=str)
@in_module
async def test_strange_formats_of_expires_on(shared: Service, names: Names, operation: Operation) -> None:
    before = await record_of(shared)
    is_list = isinstance(operation.example, list)
    field = "body.0.expiresOn" if is_list else "body.expiresOn"
    for value in [*MOMENTS, 1800000000, 1.5, True, [], {}, "2027-01-31T12:00:00\u0660Z"]:
        body = copy.deepcopy(operation.example)
        (body[0] if is_list else body)["expiresOn"] = value
        answer = await ask(shared, operation.method, address(operation, names), json.dumps(body).encode())
        check(answer, f"expiresOn {value!r:.80}", field=field)
    assert await record_of(shared) == before
