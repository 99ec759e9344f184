"""Rate limits in an application: counted once for each request, in each integration, with the fields of the answer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import APIRouter, FastAPI, Security
from starlette.responses import PlainTextResponse

from edge.asgi import call
from edge.world import DIGESTER, NOW, PEPPER_CHECK, at, bucket, consumer, key
from keywright.domain.limits import RateLimit
from keywright.domain.powers import Demand, encode_powers
from keywright.domain.problems import CONTENT_TYPE, QuotaExceeded
from keywright.domain.verdict import Verdict
from keywright.edge.limits.table import LimitTable
from keywright.edge.limits.takers import Takers
from keywright.edge.replica.replica import Replica
from keywright.edge.validator import Validator
from keywright.policy import fastapi, generic
from keywright.policy.remote import RemoteEdge
from keywright.policy.testing import FakeKeys
from policy.test_scopes import BUCKET, INTEGRATIONS, WANTED, at_generic, bearer
from support.clock import FakeClock
from support.http import serving, through_asgi

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

from edge.apps import new_app

KEY, FREE = "zpka_limited-and-long-enough", "zpka_free-and-long-enough"
POLICY = '"burst";q=2;w=60'
every = pytest.mark.parametrize("ask", INTEGRATIONS, ids=lambda ask: ask.__name__)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def source(tmp_path: Path, clock: FakeClock) -> Iterator[Validator]:
    """What judges in an edge is a source for a policy as it is."""
    replica = Replica.open(tmp_path / "replica", PEPPER_CHECK)
    limited = encode_powers(scopes=["*"], rate_limits=[RateLimit("burst", 2, 60)])
    records = [
        replace(bucket(1, BUCKET), features=("scopes", "rateLimits")),
        replace(consumer(1, 1, "acme"), powers=limited),
        replace(consumer(2, 1, "free"), powers=encode_powers(scopes=["*"])),
        key(KEY, 1, 1),
        key(FREE, 1, 2),
    ]
    replica.load("dep_1", PEPPER_CHECK, at(1), records)
    table = LimitTable(tmp_path / "limits", clock.elapsed)
    yield Validator(replica, DIGESTER, lambda: NOW, Takers(table))
    table.close()
    replica.close()


@every
async def test_a_request_counts_once_and_one_beyond_the_limit_is_a_429(
    ask: Any, source: Validator, clock: FakeClock
) -> None:
    for left, reset in ((1, 30), (0, 30)):
        answer = await ask(source, bearer(KEY), None, WANTED)
        assert answer.status == 200
        # What the generic policy tells is below.
        if ask is not at_generic:
            assert answer.headers["ratelimit-policy"] == POLICY
            assert answer.headers["ratelimit"] == f'"burst";r={left};t={reset}'
    answer = await ask(source, bearer(KEY), None, WANTED)
    assert answer.status == 429
    assert answer.headers["content-type"] == CONTENT_TYPE
    assert answer.headers["retry-after"] == "30"
    assert answer.headers["ratelimit-policy"] == POLICY
    assert answer.headers["ratelimit"] == '"burst";r=0;t=30'
    document = answer.json()
    assert (document["type"], document["violated-policies"]) == (QuotaExceeded.type, ["burst"])
    clock.advance(30)
    assert (await ask(source, bearer(KEY), None, WANTED)).status == 200


@every
async def test_a_key_without_limits_is_told_of_none(ask: Any, source: Validator) -> None:
    for _ in range(5):
        answer = await ask(source, bearer(FREE), None, [])
        assert answer.status == 200
        assert not [name for name in answer.headers if name.startswith("ratelimit")]


@every
async def test_a_key_beyond_its_limit_is_not_let_in_as_nobody(ask: Any, source: Validator) -> None:
    options = {"allow_unauthenticated_requests": True}
    statuses = [(await ask(source, bearer(KEY), None, [], **options)).status for _ in range(3)]
    assert statuses == [200, 200, 429]


async def test_dependencies_of_one_request_count_once(source: Validator) -> None:
    policy = fastapi.ApiKeyPolicy(source, bucket_name=BUCKET)
    router = APIRouter(dependencies=[Security(policy), Security(policy, scopes=["a"])])

    @router.get("/orders", response_class=PlainTextResponse)
    async def orders(user: Any = Security(policy, scopes=["b"])) -> str:  # noqa: B008
        return str(user.sub)

    app = FastAPI()
    app.include_router(router)
    statuses = [(await call(app, "GET", "/orders", headers=bearer(KEY))).status for _ in range(3)]
    assert statuses == [200, 200, 429]


async def test_what_the_generic_policy_tells_is_for_the_answer(source: Validator) -> None:
    policy = generic.ApiKeyPolicy(source, bucket_name=BUCKET)
    checked = await policy.check({"authorization": f"Bearer {KEY}"})
    assert checked.headers == {"ratelimit-policy": POLICY, "ratelimit": '"burst";r=1;t=30'}
    assert [(limit.name, limit.remaining) for limit in checked.user.limits] == [("burst", 1)]  # type: ignore[union-attr]
    assert (await policy.check({"authorization": f"Bearer {FREE}"})).headers == {}
    assert (await policy.check({})).headers == {}


@pytest.mark.parametrize("is_blocking", [True, False])
async def test_an_edge_far_away_counts_and_its_answers_are_told_as_they_are(
    source: Validator, *, is_blocking: bool
) -> None:
    with serving(through_asgi(new_app(source))) as url:
        remote = RemoteEdge(url, timeout_seconds=30)

        async def ask(demand: Demand) -> Any:
            if is_blocking:
                return remote.validate(KEY, BUCKET, demand)
            return await remote.validate_async(KEY, BUCKET, demand)

        peek = Demand(is_peek=True)
        assert [(await ask(peek)).limits[0].remaining for _ in range(3)] == [2, 2, 2]
        assert [(await ask(Demand(cost=5))).limits[0].remaining for _ in range(2)] == [1, 0]
        refused = await ask(Demand())
        assert refused.verdict is Verdict.RATE_LIMITED
        (limit,) = refused.limits
        assert (limit.name, limit.is_violated, limit.retry_seconds) == ("burst", True, 30)
        assert (limit.limit, limit.window_seconds, limit.reset_seconds) == (2, 60, 30)
        assert (await ask(peek)).verdict is Verdict.RATE_LIMITED
        remote.close()
        await remote.close_async()


@every
async def test_fake_keys_know_those_that_are_good_too_often(ask: Any) -> None:
    keys = FakeKeys()
    rows = [(keys.rate_limited(retry_seconds=7, name="burst"), "7", "burst"), (keys.quota_exceeded(), "60", "quota")]
    for secret, retry_after, name in rows:
        answer = await ask(keys, bearer(secret), None, [])
        assert (answer.status, answer.headers["retry-after"]) == (429, retry_after)
        assert answer.json()["violated-policies"] == [name]
    assert [asked.verdict for asked in keys.asked] == ["RATE_LIMITED", "QUOTA_EXCEEDED"]
