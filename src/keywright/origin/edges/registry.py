"""Owns the registry of edges: it hears their reports, keeps them in the record, and waits until they applied a change.

An edge reports to one origin, a change may be made at another. So each process knows at once what it heard itself, and
learns the rest from the rows that all of them keep (store.py): the latest report only, written together, every few
seconds, and within a blink only where somebody waits (docs/decisions/0013). A row stays until the edge is retired, so
an edge that fell silent, or that a process started anew has not heard yet, is waited for (docs/decisions/0030). What
follows from all that is known is in rules.py, which edges a write concerns in reach.py; what people see of edges and
do with them is in fleet.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from keywright.domain.problems import Conflict, TooManyRequests
from keywright.origin.db import commit_log
from keywright.origin.db.engine import DatabaseUnavailable
from keywright.origin.db.transaction import Database
from keywright.origin.edges import reach as reaches
from keywright.origin.edges import silence
from keywright.origin.edges import store as rows
from keywright.origin.edges.reach import Reach, Touched
from keywright.origin.edges.rules import (
    OVERFLOW,
    REFUSAL_MARGIN_SECONDS,
    EdgeKey,
    Entry,
    Outcome,
    ReportBook,
    judge,
    list_old_readers,
    overflow_of,
)
from keywright.origin.edges.scopes import DEPLOYMENT, EVERYTHING, EdgeScope, HeldScopes
from keywright.origin.edges.store import Heard
from keywright.protocol.changes import Cursor
from keywright.protocol.reports import UNFILLED, EdgeState, Report

log = logging.getLogger("keywright.origin")

STORE_SECONDS = 3.0
LOOK_SECONDS = 0.05
WAITING_LOOK_SECONDS = 0.02
AWAY_SECONDS = 0.5
RETIRE_SECONDS = 86_400.0
PRUNE_SECONDS = 20.0
MOST_EDGES = 1000
"""Of one account, that may answer: whoever holds its tokens can't fill the record or this process with names."""
PAUSE_SECONDS = 1.0
HURRIED_PAUSE_SECONDS = 0.02
HURRY_SECONDS = 10.0
KNOWN_CURSORS = 1000


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
        retire_seconds: float = RETIRE_SECONDS,
    ) -> None:
        """An edge of which nothing was heard for `retire_seconds` is taken to be gone."""
        self._database = database
        self._own = own
        self._retire_seconds = retire_seconds
        self._tells_own = not database.is_sqlite
        self._monotonic = monotonic
        self._book = ReportBook()
        self._head: rows.Head | None = None
        self._known: set[Cursor] = set()
        self._hurry_until = 0.0
        self._waiters = 0
        self._looking: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._due = asyncio.Event()
        self._is_stopped = False
        self._has_powers = False

    async def acknowledge(self, report: Report, scope: EdgeScope = EVERYTHING) -> float:
        """Take note of a report by an edge whose token shows this; seconds until the next one that tells of a change
        only.

        A cursor that the record has not been at, of the future or of another past, is not believed: the edge counts as
        one that has nothing. Raises Conflict for an edge of another deployment, TooManyRequests, DatabaseUnavailable.
        """
        key = (scope.account_id, report.instance)
        told = report.revision or 0
        if self._book.is_repeat(key, report):
            return self._pause()
        if not await self._is_in_record(report):
            log.warning(
                "edge %s says it is at %s, where this record never was: it counts as behind", report.name, report.cursor
            )
            is_gone = report.state is EdgeState.GONE
            report = replace(report, cursor=None, state=EdgeState.GONE if is_gone else EdgeState.BEHIND)
        if report.state is EdgeState.GONE:
            await self._bid_farewell(key, report)
            return self._pause()
        # One that has started anew may have said goodbye to another process before.
        if key not in self._book.heard or self._book.heard[key].report.start != report.start:
            # The others must know of it before it is told that it is known.
            scopes = await self._admit(report, scope, told)
            self._book.admit(key, report, self._monotonic(), scopes)
        if self._book.hear(key, report, self._monotonic()):
            self._due.set()
        self._tell()
        return self._pause()

    async def wait(
        self, revision: int, count: int | None, seconds: float, touched: Touched = reaches.EVERYTHING
    ) -> Outcome:
        """Return when so many edges (None: all that may answer) have applied a revision, or when the time is up.

        Meant are those that may know what was `touched`, by a transaction that is committed.
        """
        started = self._monotonic()
        self._hurry_until = started + HURRY_SECONDS
        async with self._looking_on():
            reach = await self._find_reach(touched)
            while True:
                outcome = self._judge(reach, revision, count, is_known=self._book.rows_as_of >= started)
                left = started + seconds - self._monotonic()
                if outcome.is_reached or left <= 0 or self._is_stopped:
                    return outcome
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await self._news.wait()

    def entries(self) -> tuple[dict[EdgeKey, Entry], float]:
        """What is known of each edge here, and the time by which it is told."""
        now = self._monotonic()
        return self._book.entries(self._own(), now), now

    def list_old_readers(self) -> list[str]:
        """The names of edges heard here that refuse keys with powers, now that there are some."""
        return list_old_readers(*self.entries()) if self._has_powers else []

    @property
    def own_instance(self) -> str:
        """The edge beside this origin."""
        return self._own().instance

    def forget(self, instance: str) -> None:
        """An edge was retired."""
        self._book.forget(instance)

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the rows, until `stop` is set."""
        stored_at = pruned_at = self._monotonic()
        while not stop.is_set():
            self._due.clear()
            try:
                now = self._monotonic()
                if self._tells_own:
                    self._book.hear_own(self._own(), now)
                if now - stored_at >= STORE_SECONDS:
                    stored_at = now
                    await self._store(self._book.list_unstored())
                    self._book.forget_gone(now)
                    self._has_powers = await self._database.run_read(rows.has_powers)
                else:
                    await self._store(await self._list_awaited())
                if now - pruned_at >= PRUNE_SECONDS:
                    pruned_at = now
                    await self._retire_silent()
                is_idle = not (self._tells_own or self._book.list_moved())
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

    async def say_goodbye(self) -> None:
        """The edge beside this origin has ended, and so has `run`."""
        if not self._tells_own:
            return
        own = self._own()
        try:
            async with asyncio.timeout(AWAY_SECONDS), self._database.write() as tx:
                await rows.retire(tx, DEPLOYMENT, own.instance)
        except (TimeoutError, DatabaseUnavailable) as error:
            log.warning("can't say goodbye: %s; writes wait for %s until it is retired", error, own.name)

    def stop(self) -> None:
        """End every wait: the process is about to go."""
        self._is_stopped = True
        self._due.set()
        self._tell()

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

    async def _admit(self, report: Report, scope: EdgeScope, revision: int) -> HeldScopes:
        """Keep the first report of an edge, at this revision by its own word; what such an edge may know."""
        account_id = scope.account_id
        async with self._database.write() as tx:
            margin = REFUSAL_MARGIN_SECONDS
            held = await rows.find_scopes(tx, account_id, report.instance)
            scopes = HeldScopes.first(scope, revision) if held is None else held.followed_by(scope, revision)
            has_room = await rows.has_room(
                tx, account_id, beside={report.instance, OVERFLOW}, most=MOST_EDGES, margin_seconds=margin
            )
            # One without room answers all the same: nobody may be told that all have applied a change.
            kept = report if has_room else overflow_of(report)
            of_kept = scopes if has_room else HeldScopes.unknown(account_id)
            await rows.put_all(tx, [Heard(account_id, kept, 0.0, of_kept)])
        if not has_room:
            message = f"An account has at most {MOST_EDGES} edges that may answer; retire those that are gone."
            raise TooManyRequests(message, headers={"Retry-After": "10"})
        return scopes

    async def _find_reach(self, touched: Touched) -> Reach:
        try:
            async with self._database.read() as tx:
                return await reaches.find_reach(tx, touched)
        except DatabaseUnavailable:
            return reaches.EVERYBODY

    async def _bid_farewell(self, key: EdgeKey, report: Report) -> None:
        """An edge has ended: nobody waits for it from here on."""
        async with self._database.write() as tx:
            await rows.retire(tx, key[0], report.instance)
        self._book.bid_farewell(key, report, self._monotonic())
        log.info("edge %s said goodbye", report.name)
        self._tell()

    async def _retire_silent(self) -> None:
        async with self._database.write() as tx:
            retired = await silence.retire_silent(tx, self._retire_seconds)
        for one in retired:
            self._book.forget(one.report.instance)
            silent = "edge %s is retired: nothing was heard of it for %.0f s. If it still runs, no write waits for it"
            log.warning(silent, one.report.name, one.age)

    async def _list_awaited(self) -> list[EdgeKey]:
        """The edges of which somebody elsewhere may wait to hear what was heard here."""
        moved = self._book.list_moved()
        if not moved:
            return []
        # Twenty times a second while edges report: in one hop to the database's thread, where there is one.
        head = await self._database.run_read(rows.find_head)
        if head is None:
            return []
        self._take_head(head)
        # Also what has not got so far as the newest that is awaited: others may wait for less.
        return [key for key in moved if self._book.heard[key].stored_revision < head.awaited]

    async def _store(self, keys: Sequence[EdgeKey]) -> None:
        stored = self._book.to_store(keys, self._monotonic())
        if not stored:
            return
        async with self._database.write() as tx:
            await rows.put_all(tx, stored)
        self._book.note_stored(stored)

    def _pause(self) -> float:
        return HURRIED_PAUSE_SECONDS if self._monotonic() < self._hurry_until else PAUSE_SECONDS

    def _judge(self, reach: Reach, revision: int, count: int | None, *, is_known: bool) -> Outcome:
        now, own = self._monotonic(), self._own()
        newest = max(revision, own.revision or 0, self._head.revision if self._head is not None else 0)
        entries = self._book.entries(own, now)
        return judge(entries, reach, revision, count, newest=newest, now=now, is_known=is_known)

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
                self._book.forget_rows()

    async def _look_on(self) -> None:
        while True:
            as_of = self._monotonic()
            try:
                async with self._database.read() as tx:
                    kept = await rows.list_all(tx)
                    head = await rows.find_head(tx)
            except DatabaseUnavailable as error:
                log.warning("who has applied a change can't be looked up: %s", error)
                await asyncio.sleep(AWAY_SECONDS)
                continue
            self._book.take_rows(kept, self._monotonic(), as_of)
            self._take_head(head)
            self._tell()
            await asyncio.sleep(WAITING_LOOK_SECONDS)

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
