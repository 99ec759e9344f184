"""Rows of usage on their way in: batches that were taken, as they wait to be folded; and what they are known until."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from keywright.origin.db.tables import edges, usage_batches, usage_edges, usage_sources
from keywright.origin.db.transaction import Transaction
from keywright.origin.usage.counts import AT_ONCE, FIRST_USES, MAX_AT_ONCE, PARTS, READY, Counts
from keywright.origin.usage.intake.first_uses import FirstUses
from keywright.protocol.usage import UsageRow


@dataclass(frozen=True, slots=True)
class Source:
    """The edge that counted."""

    instance: str
    name: str
    region: str


async def append(
    tx: Transaction, rows: Sequence[UsageRow], source: Source, first_uses: FirstUses | None = None
) -> None:
    """Take in the rows of one batch, in the transaction that says that it is taken.

    `first_uses` is what this process has seen; without it those of large batches are seen when their hour is folded.
    """
    number = await _get_source_number(tx, source)
    # Adding up and packing ten thousand rows takes tens of milliseconds, which are nobody else's.
    packed = await asyncio.to_thread(_pack, rows, number, first_uses)
    await _insert(tx, packed)


@dataclass(frozen=True, slots=True)
class Waiting:
    """What of a part waits: how many rows, since when (milliseconds since the epoch, by the database's clock)."""

    part: int
    rows: int
    taken_at: int


@dataclass(frozen=True, slots=True)
class Packed:
    """One row of what waits."""

    number: int
    rows: int
    body: bytes


async def list_waiting(tx: Transaction) -> list[Waiting]:
    grouped = sa.select(
        usage_batches.c.part, sa.func.sum(usage_batches.c.row_count), sa.func.min(usage_batches.c.taken_at)
    ).group_by(usage_batches.c.part)
    return [Waiting(part, int(rows), taken_at) for part, rows, taken_at in await tx.all(grouped)]


async def list_packed(tx: Transaction, part: int, *, after: int, limit: int) -> list[Packed]:
    """Oldest first, with numbers above `after`."""
    table = usage_batches
    rows = await tx.all(
        sa.select(table.c.number, table.c.row_count, table.c.body)
        .where(table.c.part == part, table.c.number > after)
        .order_by(table.c.number)
        .limit(limit)
    )
    return [Packed(row.number, row.row_count, bytes(row.body)) for row in rows]


async def take_out(tx: Transaction, numbers: Collection[int]) -> bool:
    """Whether all of these were there, and no other process had taken them out. If not, nothing may be committed."""
    result = await tx.execute(sa.delete(usage_batches).where(is_any(tx, usage_batches.c.number, numbers)))
    return result.rowcount == len(numbers)


async def put_back(tx: Transaction, slices: Sequence[Counts], bodies: Sequence[bytes]) -> None:
    """What was added up and divided, ready to be written. `bodies` are the same, packed."""
    await _insert(tx, [(READY, len(one), one.since or 0, body) for one, body in zip(slices, bodies, strict=True)])


async def find_known_until(tx: Transaction, account_ids: Collection[str], own_instance: str | None) -> int | None:
    """The moment (milliseconds since the epoch) up to which all is told that was counted by edges that aren't retired,
    of the deployment and of these accounts; None while one of them has not said. `own_instance` is of the edge beside
    this origin, which may have no row.

    To be asked before the counts: then they tell at least as much.
    """
    accounts = ["", *account_ids]
    there = await tx.all(sa.select(edges.c.account_id, edges.c.instance).where(edges.c.account_id.in_(accounts)))
    # With its account: another tenant's edge may call itself as it likes.
    names = {(row.account_id, row.instance) for row in there}
    names |= set() if own_instance is None else {("", own_instance)}
    told = await tx.all(sa.select(usage_edges).where(usage_edges.c.account_id.in_(accounts)))
    known = [row.known_until for row in told if (row.account_id, row.instance) in names]
    if not known or len(known) < len(names) or None in known:
        return None
    waits: int | None = await tx.scalar(sa.select(sa.func.min(usage_batches.c.since)))
    least: int = min(known)
    return least if waits is None else min(least, waits)


async def now_millis(tx: Transaction) -> int:
    """By the database's clock: those of several origins may differ. SQLite has the clock of its one machine."""
    if not tx.is_postgresql:
        return time.time_ns() // 1_000_000
    now: int = await tx.scalar(sa.text("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"))
    return now


def _pack(rows: Sequence[UsageRow], source: int, first_uses: FirstUses | None) -> list[tuple[int, int, int, bytes]]:
    counts = Counts.of_rows(rows, source)
    if len(rows) <= MAX_AT_ONCE:
        divided = [(AT_ONCE, counts)]
    else:
        divided = sorted(counts.divided(PARTS).items())
        found = Counts.of_rows([] if first_uses is None else first_uses.take(rows), source)
        # What they come to, and from where, is in the batch itself.
        divided += [(FIRST_USES, one) for one in Counts(found.keys, since=found.since).sliced(MAX_AT_ONCE)]
    return [(part, len(one), one.since or 0, one.pack()) for part, one in divided]


async def _insert(tx: Transaction, packed: Sequence[tuple[int, int, int, bytes]]) -> None:
    now = await now_millis(tx)
    rows = [
        {"part": part, "row_count": count, "since": since, "taken_at": now, "body": body}
        for part, count, since, body in packed
    ]
    await tx.execute(sa.insert(usage_batches), rows)


async def _get_source_number(tx: Transaction, source: Source) -> int:
    table = usage_sources
    found = sa.select(table.c.number).where(table.c.name == source.name, table.c.region == source.region)
    number: int | None = await tx.scalar(found)
    if number is None:
        insert: Any = (postgresql if tx.is_postgresql else sqlite).insert(table)
        await tx.execute(insert.values(name=source.name, region=source.region).on_conflict_do_nothing())
        number = await tx.scalar(found)
    if number is None:
        raise RuntimeError("an edge that has just been noted is not there")
    return number


def is_any(tx: Transaction, column: sa.Column[Any], values: Collection[Any]) -> sa.ColumnElement[bool]:
    """`column IN values`; on PostgreSQL one statement, however many there are."""
    if tx.is_postgresql:
        kind: Any = postgresql.ARRAY(column.type)
        return column == sa.any_(sa.bindparam(None, list(values), type_=kind, unique=True))
    return column.in_(values)
