"""What is measured of the database: on SQLite and PostgreSQL, and while it is away."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from prometheus_client.core import Metric

from keywright.origin.db.engine import DatabaseUnavailable
from keywright.origin.db.metrics import COMMITS, UNAVAILABLE, WAITS, DatabaseSource
from keywright.origin.db.transaction import Database, Transaction
from keywright.runtime.metrics.families import SUM
from support.ports import free_port

if TYPE_CHECKING:
    from pathlib import Path


def gauges(source: DatabaseSource) -> dict[str, float]:
    told: list[Metric] = list(source.gauges())
    return {"/".join((one.name, *one.labels.values())): one.value for metric in told for one in metric.samples}


def total(source: DatabaseSource, name: str) -> int:
    """How many a histogram has counted."""
    return sum(count for key, count in source.count().items() if key[0] == name and key[-1] != SUM)


async def test_a_database_is_told_its_size_its_pool_and_what_its_transactions_took(database_url: str) -> None:
    database = Database(database_url)
    source = DatabaseSource(database)
    assert "keywright_database_up" not in gauges(source)
    await source.look()
    begun = total(source, WAITS.name), total(source, COMMITS.name)
    async with database.write() as tx:
        held = gauges(source)
        await tx.execute(sa.text("CREATE TABLE filler (text varchar(1000))"))
        await tx.execute(sa.text("INSERT INTO filler VALUES (:text)"), [{"text": "x" * 1000}] * 2000)
    async with database.read():
        pass
    before = gauges(source)
    await source.look()
    after = gauges(source)
    assert held["keywright_database_pool_connections/in_use"] == 1
    assert after["keywright_database_pool_connections/in_use"] == 0
    assert after["keywright_database_up"] == 1
    assert after["keywright_database_size_bytes"] >= before["keywright_database_size_bytes"] + 1_500_000
    # The look is a transaction that reads, as well.
    assert (total(source, WAITS.name), total(source, COMMITS.name)) == (begun[0] + 3, begun[1] + 1)
    assert source.count()[COMMITS.name, SUM] > 0
    await database.close()


async def test_the_wait_for_the_turn_to_write_is_counted_on_sqlite(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/record.db")
    source = DatabaseSource(database)

    async def write() -> None:
        async with database.write():
            await asyncio.sleep(0.03)

    await asyncio.gather(*(write() for _ in range(4)))
    assert source.count()[WAITS.name, SUM] >= (0.03 + 0.06 + 0.09) * 1e9 * 0.9
    await database.close()


async def test_units_are_counted_as_they_wait_and_by_their_one_commit(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/record.db")
    source = DatabaseSource(database)

    async def unit(tx: Transaction) -> None:
        await tx.scalar(sa.text("SELECT 1"))

    assert database._writing is not None
    async with database._writing:
        waiting = [asyncio.create_task(database.run_write(unit)) for _ in range(3)]
        await asyncio.sleep(0.03)
    await asyncio.gather(*waiting)
    await database.run_read(unit)
    assert (total(source, WAITS.name), total(source, COMMITS.name)) == (4, 1)
    assert source.count()[WAITS.name, SUM] >= 3 * 0.03 * 1e9 * 0.9
    await database.close()


async def test_a_database_that_is_away_is_told_at_once_and_counted() -> None:
    database = Database(f"postgresql+asyncpg://nobody@127.0.0.1:{free_port()}/nothing")
    source = DatabaseSource(database)
    for _ in range(3):
        with pytest.raises(DatabaseUnavailable):
            async with database.write():
                pass
    began = time.monotonic()
    told = gauges(source)
    assert time.monotonic() - began < 0.1
    assert "keywright_database_size_bytes" not in told
    assert source.count()[UNAVAILABLE.name,] == 3
    await source.look()
    told = gauges(source)
    assert told["keywright_database_up"] == 0
    assert "keywright_database_size_bytes" not in told
    await database.close()


async def test_a_look_goes_on_until_the_stop(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/record.db")
    source, stop = DatabaseSource(database), asyncio.Event()
    running = asyncio.create_task(source.run(stop))
    async with asyncio.timeout(30):
        while "keywright_database_up" not in gauges(source):
            await asyncio.sleep(0.01)
        stop.set()
        await running
    await database.close()
