"""Rows of taking in usage: what was taken of each epoch, up to when that of each edge is known, and what was lost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from keywright.origin.buckets import deleted_store
from keywright.origin.db.snapshot_stream import list_bucket_puts
from keywright.origin.db.tables import usage_edges, usage_epochs, usage_losses
from keywright.origin.db.transaction import Transaction
from keywright.protocol.changes import BucketPut
from keywright.protocol.usage import Loss, LossReason

DIGEST_BYTES = 32
DIGESTS_KEPT = 64
"""Of so many batches of an epoch, the latest, it is known whether one that comes again is the same."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What was taken of an epoch: `next_number` comes next, `digests` are of those before it, the latest at the end."""

    next_number: int
    digests: bytes

    def find_digest(self, number: int) -> bytes | None:
        """Of the batch of a number that was taken; None where that is not known any more."""
        back = (self.next_number - number) * DIGEST_BYTES
        at = len(self.digests) - back
        return self.digests[at : at + DIGEST_BYTES] if back > 0 <= at else None


@dataclass(frozen=True, slots=True)
class Sender:
    """Whose delivery it is, by its token and by what it says."""

    account_id: str
    instance: str
    name: str
    region: str


async def lock_epoch(tx: Transaction, epoch: str, now: int) -> Taken:
    """What was taken of the epoch, which no other transaction changes until this one ends. `now`: milliseconds."""
    found = sa.select(usage_epochs.c.next_number, usage_epochs.c.digests).where(usage_epochs.c.epoch == epoch)
    row = await tx.first(found.with_for_update())
    if row is None:
        # Another process may be at it: it is the one that is first.
        insert = _insert(tx, usage_epochs).values(epoch=epoch, next_number=1, digests=b"", heard_at=now)
        await tx.execute(insert.on_conflict_do_nothing())
        row = await tx.first(found.with_for_update())
    if row is None:
        raise RuntimeError("the row of an epoch can't be made")
    return Taken(row.next_number, bytes(row.digests))


async def note_taken(tx: Transaction, epoch: str, taken: Taken, number: int, digest: bytes, now: int) -> None:
    """All up to this number are taken, the last ones with this batch."""
    digests = taken.digests + digest * min(number - taken.next_number + 1, DIGESTS_KEPT)
    values = {"next_number": number + 1, "digests": digests[-DIGESTS_KEPT * DIGEST_BYTES :], "heard_at": now}
    await tx.execute(sa.update(usage_epochs).where(usage_epochs.c.epoch == epoch).values(**values))


async def note_sender(tx: Transaction, sender: Sender, known_until: int | None, now: int) -> None:
    """What was known stays so where the sender can't tell."""
    values: dict[str, Any] = {"name": sender.name, "region": sender.region, "heard_at": now}
    if known_until is not None:
        values["known_until"] = known_until
    insert = _insert(tx, usage_edges).values(account_id=sender.account_id, instance=sender.instance, **values)
    await tx.execute(insert.on_conflict_do_update(index_elements=["account_id", "instance"], set_=values))


async def note_losses(tx: Transaction, sender: Sender, losses: Iterable[Loss], now: int) -> None:
    rows = [
        {
            "account_id": sender.account_id,
            "instance": sender.instance,
            "name": sender.name,
            "epoch": loss.epoch,
            "first_number": loss.first_number,
            "last_number": loss.number,
            "lost": loss.lost,
            "since": loss.since,
            "until": loss.until,
            "reason": loss.reason,
            "noted_at": now,
        }
        for loss in losses
    ]
    if rows:
        await tx.execute(sa.insert(usage_losses), rows)


async def is_noted(tx: Transaction, epoch: str, number: int, reason: LossReason) -> bool:
    """Whether it was said before that this batch is lost."""
    found = sa.select(usage_losses.c.number).where(
        usage_losses.c.epoch == epoch, usage_losses.c.last_number == number, usage_losses.c.reason == reason
    )
    return await tx.first(found.limit(1)) is not None


async def prune(tx: Transaction, *, epochs_before: int, losses_before: int) -> None:
    """Forget epochs and edges that were last heard of before that, and losses of before that: milliseconds."""
    await tx.execute(sa.delete(usage_epochs).where(usage_epochs.c.heard_at < epochs_before))
    await tx.execute(sa.delete(usage_losses).where(usage_losses.c.until < losses_before))
    await tx.execute(sa.delete(usage_edges).where(usage_edges.c.heard_at < losses_before))


async def list_buckets(tx: Transaction) -> Sequence[BucketPut]:
    """Those that were deleted among them: what was counted before may come after."""
    return [*await list_bucket_puts(tx), *await deleted_store.list_buckets(tx)]


def _insert(tx: Transaction, table: sa.Table) -> Any:
    return (postgresql if tx.is_postgresql else sqlite).insert(table)
