"""Owns the engine behind a database's URL, and what drivers raise, translated into failures that callers tell apart.

Transactions are opened in db/transaction.py.
"""

from __future__ import annotations

import inspect
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from keywright.origin.db import sqlite
from keywright.runtime import extras
from keywright.runtime.extras import MissingExtra

CONNECT_SECONDS = 10


def create_engine(text: str) -> AsyncEngine:
    """An engine for `sqlite+aiosqlite:///path` or `postgresql+asyncpg://...`. Raises ValueError for other URLs."""
    try:
        url = sa.make_url(text)
    except (ArgumentError, ValueError):
        raise ValueError("is not a URL, such as postgresql://user@host:5432/database") from None
    # Parameters may hold e-mail addresses and metadata, which have no business in a log.
    shared: dict[str, Any] = {"hide_parameters": True}
    if url.get_backend_name() == "sqlite":
        if not url.database or url.database == ":memory:":
            raise ValueError("names no file: sqlite:////var/lib/keywright/keywright.db")
        return sqlite.create_engine(url, **shared)
    # A connection that died with its server is replaced at check-out instead of failing a request.
    shared |= {"pool_size": 10, "max_overflow": 10, "pool_timeout": 5, "pool_pre_ping": True}
    engine = create_async_engine(_for_asyncpg(url), connect_args={"timeout": CONNECT_SECONDS}, **shared)
    sa.event.listen(engine.sync_engine, "handle_error", _leave_standby)
    return engine


def _for_asyncpg(url: sa.URL) -> sa.URL:
    """The URL with parameters as asyncpg names them. Raises ValueError for those that it has not, and without it."""
    try:
        extras.require("asyncpg", "postgresql", "PostgreSQL")
    except MissingExtra as error:
        raise ValueError(f"can't be used: {error}") from None
    import asyncpg

    if "sslmode" in url.query:
        # The name that libpq, and so every provider's URL, has for it; the values are the same.
        url = url.update_query_dict({"ssl": url.query["sslmode"]}).difference_update_query(["sslmode"])
    known = {*inspect.signature(asyncpg.connect).parameters, "prepared_statement_cache_size"}
    unknown = sorted(set(url.query) - known)
    if unknown:
        raise ValueError(f"has parameters that are not known: {', '.join(unknown)}")
    return url


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
    except IntegrityError as error:
        if _is_code(error, "23505", "SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY"):
            raise UniqueViolation from error
        if _is_code(error, "23503", "SQLITE_CONSTRAINT_FOREIGNKEY"):
            raise MissingReference from error
        raise
    except PoolTimeoutError as error:
        raise DatabaseUnavailable("every connection to the database is in use") from error
    except DBAPIError as error:
        if error.connection_invalidated or _is_passing(error.orig):
            raise _kind_of(error.orig)(_first_line(error)) from error
        raise
    except (ConnectionError, TimeoutError, socket.gaierror, sqlite3.OperationalError) as error:
        raise _kind_of(error)(_first_line(error)) from error


def _is_code(error: DBAPIError, *codes: str) -> bool:
    original = error.orig
    return getattr(original, "sqlstate", None) in codes or getattr(original, "sqlite_errorname", None) in codes


def _is_passing(original: BaseException | None) -> bool:
    # PostgreSQL classes 08 (connection), 40 (rolled back), 53 (resources), 57 (operator), 58 (system).
    state = getattr(original, "sqlstate", None) or ""
    name = getattr(original, "sqlite_errorname", None) or ""
    passing = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY")
    return state[:2] in {"08", "40", "53", "57", "58"} or name.startswith(passing)


def _kind_of(original: BaseException | None) -> type[DatabaseUnavailable]:
    state = getattr(original, "sqlstate", None)
    name = getattr(original, "sqlite_errorname", None) or ""
    # 53100 is disk_full; what is not an extended file may come as 58030, io_error, with the system's words.
    if state == "53100" or name == "SQLITE_FULL" or (state == "58030" and "No space left" in str(original)):
        return DiskFull
    return DiskFailed if state == "58030" or name.startswith("SQLITE_IOERR") else DatabaseUnavailable


def _first_line(error: Exception) -> str:
    return (str(getattr(error, "orig", None) or error).splitlines() or [type(error).__name__])[0]
