"""Usage as edges would hand it in, and what must become of it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import sqlalchemy as sa

from keywright.origin.db import tables
from keywright.origin.db.transaction import Database
from keywright.origin.usage import store
from keywright.origin.usage.store import Source
from keywright.protocol.usage import HOUR_MILLIS, UsageRow

EDGES = [Source(f"instance-of-edge-{number}", f"edge-{number}", "eu") for number in range(3)]


def row(
    key: str | None, total: int = 1, *, hour: int, verdict: str = "VALID", bucket: int = 1, **more: object
) -> UsageRow:
    """What one edge counted of a key in an hour."""
    values = {"consumer_number": 7 if key else None, "plan": None, "denied_scope": None, "route": None}
    values |= {"first_ms": 10, "last_ms": 20, **more}
    return UsageRow(hour=hour, bucket_number=bucket, key_id=key, verdict=verdict, total=total, **values)  # type: ignore[arg-type]


def draw_rows(draw: random.Random, count: int, keys: int, hours: Sequence[int]) -> list[UsageRow]:
    """Rows of one batch: no two are alike in all but numbers."""
    drawn = {}
    for _ in range(count):
        key = draw.randrange(keys)
        one = row(f"key_{key}", draw.randrange(1, 50), hour=draw.choice(hours), consumer_number=1 + key % 7)
        one = one._replace(verdict=draw.choice(["VALID", "EXPIRED"]), last_ms=draw.randrange(10, HOUR_MILLIS))
        drawn[(one.hour, one.key_id, one.verdict)] = one
    return list(drawn.values())


async def append(database: Database, rows: Sequence[UsageRow], source: Source = EDGES[0]) -> None:
    async with database.write() as tx:
        await store.append(tx, rows, source)


async def count_all(database: Database, table: sa.Table = tables.usage_hours) -> Counter[tuple[str, int, str]]:
    """How often each key, span and verdict was counted."""
    span = next(iter(table.primary_key))
    joined = table.join(tables.last_used, tables.last_used.c.number == table.c.key_number)
    async with database.read() as tx:
        found = await tx.all(
            sa.select(tables.last_used.c.key_id, span, table.c.verdict, table.c.total).select_from(joined)
        )
    return Counter({(key, at, verdict): total for key, at, verdict, total in found})


def sum_of(rows: Sequence[UsageRow], hours_of_span: int = 1) -> Counter[tuple[str, int, str]]:
    """The same of rows."""
    found: Counter[tuple[str, int, str]] = Counter()
    for one in rows:
        found[(one.key_id or "", one.hour // hours_of_span, one.verdict)] += one.total
    return found
