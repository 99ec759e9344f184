"""Owns what becomes of quotas when the record went back to an earlier state: restored, or failed over to a copy.

It does not know then what was lent meanwhile. So of periods that had begun nothing more is lent, until they end or
somebody says that they are open again; leases that it knows are renewed. That a record went back is told by those who
saw more of it: edges that ask (lending.py), the replica beside an origin, the streams of a broker.
"""

from __future__ import annotations

import logging

from keywright.domain.models import Bucket, from_millis
from keywright.domain.permissions import Access, Grantee
from keywright.domain.problems import Conflict
from keywright.origin.buckets import store as bucket_rows
from keywright.origin.db import commit_log
from keywright.origin.db.database_clock import read_millis
from keywright.origin.db.transaction import Transaction
from keywright.origin.quotas import store as rows
from keywright.protocol.changes import Cursor

log = logging.getLogger("keywright.origin")


async def note_loss(
    tx: Transaction, seen_until: int, now: int, grantee: Grantee | None = None, *, is_own: bool = False
) -> None:
    """The record went back: in periods that have begun nothing more is lent. Of buckets that `grantee` sees, or all.

    `seen_until` is the latest time at which somebody saw what was lost: a loss that was found out since then is this.
    With `is_own` only buckets of the grantee's account, which is said by what proves no pepper.
    """
    found = await bucket_rows.find_all(tx)
    known = await rows.find_losses(tx, found)
    seen = [
        number
        for number, bucket in found.items()
        if bucket.account_id is not None
        and (number not in known or known[number].lost_at < seen_until)
        and (grantee is None or (sees(grantee, bucket, now) and (not is_own or _is_own(grantee, bucket))))
    ]
    if not seen:
        return
    await rows.put_losses(tx, seen, now)
    log.error(
        "the record went back to before quotas were lent: in %d buckets nothing more is lent until their periods end, "
        "or `keywright quotas reopen` is said",
        len(seen),
    )


async def note_lost_cursor(tx: Transaction, cursor: Cursor, grantee: Grantee | None = None) -> None:
    """A replica or a stream was at this cursor: if the record has it no more, or with another stamp, it went back."""
    now = await read_millis(tx)
    if await commit_log.went_back(tx, cursor):
        await note_loss(tx, min(cursor.stamped_at, now), now, grantee, is_own=True)


async def find_lost_revision(tx: Transaction, cursor: str, now: int) -> int | None:
    """When the revision was written at which a replica is, if this record has not got it, or with another stamp.

    Raises Conflict for a text that is no cursor.
    """
    if not cursor:
        return None
    try:
        asked = Cursor.parse(cursor)
    except ValueError:
        raise Conflict("The question names no cursor.") from None
    return min(asked.stamped_at, now) if await commit_log.went_back(tx, asked) else None


async def reopen(tx: Transaction) -> list[str]:
    """Lend again, whatever was lent in what was lost. The names of the buckets for which that changes something."""
    return await rows.reopen(tx)


def sees(grantee: Grantee, bucket: Bucket, now: int) -> bool:
    """Whether an edge with such a token has the bucket in its replica, and may spend there."""
    access = grantee.on_bucket(
        bucket_id=bucket.id,
        bucket_name=bucket.name,
        account_id=bucket.account_id,
        grants=bucket.grants_at(from_millis(now)),
    )
    return access >= Access.VALIDATE


def _is_own(grantee: Grantee, bucket: Bucket) -> bool:
    return grantee.is_root or bucket.account_id == grantee.account_id
