"""What is left of a consumer's quotas, adding to them, and giving back what ended leases hid; on both engines."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa

from keywright.domain.limits import MAX_UNITS, Period, Quota
from keywright.domain.problems import BadRequest, Conflict, NotFound
from keywright.origin.auth.actors import SYSTEM
from keywright.origin.consumers.access import ConsumerPath
from keywright.origin.db import tables
from keywright.origin.db.database_clock import read_millis
from keywright.origin.db.transaction import Database
from keywright.origin.pipeline.unit_of_work import AuditDraft, UnitOfWork
from keywright.origin.quotas import lending, rules
from keywright.origin.quotas.rules import QuotaView
from keywright.protocol.leases import LEASE_MILLIS, Ask, Outcome
from support.quotas import AskingEdge, make_consumer, make_plan, new_edge, set_quotas
from support.record import Record, now

QUOTA = Quota("calls", 100, Period.MONTH, "Europe/Berlin")
FOREVER = Quota("pages", 10, Period.NONE)
T = TypeVar("T")


async def run(record: Record, rule: Callable[[UnitOfWork], Awaitable[T]], database: Database | None = None) -> T:
    async with (database or record.database).write() as tx:
        return await rule(UnitOfWork(tx, SYSTEM, now(), record.dependencies, AuditDraft("quota.test")))


async def path_of(record: Record, number: int) -> ConsumerPath:
    async with record.database.read() as tx:
        name = await tx.scalar(sa.select(tables.consumers.c.name).where(tables.consumers.c.number == number))
    return ConsumerPath("my-account", record.bucket.name, name)


async def look(record: Record, number: int) -> list[QuotaView]:
    path = await path_of(record, number)
    return await run(record, lambda work: rules.list_of(work, path))


def topping_up(path: ConsumerPath, units: int, key: str, name: str = "calls") -> Callable[[UnitOfWork], Any]:
    return lambda work: rules.top_up(work, path, name, units=units, idempotency_key=key)


async def hold(edge: AskingEdge, number: int, need: int, name: str = "calls") -> int:
    """A lease of so many units."""
    (loan,) = await edge.ask(Ask(number, name, need=need))
    assert loan.granted >= need
    return loan.lease


async def test_consumer_without_quotas_has_none(record: Record) -> None:
    assert await look(record, await make_consumer(record, None)) == []


async def test_remaining_is_what_is_free_or_held_by_edges_that_live(record: Record) -> None:
    number = await make_consumer(record, None, plan_number=await make_plan(record, [QUOTA, FOREVER]))
    calls, pages = await look(record, number)
    assert (calls.remaining, calls.spent, calls.lent, pages.remaining) == (100, 0, 0, 10)
    assert calls.times.ends_at is not None
    assert pages.times.ends_at is None

    edge = await new_edge(record)
    lease = await hold(edge, number, 30)
    await edge.ask(Ask(number, "calls", lease, spent=12, want=18))
    calls, _ = await look(record, number)
    assert (calls.remaining, calls.spent, calls.lent, calls.unaccounted) == (88, 12, 18, 0)


async def test_what_a_dead_edge_held_is_unaccounted_until_it_is_given_back(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = await make_consumer(record, [FOREVER])
    path = await path_of(record, number)
    dead, living = await new_edge(record), await new_edge(record)
    lease = await hold(dead, number, 6, "pages")
    await dead.ask(Ask(number, "pages", lease, spent=2))
    giving_back: Callable[[UnitOfWork], Any] = lambda work: rules.give_back(work, path, "pages")  # noqa: E731
    # While it lives, nobody can say that it spends no more; nor shortly afterwards.
    assert (await run(record, giving_back)).lent == 4

    at = await real_millis(record) + LEASE_MILLIS + 1000
    monkeypatch.setattr(rules, "read_millis", reading(lambda: at))
    (pages,) = await look(record, number)
    assert (pages.remaining, pages.lent, pages.unaccounted) == (4, 4, 4)
    assert (await run(record, giving_back)).lent == 4

    at += LEASE_MILLIS
    given = await run(record, giving_back)
    assert (given.remaining, given.lent, given.unaccounted, given.spent) == (8, 0, 0, 2)
    (loan,) = await living.ask(Ask(number, "pages", need=8))
    assert loan.granted == 8
    # What it tells afterwards is not believed any more: its units are another's by now.
    (late,) = await dead.ask(Ask(number, "pages", lease, spent=6, is_last=True))
    assert late.outcome is Outcome.CLOSED
    (pages,) = await look(record, number)
    assert pages.spent == 2


async def test_top_up_is_lent_at_once_and_added_once(record: Record) -> None:
    number = await make_consumer(record, [QUOTA])
    path = await path_of(record, number)
    edge = await new_edge(record)
    await hold(edge, number, 100)

    for _ in range(2):
        view = await run(record, topping_up(path, 50, "order-1"))
        assert (view.added, view.remaining) == (50, 150)
    (loan,) = await edge.ask(Ask(number, "calls", need=150))
    assert (loan.granted, loan.limit, loan.free) == (150, 150, 0)

    assert (await run(record, topping_up(path, 1, "order-2"))).added == 51


@pytest.mark.parametrize(("units", "name"), [(51, "calls"), (50, "pages")], ids=["other units", "another quota"])
async def test_key_that_added_something_else_is_refused(record: Record, units: int, name: str) -> None:
    number = await make_consumer(record, [QUOTA, FOREVER])
    path = await path_of(record, number)
    await run(record, topping_up(path, 50, "order-1"))

    with pytest.raises(Conflict, match="another top-up"):
        await run(record, topping_up(path, units, "order-1", name))
    assert [view.added for view in await look(record, number)] == [50, 0]


async def test_one_key_of_two_consumers_adds_to_both(record: Record) -> None:
    for _ in range(2):
        path = await path_of(record, await make_consumer(record, [QUOTA]))
        assert (await run(record, topping_up(path, 5, "order-1"))).added == 5


async def test_top_up_past_all_bounds_is_refused(record: Record) -> None:
    number = await make_consumer(record, [QUOTA])
    path = await path_of(record, number)
    await run(record, topping_up(path, MAX_UNITS, "order-1"))

    with pytest.raises(BadRequest):
        await run(record, topping_up(path, 1, "order-2"))


async def test_top_ups_at_two_origins_at_once_are_each_added_once(record: Record) -> None:
    number = await make_consumer(record, [QUOTA])
    path = await path_of(record, number)
    databases = [record.database, record.another_database()]
    await asyncio.gather(*(run(record, topping_up(path, 10, f"order-{n % 3}"), databases[n % 2]) for n in range(6)))

    (calls,) = await look(record, number)
    assert calls.added == 30


async def test_quota_that_the_consumer_has_not_is_not_found(record: Record) -> None:
    path = await path_of(record, await make_consumer(record, [QUOTA]))
    for rule in (topping_up(path, 1, "order-1", "pages"), lambda work: rules.give_back(work, path, "pages")):
        with pytest.raises(NotFound):
            await run(record, rule)


async def test_lowered_limit_tells_when_it_holds_everywhere(record: Record) -> None:
    number = await make_consumer(record, [QUOTA])
    edge = await new_edge(record)
    lease = await hold(edge, number, 80)
    (calls,) = await look(record, number)
    assert calls.in_force_at is None

    await set_quotas(record.database, number, [replace(QUOTA, limit=30)])
    (calls,) = await look(record, number)
    assert calls.in_force_at is not None
    assert 0 < calls.in_force_at - await real_millis(record) <= LEASE_MILLIS

    await edge.ask(Ask(number, "calls", lease, spent=40, is_last=True))
    (calls,) = await look(record, number)
    assert (calls.in_force_at, calls.remaining, calls.spent) == (None, 0, 40)


async def test_top_up_is_of_one_period_alone(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    number = await make_consumer(record, [QUOTA])
    path = await path_of(record, number)
    view = await run(record, topping_up(path, 50, "order-1"))
    ends_at = view.times.ends_at
    assert ends_at is not None
    monkeypatch.setattr(rules, "read_millis", reading(lambda: ends_at))
    monkeypatch.setattr(lending, "read_millis", reading(lambda: ends_at))

    (calls,) = await look(record, number)
    assert (calls.added, calls.times.begins_at) == (0, ends_at)
    # Said again, it has been done.
    assert (await run(record, topping_up(path, 50, "order-1"))).added == 0


async def real_millis(record: Record) -> int:
    async with record.database.read() as tx:
        return await read_millis(tx)


def reading(millis: Callable[[], int]) -> Callable[[object], Awaitable[int]]:
    async def read(tx: object) -> int:
        return millis()

    return read
