"""The registry of edges: who is waited for, who is believed, and that nobody can fill it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from keywright.domain.problems import Conflict, TooManyRequests
from keywright.origin.db import tables
from keywright.origin.db.engine import DatabaseUnavailable
from keywright.origin.db.transaction import Database
from keywright.origin.deployment.store import find_deployment
from keywright.origin.edges import registry, rules
from keywright.origin.edges import store as rows
from keywright.origin.edges.registry import Edges
from keywright.origin.edges.scopes import EdgeScope, HeldScopes
from keywright.origin.edges.store import Heard
from keywright.protocol.changes import ConsumerDelete, Cursor
from keywright.protocol.reports import EdgeState, Report
from support import record as records
from support.record import Record
from support.waiting import until

ACCOUNT = "acct_of_the_tests"
SEES_ALL = EdgeScope(ACCOUNT)


@dataclass
class World:
    """Origins on one record, each with an edge beside it that is at `own`, and edges that report as they are told."""

    record: Record
    deployment_id: str
    own: Cursor
    now: float = 1000.0

    def origin(self, name: str = "own") -> Edges:
        database = self.record.another_database()
        return Edges(database, lambda: self.report(name, self.own), monotonic=lambda: self.now)

    def report(self, name: str, cursor: Cursor | None, *, number: int = 1, start: str = "0" * 16) -> Report:
        state = EdgeState.STARTING if cursor is None else EdgeState.SYNCED
        instance = f"instance-of-{name:->16}"
        return Report(self.deployment_id, instance, start, number, name, "", "1", state, 1, cursor, 0)

    async def write(self) -> Cursor:
        """One change; the cursor that it leads to."""
        async with self.record.database.write() as tx:
            tx.is_awaited = True
            tx.record(ConsumerDelete(999))
        self.own = await self.head()
        return self.own

    async def head(self) -> Cursor:
        async with self.record.database.read() as tx:
            found = await find_deployment(tx)
        assert found is not None
        return found.head

    async def rows(self) -> list[Heard]:
        async with self.record.database.read() as tx:
            return await rows.list_all(tx)


async def world_of(record: Record) -> World:
    async with record.database.read() as tx:
        found = await find_deployment(tx)
    assert found is not None
    return World(record, found.id, found.head)


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """For what the engine has no part in: the database's clock is the world's."""
    async with records.opened(f"sqlite+aiosqlite:///{tmp_path}/keywright.db") as record:
        made = await world_of(record)

        async def now(_: object) -> int:
            return int(made.now * 1000)

        monkeypatch.setattr(rows, "read_millis", now)
        yield made


async def test_after_a_clock_was_set_back_what_an_edge_says_next_is_kept_all_the_same(world: World) -> None:
    for time_ in (9000, 5000):
        world.now = time_
        head = await world.write()
        async with world.record.database.write() as tx:
            await rows.put_all(tx, [Heard(ACCOUNT, world.report("a", head), 0.0, HeldScopes(SEES_ALL))])
            # What was heard before it is no news.
            await rows.put_all(tx, [Heard(ACCOUNT, world.report("a", None), 2.0, HeldScopes(SEES_ALL))])
        assert [one.report.revision for one in await world.rows()] == [head.revision]


@pytest.fixture
async def world_on_both(record: Record) -> World:
    return await world_of(record)


@asynccontextmanager
async def running(*origins: Edges) -> AsyncIterator[None]:
    stop = asyncio.Event()
    tasks = [asyncio.create_task(origin.run(stop)) for origin in origins]
    try:
        yield
    finally:
        stop.set()
        for origin in origins:
            origin.stop()
        await asyncio.gather(*tasks)


async def test_with_no_edge_but_the_own_one_nothing_is_waited_for(world: World) -> None:
    outcome = await world.origin().wait(1, None, 5)
    assert (outcome.applied, outcome.wanted, outcome.is_reached) == (1, 1, True)


async def test_a_wait_ends_with_the_report_that_completes_it(world: World) -> None:
    origin = world.origin()
    before, after = await world.head(), await world.write()
    for name in ("a", "b"):
        await origin.acknowledge(world.report(name, before), SEES_ALL)
    waiting = asyncio.create_task(origin.wait(after.revision, None, 60))
    await origin.acknowledge(world.report("a", after, number=2), SEES_ALL)
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await origin.acknowledge(world.report("b", after, number=2), SEES_ALL)
    outcome = await waiting
    assert (outcome.applied, outcome.wanted, outcome.pending) == (3, 3, [])


async def test_when_the_time_is_up_the_pending_ones_are_named(world: World) -> None:
    origin = world.origin()
    before, after = await world.head(), await world.write()
    await origin.acknowledge(world.report("late", before), SEES_ALL)
    await origin.acknowledge(world.report("starting", None))
    waiting = asyncio.create_task(origin.wait(after.revision, None, 0.5))
    await until(lambda: origin._book.rows_as_of >= 0)
    world.now += 1
    outcome = await waiting
    assert (outcome.applied, outcome.wanted, outcome.is_reached) == (1, 3, False)
    assert {(one.account_id, one.report.name) for one in outcome.pending} == {(ACCOUNT, "late"), ("", "starting")}


@pytest.mark.parametrize(("count", "applied"), [(1, 1), (2, 2), (4, 3)])
async def test_as_many_as_were_asked_for_are_enough_and_no_fewer(world: World, count: int, applied: int) -> None:
    origin = world.origin()
    head = await world.head()
    for name in ("a", "b"):
        await origin.acknowledge(world.report(name, head), SEES_ALL)
    waiting = asyncio.create_task(origin.wait(head.revision, count, 0.5))
    await until(lambda: origin._book.rows_as_of >= 0)
    await asyncio.sleep(0.1)
    world.now += 1
    outcome = await waiting
    assert (outcome.applied, outcome.wanted, outcome.is_reached) == (applied, count, applied == count)


async def test_an_edge_that_is_silent_is_waited_for_also_by_origins_that_never_heard_it(world: World) -> None:
    before, after = await world.head(), await world.write()
    await world.origin().acknowledge(world.report("silent", before), SEES_ALL)
    world.now += 40_000
    for origin in (world.origin(), world.origin()):
        waiting = asyncio.create_task(origin.wait(after.revision, None, 1))
        await until(lambda one=origin: one._book.rows_as_of >= 0)  # type: ignore[misc]
        world.now += 2
        outcome = await waiting
        assert (outcome.applied, outcome.wanted, [one.report.name for one in outcome.pending]) == (1, 2, ["silent"])
    # It comes back at any origin, and has it.
    waiting = asyncio.create_task(world.origin().wait(after.revision, None, 1000))
    await world.origin().acknowledge(world.report("silent", after, number=2), SEES_ALL)
    assert (await asyncio.wait_for(waiting, 10)).is_reached


async def test_an_edge_that_promised_to_refuse_is_waited_for_until_then_and_named(world: World) -> None:
    origin = world.origin()
    before, after = await world.head(), await world.write()
    await origin.acknowledge(replace(world.report("strict", before), refuses_after=60_000), SEES_ALL)
    waiting = asyncio.create_task(origin.wait(after.revision, None, 1000))
    await asyncio.sleep(0.1)
    world.now += 60 + rules.REFUSAL_MARGIN_SECONDS
    await asyncio.sleep(0.1)
    assert not waiting.done()
    world.now += 0.1
    outcome = await asyncio.wait_for(waiting, 10)
    assert (outcome.applied, outcome.wanted, [one.report.name for one in outcome.refusing]) == (1, 1, ["strict"])


async def test_an_edge_that_says_goodbye_is_not_waited_for_at_any_origin_and_may_come_back_at_any(
    world_on_both: World,
) -> None:
    world = world_on_both
    here, there = world.origin("here"), world.origin("there")
    before, after = await world.head(), await world.write()
    # Both heard it, and only one hears the goodbye.
    await here.acknowledge(world.report("a", before), SEES_ALL)
    await there.acknowledge(world.report("a", before, number=2), SEES_ALL)
    gone = replace(world.report("a", before, number=1, start="9" * 16), state=EdgeState.GONE)
    world.now += 0.5
    await there.acknowledge(gone, SEES_ALL)
    for origin in (here, there):
        world.now += 0.5
        assert (await origin.wait(after.revision, None, 10)).wanted == 1
    assert await world.rows() == []
    # An origin that heard it before the goodbye takes it down anew.
    world.now += 0.5
    await here.acknowledge(world.report("a", before, number=1, start="8" * 16), SEES_ALL)
    world.now += 0.5
    waiting = asyncio.create_task(there.wait(after.revision, None, 1))
    await until(lambda: there._book.rows_as_of >= world.now)
    world.now += 2
    assert [one.report.name for one in (await waiting).pending] == ["a"]


async def test_what_another_origin_heard_counts_within_a_blink_when_somebody_waits(world_on_both: World) -> None:
    here, there = world_on_both.origin("here"), world_on_both.origin("there")
    before = await world_on_both.head()
    await there.acknowledge(world_on_both.report("far", before), SEES_ALL)
    async with running(here, there):
        after = await world_on_both.write()
        waiting = asyncio.create_task(here.wait(after.revision, None, 60))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        # No time passes by the origins' clock: nothing but the wait makes it hurry.
        await there.acknowledge(world_on_both.report("far", after, number=2), SEES_ALL)
        outcome = await asyncio.wait_for(waiting, 20)
    names = {one.report.name for one in await world_on_both.rows()}
    assert names == ({"far"} if world_on_both.record.database.is_sqlite else {"far", "here", "there"})
    assert outcome.applied == outcome.wanted == len({*names, "here"})


async def test_an_edge_is_known_to_every_origin_before_it_is_told_so(world: World) -> None:
    here, there = world.origin("here"), world.origin("there")
    before, after = await world.head(), await world.write()
    await there.acknowledge(world.report("new", before), SEES_ALL)
    waiting = asyncio.create_task(here.wait(after.revision, None, 60))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    here.stop()
    assert [one.report.name for one in (await waiting).pending] == ["new"]


async def test_where_nobody_waits_many_reports_are_few_rows(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    put_all = rows.put_all

    async def counted(tx: Any, heard: Any) -> None:
        heard = list(heard)
        written.append(len(heard))
        await put_all(tx, heard)

    monkeypatch.setattr(rows, "put_all", counted)
    origin = world.origin()
    async with running(origin):
        for number in range(200):
            async with world.record.database.write() as tx:
                tx.record(ConsumerDelete(999))
            await origin.acknowledge(world.report("busy", await world.head(), number=number), SEES_ALL)
        await asyncio.sleep(0.2)
        # Its first report; the own edge's once, where others need it.
        assert sum(written) <= 2
        world.now += registry.STORE_SECONDS
        head = await world.head()
        await until(lambda: _has_row(world, "busy", head.revision))
    assert sum(written) <= 6


async def _has_row(world: World, name: str, revision: int) -> bool:
    return any(one.report.name == name and one.report.revision == revision for one in await world.rows())


@pytest.mark.parametrize("change", ["future", "another-past"])
async def test_a_cursor_where_the_record_never_was_is_not_believed_and_holds_up_who_waits(
    world: World, caplog: pytest.LogCaptureFixture, change: str
) -> None:
    origin = world.origin()
    head = await world.write()
    told = {"future": head._replace(revision=head.revision + 5), "another-past": head._replace(stamp="ff" * 8)}[change]
    await origin.acknowledge(world.report("astray", told), SEES_ALL)
    assert "where this record never was" in caplog.text
    waiting = asyncio.create_task(origin.wait(1, None, 1))
    await until(lambda: origin._book.rows_as_of >= 0)
    world.now += 2
    assert [one.report.name for one in (await waiting).pending] == ["astray"]


async def test_a_record_that_went_back_unknows_what_only_its_lost_past_had(world: World) -> None:
    origin = world.origin()
    head = await world.write()
    await origin.acknowledge(world.report("ahead", head), SEES_ALL)
    assert (await origin.wait(head.revision, None, 5)).applied == 2
    async with world.record.database.write() as tx:
        await tx.execute(sa.delete(tables.changes).where(tables.changes.c.revision == head.revision))
        await tx.execute(sa.update(tables.deployment).values(revision=head.revision - 1))
        world.own = head._replace(revision=head.revision - 1)
    world.now += 1
    waiting = asyncio.create_task(origin.wait(head.revision - 1, None, 1))
    await until(lambda: head not in origin._known)
    world.now += 2
    assert [one.report.name for one in (await waiting).pending] == ["ahead"]
    await origin.acknowledge(world.report("ahead", head, number=2), SEES_ALL)
    (entry,) = origin._book.heard.values()
    assert entry.report.cursor is None


async def test_a_late_or_repeated_report_tells_nothing(world: World) -> None:
    origin = world.origin()
    before, after = await world.head(), await world.write()
    await origin.acknowledge(world.report("a", after, number=7), SEES_ALL)
    for number in (7, 6, 1):
        await origin.acknowledge(world.report("a", before, number=number), SEES_ALL)
    (entry,) = origin._book.heard.values()
    assert entry.report.cursor == after
    await origin.acknowledge(world.report("a", before, number=1, start="1" * 16), SEES_ALL)
    assert origin._book.heard[ACCOUNT, entry.report.instance].report.cursor == before


async def test_an_edge_of_another_deployment_is_refused(world: World) -> None:
    report = replace(world.report("stray", await world.head()), deployment_id="dply_other")
    with pytest.raises(Conflict):
        await world.origin().acknowledge(report, SEES_ALL)


async def test_no_account_speaks_for_an_edge_of_another_one(world: World) -> None:
    origin = world.origin()
    before, after = await world.head(), await world.write()
    await origin.acknowledge(world.report("a", before), SEES_ALL)
    await origin.acknowledge(world.report("a", after, number=2), EdgeScope("acct_of_a_stranger"))
    waiting = asyncio.create_task(origin.wait(after.revision, None, 1))
    await until(lambda: origin._book.rows_as_of >= 0)
    world.now += 2
    assert [(one.account_id, one.report.name) for one in (await waiting).pending] == [(ACCOUNT, "a")]


async def test_an_account_has_only_so_many_edges_that_may_answer_and_who_waits_is_told_of_more(
    world_on_both: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "MOST_EDGES", 3)
    origin, head = world_on_both.origin(), await world_on_both.head()
    await origin.acknowledge(replace(world_on_both.report("a", head), refuses_after=60_000), SEES_ALL)
    for name in ("b", "c"):
        await origin.acknowledge(world_on_both.report(name, head), SEES_ALL)
    # Silence makes no room: they may answer.
    async with world_on_both.record.database.write() as tx:
        await tx.execute(sa.update(tables.edges).where(tables.edges.c.name == "b").values(seen_at=1))
    with pytest.raises(TooManyRequests):
        await origin.acknowledge(world_on_both.report("d", head), SEES_ALL)
    waiting = asyncio.create_task(origin.wait(head.revision, None, 1))
    await until(lambda: origin._book.rows_as_of >= 0)
    world_on_both.now += 2
    assert [one.report.name for one in (await waiting).pending] == [rules.OVERFLOW]
    # An edge that has its row comes back at any origin, and other accounts have room of their own.
    await world_on_both.origin().acknowledge(world_on_both.report("b", head, number=2), SEES_ALL)
    await origin.acknowledge(world_on_both.report("d", head), EdgeScope("acct_of_another"))
    # What refuses by now takes no room.
    async with world_on_both.record.database.write() as tx:
        await tx.execute(sa.update(tables.edges).where(tables.edges.c.name == "a").values(seen_at=1))
        await rows.retire(tx, ACCOUNT, rules.OVERFLOW)
    await origin.acknowledge(world_on_both.report("d", head), SEES_ALL)
    kept = {one.report.name for one in await world_on_both.rows() if one.account_id == ACCOUNT}
    assert kept == {"a", "b", "c", "d"}


async def test_edges_that_are_silent_for_long_are_retired_with_a_log_line_and_an_audit_entry(
    world_on_both: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    origin, head = world_on_both.origin(), await world_on_both.head()
    await origin.acknowledge(world_on_both.report("gone", head), SEES_ALL)
    await origin.acknowledge(world_on_both.report("silent", head), SEES_ALL)
    await origin.acknowledge(replace(world_on_both.report("strict", head), refuses_after=60_000), SEES_ALL)
    leased = replace(world_on_both.report("leased", head), refuses_after=60_000, is_leased=True)
    await origin.acknowledge(leased)
    ages = {"gone": 86_401, "silent": 86_000, "strict": 70, "leased": 70}
    async with world_on_both.record.database.write() as tx:
        for name, age in ages.items():
            seen_at = await rows.read_millis(tx) - age * 1000
            await tx.execute(sa.update(tables.edges).where(tables.edges.c.name == name).values(seen_at=seen_at))
    monkeypatch.setattr(registry, "PRUNE_SECONDS", 0.0)
    world_on_both.now += rules.LIVE_SECONDS + 1
    async with running(origin):
        await until(lambda: _is_gone(world_on_both))
        # A moment later nothing of it is in memory either.
        world_on_both.now += registry.STORE_SECONDS
        await until(lambda: (ACCOUNT, world_on_both.report("gone", None).instance) not in origin._book.heard)
    assert {one.report.name for one in await world_on_both.rows()} - {"own"} == {"silent", "strict"}
    assert "edge gone is retired: nothing was heard of it" in caplog.text
    async with world_on_both.record.database.read() as tx:
        entries = await tx.all(sa.select(tables.audit_logs).where(tables.audit_logs.c.action == "edge.retire"))
    assert sorted(row.body["resources"][0]["metadata"]["name"] for row in entries) == ["gone", "leased"]
    assert {row.actor_sub for row in entries} == {"system"}


async def _is_gone(world: World) -> bool:
    return all(one.report.name != "gone" for one in await world.rows())


async def test_an_older_row_never_takes_the_place_of_a_newer_one(world_on_both: World) -> None:
    before, after = await world_on_both.head(), await world_on_both.write()
    async with world_on_both.record.database.write() as tx:
        await rows.put_all(tx, [Heard(ACCOUNT, world_on_both.report("a", after), 1.0, HeldScopes(SEES_ALL))])
        await rows.put_all(tx, [Heard(ACCOUNT, world_on_both.report("a", before), 5.0, HeldScopes(SEES_ALL))])
        await rows.put_all(tx, [])
    (row,) = await world_on_both.rows()
    assert row.report.revision == after.revision


async def test_without_the_database_nobody_is_told_that_all_have_applied_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = world.origin()
    head = await world.head()
    await origin.acknowledge(world.report("a", head), SEES_ALL)

    def away(*_: object, **__: object) -> Any:
        raise DatabaseUnavailable("gone")

    monkeypatch.setattr(Database, "read", away)
    waiting = asyncio.create_task(origin.wait(head.revision, None, 1))
    await asyncio.sleep(0.05)
    world.now += 2
    origin._tell()
    outcome = await waiting
    assert (outcome.applied, outcome.is_known, outcome.is_reached) == (2, False, False)


async def test_keeping_the_rows_survives_the_database_s_absence_and_bugs(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(registry, "AWAY_SECONDS", 0.01)
    origin, head = world.origin(), await world.head()
    await origin.acknowledge(world.report("a", head), SEES_ALL)
    write = Database.write
    failures: list[Exception] = [DatabaseUnavailable("gone"), RuntimeError("a bug")]

    def failing(self: Database) -> Any:
        if failures:
            raise failures.pop(0)
        return write(self)

    after = await world.write()
    monkeypatch.setattr(Database, "write", failing)
    await origin.acknowledge(world.report("a", after, number=2), SEES_ALL)
    async with running(origin):
        await until(lambda: _has_row(world, "a", after.revision))
    assert "gone" in caplog.text
    assert "a bug" in caplog.text


async def test_many_who_wait_share_one_look(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    list_all = rows.list_all

    async def counted(tx: Any, **options: Any) -> Any:
        nonlocal looks
        looks += 1
        return await list_all(tx, **options)

    monkeypatch.setattr(rows, "list_all", counted)
    origin, head = world.origin(), await world.head()
    outcomes = await asyncio.gather(*(origin.wait(head.revision, None, 5) for _ in range(50)))
    assert {outcome.is_reached for outcome in outcomes} == {True}
    assert looks <= 3
    assert origin._looking is None


async def test_the_next_report_of_a_mere_change_is_hurried_only_while_somebody_waits(world: World) -> None:
    origin, head = world.origin(), await world.head()
    assert await origin.acknowledge(world.report("a", head), SEES_ALL) == registry.PAUSE_SECONDS
    await origin.wait(head.revision, None, 5)
    assert await origin.acknowledge(world.report("a", head, number=2), SEES_ALL) == registry.HURRIED_PAUSE_SECONDS
    world.now += registry.HURRY_SECONDS
    assert await origin.acknowledge(world.report("a", head, number=3), SEES_ALL) == registry.PAUSE_SECONDS
