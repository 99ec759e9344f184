"""Owns what is asked of a PostgreSQL before a process relies on it, so that it refuses to start rather than half work.

What stands between (a pooler) is found by what it does, not by its name.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from keywright.origin.db.commit_listener import hears
from keywright.origin.db.engine import DatabaseUnavailable, translating

if TYPE_CHECKING:
    from keywright.origin.db.transaction import Database

PROBE_SECONDS = 5.0
ECHO_SECONDS = 1.0
UNHEARD = (
    "LISTEN brings nothing through what stands before this PostgreSQL: commits of other processes are found by "
    "polling alone."
)
_LOST, _TAKEN = "26000", "42P05"
_HOLDERS = 2
"""So many others hold a connection of the pooler's while a statement is used again."""


class Unsuitable(Exception):
    """This database, or what stands before it, can't hold the record; the message says why and what to do."""


async def check(database: Database) -> tuple[str, ...]:
    """What is worth saying of the database, in sentences. Raises Unsuitable, DatabaseUnavailable."""
    if database.is_sqlite:
        return ()
    with translating():
        async with database.engine.connect() as connection:
            encoding = await connection.scalar(sa.text("SHOW server_encoding"))
        if encoding != "UTF8":
            raise Unsuitable(
                f"the database has the encoding {encoding}, in which most of the world's letters can't be written: "
                "make one with ENCODING 'UTF8' (CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0)"
            )
        return await _try_out(database)


async def _try_out(database: Database) -> tuple[str, ...]:
    import asyncpg

    try:
        async with AsyncExitStack() as stack:
            first, *others = [await _driver_of(database, stack) for _ in range(1 + _HOLDERS)]
            if database.keeps_statements:
                await _check_statements(first, others)
            return () if await _is_heard(first, others[0]) else (UNHEARD,)
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise DatabaseUnavailable(str(error)) from error


async def _driver_of(database: Database, stack: AsyncExitStack) -> Any:
    """A connection of the driver, which is used for nothing else afterwards: what it prepared must not be met again."""
    connection = await stack.enter_async_context(database.engine.connect())
    stack.push_async_callback(connection.invalidate)
    return (await connection.get_raw_connection()).driver_connection


async def _check_statements(first: Any, others: list[Any]) -> None:
    """That a prepared statement is there in a later transaction, and is its connection's own. Raises Unsuitable."""
    import asyncpg

    name = f"keywright_{secrets.token_hex(8)}"
    try:
        async with asyncio.timeout(PROBE_SECONDS), AsyncExitStack() as holding:
            async with first.transaction():
                prepared = await first.prepare("SELECT 1", name=name)
                await prepared.fetchval()
            for other in others:
                # What `first` had is now theirs, if connections are handed around.
                await holding.enter_async_context(other.transaction())
                await (await other.prepare("SELECT 1", name=name)).fetchval()
            async with first.transaction():
                await prepared.fetchval()
    except asyncpg.PostgresError as error:
        if error.sqlstate in (_LOST, _TAKEN):
            raise Unsuitable(
                "a pooler before this PostgreSQL gives each transaction another connection and forgets what was "
                "prepared (PgBouncer before 1.21 does, and later ones without max_prepared_statements). Have it pool "
                "sessions, or add statement_cache_size=0 to the URL"
            ) from error
        raise
    except TimeoutError:
        # So few connections that they can't be told apart.
        return


async def _is_heard(listening: Any, notifying: Any) -> bool:
    import asyncpg

    try:
        return await hears(listening, notifying, ECHO_SECONDS)
    except (asyncpg.FeatureNotSupportedError, asyncpg.SyntaxOrAccessError):
        return False
