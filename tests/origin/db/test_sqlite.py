"""SQLite's guarantees through the driver of ours: what a statement costs, what a reader sees, and who may write."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from keywright.origin.db.engine import DatabaseUnavailable
from keywright.origin.db.sqlite import Connection
from keywright.origin.db.transaction import Database

ADD = sa.text("INSERT INTO numbers VALUES (:n)")
ALL = sa.text("SELECT n FROM numbers ORDER BY n")


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database(f"sqlite+aiosqlite:///{tmp_path}/numbers.db")
    async with opened.write() as tx:
        await tx.execute(sa.text("CREATE TABLE numbers (n INTEGER)"))
    yield opened
    await opened.close()


@pytest.fixture
def handed_over(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What connections hand over to their threads."""
    calls: list[Any] = []
    execute = Connection._execute

    async def count(self: Connection, function: Any, *arguments: Any) -> Any:
        calls.append(function)
        return await execute(self, function, *arguments)

    monkeypatch.setattr(Connection, "_execute", count)
    return calls


async def test_a_statement_is_handed_over_once_and_so_is_the_end(database: Database, handed_over: list[Any]) -> None:
    async with database.read() as tx:
        assert await tx.all(ALL) == []
        assert await tx.all(ALL) == []
    assert len(handed_over) == 3

    handed_over.clear()
    async with database.write() as tx:
        await tx.execute(ADD, [{"n": 1}, {"n": 2}])
    assert len(handed_over) == 4  # the beginning, too, and the pool's own rollback of whatever may be left


async def test_all_queries_of_a_reader_see_the_same_moment(database: Database) -> None:
    async with database.read() as reader:
        assert await reader.all(ALL) == []
        async with database.write() as writer:
            await writer.execute(ADD, [{"n": 1}])
        assert await reader.all(ALL) == []
    async with database.read() as reader:
        assert await reader.all(ALL) == [(1,)]


async def test_what_failed_is_rolled_back_and_the_connection_goes_on(database: Database) -> None:
    async def add_and_fail() -> None:
        async with database.write() as tx:
            await tx.execute(ADD, [{"n": 1}])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await add_and_fail()
    with pytest.raises(sa.exc.OperationalError):
        async with database.engine.connect() as connection:
            await connection.execute(sa.text("SELECT nonsense"))
    async with database.write() as tx:
        assert await tx.all(ALL) == []
        await tx.execute(ADD, [{"n": 2}])
        assert (await tx.execute(sa.text("UPDATE numbers SET n = 3"))).rowcount == 1
    async with database.read() as tx:
        assert await tx.all(ALL) == [(3,)]


async def test_who_will_write_has_the_file_to_itself_before_its_first_statement(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keywright.origin.db.sqlite.BUSY_SECONDS", 0.1)
    another = Database(f"sqlite+aiosqlite:///{tmp_path}/numbers.db")
    async with database.write():
        with pytest.raises(DatabaseUnavailable, match="locked"):
            async with another.write():
                raise AssertionError("two writers at once")
        async with another.read() as tx:
            assert await tx.all(ALL) == []
    await another.close()


async def test_a_file_of_something_else_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.db"
    garbage.write_bytes(b"garbage " * 4096)
    database = Database(f"sqlite+aiosqlite:///{garbage}")
    with pytest.raises(sa.exc.DatabaseError, match="not a database"):
        async with database.read() as tx:
            await tx.all(ALL)
    await database.close()
    assert garbage.read_bytes() == b"garbage " * 4096
