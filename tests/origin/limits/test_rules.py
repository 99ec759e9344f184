"""Shares are handed out once, whichever process of the origin is asked, and stay counted over its end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from keywright.domain.problems import Conflict, ServiceUnavailable, TooManyRequests
from keywright.edge.shares.held import HeldShares
from keywright.origin.db import tables
from keywright.origin.db.engine import DatabaseUnavailable
from keywright.origin.deployment.store import find_deployment
from keywright.origin.edges.scopes import DEPLOYMENT, EVERYTHING, EdgeScope, HeldScopes
from keywright.origin.edges.store import Heard, put_all
from keywright.origin.limits import packing, rules
from keywright.origin.limits.members import Holding, Member
from keywright.origin.limits.rules import QUIET_SECONDS, Shares
from keywright.protocol.reports import EdgeState, Report
from keywright.protocol.shares import WHOLE, ShareAnswer, Use, UseReport
from support.record import Record
from support.shares import limit_id

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
X = limit_id(500)
BUSY = {X: Use(10.0, True, 100, 60)}


@dataclass
class Edge:
    name: str
    held: HeldShares = field(default_factory=lambda: HeldShares(0.0))
    number: int = 0


@dataclass
class World:
    """Processes of the origin on one record, and a clock of their machine."""

    record: Record
    deployment_id: str
    now: float = 1000.0

    def origin(self) -> Shares:
        return Shares(self.record.another_database(), lambda: self.now)

    async def ask(
        self, origin: Shares, edge: Edge, uses: dict[bytes, Use], scope: EdgeScope = EVERYTHING
    ) -> ShareAnswer:
        edge.number += 1
        instance = f"instance-of-{edge.name:->8}"
        taken = edge.held.taken(self.now)
        report = UseReport(self.deployment_id, instance, "0" * 16, edge.number, taken, uses)
        asked_at = self.now
        answer = await origin.answer(report, scope)
        edge.held.take(answer, asked_at)
        return answer

    def share(self, edge: Edge) -> float:
        return edge.held.share_of(X, self.now) / WHOLE


@pytest.fixture
async def world(record: Record, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(rules, "GATHER_SECONDS", 0.0)
    async with record.database.read() as tx:
        found = await find_deployment(tx)
    assert found is not None
    return World(record, found.id)


async def test_two_processes_that_are_asked_at_once_never_promise_the_same_part(world: World) -> None:
    origins, edges = [world.origin(), world.origin()], [Edge(f"e{number}") for number in range(4)]
    for second in range(14):
        # Each edge now asks the one, now the other; all at once.
        await asyncio.gather(
            *(
                world.ask(origins[(number + second // 5) % 2], edge, BUSY if number < 2 else {})
                for number, edge in enumerate(edges)
            )
        )
        assert sum(map(world.share, edges)) <= 1
        world.now += 1
    assert sum(map(world.share, edges[:2])) > 0.85


async def test_process_that_begins_counts_what_is_out_for_10_seconds(world: World) -> None:
    first, a, b = world.origin(), Edge("a"), Edge("b")
    for _ in range(8):
        await world.ask(first, a, BUSY)
        await world.ask(first, b, {})
        world.now += 1
    assert world.share(a) > 0.9
    # The first has ended; the edge that holds most does not reach the next one.
    second = world.origin()
    for _ in range(9):
        await world.ask(second, b, BUSY)
        assert world.share(a) + world.share(b) <= 1
        world.now += 1
    for _ in range(6):
        await world.ask(second, b, BUSY)
        assert world.share(a) + world.share(b) <= 1
        world.now += 1
    # One of two is kept for it.
    assert world.share(b) == pytest.approx(0.5, abs=0.01)


async def test_rows_that_are_lost_are_noticed_and_nobodys_share_grows_for_a_while(world: World) -> None:
    origin, a, b = world.origin(), Edge("a"), Edge("b")
    for _ in range(8):
        await world.ask(origin, a, BUSY)
        await world.ask(origin, b, {})
        world.now += 1
    async with world.record.database.write() as tx:
        for edge in (a, b):
            report = Report(
                "", f"instance-of-{edge.name:->8}", "", 0, edge.name, "", "1", EdgeState.SYNCED, 1, None, 0
            )  # fmt: skip
            await put_all(tx, [Heard(DEPLOYMENT, report, 0.0, HeldScopes(EVERYTHING))])
        # As a crash of PostgreSQL leaves tables that are not written ahead.
        await tx.execute(sa.delete(tables.share_ledger))
        await tx.execute(sa.delete(tables.edge_shares))
    restarted = world.origin()
    for _ in range(int(QUIET_SECONDS)):
        with pytest.raises(ServiceUnavailable):
            await world.ask(restarted, b, BUSY)
        assert world.share(a) + world.share(b) <= 1
        world.now += 1
    world.now += 1
    for _ in range(8):
        await world.ask(restarted, b, BUSY)
        await world.ask(restarted, a, {})
        world.now += 1
        assert world.share(a) + world.share(b) <= 1
    assert world.share(b) > 0.9


async def test_edge_of_an_account_tells_of_its_own_buckets_only(world: World) -> None:
    async with world.record.database.write() as tx:
        await tx.execute(
            sa.insert(tables.consumers).values(
                number=500, id="csmr_1", bucket_number=world.record.bucket.number, name="one", metadata={},
                created_at=_NOW, updated_at=_NOW,
            )
        )  # fmt: skip
    origin, own, foreign = world.origin(), Edge("own"), Edge("foreign")
    account_id = world.record.bucket.account_id
    assert account_id is not None
    for _ in range(6):
        seen = await world.ask(origin, own, BUSY, EdgeScope(account_id))
        unseen = await world.ask(origin, foreign, {**BUSY, limit_id(99): BUSY[X]}, EdgeScope("acct_of_another"))
        world.now += 1
    assert world.share(own) == 1
    assert foreign.held.shares == {}
    assert (seen.edges, unseen.edges) == (1, 1)


async def test_edge_of_another_deployment_and_one_that_repeats_itself_are_refused(world: World) -> None:
    origin = world.origin()
    report = UseReport(world.deployment_id, "instance-of-edge", "0" * 16, 1, 0, {})
    await origin.answer(report, EVERYTHING)
    with pytest.raises(Conflict, match="before"):
        await origin.answer(report, EVERYTHING)
    with pytest.raises(Conflict, match="another deployment"):
        await origin.answer(UseReport("dply_other", "instance-of-edge", "0" * 16, 2, 0, {}), EVERYTHING)
    # Also by another process, and by one that has just begun.
    world.now += 10
    with pytest.raises(Conflict, match="before"):
        await world.origin().answer(report, EVERYTHING)


async def test_edge_that_asks_twice_at_once_is_told_to_wait(world: World) -> None:
    origin = world.origin()
    reports = [UseReport(world.deployment_id, "instance-of-edge", "0" * 16, number, 0, {}) for number in (1, 2)]
    found = await asyncio.gather(*(origin.answer(one, EVERYTHING) for one in reports), return_exceptions=True)
    assert [type(one) for one in found] == [ShareAnswer, TooManyRequests]


async def test_record_that_is_away_is_told_and_what_was_promised_then_is_forgotten(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin, a, b = world.origin(), Edge("a"), Edge("b")
    for _ in range(4):
        await world.ask(origin, a, {})
        await world.ask(origin, b, {})
        world.now += 1

    async def fail(*_: object) -> None:
        raise DatabaseUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(rules.rows, "put_all", fail)
        for edge in (a, b):
            with pytest.raises(DatabaseUnavailable):
                await world.ask(origin, edge, BUSY)
    for _ in range(8):
        await world.ask(origin, a, BUSY)
        assert world.share(a) + world.share(b) <= 1
        await world.ask(origin, b, {})
        world.now += 1
    assert world.share(a) > 0.9


def test_member_is_unpacked_as_it_was_packed() -> None:
    member = Member(50.0, 48.5, frozenset({3, 9}), "start", 7, 6, Holding(1, 5, 2, is_sent=True))
    member.holdings = {X: Holding(7, 9), limit_id(2): Holding(0, WHOLE, WHOLE, is_sent=True)}
    member.uses = dict(BUSY)
    member.has_grown = False
    found = packing.unpack(packing.pack(member), 50.0, is_fresh=True)
    assert found == member
    with pytest.raises(ValueError, match="member"):
        packing.unpack(packing.pack(member)[:-1], 50.0, is_fresh=True)
