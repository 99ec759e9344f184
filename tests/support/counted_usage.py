"""What an origin has counted, read from its database beside it."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import sqlalchemy as sa

from keywright.origin.db.tables import usage_losses, usage_rows
from keywright.origin.db.transaction import Database


@dataclass(frozen=True)
class Counted:
    """`totals` by key and verdict, `reasons` of all that was lost."""

    totals: dict[tuple[str | None, str], int]
    reasons: list[str]


def read(url: str) -> Counted:
    async def look() -> Counted:
        database = Database(url)
        try:
            async with database.read() as tx:
                summed = sa.select(usage_rows.c.key_id, usage_rows.c.verdict, sa.func.sum(usage_rows.c.total))
                rows = await tx.all(summed.group_by(usage_rows.c.key_id, usage_rows.c.verdict))
                losses = await tx.all(sa.select(usage_losses.c.reason))
                return Counted({(row[0], row[1]): int(row[2]) for row in rows}, [row[0] for row in losses])
        finally:
            await database.close()

    # In a thread of its own, an event loop takes no other's place.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, look()).result()
