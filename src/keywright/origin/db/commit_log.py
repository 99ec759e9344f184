"""Rows of the two logs: changes, which edges read, and audit entries, which people read. Also the deployment's row."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from keywright.domain.permissions import SYSTEM_BUCKET, Access
from keywright.origin.buckets.store import refuse_after
from keywright.origin.db.engine import Transaction
from keywright.origin.db.tables import accounts, audit_logs, buckets, changes, consumers, deployment, grants, keys
from keywright.protocol.changes import NOWHERE, BucketPut, Change, ConsumerPut, Cursor, Hidden, KeyPut, decode

SNAPSHOT_PAGE = 10_000


class NotKept(Exception):
    """The log can't lead on from that cursor: its change is not kept, was never made, or is of another past."""


class Logged(NamedTuple):
    """A change, and the cursor that it leads to."""

    cursor: Cursor
    change: Change


@dataclass(frozen=True, slots=True)
class Deployment:
    """Who this deployment is, what tells whether a process has its pepper, and the newest change."""

    id: str
    pepper_check: str
    head: Cursor


async def find_deployment(tx: Transaction) -> Deployment | None:
    row = await tx.first(sa.select(deployment))
    return Deployment(row.id, row.pepper_check, _cursor_of(row)) if row else None


async def get_revision(tx: Transaction) -> int:
    """The newest revision."""
    revision: int = await tx.scalar(sa.select(deployment.c.revision))
    return revision


async def insert_deployment(tx: Transaction, *, id: str, pepper_check: str, now: datetime) -> None:
    """Raises UniqueViolation when another process was first."""
    values = {"single": 1, "id": id, "pepper_check": pepper_check, **NOWHERE._asdict(), "created_at": now}
    await tx.execute(sa.insert(deployment).values(**values))


async def list_changes(tx: Transaction, *, after: int, limit: int) -> list[Logged]:
    """Changes after a revision, in order."""
    statement = sa.select(changes).where(changes.c.revision > after).order_by(changes.c.revision).limit(limit)
    return [Logged(_cursor_of(row), decode(row.body)) for row in await tx.all(statement)]


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


_OF_CONSUMERS = (
    consumers.c.number,
    consumers.c.id,
    consumers.c.bucket_number,
    consumers.c.name,
    # As text, which is what `to_json` has written.
    sa.type_coerce(consumers.c.metadata, sa.Text),
)


async def list_bucket_puts(tx: Transaction) -> list[BucketPut]:
    """Every bucket as a replica knows it, in order of number."""
    held: dict[int, dict[str, Access]] = {}
    granted = sa.select(grants.c.bucket_number, accounts.c.id, grants.c.access).join(accounts)
    for bucket_number, account_id, access in await tx.all(granted):
        held.setdefault(bucket_number, {})[account_id] = Access(access)
    stale = (buckets.c.max_staleness_seconds, buckets.c.when_stale)
    owned = sa.select(buckets.c.number, buckets.c.id, buckets.c.name, accounts.c.id.label("account_id"), *stale)
    owned = owned.select_from(buckets.outerjoin(accounts, accounts.c.number == buckets.c.account_number))
    rows = await tx.all(owned.order_by(buckets.c.number))
    return [
        BucketPut(row[0], row[1], row[2], row[3], held.get(row[0], {}), refuse_after(row[4], row[5])) for row in rows
    ]


async def list_system_consumers(tx: Transaction) -> list[ConsumerPut]:
    """Whom the management keys belong to, as a replica knows them."""
    joined = sa.select(*_OF_CONSUMERS).join(buckets, buckets.c.number == consumers.c.bucket_number)
    rows = await tx.all(joined.where(buckets.c.name == SYSTEM_BUCKET))
    return [ConsumerPut(*row) for row in rows]


async def stream_snapshot(tx: Transaction) -> AsyncIterator[Sequence[Change]]:
    """Pages of puts that lead from nothing to the present: buckets, then consumers, then keys, each in the order of a
    replica's keys. The transaction must be one that sees a single moment.
    """
    yield await list_bucket_puts(tx)

    last = 0
    while rows := await tx.all(_page(sa.select(*_OF_CONSUMERS), consumers.c.number > last, consumers.c.number)):
        yield [ConsumerPut(*row) for row in rows]
        last = rows[-1].number

    place = sa.tuple_(keys.c.bucket_number, keys.c.digest)
    selected = sa.select(
        keys.c.digest,
        keys.c.bucket_number,
        keys.c.consumer_number,
        keys.c.id,
        sa.cast(keys.c.expires_at, sa.BigInteger),
    )
    position = (0, b"")
    while rows := await tx.all(_page(selected, place > position, keys.c.bucket_number, keys.c.digest)):
        yield [KeyPut(*row) for row in rows]
        position = (rows[-1].bucket_number, rows[-1].digest)


def _cursor_of(row: Any) -> Cursor:
    return Cursor(row.revision, row.stamp, row.stamped_at)


def _page(selected: sa.Select[Any], after: sa.ColumnElement[bool], *order: sa.Column[Any]) -> sa.Select[Any]:
    return selected.where(after).order_by(*order).limit(SNAPSHOT_PAGE)


async def insert_audit(
    tx: Transaction,
    *,
    account_id: str,
    timestamp: datetime,
    action: str,
    actor_sub: str,
    actor_email: str | None,
    success: bool,
    request_id: str,
    body: Mapping[str, Any],
) -> None:
    await tx.execute(
        sa.insert(audit_logs).values(
            account_id=account_id,
            timestamp=timestamp,
            action=action,
            actor_sub=actor_sub,
            actor_email=actor_email,
            success=success,
            request_id=request_id,
            body=body,
        )
    )


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """What to look for in the audit log; None leaves a field out. `actor` is an e-mail address or a subject."""

    action: str | None = None
    actor: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    success: bool | None = None

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        found: list[sa.ColumnElement[bool]] = []
        if self.action is not None:
            found.append(audit_logs.c.action == self.action)
        if self.actor is not None:
            found.append(sa.or_(audit_logs.c.actor_sub == self.actor, audit_logs.c.actor_email == self.actor))
        if self.start is not None:
            found.append(audit_logs.c.timestamp >= self.start)
        if self.end is not None:
            found.append(audit_logs.c.timestamp <= self.end)
        if self.success is not None:
            found.append(audit_logs.c.success == self.success)
        return found


async def list_audit(
    tx: Transaction, account_id: str, wanted: AuditFilter, *, limit: int, offset: int
) -> tuple[list[Any], int]:
    """Rows of the account, newest first, and how many there are in all."""
    conditions = [audit_logs.c.account_id == account_id, *wanted.conditions()]
    newest = sa.select(audit_logs).where(*conditions).order_by(audit_logs.c.number.desc())
    total = await tx.scalar(sa.select(sa.func.count()).select_from(audit_logs).where(*conditions))
    return await tx.all(newest.limit(limit).offset(offset)), total
