"""Owns the loop that keeps a replica in step with the record: snapshot, then changes, then again.

One SyncLoop per process and replica. Several processes may follow the record into one replica on disk: what one has
applied the others find done. Everything that LMDB may block on happens on one thread of its own, so that neither an
fsync nor another process's write holds up the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

import lmdb

from keywright.edge.replica import integrity
from keywright.edge.replica.freshness import SyncClock, elapsed_seconds
from keywright.edge.replica.replica import Gap, ReplicaBroken
from keywright.edge.sync.feed import LiveFeed, RecordBehind, Refused, SnapshotNeeded, Untrusted
from keywright.runtime import tasks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from concurrent.futures import Future

    from keywright.edge.replica.replica import Replica
    from keywright.edge.sync.feed import Feed, Snapshot
    from keywright.protocol.changes import Change, Cursor

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

POLL_SECONDS = 0.25
SWEEP_SIZE = 1000
READER_CHECK_SECONDS = 60.0
LOCK_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 5.0
REFUSED_PAUSE_SECONDS = 30.0


class SyncLoop:
    """Follows a feed into a replica. `run` is the background loop; `sync_now` may be called at any time beside it.

    `on_news` is called, on the loop's thread, when something was applied and when `is_synced` changed.
    """

    def __init__(
        self,
        replica: Replica,
        feed: Feed,
        *,
        sync_clock: SyncClock | None = None,
        on_news: Callable[[], None] = lambda: None,
        poll_seconds: float | Callable[[], float] = POLL_SECONDS,
        longest_pause_seconds: float = LONGEST_PAUSE_SECONDS,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = elapsed_seconds,
    ) -> None:
        self._replica = replica
        self._feed = feed
        self._live = feed if isinstance(feed, LiveFeed) else None
        self._poll_seconds = poll_seconds if callable(poll_seconds) else lambda: poll_seconds
        self._longest_pause_seconds = longest_pause_seconds
        self._clock = clock
        self._monotonic = monotonic
        self._writer = ThreadPoolExecutor(1, "replica-writer")
        self._bell = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._waiting: asyncio.Task[None] | None = None
        self._is_known_deployment = False
        self._is_synced = False
        self._since = clock()
        self._sync_clock = sync_clock or SyncClock(elapsed=monotonic)
        self._on_news = on_news
        self._failures: set[str] = set()
        self._reason: str | None = None

    @property
    def is_synced(self) -> bool:
        """Whether the last look at the record found, or brought, everything. A replica that isn't still answers."""
        return self._is_synced

    @property
    def since(self) -> datetime:
        """When `is_synced` last changed."""
        return self._since

    @property
    def lag_seconds(self) -> float:
        """How long ago the replica was last known to be in step: little when all is well, inf when it is not known."""
        return self._sync_clock.lag_seconds()

    @property
    def reason(self) -> str | None:
        """Why the replica is not in step, if it isn't and that is known."""
        return None if self._is_synced else self._reason

    @property
    def cursor(self) -> Cursor | None:
        """Where the replica is; None before the first snapshot, or when the replica can't be read."""
        return self._replica.find_cursor()

    @property
    def revision(self) -> int | None:
        cursor = self.cursor
        return None if cursor is None else cursor.revision

    def ring(self) -> None:
        """Say that there may be something new. From the event loop's own thread."""
        self._bell.set()

    async def sync_now(self) -> None:
        """Return when the replica has every change that was committed before this call; raises what stands in the way.

        Calls that come while a round is running share the next one, the first that is sure to see their changes.
        """
        if self._waiting is None:
            self._waiting = asyncio.create_task(self._round_after(self._running))
            self._waiting.add_done_callback(_retrieve)
        await asyncio.shield(self._waiting)

    async def run(self, stop: asyncio.Event) -> None:
        """Catch up at every ring, and at every poll or whenever a live feed has news, until `stop` is set.

        Survives everything but being cancelled.
        """
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: self._bell.set())
        checking = asyncio.create_task(self._check_integrity())
        pause = 0.0
        checked_at = self._monotonic()
        try:
            while not stop.is_set():
                self._bell.clear()
                try:
                    await self.sync_now()
                    await self._on_writer(self._replica.sweep, SWEEP_SIZE)
                    if self._monotonic() - checked_at >= READER_CHECK_SECONDS:
                        checked_at = self._monotonic()
                        await self._on_writer(self._replica.reader_check)
                    pause = 0.0
                    self._failures.clear()
                    if self._live is not None:
                        await self._until_news(self._live)
                        continue
                    await self._until_rung(self._poll_seconds())
                except Exception as error:  # noqa: BLE001
                    self._is_known_deployment = False
                    self._mark(is_synced=False)
                    self._note_failure(error)
                    if isinstance(error, Refused):
                        await self._until_rung(REFUSED_PAUSE_SECONDS * random.uniform(0.5, 1.0))  # noqa: S311
                        continue
                    pause = min(max(pause * 2, self._poll_seconds()), self._longest_pause_seconds)
                    # Random, so that many edges don't ask a record that is back all at once, nor several processes
                    # try for the same lock in step.
                    await self._until_rung(pause * random.uniform(0.0 if self._live else 0.5, 1.0))  # noqa: S311
        finally:
            await tasks.end(stopping, checking)

    async def _check_integrity(self) -> None:
        """Have every record looked at once: the files may have been damaged while nobody ran."""
        replica = self._replica
        try:
            if replica.revision is None or not await integrity.is_damaged(replica.path):
                return
            _log.error("the replica in %s is damaged: it will be replaced, and filled again", replica.path)
            replica.mark_corrupt()
            self.ring()
        except (OSError, lmdb.Error, ReplicaBroken) as error:
            _log.warning("the replica can't be looked through for damage: %s", error)

    async def _until_rung(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._bell.wait(), seconds)

    async def _until_news(self, feed: LiveFeed) -> None:
        ringing, hearing = asyncio.create_task(self._bell.wait()), asyncio.create_task(feed.wait_for_news())
        try:
            await asyncio.wait((ringing, hearing), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await tasks.end(ringing, hearing)
        if not hearing.cancelled():
            hearing.result()

    async def close(self) -> None:
        """End the round that is running and the writer's thread. The replica stays open: it is the caller's."""
        await tasks.end(*(task for task in (self._waiting, self._running) if task is not None))
        await asyncio.to_thread(self._writer.shutdown)

    async def _round_after(self, earlier: asyncio.Task[None] | None) -> None:
        if earlier is not None:
            await asyncio.wait([earlier])
        # From here on a caller needs a round that starts later than this one.
        self._running, self._waiting = self._waiting, None
        try:
            await self._round()
        except BaseException as error:
            self._is_known_deployment = False
            self._mark(is_synced=False)
            if isinstance(error, ReplicaBroken) and self._replica.is_open:
                self._replica.mark_corrupt()
            raise
        self._mark(is_synced=True)

    async def _round(self) -> None:
        replica = self._replica
        if not replica.is_open or replica.is_marked_corrupt:
            await self._reopen()
        if not self._is_known_deployment:
            deployment_id = await self._feed.deployment_id()
            if replica.deployment_id != deployment_id:
                await self._take_snapshot(lambda: replica.deployment_id != deployment_id)
            self._is_known_deployment = True
        while True:
            cursor = replica.cursor
            asked_at = self._monotonic()
            try:
                if cursor is None:
                    raise SnapshotNeeded("nothing here yet")
                if not cursor.stamp:
                    raise SnapshotNeeded("an older version left no stamp here")
                batch = await self._feed.changes(cursor)
                if batch.changes:
                    reached = await self._on_writer(replica.apply, batch)
                    self._on_news()
                    if reached != batch.cursor:
                        # Another process was faster. It was at most twice so: whoever comes after that saw what is
                        # here.
                        continue
            except (SnapshotNeeded, Gap) as error:
                if cursor is not None:
                    _log.warning("a new snapshot is needed at revision %d: %s", cursor.revision, error)
                await self._take_snapshot(lambda seen=cursor: replica.cursor == seen)  # type: ignore[misc]
                continue
            if len(batch.changes) < self._feed.batch_size:
                # What a live feed says of its last moment is not what is true now.
                synced_at = asked_at if self._live is None else self._live.synced_at
                if synced_at is not None:
                    self._sync_clock.advance(synced_at)
                return

    async def _reopen(self) -> None:
        if self._replica.is_open:
            # What can still be read goes on being answered until there is something to fill a new one from.
            await self._feed.deployment_id()
        # On the loop's thread, where the validations run: none of them is reading while the map goes away.
        self._replica.close()
        await self._on_writer(self._replica.reopen)

    async def _take_snapshot(self, is_needed: Callable[[], bool]) -> None:
        """Load a snapshot, or wait for another process on this replica that is loading one already."""
        while is_needed():
            with self._replica.loading() as is_ours:
                # Asked again under the lock: the other process may have finished in between.
                if is_ours and is_needed():
                    await self._load(await self._feed.snapshot())
                    return
            await asyncio.sleep(LOCK_SECONDS)

    async def _load(self, snapshot: Snapshot) -> None:
        try:
            self._compare(snapshot)
        except BaseException:
            await _close(snapshot)
            raise
        pages = _Pages(asyncio.get_running_loop(), snapshot.changes)
        loaded = asyncio.ensure_future(
            self._on_writer(
                self._replica.load, snapshot.deployment_id, snapshot.pepper_check, snapshot.cursor, iter(pages)
            )
        )
        try:
            await asyncio.shield(loaded)
        finally:
            pages.stop()
            # The transaction must have ended before anything else is done, even if this task was cancelled.
            await asyncio.wait([loaded])
            await _close(snapshot)
        _log.info("took a snapshot of deployment %s at revision %d", snapshot.deployment_id, snapshot.cursor.revision)

    def _compare(self, snapshot: Snapshot) -> None:
        """Say what a snapshot means that is no later than the replica. Raises RecordBehind if it must not be taken."""
        here, there = self._replica.cursor, snapshot.cursor
        if here is None or here.revision < there.revision or snapshot.deployment_id != self._replica.deployment_id:
            return
        if there.may_become(here):
            raise RecordBehind(
                f"the record is at revision {there.revision} and this replica at {here.revision}: what answers for it "
                "is behind, or it was restored from a backup and not written to since. Waiting for it, or a change"
            )
        if here.stamp and there != here:
            _log.error(
                "the record has another past than this replica: revision %d here, %d there, and it will not get here. "
                "Was it restored from a backup, or did it fail over? What only this replica had is lost",
                here.revision,
                there.revision,
            )

    async def _on_writer(self, function: Callable[..., _T], *arguments: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, function, *arguments)

    def _mark(self, *, is_synced: bool) -> None:
        if is_synced is not self._is_synced:
            self._is_synced = is_synced
            self._since = self._clock()
            self._on_news()

    def _note_failure(self, error: Exception) -> None:
        """Log the first failure of each kind since all was well; the others would only say it again."""
        kind = type(error).__name__
        self._reason = f"{kind}: {error}"
        if kind not in self._failures:
            self._failures.add(kind)
            level = logging.ERROR if isinstance(error, (Refused, Untrusted)) else logging.WARNING
            _log.log(level, "can't follow the record: %s: %s", kind, error)


class _Pages:
    """The changes of a snapshot, produced on the event loop and read on the writer's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pages: AsyncIterator[Sequence[Change]]) -> None:
        self._loop = loop
        self._pages = pages
        self._pending: Future[Sequence[Change] | None] | None = None
        self._is_stopped = False

    def stop(self) -> None:
        """Make the reader fail, so that its transaction is given up; without effect when it has read everything."""
        self._is_stopped = True
        if self._pending is not None:
            self._pending.cancel()

    def __iter__(self) -> Iterator[Change]:
        while True:
            self._pending = asyncio.run_coroutine_threadsafe(self._next_page(), self._loop)
            if self._is_stopped:
                self._pending.cancel()
            page = self._pending.result()
            if page is None:
                return
            yield from page

    async def _next_page(self) -> Sequence[Change] | None:
        return await anext(self._pages, None)


async def _close(snapshot: Snapshot) -> None:
    close = getattr(snapshot.changes, "aclose", None)
    if close is not None:
        await close()


def _retrieve(task: asyncio.Task[None]) -> None:
    """Take note of the outcome for the case that nobody waits for it any more."""
    if not task.cancelled():
        task.exception()
