"""Owns the engine behind a database's URL, and what drivers raise, translated into failures that callers tell apart.

Transactions are opened in db/transaction.py.
"""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from keywright.origin.db import error_codes, postgresql_url, sqlite
from keywright.origin.db.error_codes import Meaning
from keywright.runtime import extras
from keywright.runtime.extras import MissingExtra

CONNECT_SECONDS = 10


def create_engine(text: str) -> AsyncEngine:
    """An engine for `sqlite+aiosqlite:///path` or `postgresql+asyncpg://...`. Raises ValueError for other URLs."""
    # Parameters may hold e-mail addresses and metadata, which have no business in a log.
    shared: dict[str, Any] = {"hide_parameters": True}
    if not text.startswith("sqlite"):
        return _create_postgresql_engine(text, shared)
    try:
        url = sa.make_url(text)
    except (ArgumentError, ValueError):
        raise ValueError("is not a URL, such as sqlite:////var/lib/keywright/keywright.db") from None
    if not url.database or url.database == ":memory:":
        raise ValueError("names no file: sqlite:////var/lib/keywright/keywright.db")
    return sqlite.create_engine(url, **shared)


def _create_postgresql_engine(text: str, shared: Mapping[str, Any]) -> AsyncEngine:
    try:
        extras.require("asyncpg", "postgresql", "PostgreSQL")
    except MissingExtra as error:
        raise ValueError(f"can't be used: {error}") from None
    target = postgresql_url.parse(text)
    arguments = {"timeout": CONNECT_SECONDS, **target.arguments, "async_creator_fn": _connect}
    # A connection that died with its server is replaced at check-out instead of failing a request.
    pool = {"pool_size": 10, "max_overflow": 10, "pool_timeout": 5, "pool_pre_ping": True}
    engine = create_async_engine(target.url, connect_args=arguments, **pool, **shared)
    # They would look types up at each connection, outside of a transaction; there is no such type in our tables.
    dialect: Any = engine.dialect
    dialect.setup_asyncpg_json_codec = dialect.setup_asyncpg_jsonb_codec = _set_no_codec
    sa.event.listen(engine.sync_engine, "handle_error", _leave_standby)
    return engine


async def _connect(**arguments: Any) -> Any:
    """A new connection. Whatever stands in its way (the network, a password, a limit) passes, or an operator ends it:
    it is never a fault of the request that needed it. Raises DatabaseUnavailable.
    """
    import asyncpg

    try:
        return await asyncpg.connect(**arguments)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, ValueError) as error:
        raise DatabaseUnavailable(_first_line(error)) from error


async def _set_no_codec(_: object) -> None: ...


def _leave_standby(context: sa.engine.ExceptionContext) -> None:
    # 25006: what takes no writes is a primary no more. Its connections live on, but the record is elsewhere.
    if getattr(context.original_exception, "sqlstate", None) == "25006":
        context.is_disconnect = True


class UniqueViolation(Exception):
    """The row exists already: the database said so, whatever was read before."""


class MissingReference(Exception):
    """What the row refers to is gone."""


class DatabaseUnavailable(Exception):
    """The record can't be reached, is locked or is full: nothing was changed, and trying again may help."""


class DiskFull(DatabaseUnavailable):
    """The database has no room: nothing was changed, and somebody must make some."""


class DiskFailed(DatabaseUnavailable):
    """The database can't use its disk, which may be full."""


@contextmanager
def translating() -> Iterator[None]:
    """Turn what drivers raise into the three failures that callers tell apart; everything else is a bug."""
    try:
        yield
    except PoolTimeoutError as error:
        raise DatabaseUnavailable("every connection to the database is in use") from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise _unavailable(error, error.orig) from error
        match error_codes.find_meaning(error.orig):
            case Meaning.UNIQUE:
                raise UniqueViolation from error
            case Meaning.MISSING_REFERENCE:
                raise MissingReference from error
            case None:
                raise
            case _:
                raise _unavailable(error, error.orig) from error
    except (ConnectionError, TimeoutError, socket.gaierror, sqlite3.OperationalError) as error:
        raise _unavailable(error, error) from error


def _unavailable(error: Exception, original: BaseException | None) -> DatabaseUnavailable:
    match error_codes.find_meaning(original):
        case Meaning.DISK_FULL:
            return DiskFull(_first_line(error))
        case Meaning.DISK_FAILED:
            return DiskFailed(_first_line(error))
    return DatabaseUnavailable(_first_line(error))


def _first_line(error: Exception) -> str:
    return (str(getattr(error, "orig", None) or error).splitlines() or [type(error).__name__])[0]
