"""What both endpoints for validation guarantee: which bucket is meant, 503 before there is a replica, the token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edge.asgi import call
from edge.http.questions import ASK, AUTH, BEARER, PATH
from edge.world import DIGESTER, NOW, batch, key
from endpoints.table import VALID, fill
from keywright.edge.http.forward_auth import ForwardAuth
from keywright.edge.http.validate import ValidateApi
from keywright.edge.validator import Validator

if TYPE_CHECKING:
    from keywright.edge.replica.replica import Replica


@pytest.mark.parametrize(
    ("bucket_path", "status"),
    [
        ("my-bucket", 200), ("my-bucket/", 200), ("my%2Dbucket", 200), ("%6dy-bucket/", 200), ("", 404), ("/", 404),
        ("my-bucket//", 404), ("my-bucket/x", 404), ("my-bucket%2F", 404), ("a%2fmy-bucket", 404), ("my%20bucket", 404),
        ("my-bucket%00", 404), ("%ff%fe", 404), ("%ED%A0%80", 404), ("%2E%2E", 404), ("_system", 404), ("x/%2f", 404),
        ("%zz", 404), ("x" * 8000, 404), ("My-Bucket", 404),
    ],
)  # fmt: skip
async def test_the_bucket_is_one_segment_of_the_path(
    api: ValidateApi, validator: Validator, bucket_path: str, status: int
) -> None:
    assert (await call(api, "POST", f"/v1/validate/{bucket_path}", body=ASK)).status == status
    answer = await call(ForwardAuth(validator), "GET", f"/v1/forward-auth/{bucket_path}", headers=BEARER)
    # Envoy puts the path that it asks about behind ours.
    assert answer.status == (200 if bucket_path in ("my-bucket//", "my-bucket/x") else status)


async def test_before_the_first_snapshot_both_endpoints_say_503(empty_validator: Validator) -> None:
    for app, method, path in (
        (ValidateApi(empty_validator), "POST", PATH),
        (ForwardAuth(empty_validator), "GET", AUTH),
        (ValidateApi(empty_validator, token_required=True), "POST", PATH),
        (ForwardAuth(empty_validator, token_required=True), "GET", AUTH),
    ):
        headers = [*BEARER, (b"keywright-token", VALID.encode())]
        answer = await call(app, method, path, body=ASK, headers=headers)
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")


async def test_the_token_is_asked_for_when_required(replica: Replica) -> None:
    fill(replica)
    token = "zpka_a-management-key"
    replica.apply(_token_changes(replica, token))
    validator = Validator(replica, DIGESTER, clock=lambda: NOW)
    api, auth = ValidateApi(validator, token_required=True), ForwardAuth(validator, token_required=True)
    for value, status in (
        (None, 403),
        (b"nonsense", 403),
        (VALID.encode(), 403),
        (b"\xff\xfe", 403),
        (token.encode(), 200),
    ):
        headers = [] if value is None else [(b"keywright-token", value)]
        assert (await call(api, "POST", PATH, body=ASK, headers=headers)).status == status
        answer = await call(auth, "GET", AUTH, headers=[*BEARER, *headers])
        assert answer.status == status
        assert "x-consumer-name" in answer.headers


def _token_changes(replica: Replica, token: str) -> object:
    return batch(replica.revision or 0, [key(token, 4, 5)])
