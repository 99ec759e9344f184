"""Rows of what was deleted, for as long as its usage is kept: whose buckets were, and the ids of consumers."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from keywright.domain.models import Bucket
from keywright.origin.db.tables import UtcTime, consumers, deleted_buckets, deleted_consumers, last_used
from keywright.origin.db.transaction import Transaction
from keywright.protocol.changes import BucketPut


async def note_bucket(tx: Transaction, bucket: Bucket, now: datetime) -> None:
    """Before it is deleted, with all consumers that are in it."""
    await _note(tx, consumers.c.bucket_number == bucket.number, now)
    gone = {"bucket_number": bucket.number, "id": bucket.id, "name": bucket.name, "deleted_at": now}
    await tx.execute(sa.insert(deleted_buckets).values(**gone, account_id=bucket.account_id))


async def note_consumer(tx: Transaction, number: int, now: datetime) -> None:
    """Before it is deleted."""
    await _note(tx, consumers.c.number == number, now)


async def find_bucket(tx: Transaction, id: str, account_id: str) -> Bucket | None:
    """A bucket that the account had, as far as that is kept: its number and its name; all else of it is gone."""
    table = deleted_buckets
    row = await tx.first(sa.select(table).where(table.c.id == id, table.c.account_id == account_id))
    if row is None:
        return None
    times = row.deleted_at, row.deleted_at
    return Bucket(row.bucket_number, row.id, row.account_id, row.name, None, {}, False, "", *times)


async def list_buckets(tx: Transaction) -> list[BucketPut]:
    """As edges knew them, without whom they were shared with."""
    rows = await tx.all(sa.select(deleted_buckets))
    return [BucketPut(row.bucket_number, row.id, row.name, row.account_id) for row in rows]


async def prune(tx: Transaction, *, buckets_before: datetime, consumers_before: datetime, rows_of_step: int) -> bool:
    """Forget those that were deleted before; whether there may be more."""
    await tx.execute(sa.delete(deleted_buckets).where(deleted_buckets.c.deleted_at < buckets_before))
    table = deleted_consumers
    oldest = sa.select(table.c.consumer_number).where(table.c.deleted_at < consumers_before).limit(rows_of_step)
    gone = await tx.execute(sa.delete(table).where(table.c.consumer_number.in_(oldest)))
    return gone.rowcount == rows_of_step


async def _note(tx: Transaction, which: sa.ColumnElement[bool], now: datetime) -> None:
    # Edges may have counts of them that nobody has heard of yet; of who was counted before, the id is known.
    is_known = sa.exists().where(
        last_used.c.consumer_number == consumers.c.number, last_used.c.consumer_id.is_not(None)
    )
    ids = sa.select(consumers.c.number, consumers.c.id, sa.literal(now, UtcTime)).where(which, ~is_known)
    await tx.execute(sa.insert(deleted_consumers).from_select(["consumer_number", "id", "deleted_at"], ids))
