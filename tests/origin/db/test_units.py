"""Units of work in the thread of a connection: whole or not at all, each for itself, together with one commit."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from keywright.origin.db.engine import DatabaseUnavailable, DiskFull, UniqueViolation
from keywright.origin.db.transaction import Database, Transaction

TABLE = sa.Table("units", sa.MetaData(), sa.Column("name", sa.Text, primary_key=True))


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    made = Database(f"sqlite+aiosqlite:///{tmp_path}/units.db")
    async with made.engine.begin() as connection:
        await connection.run_sync(TABLE.metadata.create_all)
    yield made
    await made.close()


@pytest.fixture
def commits(database: Database) -> list[sa.Connection]:
    """Each commit of units."""
    found: list[sa.Connection] = []
    assert database._units is not None
    sa.event.listen(database._units._engine, "commit", found.append)
    return found


async def insert(tx: Transaction, name: str) -> str:
    await tx.execute(sa.insert(TABLE), {"name": name})
    return name


async def names(database: Database) -> list[str]:
    async def find(tx: Transaction) -> list[str]:
        return [row.name for row in await tx.all(sa.select(TABLE).order_by(TABLE.c.name))]

    return await database.run_read(find)


async def together(database: Database, *units: Any) -> list[Any]:
    """What came of units that have all waited for the lock at once, or what they raised."""
    assert database._writing is not None
    async with database._writing:
        waiting = [asyncio.create_task(database.run_write(unit)) for unit in units]
        await asyncio.sleep(0)
    return await asyncio.gather(*waiting, return_exceptions=True)


async def test_what_a_unit_returns_is_committed_and_what_raises_leaves_nothing(database: Database) -> None:
    assert await database.run_write(lambda tx: insert(tx, "a")) == "a"

    async def fail(tx: Transaction) -> None:
        await insert(tx, "b")
        raise LookupError("on the way")

    with pytest.raises(LookupError, match="on the way"):
        await database.run_write(fail)
    with pytest.raises(UniqueViolation):
        await database.run_write(lambda tx: insert(tx, "a"))
    assert await names(database) == ["a"]


async def test_units_that_wait_are_committed_together_and_one_that_fails_alone(
    database: Database, commits: list[sa.Connection]
) -> None:
    async def fail(tx: Transaction) -> None:
        await insert(tx, "failed")
        raise LookupError

    found = await together(
        database,
        lambda tx: insert(tx, "a"),
        fail,
        lambda tx: insert(tx, "a"),
        lambda tx: insert(tx, "c"),
    )
    assert [type(one) for one in found] == [str, LookupError, UniqueViolation, str]
    assert await names(database) == ["a", "c"]
    assert len(commits) == 1


async def test_a_commit_that_fails_is_told_to_all_of_it_but_each_with_its_own_error(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorname = "SQLITE_FULL"
    assert database._units is not None
    dialect = database._units._engine.dialect

    def commit(_: object) -> None:
        raise full

    async def fail(_: Transaction) -> None:
        raise LookupError

    monkeypatch.setattr(dialect, "do_commit", commit)
    found = await together(database, lambda tx: insert(tx, "a"), fail, lambda tx: insert(tx, "b"))
    assert [type(one) for one in found] == [DiskFull, LookupError, DiskFull]
    monkeypatch.undo()
    assert await names(database) == []
    await database.run_write(lambda tx: insert(tx, "a"))


async def test_a_transaction_that_sqlite_has_taken_back_is_committed_for_nobody(database: Database) -> None:
    async def lose(tx: Transaction) -> None:
        await tx.execute(sa.text("ROLLBACK"))
        raise DatabaseUnavailable("taken back")

    found = await together(database, lambda tx: insert(tx, "a"), lose, lambda tx: insert(tx, "b"))
    assert [type(one) for one in found] == [DatabaseUnavailable] * 3
    assert await names(database) == []


async def test_a_unit_that_waits_for_anything_else_is_a_bug_that_says_so(database: Database) -> None:
    async def wait(tx: Transaction) -> None:
        await insert(tx, "a")
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="waits for something else"):
        await database.run_write(wait)
    with pytest.raises(RuntimeError, match="waits for something else"):
        await database.run_read(wait)
    assert await names(database) == []


async def test_who_gave_up_before_its_turn_has_done_nothing(database: Database) -> None:
    assert database._writing is not None
    async with database._writing:
        given_up = asyncio.create_task(database.run_write(lambda tx: insert(tx, "given up")))
        kept = asyncio.create_task(database.run_write(lambda tx: insert(tx, "kept")))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.sleep(0)
    assert await kept == "kept"
    assert await names(database) == ["kept"]


async def test_writers_of_both_kinds_wait_for_each_other(database: Database) -> None:
    async def write(number: int) -> None:
        if number % 2:
            await database.run_write(lambda tx: insert(tx, f"unit {number:03}"))
        else:
            async with database.write() as tx:
                await insert(tx, f"block {number:03}")

    await asyncio.gather(*(write(number) for number in range(40)))
    assert len(await names(database)) == 40


async def test_a_savepoint_leaves_nothing_of_what_failed_within(database: Database) -> None:
    await database.run_write(lambda tx: insert(tx, "a"))

    async def unit(tx: Transaction) -> None:
        await insert(tx, "b")
        try:
            async with tx.savepoint():
                await insert(tx, "c")
                await insert(tx, "a")
        except UniqueViolation:
            await insert(tx, "d")

    await database.run_write(unit)
    assert await names(database) == ["a", "b", "d"]


async def test_a_unit_that_only_reads_has_nothing_to_commit(database: Database) -> None:
    with pytest.raises(RuntimeError, match="nothing to commit"):
        await database.run_read(lambda tx: tx.commit())
