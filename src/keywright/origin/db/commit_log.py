"""Owns the log of changes, which edges read: what follows a cursor, and whether the record was ever there."""

from __future__ import annotations

from typing import Any, NamedTuple

import sqlalchemy as sa

from keywright.origin.db.prepared import prepared
from keywright.origin.db.tables import changes, deployment
from keywright.origin.db.transaction import Transaction
from keywright.protocol.changes import Change, Cursor, Hidden, decode

_AFTER = prepared(
    sa.select(changes)
    .where(changes.c.revision > sa.bindparam("after"))
    .order_by(changes.c.revision)
    .limit(sa.bindparam("limit", type_=sa.Integer))
)
_REVISION = prepared(sa.select(deployment.c.revision))


class Logged(NamedTuple):
    """A change, and the cursor that it leads to."""

    cursor: Cursor
    change: Change


class NotKept(Exception):
    """The log can't lead on from that cursor: its change is not kept, was never made, or is of another past."""


async def get_revision(tx: Transaction) -> int:
    """The newest revision."""
    revision: int = await tx.scalar(_REVISION)
    return revision


async def list_changes(tx: Transaction, *, after: int, limit: int) -> list[Logged]:
    """Changes after a revision, in order."""
    return [Logged(cursor_of(row), decode(row.body)) for row in await tx.all(_AFTER, after=after, limit=limit)]


async def lead_on(tx: Transaction, after: Cursor, *, limit: int) -> list[Logged]:
    """Changes after a cursor, in order. Raises NotKept unless the log has that cursor, even if nothing follows it."""
    # One query for both: on PostgreSQL two could see two moments.
    found = await list_changes(tx, after=after.revision - 1, limit=limit + 1)
    if not found or found[0].cursor != after:
        raise NotKept(f"the log does not have revision {after.revision} with the stamp {after.stamp}")
    return found[1:]


async def has_cursor(tx: Transaction, cursor: Cursor) -> bool:
    """Whether the record was once there, and has all that led to it. False, too, when that is no longer kept."""
    place = sa.select(changes.c.stamp).where(changes.c.revision == cursor.revision)
    return bool(await tx.scalar(place) == cursor.stamp)


async def went_back(tx: Transaction, cursor: Cursor) -> bool:
    """Whether the record was at a cursor that it has no more, or never was: it is behind, or has another past since.

    False where the log does not keep that revision any more: of its past nothing can be told.
    """
    if cursor.revision > await get_revision(tx):
        return True
    stamp = await tx.scalar(sa.select(changes.c.stamp).where(changes.c.revision == cursor.revision))
    return stamp is not None and stamp != cursor.stamp


async def note_loss(tx: Transaction, lost: Cursor) -> bool:
    """Make it plain that the record went back to before a cursor that it once had; whether it did.

    A record that was restored, and then was not written to, looks like one that has yet to get there. A change that
    nobody sees, stamped later than what was lost, tells every edge that it will not.
    """
    row = await tx.first(sa.select(deployment).with_for_update())
    if row is None or row.revision >= lost.revision:
        return False
    tx.record(Hidden())
    tx.stamp_later_than(lost.stamped_at)
    return True


def cursor_of(row: Any) -> Cursor:
    """The cursor in a row that has one: of a change, or of the deployment."""
    return Cursor(row.revision, row.stamp, row.stamped_at)
