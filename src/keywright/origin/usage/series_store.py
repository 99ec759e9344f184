"""Rows of usage as they are asked for: sums by key, consumer, verdict or edge, over hours and days.

Days that are rolled up are read as such, the hours after them as hours: so a year is a few hundred rows of a key.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from keywright.origin.db.tables import (
    consumers,
    last_used,
    plans,
    usage_days,
    usage_folding,
    usage_hours,
    usage_losses,
    usage_sources,
    usage_totals,
)
from keywright.origin.db.transaction import Transaction
from keywright.origin.usage.counts import EDGE, HOURS_OF_DAY, PLAN, read_sources
from keywright.origin.usage.store import is_any


@dataclass(frozen=True, slots=True)
class Hours:
    """From an hour to before another one, counted from the epoch in UTC. `in_hours`: what is kept by hour is enough."""

    first: int
    end: int
    in_hours: bool
    step: int
    """How many hours of it are told together: 1, 24, or all."""


Cell = tuple[str, int, str]
"""Whose, from which hour on, which verdict."""
Cells = dict[Cell, int]


async def find_keys(
    tx: Transaction, bucket_number: int, *, consumer_number: int | None, key_id: str | None
) -> dict[int, str]:
    """Of keys of a consumer, or one of them, that anybody asked about: their ids by the number that counts have."""
    wanted = [last_used.c.bucket_number == bucket_number]
    wanted += [] if consumer_number is None else [last_used.c.consumer_number == consumer_number]
    wanted += [] if key_id is None else [last_used.c.key_id == key_id]
    return {row.number: row.key_id for row in await tx.all(sa.select(last_used).where(*wanted))}


async def find_consumer_number(tx: Transaction, bucket_number: int, consumer_id: str) -> int | None:
    """Of a consumer of which a key was used once, also if it is gone."""
    of_bucket = last_used.c.bucket_number == bucket_number
    found = sa.select(last_used.c.consumer_number).where(of_bucket, last_used.c.consumer_id == consumer_id)
    number: int | None = await tx.scalar(found.limit(1))
    return number


async def sum_totals(tx: Transaction, bucket_number: int, hours: Hours, kind: str) -> Cells:
    """Of a whole bucket, by values of a kind: for "" by verdict alone."""
    table = usage_totals
    span, first, end = ("h", hours.first, hours.end)
    if not hours.in_hours:
        span, first, end = ("d", hours.first // HOURS_OF_DAY, hours.end // HOURS_OF_DAY)
    rows = await tx.all(
        sa.select(table.c.at, table.c.value, table.c.verdict, table.c.total).where(
            table.c.bucket_number == bucket_number,
            table.c.span == span,
            table.c.kind == kind,
            table.c.at >= first,
            table.c.at < end,
        )
    )
    cells: Cells = {}
    for row in rows:
        _add(cells, hours, row.value, row.at * (1 if hours.in_hours else HOURS_OF_DAY), row.verdict, row.total)
    return cells


async def sum_keys(
    tx: Transaction, keys: dict[int, str], hours: Hours, *, by_edge: bool = False, one_name: str | None = None
) -> Cells:
    """Of these keys (ids by number), by key; by edge (its number); or all together under one name."""
    cells: Cells = {}
    for at, row in await _rows_of(tx, list(keys), hours):
        if by_edge:
            for source, part in read_sources(row.sources).items():
                _add(cells, hours, str(source), at, row.verdict, part)
        else:
            name = keys[row.key_number] if one_name is None else one_name
            _add(cells, hours, name, at, row.verdict, row.total)
    return cells


async def rank(
    tx: Transaction, bucket_number: int, hours: Hours, *, by_consumer: bool, limit: int, offset: int
) -> tuple[list[str], dict[str, list[int]], int]:
    """The keys or consumers of a bucket that were asked about most: their ids, the numbers of the keys of each, and how
    many there are in all. A consumer whose id nobody knows any more goes by its number.
    """
    counted = await _counted(tx, hours)
    column: Any = last_used.c.consumer_number if by_consumer else last_used.c.number
    joined = counted.join(last_used, last_used.c.number == counted.c.key_number)
    sums = (
        sa.select(column.label("number"), sa.func.sum(counted.c.total).label("total"))
        .select_from(joined)
        .where(last_used.c.bucket_number == bucket_number)
        .group_by(column)
        .subquery()
    )
    most = sa.select(sums.c.number).order_by(sums.c.total.desc(), sums.c.number).limit(limit).offset(offset)
    numbers = [row.number for row in await tx.all(most)]
    total: int = await tx.scalar(sa.select(sa.func.count()).select_from(sums))
    found = await tx.all(sa.select(last_used).where(is_any(tx, column, numbers)))
    names: dict[int, str] = {}
    owners: dict[str, list[int]] = {}
    for row in found:
        id = row.key_id if not by_consumer else row.consumer_id or str(row.consumer_number)
        names[row.consumer_number if by_consumer else row.number] = id
        owners.setdefault(id, []).append(row.number)
    return [names[number] for number in numbers if number in names], owners, total


async def name_consumers(tx: Transaction, ids: Collection[str]) -> dict[str, str]:
    """The names of those that are there."""
    found = await tx.all(sa.select(consumers.c.id, consumers.c.name).where(consumers.c.id.in_(ids)))
    return {row.id: row.name for row in found}


async def name_owners(tx: Transaction, key_ids: Collection[str]) -> dict[str, str]:
    """The ids of the consumers of keys, by the ids of the keys."""
    rows = await tx.all(sa.select(last_used.c.key_id, last_used.c.consumer_id).where(last_used.c.key_id.in_(key_ids)))
    return {row.key_id: row.consumer_id for row in rows if row.consumer_id is not None}


async def name_values(tx: Transaction, kind: str, values: Collection[str]) -> dict[str, tuple[str, str]]:
    """Names of edges, with their regions, and of plans, by their numbers."""
    numbers = [int(value) for value in values if value.isdecimal()]
    if kind == EDGE:
        rows = await tx.all(sa.select(usage_sources).where(usage_sources.c.number.in_(numbers)))
        return {str(row.number): (row.name, row.region) for row in rows}
    if kind == PLAN:
        rows = await tx.all(sa.select(plans.c.number, plans.c.name).where(plans.c.number.in_(numbers)))
        return {str(row.number): (row.name, "") for row in rows}
    return {}


async def list_losses(tx: Transaction, account_ids: Collection[str], since: int, until: int, limit: int) -> list[Any]:
    """What is known to be lost at edges of the deployment and these accounts, between two moments in milliseconds."""
    table = usage_losses
    meets = (table.c.until >= since, table.c.since < until)
    of_these = table.c.account_id.in_(["", *account_ids])
    return await tx.all(sa.select(table).where(of_these, *meets).order_by(table.c.number.desc()).limit(limit))


async def _rows_of(tx: Transaction, numbers: Sequence[int], hours: Hours) -> list[tuple[int, Any]]:
    """Rows of these keys, each with its hour, or the first hour of its day."""
    if not numbers:
        return []
    first_hour, days = await _divided(tx, hours)
    # Named one by one: what is between two of them are the rows of all other keys.
    found = []
    table = usage_days
    if days:
        of_these = is_any(tx, table.c.key_number, numbers)
        rows = await tx.all(sa.select(table).where(is_any(tx, table.c.day, days), of_these))
        found = [(row.day * HOURS_OF_DAY, row) for row in rows]
    table = usage_hours
    if first_hour < hours.end:
        of_these = is_any(tx, table.c.key_number, numbers)
        rows = await tx.all(sa.select(table).where(is_any(tx, table.c.hour, range(first_hour, hours.end)), of_these))
        found += [(row.hour, row) for row in rows]
    return found


async def _counted(tx: Transaction, hours: Hours) -> sa.Subquery:
    """What was counted of all keys: `key_number` and `total`."""
    first_hour, days = await _divided(tx, hours)
    of_hours = sa.select(usage_hours.c.key_number, usage_hours.c.total).where(
        usage_hours.c.hour >= first_hour, usage_hours.c.hour < hours.end
    )
    if not days:
        return of_hours.subquery()
    of_days = sa.select(usage_days.c.key_number, usage_days.c.total).where(
        usage_days.c.day >= days[0], usage_days.c.day <= days[-1]
    )
    return sa.union_all(of_days, of_hours).subquery()


async def _divided(tx: Transaction, hours: Hours) -> tuple[int, range]:
    """Which days of it are read as days, and the first hour after them."""
    if hours.in_hours:
        return hours.first, range(0)
    rolled: int = await tx.scalar(sa.select(usage_folding.c.rolled_day))
    days = range(hours.first // HOURS_OF_DAY, min(hours.end // HOURS_OF_DAY, rolled + 1))
    return (days.stop * HOURS_OF_DAY, days) if days else (hours.first, range(0))


def _add(cells: Cells, hours: Hours, name: str, at: int, verdict: str, total: int) -> None:
    cell = (name, at - (at - hours.first) % hours.step, verdict)
    cells[cell] = cells.get(cell, 0) + total
