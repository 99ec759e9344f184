"""Quotas over the API: what is left, adding to it, giving back, and all that is refused."""

from __future__ import annotations

import secrets
from typing import Any

import pytest
import pytest_asyncio
import sqlalchemy as sa

from keywright.domain.limits import MAX_UNITS, Period, Quota
from keywright.origin.db import tables
from keywright.origin.quotas import lending
from keywright.protocol.leases import Ask, Question
from support.quotas import ROOT, set_quotas
from support.service import Service

pytestmark = pytest.mark.asyncio(loop_scope="module")

QUOTAS = [Quota("calls", 100, Period.MONTH, "Europe/Berlin", 31, 2), Quota("pages", 10, Period.NONE)]


@pytest_asyncio.fixture(loop_scope="module")
async def consumer(shared: Service) -> str:
    name: str = (await shared.new_consumer())["name"]
    await set_quotas(shared.app._database, name, QUOTAS)
    return name


async def lend(service: Service, consumer: str, units: int) -> None:
    async with service.app._database.write() as tx:
        number = await tx.scalar(sa.select(tables.consumers.c.number).where(tables.consumers.c.name == consumer))
        deployment_id = await tx.scalar(sa.select(tables.deployment.c.id))
        question = Question(
            deployment_id, secrets.token_urlsafe(16), 1, 1, "", "", False, (Ask(number, "calls", need=units),)
        )
        await lending.answer(tx, ROOT, question, secrets.token_bytes)


async def top_up(service: Service, consumer: str, *, expect: int = 200, key: str | None = None, **body: Any) -> Any:
    url = f"{service.consumers_url}/{consumer}/quotas/calls/top-ups"
    headers = {} if key is None else {"Idempotency-Key": key}
    return await service.call("POST", url, json=body, headers=headers, expect=expect)


async def test_quotas_of_a_consumer_show_what_is_left(shared: Service, consumer: str) -> None:
    await lend(shared, consumer, 30)
    listed = await shared.call("GET", f"{shared.consumers_url}/{consumer}/quotas")

    calls, pages = listed["data"]
    assert (listed["total"], listed["limit"], listed["offset"]) == (2, 1000, 0)
    assert calls.pop("beginsOn") < calls.pop("endsOn")
    assert calls == {
        "name": "calls", "limit": 100, "period": "month", "timeZone": "Europe/Berlin", "anchor": 31, "defaultCost": 2,
        "remaining": 100, "spent": 0, "lent": 30, "unaccounted": 0, "added": 0, "overspent": 0, "lending": True,
        "limitInForceOn": None,
    }  # fmt: skip
    assert (pages["period"], pages["endsOn"], pages["remaining"]) == ("none", None, 10)
    page = await shared.call("GET", f"{shared.consumers_url}/{consumer}/quotas?limit=1&offset=1")
    assert [one["name"] for one in page["data"]] == ["pages"]


async def test_lowered_limit_says_when_it_holds(shared: Service, consumer: str) -> None:
    await lend(shared, consumer, 30)
    await set_quotas(shared.app._database, consumer, [Quota("calls", 10, Period.MONTH, "Europe/Berlin", 31)])

    (calls,) = (await shared.call("GET", f"{shared.consumers_url}/{consumer}/quotas"))["data"]
    assert (calls["remaining"], calls["limitInForceOn"] is None) == (10, False)


@pytest.mark.parametrize("again", ["order-1", '"order-1"'], ids=["bare", "quoted"])
async def test_top_up_is_added_once_and_told_in_the_audit_log(shared: Service, consumer: str, again: str) -> None:
    for key in ("order-1", again):
        assert (await top_up(shared, consumer, key=key, units=50))["added"] == 50

    entries = (await shared.call("GET", f"{shared.account_url}/audit-logs"))["data"]
    told = [one["resources"][0]["metadata"] for one in entries if one["action"] == "quota.top-up"][:2]
    assert [(one["quota"], one["units"], one["isRepeated"]) for one in told] == [
        ("calls", 50, True), ("calls", 50, False),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "body", "field"),
    [
        pytest.param(None, {"units": 1}, "Idempotency-Key", id="no key"),
        pytest.param("", {"units": 1}, "Idempotency-Key", id="empty key"),
        pytest.param("a b", {"units": 1}, "Idempotency-Key", id="a space in it"),
        pytest.param('"', {"units": 1}, "Idempotency-Key", id="a quote"),
        pytest.param("k" * 201, {"units": 1}, "Idempotency-Key", id="a key too long"),
        pytest.param("k", {}, "units", id="no units"),
        pytest.param("k", {"units": 0}, "units", id="nothing"),
        pytest.param("k", {"units": -1}, "units", id="less than nothing"),
        pytest.param("k", {"units": True}, "units", id="a bool"),
        pytest.param("k", {"units": 1.5}, "units", id="a broken number"),
        pytest.param("k", {"units": "1"}, "units", id="text"),
        pytest.param("k", {"units": None}, "units", id="null"),
        pytest.param("k", {"units": MAX_UNITS + 1}, "units", id="too many"),
        pytest.param("k", {"units": 2**63}, "units", id="past eight bytes"),
        pytest.param("k", {"units": 1, "unit": 1}, "unit", id="an unknown member"),
    ],
)
async def test_bad_top_up_is_400_with_the_field(
    shared: Service, consumer: str, key: str | None, body: dict[str, Any], field: str
) -> None:
    problem = await top_up(shared, consumer, key=key, expect=400, **body)

    assert [error["field"].rpartition(".")[2] for error in problem["errors"]] == [field]
    (calls, _) = (await shared.call("GET", f"{shared.consumers_url}/{consumer}/quotas"))["data"]
    assert calls["added"] == 0


async def test_key_that_was_used_otherwise_is_409(shared: Service, consumer: str) -> None:
    await top_up(shared, consumer, key="order-1", units=50)
    await top_up(shared, consumer, key="order-1", units=51, expect=409)


async def test_give_back_answers_with_what_is_left(shared: Service, consumer: str) -> None:
    await lend(shared, consumer, 30)
    url = f"{shared.consumers_url}/{consumer}/quotas"

    assert (await shared.call("POST", f"{url}/calls/give-back"))["lent"] == 30
    for name in ("nothing", "Not-A-Name", "x" * 200):
        await shared.call("POST", f"{url}/{name}/give-back", expect=404)
