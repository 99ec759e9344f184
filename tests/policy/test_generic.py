"""The policy for any framework: headers of every kind go in, a value comes out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from multidict import CIMultiDict
from sanic.compat import Header
from tornado.httputil import HTTPHeaders

from keywright.policy.generic import ApiKeyPolicy
from policy.keys import EXPIRED, GOLD, LOST, Keys

GOOD = "Bearer zpka_gold"
PREFLIGHT = {"Origin": "https://a.example", "Access-Control-Request-Method": "PUT"}


def protected(**options: Any) -> ApiKeyPolicy:
    return ApiKeyPolicy(Keys(), **{"bucket_name": "my-bucket", **options})


async def both(policy: ApiKeyPolicy, headers: Any, **more: Any) -> Any:
    """By an event loop and by a thread: they agree."""
    checked, blocking = await policy.check(headers, **more), policy.check_blocking(headers, **more)
    assert (checked.user.sub, checked.auth) == (blocking.user.sub, blocking.auth)
    assert (checked.refusal and checked.refusal.code) == (blocking.refusal and blocking.refusal.code)
    return checked


def _tornado(value: str) -> HTTPHeaders:
    headers = HTTPHeaders()
    headers.add("authorization", value)
    return headers


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": GOOD},
        [("AUTHORIZATION", GOOD)],
        [(b"authorization", GOOD.encode())],
        CIMultiDict({"authorization": GOOD}),
        Header({"Authorization": GOOD}),
        _tornado(GOOD),
        {"Authorization": f"{GOOD} "},
    ],
)
async def test_headers_of_every_kind_are_read(headers: Any) -> None:
    user, auth, refusal = await both(protected(), headers)
    assert refusal is None
    assert (user.sub, user.data, auth.key_id) == ("acme", {"plan": "gold"}, "key_1")


def _several() -> list[Any]:
    pairs = [("authorization", GOOD), ("authorization", "Bearer zpka_other")]
    tornado = _tornado(GOOD)
    tornado.add("authorization", "Bearer zpka_other")
    return [pairs, CIMultiDict(pairs), Header(pairs), tornado]


@pytest.mark.parametrize("headers", _several(), ids=lambda headers: type(headers).__name__)
async def test_several_headers_are_refused_however_a_framework_has_them(headers: Any) -> None:
    assert (await both(protected(), headers)).refusal.code == "AMBIGUOUS"


@pytest.mark.parametrize(
    ("value", "code", "status"),
    [
        (None, "MISSING", 401),
        ("Basic eDp5", "MISSING", 401),
        (f"Bearer {EXPIRED}", "EXPIRED", 401),
        ("Bearer zpka_göld", "UNKNOWN", 401),
        ("Bearer zpka_g\udce4ld", "UNKNOWN", 401),
        ("Bearer zpka_gold\ud83d", "UNKNOWN", 401),
        (f"Bearer {LOST}", "UNAVAILABLE", 503),
    ],
)
async def test_a_refusal_is_a_whole_answer(value: str | None, code: str, status: int) -> None:
    headers = {"X-Request-Id": "my-trace", **({} if value is None else {"Authorization": value})}
    user, _, refusal = await both(protected(), headers, path="/a")
    assert (refusal.code, refusal.status, user.is_authenticated, user.code) == (code, status, False, code)
    answered = dict(refusal.headers)
    assert (answered["content-type"], answered["x-request-id"]) == ("application/problem+json", "my-trace")
    assert answered["content-length"] == str(len(refusal.body))
    assert ("www-authenticate" in answered, "retry-after" in answered) == (status == 401, status == 503)
    assert json.loads(refusal.body)["instance"] == "/a"


async def test_options_mean_what_they_mean_elsewhere() -> None:
    policy = protected(query_parameter="key", exempt_paths=["/health"], allow_cors_preflight=True)
    assert (await both(policy, {}, query=f"key={GOLD}")).refusal is None
    assert (await both(policy, {}, query=b"key=other")).refusal.code == "UNKNOWN"
    assert (await both(policy, {}, path="/health")).user.code == "EXEMPT"
    assert (await both(policy, PREFLIGHT, method="OPTIONS")).user.code == "EXEMPT"
    assert (await both(policy, PREFLIGHT, method="PUT")).refusal.code == "MISSING"
    assert (await both(protected(allow_unauthenticated_requests=True), {})).user.code == "MISSING"


async def test_the_source_is_opened_by_hand_or_by_the_first_check() -> None:
    keys = Keys()
    policy = ApiKeyPolicy(keys, bucket_name="my-bucket")
    await policy.check({"authorization": GOOD})
    await policy.close()
    await policy.open()
    await policy.check({"authorization": GOOD})
    assert keys.steps == ["open", "close", "open"]
