"""Batches become hours, hours become days, and each validation is counted once, whoever folds and is killed at it."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import time
from collections import Counter

import pytest
import sqlalchemy as sa

from keywright.origin.db import tables
from keywright.origin.usage import fold_store, folding, store
from keywright.origin.usage.counts import AT_ONCE, DAY_MILLIS, FIRST_USES, READY, ROUTE, read_sources
from keywright.origin.usage.folding import FoldedElsewhere, Folder, list_due
from keywright.origin.usage.intake.first_uses import FirstUses
from keywright.origin.usage.store import Waiting
from keywright.protocol.usage import HOUR_MILLIS, UsageRow
from support.counted import EDGES, append, count_all, draw_rows, row, sum_of
from support.record import Record

NOW_HOUR = int(time.time() * 1000) // HOUR_MILLIS
MUCH = 1500
"""More rows than are folded at once."""
LARGE = 1010
"""As few as are more than that."""


def folder_of(record: Record) -> Folder:
    return Folder(record.another_database(), hours_days=14, days_kept=395)


async def fold_all(folder: Folder) -> None:
    for part in (FIRST_USES, READY, AT_ONCE, *range(16)):
        while await folder.fold(part):
            pass


async def test_batches_of_any_size_are_counted_once_by_key_edge_and_bucket(record: Record) -> None:
    draw, rows = random.Random(1), []
    for source in EDGES:
        for count in (5, MUCH):
            batch = draw_rows(draw, count, keys=700, hours=[NOW_HOUR - 1, NOW_HOUR])
            rows += batch
            await append(record.database, batch, source)
    await append(record.database, [row(None, 9, hour=NOW_HOUR, verdict="UNKNOWN")])
    await fold_all(folder_of(record))
    assert await count_all(record.database) == sum_of(rows)
    async with record.database.read() as tx:
        assert await tx.scalar(sa.select(sa.func.count()).select_from(tables.usage_batches)) == 0
        by_edge = [read_sources(one.sources) for one in await tx.all(sa.select(tables.usage_hours.c.sources))]
        totals = await tx.all(sa.select(tables.usage_totals))
    assert sum(sum(one.values()) for one in by_edge) == sum(one.total for one in rows)
    for span in ("h", "d"):
        for kind in ("", "edge"):
            of_kind = [one.total for one in totals if (one.span, one.kind) == (span, kind)]
            assert sum(of_kind) == sum(one.total for one in rows) + 9


async def test_last_use_is_the_newest_valid_one_whatever_comes_later(record: Record) -> None:
    folder = folder_of(record)
    for hour, verdict, last_ms in ((5, "VALID", 700), (4, "VALID", 900), (5, "VALID", 600), (6, "EXPIRED", 50)):
        await append(record.database, [row("key_a", hour=hour, verdict=verdict, last_ms=last_ms)], EDGES[hour % 3])
        await fold_all(folder)
    async with record.database.read() as tx:
        (held,) = await tx.all(sa.select(tables.last_used))
    assert (held.used_at, held.asked_at) == (5 * HOUR_MILLIS + 700, 6 * HOUR_MILLIS + 50)
    assert (held.bucket_number, held.consumer_number, held.consumer_id) == (1, 7, None)


async def test_first_use_in_an_hour_is_seen_at_once_however_large_its_batch(record: Record) -> None:
    folder, first_uses = folder_of(record), FirstUses()
    rows = [row(f"key_{at}", 3, hour=NOW_HOUR, last_ms=500 + at) for at in range(LARGE)]
    refused = [one._replace(key_id=f"{one.key_id}_x", verdict="EXPIRED") for one in rows[:50]]

    async def tell(some: list[UsageRow]) -> list[int]:
        async with record.database.write() as tx:
            await store.append(tx, some, EDGES[0], first_uses)
        async with record.database.read() as tx:
            waiting = await store.list_waiting(tx)
        return [one.rows for one in waiting if one.part == FIRST_USES]

    assert await tell([*rows, *refused]) == [LARGE]
    # Half an hour before the hour is folded.
    (due, *_) = list_due([Waiting(FIRST_USES, 1, 0)], 1)
    assert due == FIRST_USES
    while await folder.fold(FIRST_USES):
        pass
    async with record.database.read() as tx:
        used = {one.key_id: one.used_at for one in await tx.all(sa.select(tables.last_used))}
    assert used == {one.key_id: NOW_HOUR * HOUR_MILLIS + one.last_ms for one in rows}
    assert not await count_all(record.database)
    # What comes later in the hour is not first; in the next one it is, for all that it knows of the last.
    assert await tell([one._replace(last_ms=9000) for one in rows]) == []
    assert await tell([one._replace(hour=NOW_HOUR + 1) for one in rows]) == [LARGE]
    await fold_all(folder)
    assert sum((await count_all(record.database)).values()) == 3 * 3 * LARGE + 3 * 50


async def test_routes_beyond_eight_of_a_day_are_one_whoever_told_of_them(record: Record) -> None:
    folder = folder_of(record)
    day = NOW_HOUR // 24 * 24
    for edge, names in enumerate((range(6), range(4, 12), range(12))):
        told = [row("key_a", 10 - edge, hour=day + edge, route=f"r-{name}") for name in names]
        await append(record.database, told, EDGES[edge])
        await fold_all(folder)
    async with record.database.read() as tx:
        found = await tx.all(sa.select(tables.usage_totals).where(tables.usage_totals.c.kind == ROUTE))
    for span in ("h", "d"):
        totals = Counter[str]()
        for one in found:
            totals.update({one.value: one.total} if one.span == span else {})
        # Those that were there first; of as many of each, the first by name.
        assert totals.keys() == {"other", *(f"r-{name}" for name in (*range(6), 10, 11))}
        assert sum(totals.values()) == 6 * 10 + 8 * 9 + 12 * 8
        assert totals["other"] == 4 * 9 + 4 * 8


async def test_folders_side_by_side_count_nothing_twice(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each takes what it may not hold any more from the other, at any moment.
    monkeypatch.setattr(folding, "HOLD_SECONDS", -1.0)
    draw, rows = random.Random(2), []
    for _ in range(12):
        batch = draw_rows(draw, draw.choice([20, MUCH]), keys=300, hours=[NOW_HOUR])
        rows += batch
        await append(record.database, batch, draw.choice(EDGES))

    async def fold() -> None:
        folder = folder_of(record)
        for _ in range(200):
            try:
                await fold_all(folder)
            except FoldedElsewhere:
                await asyncio.sleep(0)
            else:
                return

    await asyncio.gather(fold(), fold(), fold())
    assert await count_all(record.database) == sum_of(rows)


async def test_one_that_holds_the_fold_keeps_others_from_it_until_it_lets_go(record: Record) -> None:
    async with record.database.write() as tx:
        assert await fold_store.hold(tx, "one", 60) is not None
    async with record.database.write() as tx:
        assert await fold_store.hold(tx, "other", 60) is None
        assert await fold_store.hold(tx, "one", 60) is not None
        await fold_store.release(tx, "one")
    async with record.database.write() as tx:
        assert await fold_store.hold(tx, "other", 60) is not None


KILLED = """
import asyncio, sys
from keywright.origin.db.transaction import Database
from keywright.origin.usage import folding
folding.LOOK_SECONDS, folding.HOLD_SECONDS, folding.ROWS_OF_STEP, folding.MOST_WAITING = 0.0, -1.0, 40, 0
print("folds", flush=True)
asyncio.run(folding.Folder(Database(sys.argv[1]), hours_days=14, days_kept=395).run(asyncio.Event()))
"""


@pytest.mark.parametrize("seed", [11, 12])
async def test_folder_killed_at_any_moment_loses_and_doubles_nothing(record: Record, seed: int) -> None:
    draw, rows = random.Random(seed), []
    today = NOW_HOUR // 24
    url = record.database.engine.url.render_as_string(hide_password=False)
    for _ in range(4):
        for _ in range(3):
            hours = [(today - 3) * 24 + draw.randrange(24) for _ in range(3)]
            batch = draw_rows(draw, draw.choice([30, MUCH]), keys=400, hours=hours)
            rows += batch
            await append(record.database, batch, draw.choice(EDGES))
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, url, stdout=pipe)
        assert process.stdout is not None
        await process.stdout.readline()
        await asyncio.sleep(draw.uniform(0.05, 0.4))
        process.send_signal(signal.SIGKILL)
        await process.wait()
    folder = folder_of(record)
    await fold_all(folder)
    await folder._tidy(today - 1, asyncio.Event())
    assert await count_all(record.database) == sum_of(rows)
    assert await count_all(record.database, tables.usage_days) == sum_of(rows, 24)


async def test_late_counts_reach_days_that_are_rolled_up_wholly_or_in_part(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "KEYS_OF_ROLL", 3)
    draw, folder, rows = random.Random(3), folder_of(record), []
    today = NOW_HOUR // 24
    hours = [(today - 5) * 24 + hour for hour in (0, 23, 24, 47)]

    async def more() -> None:
        batch = draw_rows(draw, 40, keys=10, hours=hours)
        rows.extend(batch)
        await append(record.database, batch)
        await fold_all(folder)

    await more()
    for _ in range(5):
        # The second step of the day is that of keys 3 to 5.
        async with record.database.write() as tx:
            held = await fold_store.hold(tx, folder._holder, 60)
            assert held is not None
            await fold_store.roll_up(tx, held, today - 1, keys_of_step=3)
        await more()
    await folder._tidy(today - 1, asyncio.Event())
    await more()
    assert await count_all(record.database, tables.usage_days) == sum_of(rows, 24)
    assert await count_all(record.database) == sum_of(rows)


async def test_hours_go_after_their_time_and_days_after_theirs(record: Record) -> None:
    folder, today = folder_of(record), NOW_HOUR // 24
    kept = {"key_a": today - 3, "key_b": today - 20, "key_c": today - 400}
    rows = [row(key, hour=day * 24, consumer_number=1) for key, day in kept.items()]
    await append(record.database, rows)
    await fold_all(folder)
    assert await folder._tidy(today - 1, asyncio.Event())
    assert {key for key, _, _ in await count_all(record.database)} == {"key_a"}
    assert {key for key, _, _ in await count_all(record.database, tables.usage_days)} == {"key_a", "key_b"}
    async with record.database.read() as tx:
        totals = await tx.all(sa.select(tables.usage_totals.c.span, tables.usage_totals.c.at).distinct())
        numbers = [one.key_id for one in await tx.all(sa.select(tables.last_used).order_by(tables.last_used.c.number))]
    assert sorted(map(tuple, totals)) == [("d", today - 20), ("d", today - 3), ("h", (today - 3) * 24)]
    assert numbers == ["key_a", "key_b"]


async def test_run_folds_little_within_seconds_and_ends_when_it_is_told(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "LOOK_SECONDS", 0.05)
    stop, folder = asyncio.Event(), folder_of(record)
    running = asyncio.create_task(folder.run(stop))
    rows = [row("key_a", 3, hour=NOW_HOUR)]
    await append(record.database, rows)
    async with asyncio.timeout(20):
        while await count_all(record.database) != sum_of(rows):
            await asyncio.sleep(0.02)
    stop.set()
    await running
    async with record.database.write() as tx:
        assert await fold_store.hold(tx, "another", 60) is not None


def test_what_is_much_waits_for_its_hour_and_what_is_little_does_not() -> None:
    minute = 60_000
    now = 100 * DAY_MILLIS + 12 * HOUR_MILLIS + 4 * minute
    before = Waiting(2, 5000, now - 10 * minute)
    assert list_due([Waiting(AT_ONCE, 5, now), before, Waiting(READY, 5, now)], now) == [READY, AT_ONCE]
    assert list_due([before, Waiting(3, 5000, now)], now + 2 * minute) == [2, 3]
    assert list_due([before, Waiting(3, 5000, now + 2 * minute)], now + 2 * minute) == [2]
    assert list_due([Waiting(4, folding.MOST_WAITING + 1, now)], now) == [4]
