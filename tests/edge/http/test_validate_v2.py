"""POST /v2/validate: what is asked of a key beyond whether it is good; and that /v1 never answers such a question."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from edge.asgi import call
from edge.world import DIGESTER, NOW, PEPPER_CHECK, at, bucket, consumer, key
from keywright.domain.powers import encode_powers
from keywright.edge.http.validate import ValidateApi
from keywright.edge.validator import Validator

if TYPE_CHECKING:
    from keywright.edge.replica.replica import Replica

S = "zpka_secret-1"
OWNER = replace(consumer(1, 1), powers=encode_powers(scopes=["orders:*", "a"]))
KEY = replace(
    key(S, 1, 1, NOW + 1),
    powers=encode_powers(scopes=["orders:read", "a", "b"], allowed_ips=["192.0.2.0/24"], metadata='{"device":"till"}'),
)


@pytest.fixture
def powered(replica: Replica) -> Validator:
    features = ("scopes", "allowedIps", "metadata")
    replica.load("dep_1", PEPPER_CHECK, at(1), [replace(bucket(1, "my-bucket"), features=features), OWNER, KEY])
    return Validator(replica, DIGESTER, clock=lambda: NOW)


async def ask(validator: Validator, version: int, body: Any) -> tuple[int, Any]:
    api = ValidateApi(validator, is_v2=version == 2)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = await call(api, "POST", f"/v{version}/validate/my-bucket", body=data)
    return answer.status, answer.json()


async def test_a_good_key_is_told_with_what_it_is_good_for(powered: Validator) -> None:
    assert await ask(powered, 2, {"key": S, "ip": "192.0.2.7", "scopes": ["orders:read", "a"], "cost": 5.0}) == (
        200,
        {
            "valid": True,
            "code": "VALID",
            "user": {"sub": "my-consumer", "data": {"testId": "1234"}},
            "consumer": {"id": OWNER.consumer_id, "name": "my-consumer"},
            "key": {"id": KEY.key_id, "expiresOn": "2027-01-15T08:00:00.001Z", "metadata": {"device": "till"}},
            "scopes": ["a", "orders:read"],
            "limits": [],
        },
    )


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({}, "IP_NOT_ALLOWED"),
        ({"ip": None}, "IP_NOT_ALLOWED"),
        ({"ip": "198.51.100.1"}, "IP_NOT_ALLOWED"),
        ({"ip": "198.51.100.1", "scopes": ["b"]}, "IP_NOT_ALLOWED"),
        ({"ip": "192.0.2.7", "scopes": ["b"]}, "INSUFFICIENT_SCOPE"),
        ({"ip": "192.0.2.7", "scopes": ["a", "orders:write"]}, "INSUFFICIENT_SCOPE"),
        ({"ip": "::ffff:192.0.2.7", "scopes": []}, "VALID"),
    ],
    ids=json.dumps,
)
async def test_what_is_asked_is_judged(powered: Validator, asked: dict[str, Any], code: str) -> None:
    status, told = await ask(powered, 2, {"key": S, **asked})
    assert (status, told["valid"], told["code"]) == (200, code == "VALID", code)


@pytest.mark.parametrize("asked", [{"scopes": []}, {"ip": None}, {"cost": 1}, {"peek": False}], ids=json.dumps)
async def test_v1_answers_no_question_of_v2(powered: Validator, asked: dict[str, Any]) -> None:
    status, told = await ask(powered, 1, {"key": S, **asked})
    assert (status, told["errors"][0]["field"]) == (400, f"body.{next(iter(asked))}")
    assert "/v2/validate" in told["errors"][0]["message"]


async def test_v1_judges_the_powers_that_need_no_question(powered: Validator) -> None:
    assert await ask(powered, 1, {"key": S}) == (200, {"valid": False, "code": "IP_NOT_ALLOWED"})


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "body.key"), ({"key": 1}, "body.key"), ([], "body"), (b"{", "body"),
        ({"key": S, "scopes": "a"}, "body.scopes"), ({"key": S, "scopes": [1]}, "body.scopes"),
        ({"key": S, "scopes": [""]}, "body.scopes"), ({"key": S, "scopes": ["a", "a"]}, "body.scopes"),
        ({"key": S, "scopes": ["a b"]}, "body.scopes"), ({"key": S, "scopes": ["x" * 101]}, "body.scopes"),
        ({"key": S, "scopes": [f"s{n}" for n in range(51)]}, "body.scopes"), ({"key": S, "ip": ""}, "body.ip"),
        ({"key": S, "ip": "192.0.2.7:80"}, "body.ip"), ({"key": S, "ip": "fe80::1%lo"}, "body.ip"),
        ({"key": S, "ip": 1}, "body.ip"), ({"key": S, "peek": 1}, "body.peek"), ({"key": S, "scope": "a"}, "body"),
        ({"key": S, "route": 1}, "body.route"), ({"key": S, "route": "a b"}, "body.route"),
        *(({"key": S, "cost": cost}, "body.cost") for cost in (0, -1, 1_000_001, 2**63, 1.5, 1e300, "1", True, [1])),
    ],
    ids=lambda value: repr(value)[:50],
)  # fmt: skip
async def test_a_question_that_is_not_understood_is_answered_with_the_rule(
    powered: Validator, body: Any, field: str
) -> None:
    status, told = await ask(powered, 2, body)
    assert (status, told["errors"][0]["field"]) == (400, field)
    assert S not in json.dumps(told)
