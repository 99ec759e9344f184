"""Owns what time it is for rows that several origins keep together: the database's time, since theirs may differ."""

from __future__ import annotations

import time

import sqlalchemy as sa

from keywright.origin.db.transaction import Transaction


async def read_millis(tx: Transaction) -> int:
    """Milliseconds since the epoch. SQLite has the clock of its one machine."""
    if not tx.is_postgresql:
        return time.time_ns() // 1_000_000
    now: int = await tx.scalar(sa.text("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"))
    return now
