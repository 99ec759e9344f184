"""Rows of the developer portals: how the owner of a bucket wants its portal to look."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from keywright.domain.models import Bucket
from keywright.origin.db.tables import portals
from keywright.origin.db.transaction import Transaction


async def find(tx: Transaction, bucket: Bucket) -> Any | None:
    """The row (settings, logo, logo_type) of a bucket's portal; None if its owner never said anything."""
    return await tx.first(sa.select(portals).where(portals.c.bucket_number == bucket.number))


async def put(
    tx: Transaction,
    bucket: Bucket,
    *,
    settings: dict[str, Any],
    logo: bytes | None,
    logo_type: str | None,
    now: datetime,
) -> None:
    """The bucket's row must be held."""
    await tx.execute(sa.delete(portals).where(portals.c.bucket_number == bucket.number))
    values = {"settings": settings, "logo": logo, "logo_type": logo_type, "updated_at": now}
    await tx.execute(sa.insert(portals).values(bucket_number=bucket.number, **values))
