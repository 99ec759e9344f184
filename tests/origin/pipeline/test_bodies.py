"""Bodies: nobody's is read who may not do what the address is for, and what is read is bounded and counts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from keywright.domain.problems import BadRequest
from keywright.origin.app import NOUNS
from keywright.origin.openapi.parameters import new_router
from keywright.origin.pipeline.body import (
    LARGER_BODIES,
    MAX_BODY_BYTES,
    MAX_LIST_BYTES,
    MAX_VALUES,
    TAGGED,
    most_bytes,
    parse_json,
)
from keywright.origin.pipeline.rate_limit import Meter, RateLimiter
from keywright.origin.pipeline.unit_of_work import Limits
from origin.world import JSON, Operation, address, operations, record_of, send
from support import service as services
from support.service import Service

WITH_BODY = [operation for operation in operations() if operation.body is not None]
ACTIONS = {(next(iter(route.methods)), route.path_format): route.name for noun in NOUNS for route in noun.router.routes}


class Unread:
    """A body that tells whether somebody asked for it."""

    def __init__(self) -> None:
        self.is_asked = False

    async def __call__(self) -> AsyncIterator[bytes]:
        self.is_asked = True
        yield b"{}"


@pytest.mark.parametrize("operation", WITH_BODY, ids=str)
@pytest.mark.asyncio(loop_scope="module")
async def test_no_body_is_read_of_who_has_no_right(
    shared: Service, names: dict[str, str], operation: Operation
) -> None:
    powerless = await shared.new_management_key()
    before, body = await record_of(shared), Unread()
    headers = {"Authorization": f"Bearer {powerless}", "Content-Type": "application/json"}
    response = await shared.client.request(operation.method, address(operation, names), content=body(), headers=headers)
    assert (response.status_code in {403, 404}, body.is_asked) == (True, False), response.text
    assert await record_of(shared) == before


@pytest.mark.asyncio(loop_scope="module")
async def test_a_refusal_before_the_body_stands_in_the_audit_log(shared: Service, names: dict[str, str]) -> None:
    reader = await shared.new_management_key(account="read")
    await shared.call("POST", shared.consumers_url, key=reader, json={"name": "not-mine"}, expect=403)
    logged = await shared.call("GET", f"{shared.account_url}/audit-logs?limit=1&success=false")
    assert (logged["data"][0]["action"], logged["data"][0]["error"]) == (
        "consumer.create",
        "This management key has no write access to the bucket.",
    )


def test_an_endpoint_with_a_body_must_say_from_whom() -> None:
    router = new_router("Tests")

    async def careless(body: dict[str, Any]) -> None: ...

    with pytest.raises(RuntimeError, match="careless takes a body, and does not say from whom"):
        router.post("/careless", name="careless")(careless)


def test_what_may_be_larger_names_actions_that_there_are() -> None:
    assert set(LARGER_BODIES) | TAGGED <= set(ACTIONS.values())


@pytest.mark.parametrize("operation", WITH_BODY, ids=str)
@pytest.mark.asyncio(loop_scope="module")
async def test_64_kib_are_read_and_no_more_but_for_lists_and_the_logo(
    shared: Service, names: dict[str, str], operation: Operation
) -> None:
    most = LARGER_BODIES.get(ACTIONS[operation.method, operation.path], MAX_BODY_BYTES)
    for size, status in ((most, 400), (most + 1, 413)):
        body = b'{"description": 1}'.ljust(size)
        headers = [("authorization", f"Bearer {services.ROOT_KEY}"), JSON]
        for more in ([("content-length", str(size))], []):
            answer = await send(
                shared.app, operation.method, address(operation, names), headers=[*headers, *more], chunks=[body]
            )
            assert answer is not None
            assert answer.status == status, (size, answer.content[:200])


def test_as_many_tags_as_may_be_fit_however_they_are_written() -> None:
    tags = {f"{number:03}" + "\N{PILE OF POO}" * 125: "\N{PILE OF POO}" * 256 for number in range(100)}
    size = len(json.dumps({"description": "\N{PILE OF POO}" * 1000, "tags": tags}))
    assert size < most_bytes("bucket.create", Limits(tags=100))
    assert most_bytes("bucket.create", Limits()) == MAX_BODY_BYTES


@pytest.mark.asyncio(loop_scope="module")
async def test_a_thousand_keys_fit_with_all_that_can_be_said_of_them(shared: Service) -> None:
    keys = [
        {"description": f"{number} " + "x" * 990, "expiresOn": "2100-01-01T00:00:00Z", "key": f"{number:0500}"}
        for number in range(1000)
    ]
    made = await shared.call(
        "POST", f"{shared.consumers_url}?include-api-keys=true", json={"name": "many-keys", "apiKeys": keys}
    )
    assert len(made["apiKeys"]) == 1000
    read = await shared.call("GET", f"{shared.consumers_url}/many-keys?include-api-keys=true&key-format=visible")
    await shared.call("PATCH", f"{shared.consumers_url}/many-keys", json=read)


MANY = {
    "lists": b"[" + b"[]," * 200_000 + b"[]]",
    "objects": b"[" + b"{}," * 200_000 + b"{}]",
    "members": b"{" + b",".join(b'"%d":1' % number for number in range(200_000)) + b"}",
    "numbers": b"[" + b"1," * 200_000 + b"1]",
    "texts": b"[" + b'"",' * 200_000 + b'""]',
    "brackets": b"[" * 200_000,
    "texts without commas": b'""' * 200_000,
}


@pytest.mark.parametrize("body", MANY.values(), ids=MANY)
def test_many_values_are_refused_before_they_are_made(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json, "loads", lambda *_, **__: pytest.fail("it was parsed"))
    with pytest.raises(BadRequest) as refused:
        parse_json(body, MAX_VALUES)
    assert refused.value.errors == [{"field": "body", "message": f"holds more than {MAX_VALUES} values"}]


def test_what_is_in_texts_is_no_value() -> None:
    text = '[,{"\\' * 100_000
    assert parse_json(json.dumps([text, {text: text}]).encode(), MAX_VALUES) == [text, {text: text}]
    assert parse_json(b"[" + b"1," * (MAX_VALUES - 2) + b"1]", MAX_VALUES)[-1] == 1
    with pytest.raises(BadRequest):
        parse_json(b"[" + b"1," * MAX_VALUES + b"1]", MAX_VALUES)


def test_a_body_counts_as_one_request_for_each_64_kib() -> None:
    meter = Meter(RateLimiter(0.001, burst=100), "account", "too much")
    meter.check()
    meter.charge_body(MAX_BODY_BYTES)
    assert _left(meter) == 99
    meter.charge_body(MAX_LIST_BYTES)
    assert _left(meter) == 99 - 63
    # Not told how long it is, a body counts as the longest there is until it has come.
    meter.charge_body(MAX_LIST_BYTES)
    assert _left(meter) < 0
    meter.correct_body(MAX_LIST_BYTES, MAX_BODY_BYTES + 1)
    assert _left(meter) == 99 - 63 - 1


def _left(meter: Meter) -> float:
    return round(meter.limiter._levels["account"][0])


@pytest.mark.parametrize("is_declared", [True, False])
async def test_large_bodies_are_charged_before_they_have_come(tmp_path: Path, is_declared: bool) -> None:
    async with services.running(services.settings_for(tmp_path / "data")) as service:
        consumer = await service.new_consumer()
        # So slow that nothing is made up for meanwhile, however long the requests take.
        limiter = service.app._origin.state.services.management_rate
        limiter.rate, limiter.burst = 0.001, 100
        url = f"{service.consumers_url}/{consumer['name']}/keys/$bulk"
        may_end, began = asyncio.Event(), asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            began.set()
            await may_end.wait()
            yield b"[]".ljust(MAX_LIST_BYTES)

        def begin() -> Any:
            began.clear()
            headers = {"Content-Type": "application/json"}
            if is_declared:
                headers["Content-Length"] = str(MAX_LIST_BYTES)
            return asyncio.create_task(service.client.post(url, content=slow(), headers=headers))

        coming = []
        for _ in range(2):
            coming.append(begin())
            await began.wait()
        third = await begin()
        assert third.status_code == 429
        assert int(third.headers["retry-after"]) >= 1
        may_end.set()
        assert {(await one).status_code for one in coming} == {200}


QUERIES = {
    "long": ("x=" + "y" * 40_000, 414),
    "many": ("&".join("x=1" for _ in range(251)), 400),
    "many that are empty": ("&" * 300, 400),
    "as many as may be": ("&".join("x=1" for _ in range(250)), 200),
}


@pytest.mark.parametrize(("query", "status"), QUERIES.values(), ids=QUERIES)
@pytest.mark.asyncio(loop_scope="module")
async def test_a_query_is_bounded_before_anything_is_asked(shared: Service, query: str, status: int) -> None:
    for path in ("/v1/who-am-i", "/admin/sign-in", "/openapi.json"):
        answer = await shared.client.get(f"{path}?{query}")
        assert answer.status_code == status, path
        if status == 414:
            assert answer.json()["detail"] == "The query is 40002 bytes long; at most 32768 are read."
    if status != 200:
        nobody = await shared.client.get(f"/v1/feed?{query}", headers={"Authorization": "Bearer wrong"})
        assert nobody.status_code == status
