"""Rows of the links that sign somebody in by e-mail."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from keywright.domain.models import Bucket
from keywright.origin.db.tables import consumers, managers, sign_in_links
from keywright.origin.db.transaction import Transaction


async def insert(
    tx: Transaction,
    bucket: Bucket,
    *,
    digest: bytes,
    visitor_digest: bytes,
    email: str,
    ends_at: datetime,
    now: datetime,
) -> None:
    """Links that were never used are cleared away."""
    await tx.execute(sa.delete(sign_in_links).where(sign_in_links.c.ends_at <= now))
    values = {"digest": digest, "visitor_digest": visitor_digest, "email": email, "ends_at": ends_at}
    await tx.execute(sa.insert(sign_in_links).values(bucket_number=bucket.number, **values))


async def find(tx: Transaction, bucket: Bucket, digest: bytes) -> Any | None:
    """The row (visitor_digest, email, ends_at) of a link that was not used yet."""
    own = sign_in_links.c.bucket_number == bucket.number
    return await tx.first(sa.select(sign_in_links).where(own, sign_in_links.c.digest == digest))


async def count_try(
    tx: Transaction, bucket: Bucket, *, visitor_digest: bytes, now: datetime, most: int
) -> Sequence[Any]:
    """Counts a try on every open link of a visitor; the rows (digest, email) that still had one left."""
    mine = sa.and_(sign_in_links.c.bucket_number == bucket.number, sign_in_links.c.visitor_digest == visitor_digest)
    is_open = sa.and_(sign_in_links.c.ends_at > now, sign_in_links.c.tries < most)
    counted = sa.update(sign_in_links).where(mine, is_open).values(tries=sign_in_links.c.tries + 1)
    return await tx.all(counted.returning(sign_in_links.c.digest, sign_in_links.c.email))


async def take(tx: Transaction, digest: bytes) -> bool:
    """Whether this is the one who uses the link."""
    taken = sa.delete(sign_in_links).where(sign_in_links.c.digest == digest).returning(sign_in_links.c.digest)
    return await tx.first(taken) is not None


async def is_known(tx: Transaction, bucket: Bucket, email: str) -> bool:
    """Whether somebody of this address manages a consumer of the bucket, or is invited to."""
    within = sa.select(consumers.c.number).where(consumers.c.bucket_number == bucket.number)
    known = sa.select(managers.c.number).where(managers.c.email == email, managers.c.consumer_number.in_(within))
    return await tx.first(known.limit(1)) is not None
