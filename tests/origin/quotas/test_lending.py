"""The ledger in the record: edges ask, at several origins, over periods, changed limits and a record that went back."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from keywright.domain.limits import Period, Quota
from keywright.domain.permissions import Access, Grantee, Permissions
from keywright.domain.problems import Conflict
from keywright.origin.accounts import store as accounts
from keywright.origin.buckets import store as buckets
from keywright.origin.db import tables
from keywright.origin.quotas import lending, losses
from keywright.origin.quotas.store import RETENTION_MILLIS
from keywright.protocol.changes import Cursor
from keywright.protocol.leases import LEASE_MILLIS, MAX_ASKS, Ask, Loan, Outcome
from support.quotas import make_consumer, make_plan, new_edge, set_quotas
from support.record import Record, count, cursor_of, now

QUOTA = Quota("calls", 100, Period.DAY, "Europe/Berlin")
OTHER = Quota("pages", 10, Period.NONE)
NOON = int(datetime(2026, 11, 29, 12, tzinfo=UTC).timestamp() * 1000)
HOUR = 3_600_000


class Clock:
    """The database's, in milliseconds."""

    now = NOON

    async def read(self, tx: object) -> int:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(lending, "read_millis", made.read)
    return made


async def rows_of(record: Record, table: sa.Table) -> list[dict[str, Any]]:
    async with record.database.read() as tx:
        return [dict(row._mapping) for row in await tx.all(sa.select(table))]


async def test_edge_is_lent_units_of_the_period_that_runs(record: Record, clock: Clock) -> None:
    number = await make_consumer(record, [QUOTA, OTHER])
    edge = await new_edge(record)

    calls, pages = await edge.ask(Ask(number, "calls", want=20), Ask(number, "pages", need=3))

    begins_at = int(datetime(2026, 11, 28, 23, tzinfo=UTC).timestamp() * 1000)
    assert calls == Loan(
        Outcome.LENT, calls.lease, 20, LEASE_MILLIS, begins_at, begins_at + 24 * HOUR, limit=100, free=80
    )
    assert pages == Loan(Outcome.LENT, pages.lease, 3, LEASE_MILLIS, 0, None, limit=10, free=7)
    assert calls.lease != pages.lease


async def test_lease_is_accounted_for_renewed_and_given_back(record: Record, clock: Clock) -> None:
    number = await make_consumer(record, [QUOTA])
    edge = await new_edge(record)
    (first,) = await edge.ask(Ask(number, "calls", want=20))
    clock.now += LEASE_MILLIS - 1
    (second,) = await edge.ask(Ask(number, "calls", first.lease, spent=15, want=20))
    assert (second.lease, second.granted, second.life_millis, second.free) == (first.lease, 35, LEASE_MILLIS, 65)

    (last,) = await edge.ask(Ask(number, "calls", first.lease, spent=17, is_last=True))
    assert last == Loan(Outcome.CLOSED)
    (period,) = await rows_of(record, tables.quota_periods)
    assert (period["spent"], period["lent"]) == (17, 0)
    assert await rows_of(record, tables.quota_leases) == []


async def test_answer_that_is_lost_is_made_good_by_the_next(record: Record) -> None:
    number = await make_consumer(record, [QUOTA])
    edge = await new_edge(record)
    for _ in range(3):
        await edge.ask(Ask(number, "calls", want=20), loses_answer=True)

    (loan,) = await edge.ask(Ask(number, "calls", want=20))
    assert (loan.granted, loan.free) == (20, 80)


async def test_question_is_answered_once_and_only_by_its_own_deployment(record: Record) -> None:
    number = await make_consumer(record, [QUOTA])
    edge = await new_edge(record)
    question = edge.question(Ask(number, "calls", want=20))
    await edge.put(question)
    for refused in (question, replace(question, number=0)):
        with pytest.raises(Conflict, match="answered before"):
            await edge.put(refused)
    with pytest.raises(Conflict, match="another deployment"):
        await edge.put(replace(question, number=5, deployment_id="dply_other"))
    with pytest.raises(Conflict, match="no cursor"):
        await edge.put(replace(question, number=5, cursor="nonsense"))

    (period,) = await rows_of(record, tables.quota_periods)
    assert period["lent"] == 20


async def test_question_of_an_earlier_start_that_comes_late_is_refused(record: Record) -> None:
    number = await make_consumer(record, [QUOTA])
    edge = await new_edge(record)
    edge.is_whole = True
    await edge.ask(Ask(number, "calls", want=20))
    late = edge.question(Ask(number, "calls", want=20))
    edge.restart()
    (held,) = await edge.ask(Ask(number, "calls", need=30))

    # It would take what the later start holds for what nobody heard of, and its answer for the last.
    with pytest.raises(Conflict, match="answered before"):
        await edge.put(late)
    (again,) = await edge.ask(Ask(number, "calls", held.lease, spent=30, need=5))
    assert (again.outcome, again.lease, again.free) == (Outcome.LENT, held.lease, 65)


async def test_start_after_a_crash_closes_what_the_one_before_held(record: Record) -> None:
    number = await make_consumer(record, [QUOTA])
    edge = await new_edge(record)
    (before,) = await edge.ask(Ask(number, "calls", want=20))
    edge.restart()

    closed, after = await edge.ask(
        Ask(number, "calls", before.lease, spent=8, is_last=True), Ask(number, "calls", need=92)
    )
    assert closed.outcome is Outcome.CLOSED
    assert (after.granted, after.free) == (92, 0)
    assert after.lease != before.lease


async def test_start_that_tells_all_it_knows_gives_back_what_nobody_heard_of(record: Record) -> None:
    number = await make_consumer(record, [QUOTA, OTHER])
    edge, other = await new_edge(record), await new_edge(record)
    (heard, _) = await edge.ask(Ask(number, "calls", need=20), Ask(number, "pages", need=2))
    await edge.ask(Ask(number, "calls", heard.lease, spent=5, want=15), loses_answer=True)
    edge.restart()
    await edge.ask(Ask(number, "pages", need=3), loses_answer=True)
    await other.ask(Ask(number, "calls", need=7))
    edge.restart()

    # Of its first start it has a note, of its second none; before it says so, nothing is taken for unheard.
    (early,) = await edge.ask(Ask(number, "pages", need=1))
    assert early.free == 4
    edge.is_whole = True
    closed, pages, calls = await edge.ask(
        Ask(number, "calls", heard.lease, spent=9, is_last=True),
        Ask(number, "pages", early.lease, spent=1, need=1),
        Ask(number, "calls", want=1),
    )
    assert closed.outcome is Outcome.CLOSED
    assert (pages.lease, pages.free) == (early.lease, 8)
    assert (calls.granted, calls.free) == (1, 100 - 9 - 7 - 1)


async def test_no_edge_tells_of_anothers_lease(record: Record) -> None:
    number, other_number = await make_consumer(record, [QUOTA]), await make_consumer(record, [QUOTA])
    edge, other = await new_edge(record), await new_edge(record)
    (held,) = await edge.ask(Ask(number, "calls", want=20))

    await other.ask(Ask(number, "calls", held.lease, spent=20))
    await edge.ask(Ask(other_number, "calls", held.lease, spent=20))
    periods = await rows_of(record, tables.quota_periods)
    assert {row["spent"] for row in periods} == {0}


async def race(*running: Awaitable[Any]) -> list[Any]:
    return list(await asyncio.gather(*running))


async def test_two_origins_that_lend_at_once_lend_no_more_than_there_is(record: Record) -> None:
    numbers = [await make_consumer(record, [QUOTA]) for _ in range(3)]
    databases = [record.database, record.another_database()]
    edges = [await new_edge(record, database=databases[n % 2]) for n in range(8)]

    async def draw(edge: Any, order: list[int]) -> int:
        leases = dict.fromkeys(order, 0)
        for turn in range(1, 7):
            asks = [Ask(n, "calls", leases[n], want=1000, need=8 * turn) for n in order]
            loans = await edge.ask(*asks)
            leases = {n: loan.lease for n, loan in zip(order, loans, strict=True)}
        return sum(loan.granted for loan in loans)

    # In different orders, as edges ask.
    orders = [list(order) for order in itertools.islice(itertools.cycle(itertools.permutations(numbers)), len(edges))]
    drawn = await race(*(draw(edge, order) for edge, order in zip(edges, orders, strict=True)))

    periods = await rows_of(record, tables.quota_periods)
    assert [row["lent"] for row in periods] == [100] * 3
    assert sum(drawn) == 300


async def test_limit_that_is_lowered_holds_at_once_for_what_is_not_lent(record: Record) -> None:
    number = await make_consumer(record, [QUOTA])
    edge, second = await new_edge(record), await new_edge(record, database=record.another_database())
    await edge.ask(Ask(number, "calls", need=20))

    async with record.database.write() as tx:
        one = tables.consumers.c.number == number
        await tx.execute(sa.update(tables.consumers).where(one).values(quotas=[replace(QUOTA, limit=30)]))
        asking = asyncio.create_task(second.ask(Ask(number, "calls", need=80)))
        await asyncio.sleep(0.2)
        # Who asks while it is lowered waits for what it will be.
        assert not asking.done()
    (loan,) = await asking
    assert (loan.granted, loan.limit, loan.free) == (10, 30, 0)


async def test_lease_is_not_renewed_while_a_lowered_limit_is_exceeded(record: Record, clock: Clock) -> None:
    number = await make_consumer(record, [QUOTA])
    edge = await new_edge(record)
    (held,) = await edge.ask(Ask(number, "calls", need=80))
    await set_quotas(record.database, number, [replace(QUOTA, limit=30)])
    clock.now += 20_000

    (recalled,) = await edge.ask(Ask(number, "calls", held.lease, spent=10, want=70))
    assert (recalled.outcome, recalled.granted, recalled.life_millis) == (Outcome.RECALLED, 80, LEASE_MILLIS - 20_000)
    (again,) = await edge.ask(Ask(number, "calls", held.lease, spent=12, returned=68, want=70))
    assert (again.outcome, again.granted - 80, again.free) == (Outcome.LENT, 4, 14)


async def test_spending_goes_on_when_the_plan_or_the_limit_changes(record: Record) -> None:
    small, large = await make_plan(record, [replace(QUOTA, limit=50)]), await make_plan(record, [QUOTA])
    number = await make_consumer(record, None, plan_number=small)
    edge = await new_edge(record)
    (held,) = await edge.ask(Ask(number, "calls", need=40))
    assert held.limit == 50
    await edge.ask(Ask(number, "calls", held.lease, spent=40, is_last=True))

    async with record.database.write() as tx:
        await tx.execute(sa.update(tables.consumers).values(plan_number=large))
    (after,) = await edge.ask(Ask(number, "calls", need=1))
    assert (after.limit, after.free) == (100, 59)

    await set_quotas(record.database, number, [replace(QUOTA, limit=45)])
    (own,) = await edge.ask(Ask(number, "calls", after.lease, spent=1, need=1))
    assert (own.limit, own.free) == (45, 3)
    await set_quotas(record.database, number, [])
    (none,) = await edge.ask(Ask(number, "calls", after.lease, spent=2, need=1))
    assert none == Loan(Outcome.UNKNOWN)


async def test_next_period_begins_with_a_lease_of_its_own(record: Record, clock: Clock) -> None:
    number = await make_consumer(record, [QUOTA])
    edge = await new_edge(record)
    (today,) = await edge.ask(Ask(number, "calls", need=90))
    assert today.ends_at is not None
    clock.now = today.ends_at - 10
    (late,) = await edge.ask(Ask(number, "calls", today.lease, spent=80, want=1))
    assert late.life_millis == 10

    clock.now = today.ends_at
    (tomorrow,) = await edge.ask(Ask(number, "calls", today.lease, spent=90, need=90))
    assert (tomorrow.begins_at, tomorrow.granted, tomorrow.free) == (today.ends_at, 90, 10)
    assert tomorrow.lease != today.lease
    assert [row["spent"] for row in await rows_of(record, tables.quota_periods)] == [90, 0]


async def test_period_that_ended_long_ago_is_forgotten_and_none_never_is(record: Record, clock: Clock) -> None:
    number = await make_consumer(record, [QUOTA, OTHER])
    edge = await new_edge(record)
    (today, never) = await edge.ask(Ask(number, "calls", need=1), Ask(number, "pages", need=10))
    assert today.ends_at is not None
    clock.now = today.ends_at + RETENTION_MILLIS + HOUR
    (later, still) = await edge.ask(Ask(number, "calls", today.lease, 1, need=1), Ask(number, "pages", need=1))

    assert [row["begins_at"] for row in await rows_of(record, tables.quota_periods)] == [0, later.begins_at]
    assert (still.lease, still.free) == (never.lease, 0)


async def test_clock_that_is_set_back_opens_no_period_again(record: Record, clock: Clock) -> None:
    number = await make_consumer(record, [QUOTA])
    edge = await new_edge(record)
    (first,) = await edge.ask(Ask(number, "calls", need=90))
    clock.now -= 20 * HOUR

    (second,) = await edge.ask(Ask(number, "calls", first.lease, need=91))
    assert (second.lease, second.begins_at, second.free) == (first.lease, first.begins_at, 9)


async def test_edge_is_lent_only_what_its_token_shows(record: Record) -> None:
    number = await make_consumer(record, [QUOTA])
    async with record.database.write() as tx:
        owner = await accounts.find_first(tx)
        assert owner is not None
        foreign = await accounts.insert_account(tx, id="acct_2", name="another", now=now())
    all_of_it = Permissions(buckets={"*": Access.VALIDATE}, feed=True)
    own = await new_edge(record, grantee=Grantee(owner.id, all_of_it))
    other = await new_edge(record, grantee=Grantee(foreign.id, all_of_it))
    named = await new_edge(record, grantee=Grantee(owner.id, Permissions(buckets={"else": Access.WRITE}, feed=True)))
    ask = Ask(number, "calls", need=5)
    assert [loan.outcome for edge in (own, other, named) for loan in await edge.ask(ask)] == [
        Outcome.LENT, Outcome.UNKNOWN, Outcome.UNKNOWN,
    ]  # fmt: skip

    async with record.database.write() as tx:
        shared = await buckets.put_grant(tx, record.bucket, foreign, Access.VALIDATE, expires_at=None, now=now())
    (lent,) = await other.ask(ask)
    assert lent.granted == 5
    async with record.database.write() as tx:
        await buckets.delete_grant(tx, shared, foreign)
    # What it spent there it still tells, and gives back the rest.
    told = await other.ask(Ask(number, "calls", lent.lease, spent=2, is_last=True), ask)
    assert [loan.outcome for loan in told] == [Outcome.CLOSED, Outcome.UNKNOWN]
    (period,) = await rows_of(record, tables.quota_periods)
    assert (period["spent"], period["lent"]) == (2, 5)


@pytest.mark.parametrize("quota", ["pages", "calls"])
async def test_what_is_not_there_is_unknown(record: Record, quota: str) -> None:
    number = await make_consumer(record, [QUOTA])
    edge = await new_edge(record)

    (loan,) = await edge.ask(Ask(number if quota == "pages" else number + 999, quota, need=1))
    assert loan == Loan(Outcome.UNKNOWN)


async def test_zone_that_is_not_known_here_lends_nothing(record: Record, caplog: pytest.LogCaptureFixture) -> None:
    number = await make_consumer(record, [replace(QUOTA, time_zone="Mars/Olympus"), OTHER])
    edge = await new_edge(record)

    mars, pages = await edge.ask(Ask(number, "calls", need=1), Ask(number, "pages", need=1))
    assert (mars, pages.outcome) == (Loan(Outcome.AWAY), Outcome.LENT)
    assert "no Mars/Olympus" in caplog.text


Backup = dict[str, list[dict[str, Any]]]
LEDGER = (tables.quota_periods, tables.quota_leases, tables.quota_edges)


async def back_up(record: Record) -> Backup:
    return {table.name: await rows_of(record, table) for table in LEDGER}


async def restore(record: Record, backup: Backup) -> None:
    async with record.database.write() as tx:
        for table in (tables.quota_leases, tables.quota_periods, tables.quota_edges):
            await tx.execute(sa.delete(table))
        for table in LEDGER:
            if backup[table.name]:
                await tx.execute(sa.insert(table), backup[table.name])


async def test_record_that_went_back_lends_no_more_until_the_period_ends(record: Record, clock: Clock) -> None:
    number = await make_consumer(record, [QUOTA])
    edge, newcomer = await new_edge(record), await new_edge(record)
    (held,) = await edge.ask(Ask(number, "calls", need=10))
    backup = await back_up(record)
    (more,) = await edge.ask(Ask(number, "calls", held.lease, spent=10, need=60))
    assert more.granted == 70
    await restore(record, backup)

    (renewed,) = await edge.ask(Ask(number, "calls", held.lease, spent=40, want=100))
    assert (renewed.outcome, renewed.granted, renewed.free) == (Outcome.AWAY, 40, 60)
    (refused,) = await newcomer.ask(Ask(number, "calls", need=1))
    assert (refused.outcome, refused.lease, refused.life_millis) == (Outcome.AWAY, 0, 0)

    assert held.ends_at is not None
    clock.now = held.ends_at
    (tomorrow,) = await newcomer.ask(Ask(number, "calls", need=1))
    assert (tomorrow.outcome, tomorrow.granted) == (Outcome.LENT, 1)


async def test_record_that_went_back_lends_again_once_it_is_reopened(record: Record, clock: Clock) -> None:
    number = await make_consumer(record, [QUOTA])
    backup = await back_up(record)
    edges = [await new_edge(record) for _ in range(2)]
    for edge in edges:
        await edge.ask(Ask(number, "calls", need=10))
    await restore(record, backup)
    clock.now += 1000
    (away,) = await edges[0].ask(Ask(number, "calls", need=1))
    assert away.outcome is Outcome.AWAY

    async with record.database.write() as tx:
        assert record.bucket.name in await losses.reopen(tx)
        assert await losses.reopen(tx) == []
    # The other edge tells of the same loss.
    for edge in edges:
        (loan,) = await edge.ask(Ask(number, "calls", need=1))
        assert loan.outcome is Outcome.LENT

    # And once more it goes back.
    backup = await back_up(record)
    clock.now += 1000
    await edges[1].ask(Ask(number, "calls", need=1))
    await restore(record, backup)
    (away,) = await edges[1].ask(Ask(number, "calls", need=1))
    assert away.outcome is Outcome.AWAY


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(lambda cursor: Cursor(cursor.revision + 1, cursor.stamp, cursor.stamped_at), id="ahead"),
        pytest.param(lambda cursor: Cursor(cursor.revision, "0" * len(cursor.stamp), cursor.stamped_at), id="stamp"),
    ],
)
async def test_replica_that_saw_another_past_tells_that_the_record_went_back(
    record: Record, changed: Callable[[Cursor], Cursor]
) -> None:
    number = await make_consumer(record, [QUOTA])
    edge = await new_edge(record)
    head = await cursor_of(record.database)
    edge.cursor = str(head)
    (lent,) = await edge.ask(Ask(number, "calls", need=1))
    edge.cursor = str(changed(head))
    (away,) = await edge.ask(Ask(number, "calls", lent.lease, need=2))

    assert (lent.outcome, away.outcome, away.granted) == (Outcome.LENT, Outcome.AWAY, 1)


async def test_edge_of_an_account_shuts_only_buckets_that_it_sees(record: Record) -> None:
    number = await make_consumer(record, [QUOTA])
    async with record.database.write() as tx:
        foreign = await accounts.insert_account(tx, id="acct_2", name="another", now=now())
    stranger = await new_edge(record, grantee=Grantee(foreign.id, Permissions(buckets={"*": Access.WRITE}, feed=True)))
    stranger.place = "f" * 32
    edge = await new_edge(record)

    await stranger.ask(Ask(number, "calls", need=1))
    (loan,) = await edge.ask(Ask(number, "calls", need=1))
    assert loan.outcome is Outcome.LENT


async def test_consumer_that_is_deleted_takes_its_ledger_along(record: Record) -> None:
    number = await make_consumer(record, [QUOTA])
    edge = await new_edge(record)
    await edge.ask(Ask(number, "calls", need=1))
    async with record.database.write() as tx:
        await tx.execute(sa.delete(tables.consumers))
        assert await count(tx, tables.quota_periods) == await count(tx, tables.quota_leases) == 0


async def test_largest_question_is_answered_in_one_transaction(record: Record) -> None:
    quotas = [replace(QUOTA, name=f"calls-{n}") for n in range(5)]
    numbers = [await make_consumer(record, quotas) for _ in range(MAX_ASKS // 5)]
    edge = await new_edge(record)
    asks = [Ask(number, quota.name, want=20) for number in numbers for quota in quotas]

    loans = await edge.ask(*asks)
    again = [replace(ask, lease=loan.lease, spent=loan.granted) for ask, loan in zip(asks, loans, strict=True)]
    renewed = await edge.ask(*again)
    assert {loan.granted for loan in renewed} == {40}
    assert len({loan.lease for loan in renewed}) == MAX_ASKS
