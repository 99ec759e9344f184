"""What waited until it was lent is counted once, by what it came to: in the metrics, by key, and how long it took."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from grpc import aio

from edge.asgi import call
from edge.grpc.test_ext_authz import a_check
from edge.quotas.world import BUCKET, KEY, LIMIT, NOW, Ledger, fill
from keywright.domain.powers import Demand
from keywright.domain.verdict import Lacking, Result, Verdict
from keywright.edge.grpc.ext_authz import METHOD, GrpcServer
from keywright.edge.grpc.ext_authz_pb2 import CheckRequest, CheckResponse
from keywright.edge.http.forward_auth import ForwardAuth
from keywright.edge.http.validate import ValidateApi
from keywright.edge.usage.counter import row_of
from support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from keywright.edge.http.validation_counts import ValidationCounts
    from keywright.edge.replica.replica import Replica
    from keywright.edge.usage.counter import UsageCounter
    from keywright.edge.validator import Validator

PEEK = Demand(is_peek=True)


def used(counter: UsageCounter) -> dict[str, int]:
    """How many of each verdict were counted by key; all of them are of one."""
    rows = [row_of(one.hour, *each) for one in counter.take(NOW) for of in (one.rows, one.ahead) for each in of.items()]
    assert len({row.key_id for row in rows}) <= 1
    assert all(row.key_id is not None for row in rows)
    found: Counter[str] = Counter()
    for row in rows:
        found[row.verdict] += row.total
    return dict(found)


def answered(counts: ValidationCounts) -> dict[str, int]:
    told = {code: count for (bucket, code), count in counts.refused.items() if bucket == BUCKET}
    assert len(told) == len(counts.refused)
    assert counts.failures == 0
    return {"VALID": counts.valid.get(BUCKET, 0)} | {str(code): count for code, count in told.items()}


async def ask_by_loop(validator: Validator, demand: Demand = Demand()) -> Result:  # noqa: B008
    found = validator.validate(KEY, BUCKET, demand)
    return await validator.settle(found, KEY, BUCKET, demand) if type(found) is Lacking else found


async def ask_by_thread(validator: Validator, demand: Demand = Demand()) -> Result:  # noqa: B008
    found = validator.validate(KEY, BUCKET, demand)
    return validator.settle_here(found, KEY, BUCKET, demand) if type(found) is Lacking else found


WAYS = pytest.mark.parametrize("ask", [ask_by_loop, ask_by_thread], ids=lambda one: one.__name__)


@WAYS
async def test_each_is_counted_for_its_key_once_by_what_it_came_to(
    ask: Any, validator: Validator, counter: UsageCounter
) -> None:
    assert type(validator.validate(KEY, BUCKET, PEEK)) is Lacking
    assert type(validator.validate(KEY, BUCKET)) is Lacking
    assert used(counter) == {}
    found = [(await ask(validator)).verdict for _ in range(LIMIT + 2)]
    assert found == [Verdict.VALID] * LIMIT + [Verdict.QUOTA_EXCEEDED] * 2
    assert used(counter) == {"VALID": LIMIT, "QUOTA_EXCEEDED": 2}


@WAYS
async def test_what_waited_and_is_refused_is_counted_once(
    ask: Any, validator: Validator, counter: UsageCounter, ledger: Ledger
) -> None:
    ledger.period.spent = LIMIT
    assert type(validator.validate(KEY, BUCKET, PEEK)) is Lacking
    assert (await ask(validator)).verdict is Verdict.QUOTA_EXCEEDED
    assert used(counter) == {"QUOTA_EXCEEDED": 1}


@WAYS
async def test_a_peek_that_waited_is_not_counted(ask: Any, validator: Validator, counter: UsageCounter) -> None:
    assert (await ask(validator, PEEK)).verdict is Verdict.VALID
    assert used(counter) == {}


@WAYS
@pytest.mark.parametrize(
    ("when_stale", "comes_to"), [("refuse", Verdict.UNAVAILABLE), ("serve", Verdict.VALID)], ids=["refuse", "serve"]
)
async def test_what_nobody_answers_is_counted_once_by_what_the_bucket_says(
    ask: Any,
    when_stale: str,
    comes_to: Verdict,
    validator: Validator,
    counter: UsageCounter,
    ledger: Ledger,
    replica: Replica,
) -> None:
    ledger.is_away = True
    fill(replica, ledger.quota, when_stale)
    assert (await ask(validator, PEEK)).verdict is comes_to
    assert used(counter) == {}
    assert [(await ask(validator)).verdict for _ in range(2)] == [comes_to] * 2
    assert used(counter) == {str(comes_to): 2}


async def at_v1(validator: Validator) -> AsyncIterator[ValidationCounts]:
    api = ValidateApi(validator)
    while True:
        await call(api, "POST", f"/v1/validate/{BUCKET}", body=b'{"key":"%b"}' % KEY.encode())
        yield api.counts


async def at_v2(validator: Validator) -> AsyncIterator[ValidationCounts]:
    api = ValidateApi(validator, is_v2=True)
    while True:
        await call(api, "POST", f"/v2/validate/{BUCKET}", body=b'{"key":"%b"}' % KEY.encode())
        yield api.counts


async def at_forward_auth(validator: Validator) -> AsyncIterator[ValidationCounts]:
    api = ForwardAuth(validator)
    while True:
        headers = [(b"authorization", b"Bearer " + KEY.encode())]
        await call(api, "GET", f"/v1/forward-auth/{BUCKET}", headers=headers)
        yield api.counts


async def at_grpc(validator: Validator) -> AsyncIterator[ValidationCounts]:
    port, forward_auth = free_port(), ForwardAuth(validator)
    counts = forward_auth.new_counts()
    running = GrpcServer(forward_auth, "127.0.0.1", port, counts=counts)
    await running.start()
    try:
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            check = channel.unary_unary(
                METHOD,
                request_serializer=CheckRequest.SerializeToString,
                response_deserializer=CheckResponse.FromString,
            )
            while True:
                await check(a_check(BUCKET, f"Bearer {KEY}"), timeout=30)
                assert sum(answered(forward_auth.counts).values()) == 0
                yield counts
    finally:
        await running.stop()


ENDPOINTS = pytest.mark.parametrize("endpoint", [at_v1, at_v2, at_forward_auth, at_grpc], ids=lambda one: one.__name__)


@ENDPOINTS
async def test_an_endpoint_counts_once_what_waited_there(
    endpoint: Any, validator: Validator, counter: UsageCounter
) -> None:
    asking = endpoint(validator)
    counts = [await anext(asking) for _ in range(LIMIT + 2)][-1]
    await asking.aclose()
    expected = {"VALID": LIMIT, "QUOTA_EXCEEDED": 2}
    assert answered(counts) == expected
    assert used(counter) == expected
    assert sum(counts.latency.counts) == LIMIT + 2


@ENDPOINTS
async def test_an_endpoint_counts_once_what_nobody_answered(
    endpoint: Any, validator: Validator, counter: UsageCounter, ledger: Ledger
) -> None:
    ledger.is_away = True
    asking = endpoint(validator)
    counts = [await anext(asking) for _ in range(2)][-1]
    await asking.aclose()
    assert answered(counts) == {"VALID": 0, "UNAVAILABLE": 2}
    assert used(counter) == {"UNAVAILABLE": 2}
    assert sum(counts.latency.counts) == 2


async def test_a_peek_that_waited_is_one_answer_in_the_metrics_and_no_use_of_the_key(
    validator: Validator, counter: UsageCounter
) -> None:
    api = ValidateApi(validator, is_v2=True)
    body = b'{"key":"%b","peek":true}' % KEY.encode()
    told = (await call(api, "POST", f"/v2/validate/{BUCKET}", body=body)).json()
    assert told["code"] == "VALID"
    assert answered(api.counts) == {"VALID": 1}
    assert sum(api.counts.latency.counts) == 1
    assert used(counter) == {}
