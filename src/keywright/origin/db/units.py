"""Owns running units of work on SQLite where its connection is: whole, in one thread, with one hand-over for each.

A unit is a coroutine that waits for nothing but its transaction, whose statements are done when they return. So it
runs to its end in one go, in the thread of a connection. Writers that wait for the lock of the file take it together:
each in a savepoint of its own, so that one that fails takes nothing of another with it, all with one commit, after
which each is answered.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa

from keywright.origin.db import sqlite
from keywright.origin.db.engine import DatabaseUnavailable, translating
from keywright.origin.db.prepared import PreparedStatements
from keywright.runtime.metrics.histogram import now_ns

if TYPE_CHECKING:
    from keywright.origin.db.metrics import DatabaseMeasures
    from keywright.origin.db.prepared import Rows
    from keywright.origin.db.recent_commits import Committed, RecentCommits

T = TypeVar("T")

MOST_TOGETHER = 64
"""So many units of writers share a commit at most: the first waits for the last."""
READERS = 4
"""Threads, each with a connection of its own."""


@dataclass(slots=True)
class Waiting:
    """A unit that waits for the lock, what came of it, and who waits for that."""

    start: Callable[[InThread], Any]
    done: asyncio.Future[Any]
    result: Any = None
    logged: Sequence[Committed] = ()
    error: BaseException | None = None
    is_committed: bool = False
    asked_ns: int = field(default_factory=now_ns)
    began_ns: int | None = None

    def settle(self) -> None:
        if self.done.done():
            return
        if self.is_committed:
            self.done.set_result(self.result)
        else:
            self.done.set_exception(self.error or DatabaseUnavailable("the service is ending"))


class InThread:
    """A connection in its own thread, and the transaction on it, with the face of asynchronous ones: nothing waits."""

    def __init__(self, connection: sa.Connection, statements: PreparedStatements) -> None:
        """`connection` has begun a transaction."""
        self._connection = connection
        self._driver: Any = connection.connection.driver_connection
        self._statements = statements
        self.dialect = connection.dialect
        self.is_active = True
        self.logged: Sequence[Committed] = ()
        """The changes that the unit has numbered."""

    async def execute(self, statement: sa.Executable, rows: Any = None) -> sa.CursorResult[Any] | Rows:
        found = self._statements.run(self._driver, statement, rows)
        return self._connection.execute(statement, rows) if found is None else found

    @asynccontextmanager
    async def begin_nested(self) -> AsyncIterator[None]:
        with self._connection.begin_nested():
            yield

    async def commit(self) -> None:
        """Nothing more is done in this unit: it is committed beside others."""
        self.is_active = False


class SqliteUnits:
    """From the event loop's own thread."""

    def __init__(self, url: sa.URL, lock: asyncio.Lock, measures: DatabaseMeasures, recent: RecentCommits) -> None:
        """`lock` is held by whoever writes in this process: waiting in line beats polling the lock of the file."""
        self._engine = sqlite.create_plain_engine(url, connections=READERS + 1)
        self._statements = PreparedStatements(self._engine.dialect)
        self._readers = ThreadPoolExecutor(READERS, "keywright-read")
        self._writer = ThreadPoolExecutor(1, "keywright-write")
        self._lock = lock
        self._measures = measures
        self._recent = recent
        self._queue: list[Waiting] = []
        self._working: asyncio.Task[None] | None = None

    @property
    def pool(self) -> sa.Pool:
        return self._engine.pool

    async def close(self) -> None:
        if self._working is not None:
            await asyncio.wait([self._working])
        for threads in (self._readers, self._writer):
            await asyncio.to_thread(threads.shutdown)
        self._engine.dispose()

    async def read(self, work: Callable[[InThread], Coroutine[Any, Any, T]]) -> T:
        # A context of its own, which what asks may go on using meanwhile.
        context, began, waited = contextvars.copy_context(), now_ns(), 0

        def run() -> T:
            nonlocal waited
            with translating(), self._engine.connect() as connection:
                # Ends with the connection, taken back: there is nothing to commit.
                connection.begin()
                waited = now_ns() - began
                return _run_to_end(work(InThread(connection, self._statements)))

        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, context.run, run)
        finally:
            if waited:
                self._measures.waits.observe(waited)

    async def write(self, work: Callable[[InThread], Coroutine[Any, Any, T]]) -> T:
        """What comes of the unit, once it is committed; with whatever it raises it has changed nothing."""
        context = contextvars.copy_context()

        def start(connection: InThread) -> T:
            return context.run(_run_to_end, work(connection))

        waiting = Waiting(start, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        if self._working is None:
            self._working = asyncio.create_task(self._drain())
        result: T = await waiting.done
        return result

    async def _drain(self) -> None:
        try:
            while self._queue:
                async with self._lock:
                    together, self._queue = self._queue[:MOST_TOGETHER], self._queue[MOST_TOGETHER:]
                    # Who was cancelled meanwhile wants nothing any more.
                    together = [one for one in together if not one.done.done()]
                    try:
                        loop = asyncio.get_running_loop()
                        took = await loop.run_in_executor(self._writer, self._commit_together, together)
                    finally:
                        for one in together:
                            one.settle()
                    self._note(together, took)
        finally:
            # Empty, but for a loop that ends.
            for one in self._queue:
                one.settle()
            self._queue, self._working = [], None

    def _note(self, together: list[Waiting], commit_ns: int | None) -> None:
        for one in together:
            if one.began_ns is not None:
                self._measures.waits.observe(one.began_ns - one.asked_ns)
        if commit_ns is not None:
            self._measures.commits.observe(commit_ns)

    def _commit_together(self, together: list[Waiting]) -> int | None:
        """Run them all in one transaction; what its commit took, None without one. What goes wrong is noted with those
        that it went wrong for.
        """
        done_at = None
        try:
            with translating(), self._engine.connect() as connection:
                connection.execution_options(**{sqlite.WRITES: True})
                with connection.begin():
                    if len(together) == 1:
                        together[0].began_ns = now_ns()
                        self._start(connection, together[0])
                    else:
                        for one in together:
                            one.began_ns = now_ns()
                            self._start_in_savepoint(connection, one)
                    done_at = now_ns()
        except Exception as error:  # noqa: BLE001
            # Nothing of it was committed.
            for one in together:
                one.error = one.error or error
        else:
            for one in together:
                one.is_committed = one.error is None
                if one.is_committed:
                    self._recent.note(one.logged)
        return None if done_at is None else now_ns() - done_at

    def _start(self, connection: sa.Connection, one: Waiting) -> None:
        unit = InThread(connection, self._statements)
        one.result = one.start(unit)
        one.logged = unit.logged

    def _start_in_savepoint(self, connection: sa.Connection, one: Waiting) -> None:
        """Raises what has ended the transaction of all."""
        savepoint = connection.begin_nested()
        try:
            self._start(connection, one)
            savepoint.commit()
        except BaseException as error:
            if not _is_in_transaction(connection):
                raise
            savepoint.rollback()
            one.error = error


def _is_in_transaction(connection: sa.Connection) -> bool:
    """A full disk, for one, has SQLite take back the whole transaction by itself."""
    return bool(connection.connection.driver_connection.in_transaction)  # type: ignore[union-attr]


def _run_to_end(unit: Coroutine[Any, Any, T]) -> T:
    """Raises RuntimeError where it waits for anything: nothing would wake it here."""
    try:
        unit.send(None)
    except StopIteration as ended:
        result: T = ended.value
        return result
    unit.close()
    raise RuntimeError("a unit of work waits for something else than its transaction")
