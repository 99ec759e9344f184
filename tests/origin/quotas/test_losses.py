"""A record that went back is noticed by whoever saw more of it: a replica beside it, a stream, a reader of the feed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from keywright.domain.limits import Period, Quota
from keywright.domain.permissions import Access, Grantee, Permissions
from keywright.edge.sync.feed import SnapshotNeeded
from keywright.origin.accounts import store as accounts
from keywright.origin.buckets import store as buckets
from keywright.origin.quotas import losses
from keywright.protocol.changes import Cursor
from keywright.protocol.leases import Ask, Outcome
from keywright.serve.worker import RecordFeed
from support.quotas import make_consumer, new_edge
from support.record import Record, cursor_of, now

QUOTA = Quota("calls", 100, Period.DAY)
FOLLOWER = Permissions(buckets={"*": Access.VALIDATE}, feed=True)


def ahead(head: Cursor) -> Cursor:
    return Cursor(head.revision + 5, "f" * 16, head.stamped_at + 1)


async def outcome_of(record: Record, number: int) -> Outcome:
    edge = await new_edge(record)
    (loan,) = await edge.ask(Ask(number, "calls", need=1))
    return loan.outcome


async def show_to_the_replica(record: Record, cursor: Cursor) -> None:
    with pytest.raises(SnapshotNeeded):
        await RecordFeed(record.database, None, lambda: 0.0).changes(cursor)


async def show_to_the_ledger(record: Record, cursor: Cursor) -> None:
    async with record.database.write() as tx:
        await losses.note_lost_cursor(tx, cursor)


@pytest.mark.parametrize("show", [show_to_the_replica, show_to_the_ledger], ids=["replica", "stream"])
async def test_cursor_that_the_record_lost_shuts_what_runs(
    record: Record, show: Callable[[Record, Cursor], Awaitable[None]]
) -> None:
    number = await make_consumer(record, [QUOTA])
    assert await outcome_of(record, number) is Outcome.LENT

    await show(record, ahead(await cursor_of(record.database)))
    assert await outcome_of(record, number) is Outcome.AWAY


async def test_cursor_that_the_record_has_or_keeps_no_more_shuts_nothing(record: Record) -> None:
    number = await make_consumer(record, [QUOTA])
    head = await cursor_of(record.database)
    # Of revision 0 the log never kept a stamp.
    for cursor in (head, Cursor(0, "0" * 16, 1)):
        await show_to_the_ledger(record, cursor)

    assert await outcome_of(record, number) is Outcome.LENT


async def test_token_that_shows_a_cursor_shuts_buckets_of_its_own_account_alone(record: Record) -> None:
    number = await make_consumer(record, [QUOTA])
    async with record.database.write() as tx:
        owner = await accounts.find_first(tx)
        assert owner is not None
        foreign = await accounts.insert_account(tx, id="acct_2", name="another", now=now())
        await buckets.put_grant(tx, record.bucket, foreign, Access.VALIDATE, expires_at=None, now=now())
    lost = ahead(await cursor_of(record.database))
    for account, expected in ((foreign, Outcome.LENT), (owner, Outcome.AWAY)):
        async with record.database.write() as tx:
            await losses.note_lost_cursor(tx, lost, Grantee(account.id, FOLLOWER))
        assert await outcome_of(record, number) is expected
