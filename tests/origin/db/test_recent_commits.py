"""What this process has committed: a chain without gaps, which leads from a cursor to where the record has it lead."""

from __future__ import annotations

import pytest

from keywright.origin.db import commit_log, recent_commits
from keywright.origin.db.recent_commits import Committed, RecentCommits
from keywright.origin.db.transaction import Database, Transaction
from keywright.protocol.changes import Cursor, Hidden, decode, encode
from support.record import Record


def committed(*revisions: int, stamp: str = "a") -> list[Committed]:
    return [Committed(Cursor(revision, stamp, revision), str(revision)) for revision in revisions]


def bodies(recent: RecentCommits, cursor: Cursor) -> list[str]:
    return [one.body for one in recent.after(cursor)]


def test_what_follows_a_cursor_is_told_for_that_very_cursor_alone() -> None:
    recent = RecentCommits()
    assert bodies(recent, Cursor(1, "a", 1)) == []
    recent.note(committed(1, 2))
    recent.note([])
    recent.note(committed(3))
    assert bodies(recent, Cursor(1, "a", 1)) == ["2", "3"]
    assert bodies(recent, Cursor(3, "a", 3)) == []
    # Of another past, before what is kept, and ahead of it.
    for cursor in (Cursor(1, "b", 1), Cursor(1, "a", 2), Cursor(0, "a", 0), Cursor(4, "a", 4)):
        assert bodies(recent, cursor) == []


def test_a_gap_where_others_have_committed_ends_the_chain() -> None:
    recent = RecentCommits()
    recent.note(committed(1, 2))
    recent.note(committed(4))
    recent.note(committed(5))
    assert bodies(recent, Cursor(2, "a", 2)) == []
    assert bodies(recent, Cursor(4, "a", 4)) == ["5"]


def test_no_more_is_kept_than_said() -> None:
    recent = RecentCommits()
    recent.note(committed(*range(1, recent_commits.MOST + 10)))
    assert len(recent._chain) == recent_commits.MOST
    assert bodies(recent, Cursor(9, "a", 9)) == []


@pytest.mark.parametrize("migrated_url", ["sqlite"], indirect=True)
async def test_units_note_what_was_committed_and_nothing_else(record: Record) -> None:
    database: Database = record.database

    async def work(tx: Transaction) -> None:
        tx.record(Hidden())

    async def fail(tx: Transaction) -> None:
        tx.record(Hidden())
        await tx.number_changes()
        raise LookupError

    await database.run_write(work)
    cursor = database.recent._chain[-1].cursor
    with pytest.raises(LookupError):
        await database.run_write(fail)
    await database.run_write(work)
    await database.run_write(work)
    found = database.recent.after(cursor)

    async def read(tx: Transaction) -> list[commit_log.Logged]:
        return await commit_log.lead_on(tx, cursor, limit=10)

    assert [(one.cursor, decode(one.body)) for one in found] == await database.run_read(read)
    assert len(found) == 2
    assert found[0].body == encode(Hidden())
