"""Owns hearing of commits: one look at the record for all readers of this process, and the newest changes in memory.

It is woken after each commit of this process, and where the record tells of them (commit_listener.py) of others; what
nothing woke it for is found by a poll. Both only wake: what is new is read from the log after the last cursor seen, so
a lost call costs time and never a change. If the log does not have that cursor any more, the record is of another
past, and every stream ends. Nothing is looked at while nobody follows.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from keywright.origin.db import commit_log
from keywright.origin.db.commit_log import Logged, NotKept
from keywright.origin.db.engine import DatabaseUnavailable
from keywright.origin.db.transaction import Database
from keywright.origin.deployment.store import find_deployment
from keywright.protocol.changes import Cursor, Hidden
from keywright.runtime.clock import Clock

log = logging.getLogger("keywright.origin")

BATCH_SIZE = 1000
KEPT_CHANGES = 1001
POLL_SECONDS = 0.05
AWAY_SECONDS = 0.5


class LogTail:
    """The end of the log, shared by all readers. From the event loop's own thread."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        database.commits.subscribe(self.wake)
        self._recent: deque[Logged] = deque(maxlen=KEPT_CHANGES)
        self._head: Cursor | None = None
        self._readers = 0
        self._looking: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()
        self._changed = asyncio.Event()
        self._looked_at = 0.0
        self._is_stopped = False

    @property
    def is_stopped(self) -> bool:
        return self._is_stopped

    def wake(self) -> None:
        """Look now: something was committed."""
        self._woken.set()

    def stop(self) -> None:
        """End every stream: the process is about to go."""
        self._is_stopped = True
        self._notify()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """Held by every reader for as long as it follows."""
        self._readers += 1
        if self._looking is None:
            # Who looks again after a pause begins with the record as it is now.
            self._forget()
            self._looking = asyncio.create_task(self._look())
        try:
            yield
        finally:
            self._readers -= 1
            if self._readers == 0 and self._looking is not None:
                self._looking.cancel()
                self._looking = None

    async def after(self, cursor: Cursor, seconds: float) -> LogSlice:
        """What follows a cursor, as soon as there is anything; nothing when the time is up, or at the stop.

        Raises NotKept, DatabaseUnavailable.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                # A reader that asked the record itself may be ahead of the last look.
                while not self._is_stopped and (self._head is None or self._head.revision <= cursor.revision):
                    await self._changed.wait()
        if self._is_stopped or self._head == cursor:
            return LogSlice(cursor, (), cursor.revision, self._looked_at)
        if self._head is not None:
            back = self._head.revision - cursor.revision
            recent = list(self._recent)[-back - 1 :] if 0 < back < len(self._recent) else []
            if recent and recent[0].cursor == cursor:
                return LogSlice(cursor, recent[1 : BATCH_SIZE + 1], self._head.revision, self._looked_at)
        return await self.read(cursor)

    async def read(self, cursor: Cursor) -> LogSlice:
        """What follows a cursor, from the record itself. Raises NotKept, DatabaseUnavailable."""
        as_of = self._clock.elapsed()
        async with self._database.read() as tx:
            found = await find_deployment(tx)
            rows = await commit_log.lead_on(tx, cursor, limit=BATCH_SIZE)
        head = found.head.revision if found is not None else 0
        # On PostgreSQL the two look-ups may see two moments; the later one saw at least as much.
        return LogSlice(cursor, rows, max(head, rows[-1].cursor.revision if rows else cursor.revision), as_of)

    async def _look(self) -> None:
        while True:
            self._woken.clear()
            try:
                is_more = await self._look_once()
                pause = 0.0 if is_more else self._database.commits.poll_seconds(POLL_SECONDS)
            except DatabaseUnavailable as error:
                log.warning("the feed can't read the record: %s", error)
                pause = AWAY_SECONDS
            except Exception:
                log.exception("the feed can't read the record")
                pause = AWAY_SECONDS
            if pause:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._woken.wait()

    async def _look_once(self) -> bool:
        """Take in what is new; whether there may be more."""
        looked_at = self._clock.elapsed()
        # Twenty times a second while anybody follows: in one hop to the database's thread, where there is one.
        if self._head is None:
            found = await self._database.run_read(find_deployment)
            if found is not None:
                self._head, self._looked_at = found.head, looked_at
                # Only for its cursor, from which the next ones lead on.
                self._recent.append(Logged(found.head, Hidden()))
                self._notify()
            return False
        try:
            rows = await self._database.run_read(partial(commit_log.lead_on, after=self._head, limit=BATCH_SIZE))
        except NotKept as error:
            log.error("the record is not the one that it was, streams of changes end: %s", error)  # noqa: TRY400
            self._forget()
            return True
        # Fewer than that: everything that was committed before the look is known.
        if len(rows) < BATCH_SIZE:
            self._looked_at = looked_at
        if rows:
            self._recent.extend(rows)
            self._head = rows[-1].cursor
            self._notify()
        return len(rows) == BATCH_SIZE

    def _forget(self) -> None:
        """Begin with the record as it is at the next look."""
        self._head = None
        self._recent.clear()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


@dataclass(frozen=True, slots=True)
class LogSlice:
    """Changes of the log that follow a cursor, and the newest revision that was known at `as_of` (`Clock.elapsed`)."""

    follows: Cursor
    changes: Sequence[Logged]
    head: int
    as_of: float

    @property
    def cursor(self) -> Cursor:
        return self.changes[-1].cursor if self.changes else self.follows
