"""Owns transactions on the record: how they are opened and committed, and the order of revisions.

A `Transaction` is one unit of work: rows, the changes that edges must hear of and the audit entries commit together or
not at all.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects import sqlite as sqlite_dialect
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncTransaction

from keywright.origin.db import postgresql_url, sqlite, tables
from keywright.origin.db.commit_listener import CHANNEL, CommitListener
from keywright.origin.db.engine import create_engine, translating
from keywright.origin.db.metrics import DatabaseMeasures
from keywright.origin.db.prepared import Rows, prepared
from keywright.origin.db.recent_commits import Committed, RecentCommits
from keywright.origin.db.units import InThread, SqliteUnits
from keywright.protocol.changes import STAMP_BYTES, BucketDelete, BucketPut, Change, Cursor, encode
from keywright.runtime.metrics.histogram import now_ns

T = TypeVar("T")

_LOG = prepared(sa.insert(tables.changes))
_AWAIT_HEAD = prepared(
    sa.update(tables.deployment)
    .values(awaited_revision=tables.deployment.c.revision)
    .returning(tables.deployment.c.revision)
)


@cache
def _moving_head(*, is_awaited: bool, notifies: bool) -> sa.Update:
    """What moves the head on by `count` changes, stamped with `drawn` at `now` (milliseconds)."""
    head = tables.deployment
    now: sa.BindParameter[int] = sa.bindparam("now", type_=sa.BigInteger)
    revision = head.c.revision + sa.bindparam("count", type_=sa.BigInteger)
    # Each transaction's time is later than that of the one before: an edge tells by it which past a record has.
    stamped_at = sa.case((head.c.stamped_at >= now, head.c.stamped_at + 1), else_=now)
    values: dict[str, Any] = {"revision": revision, "stamp": sa.bindparam("drawn"), "stamped_at": stamped_at}
    if is_awaited:
        values["awaited_revision"] = revision
    returned: list[sa.ColumnElement[Any]] = [head.c.revision, head.c.stamped_at]
    if notifies:
        # Delivered at the commit. Here, since a statement of its own would hold the lock for one more round trip.
        returned.append(sa.func.pg_notify(CHANNEL, sa.cast(head.c.revision, sa.Text)))
    return prepared(sa.update(head).values(**values).returning(*returned))


class Database:
    """The record behind a URL: `sqlite+aiosqlite:///path` or `postgresql+asyncpg://...`. Raises ValueError."""

    def __init__(self, url: str) -> None:
        self.engine = create_engine(url)
        self.measures = DatabaseMeasures()
        self.commits = CommitListener(self.engine, random.uniform)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        self.keeps_statements = not self.is_sqlite and postgresql_url.parse(url).keeps_statements
        """Whether what is prepared in one transaction is used in the next."""
        # SQLite has one writer: waiting in line here beats polling its lock.
        self._writing = asyncio.Lock() if self.is_sqlite else None
        self.recent = RecentCommits()
        """Of units of work on SQLite."""
        self._units = None
        if self._writing is not None:
            self._units = SqliteUnits(self.engine.url, self._writing, self.measures, self.recent)

    @property
    def file(self) -> Path | None:
        """Where the record is, if it is a file."""
        return Path(str(self.engine.url.database)).absolute() if self.is_sqlite else None

    async def close(self) -> None:
        if self._units is not None:
            await self._units.close()
        await self.engine.dispose()

    async def run_read(self, work: Callable[[Transaction], Coroutine[Any, Any, T]], *, is_in_loop: bool = False) -> T:
        """What comes of a unit of work that changes nothing, and waits for nothing but its transaction.

        It may run in another thread, unless it `is_in_loop`: where it touches what belongs to the event loop.
        """
        if self._units is None or is_in_loop:
            async with self.read() as tx:
                return await work(tx)
        with self.measures.counting_failures():
            return await self._units.read(lambda connection: work(Transaction(connection)))

    async def run_write(self, work: Callable[[Transaction], Coroutine[Any, Any, T]], *, is_in_loop: bool = False) -> T:
        """What comes of a unit of work, once it is committed. It waits for nothing but its transaction.

        What it raises is raised here, and nothing was changed. Units that wait together are committed together.
        `is_in_loop` is as in `run_read`.
        """
        if self._units is None or is_in_loop:
            async with self.write() as tx:
                return await work(tx)

        async def run(connection: InThread) -> T:
            tx = Transaction(connection, connection, notifies=self.commits.can_notify)
            result = await work(tx)
            if connection.is_active:
                await tx.commit()
            connection.logged = tx.logged
            return result

        with self.measures.counting_failures():
            return await self._units.write(run)

    def count_connections(self) -> tuple[int, int]:
        """Those in use, and those that are idle."""
        pools: list[Any] = [self.engine.pool, *([] if self._units is None else [self._units.pool])]
        return sum(pool.checkedout() for pool in pools), sum(pool.checkedin() for pool in pools)

    @asynccontextmanager
    async def read(self, *, is_snapshot: bool = False) -> AsyncIterator[Transaction]:
        """A transaction that changes nothing. With `is_snapshot` all its queries see the same moment."""
        options: dict[str, Any] = {}
        if is_snapshot and not self.is_sqlite:
            options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        began = now_ns()
        with self.measures.counting_failures(), translating():
            async with self.engine.connect() as connection:
                self.measures.waits.observe_since(began)
                if options:
                    await connection.execution_options(**options)
                yield Transaction(connection)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Transaction]:
        """A transaction that commits when the block ends, or before, and leaves nothing behind when it raises."""
        began = now_ns()
        if self._writing is None:
            async with self._committing(began) as tx:
                yield tx
        else:
            async with self._writing, self._committing(began) as tx:
                yield tx

    @asynccontextmanager
    async def _committing(self, began: int) -> AsyncIterator[Transaction]:
        with self.measures.counting_failures(), translating():
            async with self.engine.connect() as connection:
                self.measures.waits.observe_since(began)
                if self.is_sqlite:
                    await connection.execution_options(**{sqlite.WRITES: True})
                async with connection.begin() as begun:
                    tx = Transaction(connection, begun, notifies=self.commits.can_notify, measures=self.measures)
                    yield tx
                    if begun.is_active:
                        await tx.commit()


class Transaction:
    """An open transaction. `begun` is None for one that only reads."""

    def __init__(
        self,
        connection: AsyncConnection | InThread,
        begun: AsyncTransaction | InThread | None = None,
        *,
        notifies: bool = False,
        measures: DatabaseMeasures | None = None,
    ) -> None:
        self.connection = connection
        self._measures = measures
        self._begun = begun
        self._notifies = notifies
        self.revision: int | None = None
        """What `commit` has returned."""
        self.is_awaited = False
        """Whether somebody will wait to hear that edges have applied this: their origins are told by the commit."""
        self._changes: list[Change] = []
        self._former: list[Change] = []
        self._later_than = 0
        self.logged: Sequence[Committed] = ()
        """What was numbered, once it was."""

    @property
    def is_postgresql(self) -> bool:
        return self.connection.dialect.name == "postgresql"

    @property
    def has_news(self) -> bool:
        """Whether an edge, or another origin, is to hear of this."""
        return bool(self._changes) or self.is_awaited

    def record(self, *changes: Change) -> None:
        """Have these changes numbered and logged, in this order, when the transaction commits."""
        self._changes.extend(changes)

    def concerns(self, *puts: Change) -> None:
        """Note records as they are before this, for who waits for the edges that know them."""
        self._former.extend(puts)

    @property
    def touched(self) -> tuple[Change, ...]:
        """All that this changes, or was asked to: as it is before, and after."""
        return (*self._former, *self._changes)

    def stamp_later_than(self, stamped_at: int) -> None:
        """Have the changes stamped later than that, whatever the clock says."""
        self._later_than = stamped_at

    async def execute(
        self, statement: sa.Executable, values: list[dict[str, Any]] | dict[str, Any] | None = None
    ) -> sa.CursorResult[Any] | Rows:
        """`values` are those of a statement's parameters, or of several rows.

        A statement that is made once, with parameters, costs half of one that is made at each call, and one that is
        `prepared` (prepared.py) a tenth of that on SQLite.
        """
        with translating():
            return await self.connection.execute(statement, values)

    async def first(self, statement: sa.Executable, **values: Any) -> Any | None:
        return (await self.execute(statement, values)).first()

    async def all(self, statement: sa.Executable, **values: Any) -> list[Any]:
        return list((await self.execute(statement, values)).all())

    async def scalar(self, statement: sa.Executable, **values: Any) -> Any:
        return (await self.execute(statement, values)).scalar()

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """A part of the transaction, of which nothing is left when it raises."""
        async with self.connection.begin_nested():
            yield

    async def insert(self, table: sa.Table, **values: Any) -> int:
        """Insert a row and return its number."""
        number: int = await self.scalar(sa.insert(table).values(**values).returning(table.c.number))
        return number

    async def commit(self) -> int | None:
        """Commit, as the last thing that is done here; the block's end does it where nobody did.

        Returns the revision that is to be published: of the last change, or the newest one where somebody waits for
        edges without having changed anything. None if there is no news.
        """
        if self._begun is None:
            raise RuntimeError("a transaction that only reads has nothing to commit")
        await self.number_changes()
        began = now_ns()
        await self._begun.commit()
        if self._measures is not None:
            self._measures.commits.observe_since(began)
        return self.revision

    async def number_changes(self) -> None:
        """Give the recorded changes revisions and a stamp; the last thing that a transaction does before it commits.

        The stamp is drawn here and only here. So two records that have it at one revision had that very transaction
        committed, and share all history before it: one of them is a copy of the other, of later than that.

        The head row stays locked from here to the commit (PostgreSQL: its row lock; SQLite: there is one writer), so
        no other transaction takes a later number before this one is seen: the order of revisions is that of commits.
        """
        if not self._changes:
            if self.is_awaited:
                self.revision = await self.scalar(_AWAIT_HEAD)
            return
        now = max(time.time_ns() // 1_000_000, self._later_than + 1)
        stamp = secrets.token_hex(STAMP_BYTES)
        move = _moving_head(is_awaited=self.is_awaited, notifies=self._notifies)
        row = await self.first(move, count=len(self._changes), now=now, drawn=stamp)
        last, at = row.revision, row.stamped_at  # type: ignore[union-attr]
        first = last - len(self._changes) + 1
        rows = [
            {"revision": first + offset, "stamp": stamp, "stamped_at": at, "body": encode(change)}
            for offset, change in enumerate(self._changes)
        ]
        await self.execute(_LOG, rows)
        self.logged = [Committed(Cursor(row["revision"], stamp, at), row["body"]) for row in rows]
        await self._note_withdrawals(last)
        self.revision = last

    async def _note_withdrawals(self, revision: int) -> None:
        """Which accounts know a bucket no more, once they have applied this revision."""
        grants = {one.number: one.grants for one in self._changes if isinstance(one, BucketPut)}
        changed = {*grants, *(one.number for one in self._changes if isinstance(one, BucketDelete))}
        rows = [
            {"bucket_id": one.bucket_id, "account_id": account_id, "owner_id": one.account_id, "revision": revision}
            for one in self._former
            if isinstance(one, BucketPut) and one.number in changed
            for account_id in one.grants
            if account_id not in grants.get(one.number, {})
        ]
        if not rows:
            return
        insert: Any = (postgresql if self.is_postgresql else sqlite_dialect).insert(tables.withdrawals)
        again = {"owner_id": insert.excluded.owner_id, "revision": insert.excluded.revision}
        await self.execute(insert.on_conflict_do_update(index_elements=["bucket_id", "account_id"], set_=again), rows)
