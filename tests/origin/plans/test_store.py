"""Plans in the record: one change each, before whoever has them, and none deleted while somebody is given it."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from keywright.domain.limits import LimitScope, RateLimit
from keywright.domain.models import Consumer, IdKind, Plan, new_id
from keywright.origin.consumers import store as consumers
from keywright.origin.db.engine import MissingReference
from keywright.origin.db.transaction import Transaction
from keywright.origin.edges.reach import Touched
from keywright.origin.plans import store as plans
from keywright.protocol.changes import BucketPut, ConsumerPut, PlanDelete, PlanPut
from support.record import Record, head_of, log_of, now, replay, snapshot_of

PER_MINUTE = RateLimit("per-minute", 600, 60)
BURST = RateLimit("burst", 5, 1, LimitScope.EDGE)
WRITTEN = '{"name":"per-minute","limit":600,"windowSeconds":60,"scope":"global"}'


async def new_plan(tx: Transaction, record: Record, name: str, **powers: Any) -> Plan:
    id = new_id(IdKind.PLAN, secrets.token_bytes)
    return await plans.insert(tx, id=id, bucket=record.bucket, name=name, description=None, now=now(), **powers)


async def new_consumer(tx: Transaction, record: Record, **powers: Any) -> Consumer:
    id = new_id(IdKind.CONSUMER, secrets.token_bytes)
    made: dict[str, Any] = {"description": None, "tags": {}, "metadata": {}, "now": now(), **powers}
    return await consumers.insert(tx, id=id, bucket=record.bucket, name=id.lower(), **made)


async def changes_after(record: Record, revision: int) -> list[Any]:
    return [change for at, change in await log_of(record.database) if at > revision]


async def test_a_bucket_names_what_its_plans_need_before_them_and_they_come_before_who_has_them(
    record: Record,
) -> None:
    before = await head_of(record.database)
    async with record.database.write() as tx:
        plan = await new_plan(tx, record, "gold", rate_limits=(PER_MINUTE,))
        plan = await plans.update(tx, plan, replace(plan, scopes=("a",)))
        await new_consumer(tx, record, plan=plan)

    found = await changes_after(record, before)
    assert [(type(each), getattr(each, "features", None)) for each in found] == [
        (BucketPut, ("plan", "rateLimits")),
        (PlanPut, None),
        (BucketPut, ("plan", "rateLimits", "scopes")),
        (PlanPut, None),
        (ConsumerPut, None),
    ]
    assert found[1].powers == f'{{"rateLimits":[{WRITTEN}]}}'
    assert found[3].powers == f'{{"scopes":["a"],"rateLimits":[{WRITTEN}]}}'
    assert found[4].powers == f'{{"plan":{plan.number}}}'


async def test_a_snapshot_shows_what_the_log_leads_to(record: Record) -> None:
    async with record.database.write() as tx:
        gold = await new_plan(tx, record, "gold", scopes=(), rate_limits=(PER_MINUTE, BURST))
        gone = await new_plan(tx, record, "gone")
        await new_plan(tx, record, "bare")
        one = await new_consumer(tx, record, plan=gold, rate_limits=(BURST,))
        other = await new_consumer(tx, record, plan=gone)
        await consumers.update(tx, other, replace(other, plan=None))
        await plans.delete(tx, gone)

    found = await snapshot_of(record.database)
    assert found == replay(await changes_after(record, 0))
    kinds = [type(each).__name__ for each in found]
    assert kinds == sorted(kinds, key=["BucketPut", "PlanPut", "ConsumerPut", "KeyPut"].index)
    assert [each.name for each in found if isinstance(each, PlanPut)] == ["gold", "bare"]
    assert consumers.put(one) in found


async def test_what_is_said_of_a_plan_and_a_consumer_is_read_back(record: Record) -> None:
    async with record.database.write() as tx:
        made = await new_plan(tx, record, "gold", scopes=("b", "a"), rate_limits=(PER_MINUTE, BURST))
        none = await new_plan(tx, record, "none", scopes=(), rate_limits=())
        owner = await new_consumer(tx, record, plan=made, rate_limits=())
    async with record.database.read() as tx:
        found = await plans.find(tx, record.bucket, "gold")
        assert found is not None
        times = {"created_at": found.created_at, "updated_at": found.updated_at}
        assert found == replace(made, **times)
        assert (found.scopes, found.rate_limits) == (("b", "a"), (PER_MINUTE, BURST))
        listed, total = await plans.list_of(tx, record.bucket, limit=9, offset=0)
        assert ([each.name for each in listed], total) == (["none", "gold"], 2)
        assert (listed[0].scopes, listed[0].rate_limits) == ((), ())
        assert await plans.count_consumers(tx, listed) == {made.number: 1, none.number: 0}
        consumer = await consumers.find(tx, record.bucket, owner.name, tags={})
        assert consumer is not None
        assert (consumer.plan, consumer.rate_limits) == (found, ())


async def test_the_database_itself_keeps_a_plan_that_a_consumer_has(record: Record) -> None:
    async with record.database.write() as tx:
        plan = await new_plan(tx, record, "gold")
        await new_consumer(tx, record, plan=plan)
    with pytest.raises(MissingReference):
        async with record.database.write() as tx:
            await plans.delete(tx, plan)
    async with record.database.read() as tx:
        assert await plans.find(tx, record.bucket, "gold") is not None


async def test_a_plan_that_is_being_given_is_not_deleted_beside_that(record: Record) -> None:
    async with record.database.write() as tx:
        plan = await new_plan(tx, record, "gold")

    async def delete_if_free() -> int:
        async with record.another_database().write() as tx:
            held = await plans.find(tx, record.bucket, "gold", is_for_update=True)
            assert held is not None
            count = (await plans.count_consumers(tx, [held]))[held.number]
            if not count:
                await plans.delete(tx, held)
            return count

    async with record.database.write() as tx:
        given = await plans.find_to_give(tx, record.bucket, "gold")
        deleting = asyncio.create_task(delete_if_free())
        if record.database.is_sqlite:
            # It has one writer: the other can't even begin, and nobody can see it wait.
            await asyncio.sleep(0.05)
        else:
            async with record.another_database().read() as watching:
                waits = sa.text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
                while not await watching.scalar(waits):
                    await asyncio.sleep(0.01)
        assert not deleting.done()
        await new_consumer(tx, record, plan=given)
    assert await deleting == 1
    assert not [each for each in await changes_after(record, 0) if isinstance(each, PlanDelete)]
    async with record.database.read() as tx:
        assert await plans.find(tx, record.bucket, "gold") == replace(
            plan,
            created_at=given.created_at,
            updated_at=given.updated_at,  # type: ignore[union-attr]
        )


def test_who_waits_for_a_plan_s_change_waits_for_the_edges_of_its_bucket() -> None:
    for change in (PlanPut(3, "plan_x", 7, "gold", None), PlanDelete(3, 7)):
        assert Touched((change,)).bucket_numbers == {7}
