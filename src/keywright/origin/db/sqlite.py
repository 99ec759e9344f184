"""Owns how SQLite is spoken to: by whole units of work in a thread (units.py), or through aiosqlite from the loop.

There it takes one call handed to a thread for a statement instead of four. SQLAlchemy makes a cursor, executes, fetches
and closes, and aiosqlite hands each of these to a thread and waits for it, which takes longer than what SQLite does
meanwhile. Here the thread does all of it at once, for readers `BEGIN` as well.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import partial
from typing import Any

import aiosqlite
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

BUSY_SECONDS = 10
WRITES = "keywright_write"
"""The execution option of connections whose transactions will write."""
PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON")
STATEMENTS_KEPT = 1000
"""So many compiled statements a connection keeps, which is more than there are."""


def create_engine(url: sa.URL, **options: Any) -> AsyncEngine:
    """An engine for a file. A transaction that will write has the file to itself as soon as it has begun."""
    arguments = {"timeout": BUSY_SECONDS, "async_creator_fn": _connect}
    engine = create_async_engine(url, pool_size=8, connect_args=arguments, **options)
    sa.event.listen(engine.sync_engine, "begin", _begin)
    return engine


def create_plain_engine(url: sa.URL, *, connections: int) -> sa.Engine:
    """An engine for the same file, each of whose connections is used in one thread at a time, with no event loop."""
    plain = url.set(drivername="sqlite")
    arguments = {"timeout": BUSY_SECONDS, "isolation_level": None, "cached_statements": STATEMENTS_KEPT}
    engine = sa.create_engine(
        plain, pool_size=connections, connect_args=arguments, query_cache_size=STATEMENTS_KEPT, hide_parameters=True
    )
    sa.event.listen(engine, "connect", _set_up)
    sa.event.listen(engine, "begin", _begin_now)
    return engine


def _set_up(connection: Any, _: object) -> None:
    for pragma in PRAGMAS:
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_now(connection: sa.Connection) -> None:
    # It takes its place in line at once, rather than fail half-way.
    is_writing = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writing else "BEGIN")


class Connection(aiosqlite.Connection):
    """An aiosqlite connection whose cursors hold all rows of a statement as soon as it has been executed."""

    def __init__(self, file: str, **options: Any) -> None:
        # No isolation level: transactions begin where we say so (see _begin), not where the driver guesses.
        super().__init__(partial(sqlite3.connect, file, isolation_level=None, **options), iter_chunk_size=64)
        # A connection that nobody closed must not keep the process from ending.
        self._thread.daemon = True
        self._is_beginning = False

    def begin_with_next(self) -> None:
        """Begin a transaction together with the next statement."""
        self._is_beginning = True

    def cursor(self) -> Cursor:  # type: ignore[override]
        return Cursor(self)

    async def run(
        self, sql: str, parameters: Any = (), *, is_many: bool = False
    ) -> tuple[sqlite3.Cursor, Sequence[Any]]:
        """The cursor of a statement, which is closed, and its rows."""
        is_beginning, self._is_beginning = self._is_beginning, False

        def execute() -> tuple[sqlite3.Cursor, Sequence[Any]]:
            cursor = self._conn.cursor()
            try:
                if is_beginning:
                    cursor.execute("BEGIN")
                (cursor.executemany if is_many else cursor.execute)(sql, parameters)
                return cursor, cursor.fetchall()
            finally:
                cursor.close()

        done: tuple[sqlite3.Cursor, Sequence[Any]] = await self._execute(execute)  # type: ignore[no-untyped-call]
        return done

    async def commit(self) -> None:
        await self._end(super().commit)

    async def rollback(self) -> None:
        await self._end(super().rollback)

    async def _end(self, end: Any) -> None:
        if not self._is_beginning:
            await end()
        self._is_beginning = False


class Cursor:
    """What SQLAlchemy asks of the cursor of an asynchronous driver."""

    arraysize = 1

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rows: Sequence[Any] = ()
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None

    async def __aenter__(self) -> Cursor:
        return self

    async def execute(self, sql: str, parameters: Any = ()) -> Cursor:
        return await self._run(sql, parameters, is_many=False)

    async def executemany(self, sql: str, parameters: Any) -> Cursor:
        return await self._run(sql, parameters, is_many=True)

    async def fetchall(self) -> Sequence[Any]:
        return self._rows

    async def close(self) -> None:
        self._rows = ()

    async def _run(self, sql: str, parameters: Any, *, is_many: bool) -> Cursor:
        done, self._rows = await self._connection.run(sql, parameters, is_many=is_many)
        self.description, self.rowcount, self.lastrowid = done.description, done.rowcount, done.lastrowid
        return self


async def _connect(file: str, **options: Any) -> Connection:
    connection = Connection(file, **options)
    await connection
    try:
        for pragma in PRAGMAS:
            await connection.run(f"PRAGMA {pragma}")
    except BaseException:
        await connection.close()
        raise
    return connection


def _begin(connection: sa.Connection) -> None:
    if connection.get_execution_options().get(WRITES, False):
        # It takes its place in line at once, rather than fail half-way.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.connection.driver_connection.begin_with_next()  # type: ignore[union-attr]
