"""Quotas at every endpoint, and in every integration of the policy: the first use waits, and a used up one is a 429."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from edge.asgi import call
from edge.grpc.test_ext_authz import a_check
from edge.grpc.test_ext_authz import ask as ask_grpc
from edge.quotas.world import KEY, LIMIT, Ledger, fill
from keywright.domain.verdict import Verdict
from keywright.edge.http.forward_auth import ForwardAuth
from keywright.edge.http.validate import ValidateApi
from policy.test_scopes import BUCKET, INTEGRATIONS, WANTED, bearer

if TYPE_CHECKING:
    from keywright.edge.replica.replica import Replica
    from keywright.edge.validator import Validator


async def at_v1(validator: Validator) -> str:
    told = (
        await call(ValidateApi(validator), "POST", f"/v1/validate/{BUCKET}", body=b'{"key":"%b"}' % KEY.encode())
    ).json()
    return str(told.get("code", told.get("status")))


async def at_v2(validator: Validator) -> str:
    api = ValidateApi(validator, is_v2=True)
    told = (await call(api, "POST", f"/v2/validate/{BUCKET}", body=b'{"key":"%b"}' % KEY.encode())).json()
    if "code" in told:
        assert [one["name"] for one in told["limits"]] == ["calls"]
        assert told.get("violated", []) == ([] if told["valid"] else ["calls"])
    return str(told.get("code", told.get("status")))


async def at_forward_auth(validator: Validator) -> str:
    headers = [(b"authorization", b"Bearer " + KEY.encode())]
    told = await call(ForwardAuth(validator), "GET", f"/v1/forward-auth/{BUCKET}", headers=headers)
    if told.status != 503:
        assert told.headers["ratelimit-policy"] == f'"calls";q={LIMIT}'
    return {200: "VALID", 429: "QUOTA_EXCEEDED", 503: "503"}[told.status]


async def at_grpc(validator: Validator) -> str:
    told = await ask_grpc(validator, a_check(authorization=f"Bearer {KEY}"))
    if told.status.code == 0:
        return "VALID"
    return {429: "QUOTA_EXCEEDED", 503: "503"}[told.denied_response.status.code]


ENDPOINTS = (at_v1, at_v2, at_forward_auth, at_grpc)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda one: one.__name__)
async def test_a_quota_is_spent_to_its_end_and_then_refused(endpoint: Any, validator: Validator) -> None:
    assert [await endpoint(validator) for _ in range(LIMIT + 2)] == ["VALID"] * LIMIT + ["QUOTA_EXCEEDED"] * 2


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda one: one.__name__)
async def test_without_the_origin_holds_what_the_bucket_says(
    endpoint: Any, validator: Validator, ledger: Ledger, replica: Replica
) -> None:
    ledger.is_away = True
    assert await endpoint(validator) == "503"
    fill(replica, ledger.quota, "serve")
    assert [await endpoint(validator) for _ in range(LIMIT + 2)] == ["VALID"] * (LIMIT + 2)


@pytest.mark.parametrize("ask", INTEGRATIONS, ids=lambda ask: ask.__name__)
async def test_an_application_spends_it_to_its_end(ask: Any, validator: Validator) -> None:
    told = [await ask(validator, bearer(KEY), None, WANTED) for _ in range(LIMIT + 1)]
    assert [answer.status for answer in told] == [200] * LIMIT + [429]
    assert told[-1].headers["ratelimit"] == '"calls";r=0'


def test_what_does_not_wait_has_an_answer_soon(validator: Validator) -> None:
    """Who asks a replica itself hears UNAVAILABLE once, and the verdict when it is lent."""
    codes = [validator.validate(KEY, BUCKET).verdict]
    assert codes == [Verdict.UNAVAILABLE]
    waits = threading.Event()
    for _ in range(500):
        codes.append(validator.validate(KEY, BUCKET).verdict)
        if codes[-1] is Verdict.VALID:
            break
        waits.wait(0.01)
    assert codes[-1] is Verdict.VALID
