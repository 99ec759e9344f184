"""Owns hearing of commits: one look at the record for all readers of this process, and the newest changes in memory.

The bell rings after each commit of this process; what other processes commit is found by a poll. Both only wake: what
is new is read from the log after the last revision seen, so a lost bell costs time and never a change. Nothing is
looked at while nobody follows.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from keywright.core.changes import Change
from keywright.origin.store import logs
from keywright.origin.store.database import Database, DatabaseUnavailable

log = logging.getLogger("keywright.origin")

BATCH_SIZE = 1000
KEPT_CHANGES = 1000
POLL_SECONDS = 0.05
AWAY_SECONDS = 0.5


class NotKept(Exception):
    """The log can't lead on from that revision: it is older than the kept changes, or newer than the record."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Changes `follows + 1` to `revision` of the log, and the newest revision that was known at `as_of` (monotonic)."""

    follows: int
    changes: Sequence[Change]
    head: int
    as_of: float

    @property
    def revision(self) -> int:
        return self.follows + len(self.changes)


class Tail:
    """The end of the log, shared by all readers. From the event loop's own thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._recent: deque[Change] = deque(maxlen=KEPT_CHANGES)
        self._head = -1
        self._readers = 0
        self._looking: asyncio.Task[None] | None = None
        self._bell = asyncio.Event()
        self._news = asyncio.Event()
        self._looked_at = 0.0
        self._is_stopped = False

    @property
    def is_stopped(self) -> bool:
        return self._is_stopped

    def ring(self) -> None:
        """Say that something was committed."""
        self._bell.set()

    def stop(self) -> None:
        """End every stream: the process is about to go."""
        self._is_stopped = True
        self._tell()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """Held by every reader for as long as it follows."""
        self._readers += 1
        if self._looking is None:
            # Who looks again after a pause begins with the record as it is now.
            self._head = -1
            self._recent.clear()
            self._looking = asyncio.create_task(self._look())
        try:
            yield
        finally:
            self._readers -= 1
            if self._readers == 0 and self._looking is not None:
                self._looking.cancel()
                self._looking = None

    async def after(self, revision: int, seconds: float) -> Stretch:
        """What follows a revision, as soon as there is anything; nothing when the time is up, or at the stop.

        Raises NotKept, DatabaseUnavailable.
        """
        if self._head <= revision and not self._is_stopped:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while self._head <= revision and not self._is_stopped:
                        await self._news.wait()
        back = self._head - revision
        if back <= 0:
            return Stretch(revision, (), revision, self._looked_at)
        if back <= len(self._recent):
            recent = list(self._recent)[len(self._recent) - back :]
            return Stretch(revision, recent[:BATCH_SIZE], self._head, self._looked_at)
        return await self.read(revision)

    async def read(self, revision: int) -> Stretch:
        """What follows a revision, from the record itself. Raises NotKept, DatabaseUnavailable."""
        as_of = time.monotonic()
        async with self._database.read() as tx:
            found = await logs.find_deployment(tx)
            rows = await logs.list_changes(tx, after=revision, limit=BATCH_SIZE)
        head = found.revision if found is not None else 0
        # On PostgreSQL the two look-ups may see two moments; the later one saw at least as much.
        head = max(head, rows[-1][0]) if rows else head
        if revision > head or (not rows and revision < head) or (rows and rows[0][0] != revision + 1):
            raise NotKept
        return Stretch(revision, [change for _, change in rows], head, as_of)

    async def _look(self) -> None:
        while True:
            self._bell.clear()
            try:
                is_more = await self._look_once()
                pause = 0.0 if is_more else POLL_SECONDS
            except DatabaseUnavailable as error:
                log.warning("the feed can't read the record: %s", error)
                pause = AWAY_SECONDS
            except Exception:
                log.exception("the feed can't read the record")
                pause = AWAY_SECONDS
            if pause:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._bell.wait()

    async def _look_once(self) -> bool:
        """Take in what is new; whether there may be more."""
        looked_at = time.monotonic()
        async with self._database.read() as tx:
            if self._head < 0:
                found = await logs.find_deployment(tx)
                if found is not None:
                    self._head, self._looked_at = found.revision, looked_at
                    self._tell()
                return False
            rows = await logs.list_changes(tx, after=self._head, limit=BATCH_SIZE)
        # Fewer than that: everything that was committed before the look is known.
        if len(rows) < BATCH_SIZE:
            self._looked_at = looked_at
        if rows:
            if rows[0][0] != self._head + 1:
                self._recent.clear()
            self._recent.extend(change for _, change in rows)
            self._head = rows[-1][0]
            self._tell()
        return len(rows) == BATCH_SIZE

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
