"""Every endpoint gives every key state the same verdict."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from edge.asgi import Answer, call
from edge.world import DIGESTER, PEPPER_CHECK
from endpoints.table import METADATA, NOW, ROWS, Endpoint, Outcome, Row, fill
from keywright.edge.grpc.ext_authz import ExtAuthz
from keywright.edge.grpc.ext_authz_pb2 import CheckRequest
from keywright.edge.http.forward_auth import ForwardAuth
from keywright.edge.http.validate import ValidateApi
from keywright.edge.replica.replica import Replica
from keywright.edge.validator import Validator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

IDENTITY = ["x-consumer-name", "x-consumer-id", "x-key-id", "x-consumer-metadata"]
REASONS = {
    "The key is malformed.": "MALFORMED",
    "The key is unknown.": "UNKNOWN",
    "The key has expired.": "EXPIRED",
    "There is no key in the request.": "MISSING",
    "There is more than one header with a key.": "AMBIGUOUS",
}
CHALLENGES = {"MISSING": 'Bearer realm="my-bucket"', "AMBIGUOUS": 'Bearer error="invalid_request"'}


class AtValidator:
    name, has_headers = "validator", False

    def __init__(self, validator: Validator) -> None:
        self._validator = validator

    async def ask(self, row: Row) -> Outcome:
        result = self._validator.validate(row.secret, row.bucket)
        assert result.is_valid == (result.consumer is not None) == (result.key is not None)
        return Outcome(str(result.verdict), result.consumer.name if result.consumer else None)


class AtValidate:
    name, has_headers = "validate-api", False

    def __init__(self, validator: Validator) -> None:
        self._app = ValidateApi(validator)

    async def ask(self, row: Row) -> Outcome:
        body = json.dumps({"key": row.secret}).encode()
        answer = await call(self._app, "POST", f"/v1/validate/{row.bucket}", body=body)
        assert answer.headers["cache-control"] == "no-store"
        document = answer.json()
        if answer.status == 404:
            assert document["detail"] == "There is no such bucket."
            return Outcome("NO_BUCKET")
        assert answer.status == 200
        if not document["valid"]:
            assert document == {"valid": False, "code": document["code"]}
            return Outcome(document["code"])
        assert document["consumer"]["name"] == document["user"]["sub"]
        return Outcome(document["code"], document["user"]["sub"])


class AtForwardAuth:
    name, has_headers = "forward-auth", True

    def __init__(self, validator: Validator) -> None:
        self._app = ForwardAuth(validator)

    async def ask(self, row: Row) -> Outcome:
        headers = row.headers
        if headers is None:
            headers = [(b"authorization", b"Bearer " + row.secret.encode())]
        answer = await call(self._app, "PUT", f"/v1/forward-auth/{row.bucket}", headers=headers)
        assert all(name in answer.headers for name in IDENTITY)
        if answer.status == 200:
            assert answer.body == b""
            return Outcome("VALID", answer.headers["x-consumer-name"])
        assert [answer.headers[name] for name in IDENTITY] == ["", "", "", ""]
        if answer.status == 404:
            return Outcome("NO_BUCKET")
        assert answer.status == 401
        code = REASONS[answer.json()["detail"]]
        assert answer.headers["www-authenticate"] == CHALLENGES.get(code, 'Bearer error="invalid_token"')
        return Outcome(code)


class AtExtAuthz:
    name, has_headers = "ext-authz", True

    def __init__(self, validator: Validator) -> None:
        self._endpoint = ExtAuthz(ForwardAuth(validator))

    async def ask(self, row: Row) -> Outcome:
        request = CheckRequest()
        request.attributes.context_extensions["bucket"] = row.bucket
        headers = row.headers
        if headers is None:
            headers = [(b"authorization", b"Bearer " + row.secret.encode())]
        for name, value in headers:
            request.attributes.request.http.header_map.headers.add(key=name.decode(), raw_value=value)
        response = self._endpoint.check(request)
        if response.HasField("ok_response"):
            given = {option.header.key: option.header.value for option in response.ok_response.headers}
            assert response.status.code == 0
            assert {*given, *response.ok_response.headers_to_remove} == {*IDENTITY, "authorization", "x-consumer-token"}
            return Outcome("VALID", given["x-consumer-name"])
        denied = response.denied_response
        document = json.loads(denied.body)
        assert response.status.code != 0
        assert document["status"] == denied.status.code
        if denied.status.code == 404:
            return Outcome("NO_BUCKET")
        code = REASONS[document["detail"]]
        told = {option.header.key: option.header.value for option in denied.headers}
        assert told["www-authenticate"] == CHALLENGES.get(code, 'Bearer error="invalid_token"')
        assert told["content-type"] == "application/problem+json"
        return Outcome(code)


ENDPOINTS = [AtValidator, AtValidate, AtForwardAuth, AtExtAuthz]


@pytest.fixture(scope="module")
def validator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Validator]:
    path: Path = tmp_path_factory.mktemp("replica")
    replica = Replica.open(path, PEPPER_CHECK)
    fill(replica)
    yield Validator(replica, DIGESTER, clock=lambda: NOW)
    replica.close()


CASES = [
    pytest.param(make, row, id=f"{make.name}-{row.name}")
    for make in ENDPOINTS
    for row in ROWS
    if row.headers is None or make.has_headers
]


@pytest.mark.parametrize(("make", "row"), CASES)
async def test_every_endpoint_agrees(validator: Validator, make: Callable[[Validator], Endpoint], row: Row) -> None:
    endpoint = make(validator)
    # More than once: the first answers come from the disk, later ones perhaps from memory.
    for _ in range(6):
        assert await endpoint.ask(row) == row.expected


async def test_the_metadata_comes_through_each_http_endpoint_unchanged(validator: Validator) -> None:
    from urllib.parse import unquote

    valid = ROWS[0].secret
    body = json.dumps({"key": valid}).encode()
    answer: Answer = await call(ValidateApi(validator), "POST", "/v1/validate/my-bucket", body=body)
    assert answer.json()["user"]["data"] == json.loads(METADATA)
    answer = await call(
        ForwardAuth(validator),
        "GET",
        "/v1/forward-auth/my-bucket",
        headers=[(b"authorization", b"Bearer " + valid.encode())],
    )
    assert json.loads(unquote(answer.headers["x-consumer-metadata"])) == json.loads(METADATA)
