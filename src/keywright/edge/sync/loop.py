"""Owns the loop that keeps a replica in step with the record: snapshot, then changes, then again.

One SyncLoop per process and replica. Several processes may follow the record into one replica on disk: what one has
applied the others find done. It applies on a thread of its own (thread_bridge.py); snapshots are loaded by
snapshot_loader.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from typing import TYPE_CHECKING

import lmdb

from keywright.edge.replica import integrity
from keywright.edge.replica.files import FilesReplaced
from keywright.edge.replica.replica import Gap, Overtaken, ReplicaBroken
from keywright.edge.sync.feed import LiveFeed, OtherFormat, Refused, SnapshotNeeded, Untrusted
from keywright.edge.sync.snapshot_loader import SnapshotLoader
from keywright.edge.sync.thread_bridge import WriterThread
from keywright.runtime import tasks
from keywright.runtime.failure_log import FailureLog

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from keywright.edge.replica.freshness import SyncClock
    from keywright.edge.replica.replica import Replica
    from keywright.edge.sync.feed import Feed
    from keywright.protocol.changes import Cursor
    from keywright.runtime.backoff import Backoff
    from keywright.runtime.clock import Clock

_log = logging.getLogger(__name__)

POLL_SECONDS = 0.25
SWEEP_SIZE = 1000
READER_CHECK_SECONDS = 60.0
LONGEST_PAUSE_SECONDS = 5.0
REFUSED_PAUSE_SECONDS = 30.0
_SNAPSHOTS_OF_ROUND = 3


class SyncLoop:
    """Follows a feed into a replica. `run` is the background loop; `sync_now` may be called at any time beside it.

    `backoff` says how long to wait after a failure. `on_change` is called, on the event loop's thread, when something
    was applied and when `is_synced` changed.
    """

    def __init__(
        self,
        replica: Replica,
        feed: Feed,
        clock: Clock,
        sync_clock: SyncClock,
        backoff: Backoff,
        *,
        poll_seconds: Callable[[], float],
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._replica = replica
        self._feed = feed
        self._live = feed if isinstance(feed, LiveFeed) else None
        self._clock = clock
        self._sync_clock = sync_clock
        self._backoff = backoff
        self._poll_seconds = poll_seconds
        self._on_change = on_change
        self._writer = WriterThread(replica.beat)
        self._snapshots = SnapshotLoader(replica, feed, self._writer)
        self._woken = asyncio.Event()
        self._origin_met = asyncio.Event()
        """Ends a pause after a failure, and nothing else: a live feed that is woken asks anew on another connection."""
        self._running: asyncio.Task[None] | None = None
        self._waiting: asyncio.Task[None] | None = None
        self._is_known_deployment = False
        self._is_synced = False
        self._is_refused = False
        self._since = clock.now()
        self._failures = FailureLog(_log, "can't follow the record")
        self._reason: str | None = None
        self._is_format_unknown = False

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
    def is_refusing(self) -> bool:
        """An edge beside its origin promises nothing."""
        return False

    @property
    def mirror(self) -> None:
        """Nothing mirrors a replica beside its origin."""
        return None

    @property
    def reason(self) -> str | None:
        """Why the replica is not in step, if it isn't and that is known."""
        return None if self._is_synced else self._reason

    @property
    def is_format_unknown(self) -> bool:
        """Whether it can't follow because what the record says is of a format that this version does not read."""
        return self._is_format_unknown and not self._is_synced

    @property
    def cursor(self) -> Cursor | None:
        """Where the replica is; None before the first snapshot, or when the replica can't be read."""
        return self._replica.find_cursor()

    @property
    def revision(self) -> int | None:
        cursor = self.cursor
        return None if cursor is None else cursor.revision

    def wake(self) -> None:
        """Look again now: there may be something new. From the event loop's own thread."""
        self._woken.set()

    def origin_seen(self, *, is_back: bool) -> None:
        """The origin was met by other means: waiting out a failure is over. One that refused us need not be asked
        sooner for that, unless it was away and `is_back`.
        """
        if not self._is_synced and (is_back or not self._is_refused):
            self._origin_met.set()

    async def sync_now(self) -> None:
        """Return when the replica has every change that was committed before this call; raises what stands in the way.

        A feed may hand on what this process has committed before it looks for what others have (`Batch.is_newest`).

        Calls that come while a round is running share the next one, the first that is sure to see their changes.
        """
        if self._waiting is None:
            self._waiting = asyncio.create_task(self._round_after(self._running))
            self._waiting.add_done_callback(_retrieve)
        await asyncio.shield(self._waiting)

    async def run(self, stop: asyncio.Event) -> None:
        """Catch up whenever woken, and at every poll or whenever a live feed says so, until `stop` is set.

        Survives everything but being cancelled.
        """
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: self._woken.set())
        checking = asyncio.create_task(self._check_integrity())
        checked_at = self._clock.elapsed()
        try:
            while not stop.is_set():
                self._woken.clear()
                self._origin_met.clear()
                try:
                    await self.sync_now()
                    if self._replica.has_garbage:
                        await self._writer.run(self._replica.sweep, SWEEP_SIZE)
                    if self._clock.elapsed() - checked_at >= READER_CHECK_SECONDS:
                        checked_at = self._clock.elapsed()
                        await self._writer.run(self._replica.reader_check)
                    self._backoff.reset()
                    self._failures.clear()
                    if self._live is not None:
                        await self._until_due(self._live)
                    else:
                        await self._until_woken(self._poll_seconds())
                except Exception as error:  # noqa: BLE001
                    await self._until_woken(self._fail(error), or_met=self._origin_met)
        finally:
            await tasks.end(stopping, checking)

    def _fail(self, error: Exception) -> float:
        """Take note of a failure; seconds until the next try."""
        self._is_known_deployment = False
        self._mark(is_synced=False)
        self._reason = f"{type(error).__name__}: {error}"
        self._is_format_unknown = isinstance(error, OtherFormat)
        self._failures.note(error, logging.ERROR if isinstance(error, (Refused, Untrusted)) else logging.WARNING)
        self._is_refused = isinstance(error, Refused)
        if not self._replica.is_open or self._replica.is_replaced:
            # Others are about to let go of its files, or have put new ones in their place.
            return POLL_SECONDS
        if self._is_refused:
            return self._backoff.spread(REFUSED_PAUSE_SECONDS)
        return self._backoff.next_pause()

    async def _check_integrity(self) -> None:
        """Have every record looked at once: the files may have been damaged while nobody ran."""
        replica = self._replica
        try:
            if replica.revision is None or not await integrity.is_damaged(replica.path):
                return
            _log.error("the replica in %s is damaged: it will be replaced, and filled again", replica.path)
            replica.mark_corrupt()
            self.wake()
        except (OSError, lmdb.Error, ReplicaBroken) as error:
            _log.warning("the replica can't be looked through for damage: %s", error)

    async def _until_woken(self, seconds: float, *, or_met: asyncio.Event | None = None) -> None:
        events = [self._woken] if or_met is None else [self._woken, or_met]
        waiting = [asyncio.create_task(event.wait()) for event in events]
        try:
            await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await tasks.end(*waiting)

    async def _until_due(self, feed: LiveFeed) -> None:
        woken, due = asyncio.create_task(self._woken.wait()), asyncio.create_task(feed.wait_for_changes())
        try:
            await asyncio.wait((woken, due), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await tasks.end(woken, due)
        if not due.cancelled():
            due.result()

    async def close(self) -> None:
        """End the round that is running and the writer's thread. The replica stays open: it is the caller's."""
        await tasks.end(*(task for task in (self._waiting, self._running) if task is not None))
        await self._writer.close()

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
            if isinstance(error, ReplicaBroken) and self._replica.is_open and not self._replica.is_replaced:
                self._replica.mark_corrupt()
            raise
        self._mark(is_synced=True)

    async def _round(self) -> None:
        replica = self._replica
        if replica.needs_reopening:
            await self._reopen()
        if not self._is_known_deployment:
            await self._know_deployment()
        snapshots = 0
        while True:
            cursor = replica.cursor
            asked_at = self._clock.elapsed()
            try:
                if cursor is None:
                    raise SnapshotNeeded("nothing here yet")
                if not cursor.stamp:
                    raise SnapshotNeeded("an older version left no stamp here")
                batch = await self._feed.changes(cursor)
                if batch.changes:
                    reached = await self._writer.run(replica.apply, batch)
                    self._on_change()
                    if reached != batch.cursor:
                        # Another process was faster. It was at most twice so: whoever comes after that saw what is
                        # here.
                        continue
            except (SnapshotNeeded, Gap) as error:
                snapshots += 1
                if snapshots > _SNAPSHOTS_OF_ROUND:
                    # What the feed gives does not lead on from its own snapshots: ask again, but not at once.
                    raise
                await self._load_snapshot(cursor, error)
                continue
            if self._feed.is_last(batch):
                if replica.is_replaced:
                    # This process was stopped in the middle, and what it knows is true of files that nobody reads.
                    raise FilesReplaced("the files were replaced")
                # What a live feed says of its last moment is not what is true now.
                synced_at = asked_at if self._live is None else self._live.synced_at
                if synced_at is not None and batch.is_newest:
                    self._sync_clock.advance(synced_at)
                return

    async def _load_snapshot(self, cursor: Cursor | None, why: Exception) -> None:
        if cursor is not None:
            _log.warning("a new snapshot is needed at revision %d: %s", cursor.revision, why)
        with contextlib.suppress(Overtaken):
            await self._snapshots.load(lambda: self._replica.cursor == cursor)

    async def _know_deployment(self) -> None:
        replica, deployment_id = self._replica, await self._feed.deployment_id()
        while replica.deployment_id != deployment_id:
            with contextlib.suppress(Overtaken):
                await self._snapshots.load(lambda: replica.deployment_id != deployment_id)
        self._is_known_deployment = True

    async def _reopen(self) -> None:
        if self._replica.is_open and not self._replica.is_replaced:
            # What can still be read goes on being answered until there is something to fill a new one from.
            await self._feed.deployment_id()
        # On the loop's thread, where the validations run: none of them is reading while the map goes away.
        self._replica.close()
        await self._writer.run(functools.partial(self._replica.reopen, abandon=True))

    def _mark(self, *, is_synced: bool) -> None:
        if is_synced is not self._is_synced:
            self._is_synced = is_synced
            self._since = self._clock.now()
            self._on_change()


def _retrieve(task: asyncio.Task[None]) -> None:
    """Take note of the outcome for the case that nobody waits for it any more."""
    if not task.cancelled():
        task.exception()
