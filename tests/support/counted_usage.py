"""What an origin has counted, read from its database beside it, with what waits to be folded."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import sqlalchemy as sa

from keywright.origin.db.tables import usage_losses
from keywright.origin.db.transaction import Database
from keywright.origin.usage.counts import AT_ONCE, FIRST_USES, READY
from keywright.origin.usage.folding import FoldedElsewhere, Folder
from support.counted import count_all


@dataclass(frozen=True)
class Counted:
    """`totals` by key and verdict, `reasons` of all that was lost."""

    totals: Counter[tuple[str, str]]
    reasons: list[str]


def read(url: str) -> Counted:
    async def look() -> Counted:
        database = Database(url)
        try:
            folder = Folder(database, hours_days=14, days_kept=395)
            for part in (FIRST_USES, READY, AT_ONCE, *range(16)):
                await _fold(folder, part)
            totals: Counter[tuple[str, str]] = Counter()
            for (key, _, verdict), total in (await count_all(database)).items():
                totals[key, verdict] += total
            async with database.read() as tx:
                losses = await tx.all(sa.select(usage_losses.c.reason))
            return Counted(totals, [row[0] for row in losses])
        finally:
            await database.close()

    # In a thread of its own, an event loop takes no other's place.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, look()).result()


async def _fold(folder: Folder, part: int) -> None:
    is_more = True
    while is_more:
        # The origin may be at it, too.
        with contextlib.suppress(FoldedElsewhere):
            is_more = await folder.fold(part)
