"""GET /v1/forward-auth: what a gateway may ask by, and the headers that it gets."""

from __future__ import annotations

import json
from urllib.parse import unquote

import pytest

from edge.asgi import call
from edge.http.questions import AUTH, BEARER
from endpoints.table import EXPIRED, EXPIRING, METADATA, VALID
from keywright.domain.identity_headers import IDENTITY_HEADERS, rename
from keywright.edge.http.forward_auth import ForwardAuth
from keywright.edge.validator import Validator


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("my-bucket/../other-bucket", 200), ("my-bucket/%2e%2e/nowhere", 200), ("my-bucket/a%2Fb?c=%2F", 200),
        ("nowhere/../my-bucket", 404), ("/my-bucket", 404), ("nowhere/my-bucket", 404),
        ("nowhere%2f..%2fmy-bucket", 404),
    ],
)  # fmt: skip
async def test_the_path_that_envoy_asks_about_chooses_no_bucket(validator: Validator, path: str, status: int) -> None:
    answer = await call(ForwardAuth(validator), "GET", f"/v1/forward-auth/{path}", headers=BEARER)
    assert answer.status == status


async def test_the_header_and_the_scheme_are_options(validator: Validator) -> None:
    bare = ForwardAuth(validator, auth_header="X-API-Key", auth_scheme="")
    answer = await call(bare, "GET", AUTH, headers=[(b"x-api-key", VALID.encode())])
    assert answer.headers["x-consumer-name"] == "my-consumer"
    for headers in ([], [(b"x-api-key", b"")], BEARER):
        answer = await call(bare, "GET", AUTH, headers=headers)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, 'ApiKey realm="my-bucket"')
    token = ForwardAuth(validator, auth_scheme="Token")
    answer = await call(token, "GET", AUTH, headers=[(b"authorization", b"token " + EXPIRING.encode())])
    assert answer.status == 200
    answer = await call(token, "GET", AUTH, headers=[(b"authorization", b"token " + EXPIRED.encode())])
    assert answer.headers["www-authenticate"] == 'Token error="invalid_token"'


async def test_the_identity_headers_may_have_other_names(validator: Validator) -> None:
    names = rename(["X-Consumer-Name=X-User-Id", "X-Consumer-Metadata=X-User-Data"], "authorization")
    renamed = ForwardAuth(validator, identity_headers=names)
    answer = await call(renamed, "GET", AUTH, headers=BEARER)
    assert answer.headers["x-user-id"] == "my-consumer"
    assert json.loads(unquote(answer.headers["x-user-data"])) == json.loads(METADATA)
    refused = await call(renamed, "GET", AUTH)
    # Empty ones in a refusal, too, for gateways that copy whatever the answer is.
    assert (refused.status, refused.headers["x-user-id"], refused.headers["x-user-data"]) == (401, "", "")
    for headers in (answer.headers, refused.headers):
        assert {name for name in headers if name in IDENTITY_HEADERS} == {
            "x-consumer-id", "x-key-id", "x-consumer-token"
        }  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
async def test_a_gateway_may_ask_by_any_method_and_its_body_is_not_read(validator: Validator, method: str) -> None:
    answer = await call(ForwardAuth(validator), method, AUTH, headers=BEARER, body=b"x" * 100_000)
    assert (answer.status, answer.body, answer.receives) == (200, b"", 0)
    assert answer.headers["cache-control"] == "no-store"
