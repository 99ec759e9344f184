"""How a transaction is committed, and what its commit tells."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import InvalidRequestError

from keywright.origin.db import tables
from keywright.protocol.changes import Hidden
from support.record import Record, head_of


async def test_the_commit_returns_the_revision_of_its_last_change(record: Record) -> None:
    before = await head_of(record.database)
    async with record.database.write() as tx:
        tx.record(Hidden(), Hidden())
        assert tx.has_news
        assert await tx.commit() == before + 2
    assert await head_of(record.database) == before + 2


async def test_a_commit_without_news_returns_none_and_keeps_what_was_written(record: Record) -> None:
    before = await head_of(record.database)
    async with record.database.write() as tx:
        await tx.execute(sa.update(tables.buckets).values(description="changed"))
        assert not tx.has_news
        assert await tx.commit() is None
    async with record.database.read() as tx:
        assert await tx.scalar(sa.select(tables.buckets.c.description).limit(1)) == "changed"
    assert await head_of(record.database) == before


async def test_a_commit_that_is_awaited_returns_the_newest_revision_though_nothing_was_changed(record: Record) -> None:
    before = await head_of(record.database)
    async with record.database.write() as tx:
        tx.is_awaited = True
        assert tx.has_news
        assert await tx.commit() == before


async def test_nothing_follows_a_commit(record: Record) -> None:
    with pytest.raises(InvalidRequestError):
        await _write_after_commit(record)
    # The connection is as good as new.
    async with record.database.write() as tx:
        tx.record(Hidden())


async def test_what_only_reads_has_nothing_to_commit(record: Record) -> None:
    async with record.database.read() as tx:
        with pytest.raises(RuntimeError, match="only reads"):
            await tx.commit()


async def _write_after_commit(record: Record) -> None:
    async with record.database.write() as tx:
        await tx.commit()
        await tx.execute(sa.update(tables.buckets).values(description="too late"))
