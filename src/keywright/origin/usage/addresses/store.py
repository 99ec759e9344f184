"""Rows of networks that keys were used from, by key and day; only of buckets that wish it, and no longer than that."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

import sqlalchemy as sa

from keywright.origin.db.tables import buckets, last_used, usage_addresses
from keywright.origin.db.transaction import Transaction
from keywright.origin.usage.addresses.days import AddressDay, KeyDay, unpack_networks
from keywright.origin.usage.addresses.sketch import Sketch
from keywright.origin.usage.fold_store import insert_all, update_last_used
from keywright.origin.usage.store import is_any

ADDRESS_DAYS = 90
"""So many days are kept, or fewer where days of usage are."""


async def write(tx: Transaction, told: Mapping[KeyDay, AddressDay], numbers: Mapping[str, int]) -> None:
    """Add what edges have told to what there is. `numbers` are those of the keys in `last_used`.

    For whoever holds the right to fold, as all that is read here before it is written.
    """
    # Edges hear up to two minutes late that a bucket does not wish it any more.
    recording = await find_recording(tx, {bucket for _, bucket, _, _ in told})
    wished = {(name[0], numbers[name[3]]): (name[1], day) for name, day in told.items() if name[1] in recording}
    if not wished:
        return
    rows: list[dict[str, Any]] = []
    used: dict[int, tuple[int, str]] = {}
    for at in sorted({at for at, _ in wished}):
        held = dict(await _of_day(tx, at, [number for day, number in wished if day == at]))
        for (day_at, number), (bucket, day) in sorted(wished.items(), key=lambda item: item[0]):
            if day_at != at:
                continue
            if day.used is not None:
                used[number] = max(used.get(number, (0, "")), day.used)
            if number in held:
                day.add(held[number])
            networks = json.dumps(day.pack_networks(), separators=(",", ":"))
            place = {"day": at, "key_number": number, "bucket_number": bucket}
            rows.append({**place, "networks": networks, "sketch": day.sketch.encode()})
    await insert_all(tx, usage_addresses, rows, lambda new: {"networks": new.networks, "sketch": new.sketch})
    known = sa.select(last_used.c.number, last_used.c.used_network_at).where(is_any(tx, last_used.c.number, used))
    at_of = {row.number: row.used_network_at or 0 for row in await tx.all(known)}
    newer = [
        {"number": number, "used_network": network, "used_network_at": at}
        for number, (at, network) in sorted(used.items())
        if at > at_of[number]
    ]
    await update_last_used(tx, newer, ("used_network", "used_network_at"))


async def list_days(
    tx: Transaction, key_numbers: Collection[int], first_day: int, end_day: int
) -> list[tuple[int, AddressDay]]:
    """Of these keys, from a day to before another one: each with its day."""
    if not key_numbers:
        return []
    table = usage_addresses
    of_these = is_any(tx, table.c.key_number, key_numbers)
    rows = await tx.all(sa.select(table).where(is_any(tx, table.c.day, range(first_day, end_day)), of_these))
    return [(row.day, _day_in(row)) for row in rows]


async def list_recording(tx: Transaction) -> list[int]:
    """The numbers of buckets that wish it, in their order."""
    wished = sa.select(buckets.c.number).where(buckets.c.record_addresses).order_by(buckets.c.number)
    return [row.number for row in await tx.all(wished)]


async def find_recording(tx: Transaction, numbers: Collection[int]) -> set[int]:
    """Which of these wish it."""
    if not numbers:
        return set()
    wished = sa.select(buckets.c.number).where(buckets.c.number.in_(numbers), buckets.c.record_addresses)
    return {row.number for row in await tx.all(wished)}


async def prune(tx: Transaction, *, first_day: int, rows_of_step: int) -> bool:
    """Take out what is kept no longer, and what buckets do not wish any more; whether there may be more."""
    table = usage_addresses
    wished = sa.select(buckets.c.number).where(buckets.c.record_addresses)
    is_over = (table.c.day < first_day) | table.c.bucket_number.not_in(wished)
    some = sa.select(table.c.day, table.c.key_number).where(is_over).limit(rows_of_step)
    found = await tx.all(some)
    if found:
        place = sa.tuple_(table.c.day, table.c.key_number)
        await tx.execute(sa.delete(table).where(place.in_([tuple(row) for row in found])))
    return len(found) == rows_of_step


async def forget_last(tx: Transaction, *, first: int, end: int) -> None:
    """Of these keys, by their numbers: from where they were used last, where their bucket does not wish it any more."""
    wished = sa.select(buckets.c.number).where(buckets.c.record_addresses)
    of_step = (last_used.c.number >= first, last_used.c.number < end, last_used.c.used_network.is_not(None))
    nothing = {"used_network": None, "used_network_at": None}
    await tx.execute(sa.update(last_used).where(*of_step, last_used.c.bucket_number.not_in(wished)).values(**nothing))


async def _of_day(tx: Transaction, day: int, key_numbers: Collection[int]) -> list[tuple[int, AddressDay]]:
    table = usage_addresses
    rows = await tx.all(sa.select(table).where(table.c.day == day, is_any(tx, table.c.key_number, key_numbers)))
    return [(row.key_number, _day_in(row)) for row in rows]


def _day_in(row: Any) -> AddressDay:
    return AddressDay(unpack_networks(json.loads(row.networks)), Sketch.decode(bytes(row.sketch)))
