"""Rules of edges: who follows, how far each has got, and waiting until they have applied a change.

An edge reports to one origin, a change may be made at another. So each process knows at once what it heard itself, and
learns the rest from the rows that all of them keep (store.py): the latest report only, written together, every
few seconds, and within a blink only where somebody waits (docs/decisions/0013).

*Connected* is an edge that was heard of within LIVE_SECONDS. Others are not waited for: nobody knows whether they run.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from keywright.domain.paging import Page
from keywright.domain.permissions import Access
from keywright.domain.problems import Conflict, TooManyRequests
from keywright.origin.accounts.access import get_account
from keywright.origin.db import commit_log
from keywright.origin.db.engine import DatabaseUnavailable
from keywright.origin.db.transaction import Database
from keywright.origin.edges import store as rows
from keywright.origin.edges.store import Heard
from keywright.origin.pipeline.unit_of_work import UnitOfWork
from keywright.protocol.changes import Cursor
from keywright.protocol.reports import EdgeState, Report

log = logging.getLogger("keywright.origin")

LIVE_SECONDS = 10.0
"""Three reports and more may be missing before an edge counts as gone."""
STORE_SECONDS = 3.0
LOOK_SECONDS = 0.05
WAITING_LOOK_SECONDS = 0.02
AWAY_SECONDS = 0.5
KEPT_SECONDS = 86_400.0
PRUNE_SECONDS = 60.0
MOST_EDGES = 1000
"""Of one account: whoever holds its tokens can't fill the record or this process with names."""
PAUSE_SECONDS = 1.0
HURRIED_PAUSE_SECONDS = 0.02
HURRY_SECONDS = 10.0
KNOWN_CURSORS = 1000
ROUNDING_SECONDS = 0.05
"""Times in rows are in milliseconds: what was heard here is as new as a row that seems a little newer."""

UNFILLED = "none"
"""What an edge without a snapshot names as its deployment."""
DEPLOYMENT = ""
"""Stands for an account where an edge follows everything: those beside an origin, and those with the root key."""

_Key = tuple[str, str]


@dataclass(slots=True)
class _Entry:
    """What was heard here of one edge, when, and what of it the other origins can know."""

    report: Report
    at: float
    stored: Report | None = None

    @property
    def is_dirty(self) -> bool:
        return self.stored is not self.report

    @property
    def has_moved(self) -> bool:
        return self.stored_revision != (self.report.revision or 0)

    @property
    def stored_revision(self) -> int:
        return (self.stored.revision or 0) if self.stored is not None else -1


@dataclass(frozen=True, slots=True)
class Reported:
    """An edge as it is shown: what it said last, `age` seconds ago."""

    report: Report
    age: float
    is_connected: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """Who has applied a revision: `applied` of `wanted` edges. `pending` are the connected ones that have not."""

    applied: int
    wanted: int
    pending: Sequence[Heard] = ()
    is_known: bool = True
    """False when the other origins' edges could not be looked up."""

    @property
    def is_reached(self) -> bool:
        return self.is_known and self.applied >= self.wanted


class Edges:
    """The registry of edges, one for each process. From the event loop's own thread.

    `own` reports on the edge beside this origin. On SQLite all origins are beside that same edge; on PostgreSQL others
    hear of it like of any (`tells_own`).
    """

    def __init__(
        self,
        database: Database,
        own: Callable[[], Report],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._own = own
        self._tells_own = not database.is_sqlite
        self._monotonic = monotonic
        self._heard: dict[_Key, _Entry] = {}
        self._rows: dict[_Key, _Entry] = {}
        self._rows_as_of = -1.0
        self._head: rows.Head | None = None
        self._known: set[Cursor] = set()
        self._hurry_until = 0.0
        self._waiters = 0
        self._looking: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._due = asyncio.Event()
        self._is_stopped = False

    async def acknowledge(self, report: Report, account_id: str = DEPLOYMENT) -> float:
        """Take note of a report; seconds until the next one that tells of a change only.

        A cursor that the record has not been at, of the future or of another past, is not believed: the edge counts as
        one that has nothing. Raises Conflict for an edge of another deployment, TooManyRequests, DatabaseUnavailable.
        """
        key = (account_id, report.instance)
        if self._is_repeat(key, report):
            return self._pause()
        if not await self._is_in_record(report):
            log.warning(
                "edge %s says it is at %s, where this record never was: it counts as behind", report.name, report.cursor
            )
            report = replace(report, cursor=None, state=EdgeState.BEHIND)
        if key not in self._heard:
            # The others must know of it before it is told that it is known.
            await self._admit(account_id, report)
            self._heard.setdefault(key, _Entry(report, self._monotonic(), report))
        entry = self._heard[key]
        if not self._is_repeat(key, report):
            entry.report, entry.at = report, self._monotonic()
            self._due.set()
        self._tell()
        return self._pause()

    async def wait(self, revision: int, count: int | None, seconds: float) -> Outcome:
        """Return when so many edges (None: all that are connected) have applied a revision, or when the time is up."""
        started = self._monotonic()
        self._hurry_until = started + HURRY_SECONDS
        async with self._looking_on():
            while True:
                outcome = self._judge(revision, count, is_known=self._rows_as_of >= started)
                left = started + seconds - self._monotonic()
                if outcome.is_reached or left <= 0 or self._is_stopped:
                    return outcome
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await self._news.wait()

    async def list_of(self, work: UnitOfWork, account_name: str, page: Page) -> tuple[list[Reported], int]:
        """A part of the edges of an account and of the deployment, by name; gone ones, too, for a day."""
        found = await self._list_visible(work, account_name)
        shown = found[page.offset : page.offset + page.limit]
        return [Reported(one.report, one.age, one.age <= LIVE_SECONDS) for one in shown], len(found)

    async def _list_visible(self, work: UnitOfWork, account_name: str) -> list[Heard]:
        account = await get_account(work, account_name, Access.READ)
        mine = {DEPLOYMENT, account.id}
        kept = await rows.list_all(work.tx, account_ids=sorted(mine))
        now = self._monotonic()
        found = {(one.account_id, one.report.instance): one for one in kept}
        for key, entry in self._entries(now).items():
            age = max(0.0, now - entry.at)
            if key[0] in mine and (key not in found or age <= found[key].age + ROUNDING_SECONDS):
                found[key] = Heard(key[0], entry.report, age)
        return sorted(found.values(), key=lambda one: (one.report.name, one.report.instance))

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the rows, until `stop` is set."""
        stored_at = pruned_at = self._monotonic()
        while not stop.is_set():
            self._due.clear()
            try:
                now = self._monotonic()
                if self._tells_own:
                    self._hear_own(now)
                if now - stored_at >= STORE_SECONDS:
                    stored_at = now
                    await self._store([key for key, entry in self._heard.items() if entry.is_dirty])
                    self._forget(now)
                else:
                    await self._store(await self._list_awaited())
                if now - pruned_at >= PRUNE_SECONDS:
                    pruned_at = now
                    async with self._database.write() as tx:
                        await rows.delete_unseen(tx, seconds=KEPT_SECONDS)
                is_idle = not (self._tells_own or self._moved())
            except DatabaseUnavailable as error:
                log.warning("what edges report can't be kept: %s", error)
                await asyncio.sleep(AWAY_SECONDS)
                continue
            except Exception:
                log.exception("what edges report can't be kept")
                await asyncio.sleep(AWAY_SECONDS)
                continue
            if is_idle:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(STORE_SECONDS):
                        await self._due.wait()
            # What comes together is looked at together.
            await asyncio.sleep(LOOK_SECONDS)

    def stop(self) -> None:
        """End every wait: the process is about to go."""
        self._is_stopped = True
        self._due.set()
        self._tell()

    def _is_repeat(self, key: _Key, report: Report) -> bool:
        """Whether this, or a later one, was heard here: a report that was held up or sent again tells nothing."""
        entry = self._heard.get(key)
        return entry is not None and entry.report.start == report.start and report.number <= entry.report.number

    async def _is_in_record(self, report: Report) -> bool:
        """Whether the record was at the report's cursor. Raises Conflict for another record."""
        head, cursor = self._head, report.cursor
        if head is None or not (cursor is None or cursor in self._known):
            async with self._database.read() as tx:
                is_known = cursor is not None and await commit_log.has_cursor(tx, cursor)
                head = await rows.find_head(tx)
            self._take_head(head)
            if cursor is not None and is_known:
                # Many edges report the same few.
                if len(self._known) >= KNOWN_CURSORS:
                    self._known.clear()
                self._known.add(cursor)
        if head is None or report.deployment_id not in {head.deployment_id, UNFILLED}:
            raise Conflict("This edge follows another deployment's record.")
        return cursor is None or cursor in self._known

    def _take_head(self, head: rows.Head | None) -> None:
        if head is None:
            return
        if self._head is not None:
            if head.awaited > self._head.awaited:
                self._hurry_until = self._monotonic() + HURRY_SECONDS
            if head.revision < self._head.revision:
                # The record went back: it was restored, or failed over.
                self._known.clear()
        self._head = head

    async def _admit(self, account_id: str, report: Report) -> None:
        async with self._database.write() as tx:
            instance = report.instance
            if not await rows.make_room(tx, account_id, instance, most=MOST_EDGES, gone_seconds=LIVE_SECONDS):
                raise TooManyRequests(f"An account has at most {MOST_EDGES} edges.", headers={"Retry-After": "10"})
            await rows.put_all(tx, [Heard(account_id, report, 0.0)])

    async def _list_awaited(self) -> list[_Key]:
        """The edges of which somebody elsewhere may wait to hear what was heard here."""
        moved = self._moved()
        if not moved:
            return []
        async with self._database.read() as tx:
            head = await rows.find_head(tx)
        if head is None:
            return []
        self._take_head(head)
        # Also what has not got so far as the newest that is awaited: others may wait for less.
        return [key for key in moved if self._heard[key].stored_revision < head.awaited]

    async def _store(self, keys: Sequence[_Key]) -> None:
        if not keys:
            return
        now = self._monotonic()
        told = {key: (entry.report, now - entry.at) for key in keys if (entry := self._heard.get(key))}
        async with self._database.write() as tx:
            await rows.put_all(tx, [Heard(key[0], report, age) for key, (report, age) in told.items()])
        for key, (report, _) in told.items():
            self._heard[key].stored = report

    def _forget(self, now: float) -> None:
        for key in [key for key, entry in self._heard.items() if now - entry.at > LIVE_SECONDS]:
            del self._heard[key]

    def _hear_own(self, now: float) -> None:
        report = self._own()
        key = (DEPLOYMENT, report.instance)
        stored = self._heard[key].stored if key in self._heard else None
        self._heard[key] = _Entry(report, now, stored)

    def _moved(self) -> list[_Key]:
        return [key for key, entry in self._heard.items() if entry.has_moved]

    def _pause(self) -> float:
        return HURRIED_PAUSE_SECONDS if self._monotonic() < self._hurry_until else PAUSE_SECONDS

    def _judge(self, revision: int, count: int | None, *, is_known: bool) -> Outcome:
        now = self._monotonic()
        connected = {key: entry for key, entry in self._entries(now).items() if now - entry.at <= LIVE_SECONDS}
        # What is ahead of the record is of a past that it has lost.
        newest = max(revision, self._own().revision or 0, self._head.revision if self._head is not None else 0)
        pending = [
            Heard(key[0], entry.report, now - entry.at)
            for key, entry in connected.items()
            if not revision <= (entry.report.revision or 0) <= newest
        ]
        wanted = len(connected) if count is None else count
        return Outcome(min(len(connected) - len(pending), wanted), wanted, pending, is_known)

    def _entries(self, now: float) -> dict[_Key, _Entry]:
        """What is known of each edge, here or from the rows: the newer of both."""
        found = dict(self._rows)
        for key, entry in self._heard.items():
            if key not in found or entry.at >= found[key].at - ROUNDING_SECONDS:
                found[key] = entry
        own = self._own()
        found[DEPLOYMENT, own.instance] = _Entry(own, now)
        return found

    @asynccontextmanager
    async def _looking_on(self) -> AsyncIterator[None]:
        """One look at the rows after the other, for all who wait."""
        self._waiters += 1
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_on())
        try:
            yield
        finally:
            self._waiters -= 1
            if self._waiters == 0 and self._looking is not None:
                self._looking.cancel()
                self._looking = None
                self._rows = {}

    async def _look_on(self) -> None:
        while True:
            as_of = self._monotonic()
            try:
                async with self._database.read() as tx:
                    kept = await rows.list_all(tx, within_seconds=LIVE_SECONDS)
                    head = await rows.find_head(tx)
            except DatabaseUnavailable as error:
                log.warning("who has applied a change can't be looked up: %s", error)
                await asyncio.sleep(AWAY_SECONDS)
                continue
            now = self._monotonic()
            self._rows = {(one.account_id, one.report.instance): _Entry(one.report, now - one.age) for one in kept}
            self._rows_as_of = as_of
            self._take_head(head)
            self._tell()
            await asyncio.sleep(WAITING_LOOK_SECONDS)

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
