"""Rows that counts are folded into: hours and days by key and verdict, totals of buckets, and when keys were last used.

One process folds at a time. Whoever writes here holds the one row of `usage_folding` in the same transaction: so what
is read before it is written is nobody else's to change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from keywright.domain.models import from_millis
from keywright.origin.buckets import deleted_store
from keywright.origin.db.tables import (
    consumers,
    deleted_consumers,
    keys,
    last_used,
    usage_days,
    usage_folding,
    usage_hours,
    usage_totals,
)
from keywright.origin.db.transaction import Transaction
from keywright.origin.usage.counts import (
    DAY_MILLIS,
    HOURS_OF_DAY,
    ROUTE,
    VALID,
    Count,
    Counts,
    KeyHour,
    day_of,
    read_sources,
    write_sources,
)
from keywright.origin.usage.store import is_any, now_millis

BucketTotal = tuple[int, str, str, int, str, str]
"""Bucket, span, kind, hour or day, value, verdict."""
MOST_ROUTES = 8
"""Of a bucket and day; what is told of others counts as OTHER_ROUTES."""
OTHER_ROUTES = "other"
NOTHING_ROLLED = -1
LATE_DAYS = 3
"""So much later than hours are kept no count of them is taken in any more, whatever an edge's clock says."""


@dataclass(frozen=True, slots=True)
class Folding:
    """What is rolled up into days: all up to `rolled_day`; of the day after it, keys below `next_key`."""

    rolled_day: int
    next_key: int
    now: int
    """By the database's clock, in milliseconds since the epoch."""

    def is_rolled(self, day: int, key_number: int) -> bool:
        return day <= self.rolled_day or (day == self.rolled_day + 1 and key_number < self.next_key)


async def hold(tx: Transaction, holder: str, seconds: float) -> Folding | None:
    """Hold the right to fold for so long; None if another process does. Nobody else gets it before this commits."""
    now, table = await now_millis(tx), usage_folding
    is_free = (table.c.holder == holder) | (table.c.held_until < now) | (table.c.held_until > now + 3_600_000)
    row = await tx.first(
        sa.update(table)
        .where(table.c.single == 1, is_free)
        .values(holder=holder, held_until=now + int(seconds * 1000))
        .returning(table.c.rolled_day, table.c.next_key)
    )
    return None if row is None else Folding(row.rolled_day, row.next_key, now)


async def release(tx: Transaction, holder: str) -> None:
    """Let another process fold."""
    await tx.execute(sa.update(usage_folding).where(usage_folding.c.holder == holder).values(held_until=0))


async def write(tx: Transaction, counts: Counts, folding: Folding) -> dict[str, int]:
    """Add counts to what there is, but for addresses; the numbers that `last_used` gives the keys."""
    numbers = await note_use(tx, counts)
    hours: dict[tuple[int, int, str], Count] = {}
    days: dict[tuple[int, int, str], Count] = {}
    for (hour, _, _, key_id, verdict), count in counts.keys.items():
        number = numbers[key_id]
        hours[(hour, number, verdict)] = count
        if folding.is_rolled(day_of(hour), number):
            # A batch that was late: its day is there already.
            _add(days, (day_of(hour), number, verdict), count)
    await _write_counts(tx, usage_hours, "hour", hours)
    await _write_counts(tx, usage_days, "day", days)
    await _write_totals(tx, counts)
    return numbers


async def roll_up(tx: Transaction, folding: Folding, day: int, *, keys_of_step: int) -> bool:
    """Roll up a step of the day after the last one that is; whether there may be more to do up to `day`, which is over.

    Hours stay as long as they are kept.
    """
    next_day, first = folding.rolled_day + 1, folding.next_key
    if folding.rolled_day == NOTHING_ROLLED:
        oldest = await tx.scalar(sa.select(sa.func.min(usage_hours.c.hour)))
        next_day = day + 1 if oldest is None else min(day_of(oldest), day + 1)
        await _note_rolled(tx, next_day - 1, 0)
        return next_day <= day
    if next_day > day:
        return False
    table, end = usage_hours, first + keys_of_step
    joined: Any = sa.func.string_agg if tx.is_postgresql else sa.func.group_concat
    of_day = table.c.hour.between(next_day * HOURS_OF_DAY, next_day * HOURS_OF_DAY + HOURS_OF_DAY - 1)
    rows = await tx.all(
        sa.select(table.c.key_number, table.c.verdict, sa.func.sum(table.c.total), joined(table.c.sources, " "))
        .where(of_day, table.c.key_number >= first, table.c.key_number < end)
        .group_by(table.c.key_number, table.c.verdict)
    )
    added = [
        {"day": next_day, "key_number": number, "verdict": verdict, "total": int(total), "sources": _again(sources)}
        for number, verdict, total, sources in rows
    ]
    if added:
        await insert_all(tx, usage_days, added, None)
    newest: int = await tx.scalar(sa.select(sa.func.max(last_used.c.number))) or 0
    await _note_rolled(tx, *((next_day, 0) if end > newest else (next_day - 1, end)))
    return True


async def prune(tx: Transaction, folding: Folding, *, hours_days: int, days_kept: int, rows_of_step: int) -> bool:
    """Take out a step of what is kept no longer; whether there may be more."""
    today = folding.now // DAY_MILLIS
    # What is not rolled up yet is kept until it is.
    first_hour = min(today - hours_days, folding.rolled_day + 1) * HOURS_OF_DAY
    first_day = today - days_kept
    is_more = await _prune_counts(tx, usage_hours, usage_hours.c.hour, first_hour, rows_of_step)
    is_more |= await _prune_counts(tx, usage_days, usage_days.c.day, first_day, rows_of_step)
    is_more |= await deleted_store.prune(
        tx,
        buckets_before=from_millis(folding.now - (days_kept + 1) * DAY_MILLIS),
        consumers_before=from_millis(folding.now - (hours_days + LATE_DAYS) * DAY_MILLIS),
        rows_of_step=rows_of_step,
    )
    is_more |= await _prune_totals(tx, "h", first_hour)
    is_more |= await _prune_totals(tx, "d", first_day)
    return is_more


async def prune_last_used(
    tx: Transaction, folding: Folding, *, days_kept: int, first: int, numbers_of_step: int
) -> int | None:
    """Take out, from a number on, keys that are gone and of which no count is kept; the number to go on with."""
    end, before = first + numbers_of_step, folding.now - (days_kept + 1) * DAY_MILLIS
    is_gone = ~sa.exists().where(keys.c.id == last_used.c.key_id)
    of_step = (last_used.c.number >= first, last_used.c.number < end)
    await tx.execute(sa.delete(last_used).where(*of_step, last_used.c.asked_at < before, is_gone))
    newest: int | None = await tx.scalar(sa.select(sa.func.max(last_used.c.number)))
    return end if newest is not None and end <= newest else None


async def note_use(tx: Transaction, counts: Counts) -> dict[str, int]:
    """Keeps when keys were used; the numbers of all keys that are counted."""
    of_key: dict[str, KeyHour] = {}
    asked: dict[str, int] = {}
    used: dict[str, tuple[int, int]] = {}
    for name, count in counts.keys.items():
        key_id = name[3]
        of_key[key_id] = name
        asked[key_id] = max(asked.get(key_id, 0), count.last)
        if name[4] == VALID:
            # Of a batch there is one; of several folded together, one of those that had it then.
            used[key_id] = max(used.get(key_id, (0, 0)), (count.last, max(count.sources)))
    for (day, bucket, consumer, key_id), told in counts.addresses.items():
        of_key.setdefault(key_id, (day * HOURS_OF_DAY, bucket, consumer, key_id, ""))
        asked[key_id] = max([asked.get(key_id, 0), *(count.last for count in told.networks.values())])
    held = {row.key_id: row for row in await tx.all(sa.select(last_used).where(is_any(tx, last_used.c.key_id, of_key)))}
    numbers = {key_id: row.number for key_id, row in held.items()}
    moved = []
    for key_id, row in held.items():
        at, source = used.get(key_id, (0, 0))
        if at <= (row.used_at or 0):
            at, source = row.used_at, row.used_source
        if at != row.used_at or asked[key_id] > row.asked_at:
            later = max(asked[key_id], row.asked_at)
            moved.append({"number": row.number, "used_at": at, "used_source": source, "asked_at": later})
    await update_last_used(tx, moved, ("used_at", "used_source", "asked_at"))
    missing = [name for key_id, name in of_key.items() if key_id not in held]
    if missing:
        numbers |= await _insert_use(tx, missing, used, asked)
    return numbers


async def _insert_use(
    tx: Transaction, names: Sequence[KeyHour], used: Mapping[str, tuple[int, int]], asked: Mapping[str, int]
) -> dict[str, int]:
    ids: dict[int, str] = {}
    # Those that are gone first: of whom there is the consumer's own row, that counts.
    for number, id in (
        (deleted_consumers.c.consumer_number, deleted_consumers.c.id),
        (consumers.c.number, consumers.c.id),
    ):
        found = await tx.all(
            sa.select(number.label("number"), id).where(is_any(tx, number, {name[2] for name in names}))
        )
        ids |= {row.number: row.id for row in found}
    rows = [
        {
            "key_id": key_id,
            "bucket_number": bucket,
            "consumer_number": consumer,
            "consumer_id": ids.get(consumer),
            "used_at": used[key_id][0] if key_id in used else None,
            "used_source": used[key_id][1] if key_id in used else None,
            "asked_at": asked[key_id],
        }
        for _, bucket, consumer, key_id, _ in names
    ]
    made = await tx.execute(sa.insert(last_used).returning(last_used.c.key_id, last_used.c.number), rows)
    return {row.key_id: row.number for row in made}


async def update_last_used(tx: Transaction, moved: list[dict[str, Any]], columns: Sequence[str]) -> None:
    """Set these columns of rows of `last_used`, each by its `number`."""
    if not moved:
        return
    if tx.is_postgresql:
        given = _unnested(last_used, moved)
        values = {name: given.c[name] for name in columns}
        await tx.execute(sa.update(last_used).values(values).where(last_used.c.number == given.c.number))
        return
    one = sa.update(last_used).where(last_used.c.number == sa.bindparam("of_number"))
    values = {name: sa.bindparam(f"new_{name}") for name in columns}
    rows = [{"of_number": row["number"], **{f"new_{name}": row[name] for name in columns}} for row in moved]
    await tx.execute(one.values(values), rows)


async def _write_counts(tx: Transaction, table: sa.Table, span: str, added: dict[tuple[int, int, str], Count]) -> None:
    if not added:
        return
    column, rows = table.c[span], []
    by_span: dict[int, set[int]] = {}
    for at, number, _ in added:
        by_span.setdefault(at, set()).add(number)
    held: dict[tuple[int, int, str], Any] = {}
    for at, numbers in by_span.items():
        found = await tx.all(sa.select(table).where(column == at, is_any(tx, table.c.key_number, numbers)))
        held |= {(at, row.key_number, row.verdict): row for row in found}
    for name, count in sorted(added.items()):
        row = held.get(name)
        total = count.total + (0 if row is None else row.total)
        sources = count.sources if row is None else read_sources(row.sources, dict(count.sources))
        at, number, verdict = name
        values = {span: at, "key_number": number, "verdict": verdict, "total": total}
        rows.append({**values, "sources": write_sources(sources)})
    again: Callable[[Any], dict[str, Any]] = lambda new: {"total": new.total, "sources": new.sources}  # noqa: E731
    await insert_all(tx, table, rows, again)


async def _write_totals(tx: Transaction, counts: Counts) -> None:
    sums: dict[BucketTotal, int] = {}
    for (hour, bucket, kind, value, verdict), total in counts.totals.items():
        for span, at in (("h", hour), ("d", day_of(hour))):
            name = (bucket, span, kind, at, value, verdict)
            sums[name] = sums.get(name, 0) + total
    sums = await _with_few_routes(tx, sums)
    columns = ("bucket_number", "span", "kind", "at", "value", "verdict")
    rows = [{**dict(zip(columns, name, strict=True)), "total": total} for name, total in sorted(sums.items())]
    if rows:
        await insert_all(tx, usage_totals, rows, lambda new: {"total": usage_totals.c.total + new.total})


async def _with_few_routes(tx: Transaction, sums: dict[BucketTotal, int]) -> dict[BucketTotal, int]:
    """The same with no more than MOST_ROUTES tags in a bucket and day, however many edges told of others each."""
    days: dict[tuple[int, int], dict[str, int]] = {}
    for (bucket, span, kind, at, value, _), total in sums.items():
        if (span, kind) == ("d", ROUTE):
            of_day = days.setdefault((bucket, at), {})
            of_day[value] = of_day.get(value, 0) + total
    if not days:
        return sums
    kept: dict[tuple[int, int], set[str]] = {}
    table = usage_totals
    for (bucket, at), told in days.items():
        place = (table.c.bucket_number == bucket, table.c.span == "d", table.c.kind == ROUTE, table.c.at == at)
        known = {row.value for row in await tx.all(sa.select(table.c.value).where(*place).distinct())} - {OTHER_ROUTES}
        new = sorted(told.keys() - known - {OTHER_ROUTES}, key=lambda value: (-told[value], value))
        kept[(bucket, at)] = {*known, *new[: max(MOST_ROUTES - len(known), 0)]}
    found: dict[BucketTotal, int] = {}
    for (bucket, span, kind, at, value, verdict), total in sums.items():
        is_kept = kind != ROUTE or value in kept[(bucket, at if span == "d" else day_of(at))]
        name = (bucket, span, kind, at, value if is_kept else OTHER_ROUTES, verdict)
        found[name] = found.get(name, 0) + total
    return found


async def insert_all(
    tx: Transaction, table: sa.Table, rows: list[dict[str, Any]], again: Callable[[Any], dict[str, Any]] | None
) -> None:
    """Inserts rows; `again` says what becomes of those that are there, given the new ones."""
    insert: Any = (postgresql if tx.is_postgresql else sqlite).insert(table)
    names = list(rows[0])
    if tx.is_postgresql:
        # One statement for any number of rows, and arrays instead of a thousand parameters.
        given = _unnested(table, rows)
        insert = insert.from_select(names, sa.select(*(given.c[name] for name in names)))
    if again is not None:
        insert = insert.on_conflict_do_update(index_elements=list(table.primary_key), set_=again(insert.excluded))
    await tx.execute(insert, None if tx.is_postgresql else rows)


def _unnested(table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> Any:
    """Rows as a table of PostgreSQL's, with the types of that table."""
    names = list(rows[0])
    arrays = [
        sa.bindparam(f"given_{name}", [row[name] for row in rows], type_=postgresql.ARRAY(table.c[name].type))
        for name in names
    ]
    columns = (sa.column(name, table.c[name].type) for name in names)
    return sa.func.unnest(*arrays).table_valued(*columns, name="given").render_derived()


async def _note_rolled(tx: Transaction, day: int, next_key: int) -> None:
    await tx.execute(sa.update(usage_folding).values(rolled_day=day, next_key=next_key))


async def _prune_counts(tx: Transaction, table: sa.Table, column: sa.Column[Any], first: int, most: int) -> bool:
    """Takes out the oldest before `first`, at most so many; whether there may be more."""
    place = list(table.primary_key)
    oldest = sa.select(*place).where(column < first).order_by(*place)
    last = await tx.first(oldest.offset(most - 1).limit(1))
    if last is None:
        await tx.execute(sa.delete(table).where(column < first))
        return False
    await tx.execute(sa.delete(table).where(sa.tuple_(*place) <= sa.tuple_(*last)))
    return True


async def _prune_totals(tx: Transaction, span: str, first: int) -> bool:
    table = usage_totals
    of_span = table.c.span == span
    oldest: int | None = await tx.scalar(sa.select(sa.func.min(table.c.at)).where(of_span, table.c.at < first))
    if oldest is not None:
        await tx.execute(sa.delete(table).where(of_span, table.c.at == oldest))
    return oldest is not None


def _add(to: dict[tuple[int, int, str], Count], name: tuple[int, int, str], count: Count) -> None:
    held = to.setdefault(name, Count(0, 0, {}))
    held.total += count.total
    for source, part in count.sources.items():
        held.sources[source] = held.sources.get(source, 0) + part


def _again(sources: str) -> str:
    return write_sources(read_sources(sources))
