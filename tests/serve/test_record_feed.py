"""The feed beside the record: what this process commits it hands on unread, and it still sees what others commit."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from keywright.origin.db.transaction import Transaction
from keywright.protocol.changes import Batch, Cursor, Hidden
from keywright.serve.worker import LOOK_SECONDS, RecordFeed
from support import record as records
from support.record import Record


class Elapsed:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def record(migrated_file: Path, tmp_path: Path) -> AsyncIterator[Record]:
    shutil.copy(migrated_file, tmp_path)
    async with records.opened(f"sqlite+aiosqlite:///{tmp_path}/keywright.db") as opened:
        yield opened


async def commit(tx: Transaction) -> None:
    tx.record(Hidden())


async def by_another(record: Record) -> None:
    await record.another_database().run_write(commit)


def told(batch: Batch) -> tuple[int, bool]:
    return len(batch.changes), batch.is_newest


async def test_own_commits_are_handed_on_without_a_look_until_one_is_due(record: Record) -> None:
    elapsed = Elapsed()
    feed = RecordFeed(record.database, None, elapsed)
    await record.database.run_write(commit)
    cursor: Cursor = record.database.recent._chain[-1].cursor
    assert told(await feed.changes(cursor)) == (0, True)
    await record.database.run_write(commit)
    await record.database.run_write(commit)
    # Others have committed, too; nothing is said of them, and nothing that would be false if they had.
    await by_another(record)
    first = await feed.changes(cursor)
    assert told(first) == (2, False)
    assert feed.is_last(first)
    # Nothing follows here: the record is asked.
    assert told(await feed.changes(first.cursor)) == (1, True)
    elapsed.now += LOOK_SECONDS
    assert told(await feed.changes(cursor)) == (3, True)


async def test_a_commit_after_that_of_another_process_is_read_with_it(record: Record) -> None:
    feed = RecordFeed(record.database, None, Elapsed())
    await record.database.run_write(commit)
    cursor = record.database.recent._chain[-1].cursor
    await feed.changes(cursor)
    await by_another(record)
    await record.database.run_write(commit)
    batch = await feed.changes(cursor)
    assert told(batch) == (2, True)
    assert batch.revision == record.database.recent._chain[-1].cursor.revision


async def test_no_more_is_handed_on_at_once_than_is_read_at_once(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = RecordFeed(record.database, None, Elapsed())
    await record.database.run_write(commit)
    cursor = record.database.recent._chain[-1].cursor
    await feed.changes(cursor)
    for _ in range(3):
        await record.database.run_write(commit)
    monkeypatch.setattr("keywright.serve.worker.BATCH_SIZE", 2)
    batch = await feed.changes(cursor)
    assert (told(batch), feed.is_last(batch)) == ((2, False), False)
