"""Owns which of several processes on one replica follows the record, and what the others may say of it.

The process that holds the replica's lock follows; the others only read, and try for the lock again and again, so that
one of them takes over as soon as it is free (a lock is let go of by whoever dies) or as its holder has not moved for
some seconds (heartbeat_lock.py). The one that follows, the leader, writes its status into a small file, by which every
process can tell how the replica is doing.

A leader that was stopped and overtaken may, when it moves again, finish the step that it was at before it finds out.
That harms nothing: a batch or a snapshot is taken only by a replica that is still where it was when they were asked for
(writer.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import lmdb

from keywright.domain.models import to_iso
from keywright.edge.mirror import MirrorStatus
from keywright.edge.replica.replica import FOLLOWING, ReplicaBroken
from keywright.edge.sync.presence import Presence
from keywright.runtime import atomic_file, tasks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from keywright.edge.heartbeat_lock import Held
    from keywright.edge.replica.freshness import SyncClock
    from keywright.edge.replica.lease import Lease
    from keywright.edge.replica.replica import Replica
    from keywright.edge.sync.loop import SyncLoop
    from keywright.protocol.changes import Cursor
    from keywright.runtime.clock import Clock

_log = logging.getLogger(__name__)

TRY_SECONDS = 0.25
WRITE_SECONDS = 0.5
STALE_SECONDS = 3.0
NOBODY = "no process follows the record"


class LeaderElection:
    """One process's part. Its status is that of its own loop while it follows, else what it reads of the leader's.

    `report` runs for as long as this process follows: an edge speaks with one voice, however many processes it has.
    """

    def __init__(
        self,
        replica: Replica,
        path: Path,
        new_sync_loop: Callable[[], SyncLoop],
        clock: Clock,
        sync_clock: SyncClock,
        *,
        report: Callable[[], Awaitable[None]] | None = None,
        lease: Lease | None = None,
        mirror_status: Callable[[], MirrorStatus] | None = None,
        say_goodbye: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`path` is the file in which the leader writes its status, and its mirror's. `say_goodbye` is called when the
        last process on the replica has ended as it was told to.
        """
        self._replica = replica
        self._path = path
        self._new_sync_loop = new_sync_loop
        self._sync_clock = sync_clock
        self._report = report
        self._lease = lease
        self._mirror_status = mirror_status
        self._presence = Presence(path.parent)
        self._say_goodbye = say_goodbye
        self._clock = clock
        self._started = clock.now()
        self._sync_loop: SyncLoop | None = None
        self._lock = replica.new_lock(FOLLOWING)
        self._held: Held | None = None

    @property
    def is_following(self) -> bool:
        return self._sync_loop is not None and self._held is not None and self._held.is_current

    @property
    def is_synced(self) -> bool:
        return self._sync_loop.is_synced if self._sync_loop else self._read().is_synced

    @property
    def since(self) -> datetime:
        return self._sync_loop.since if self._sync_loop else self._read().since

    @property
    def lag_seconds(self) -> float:
        return self._sync_clock.lag_seconds()

    @property
    def is_refusing(self) -> bool:
        """Whether the edge answers for no key: it was out of step, or unheard, for as long as it promised."""
        return self._lease is not None and self._lease.is_over()

    @property
    def reason(self) -> str | None:
        return self._sync_loop.reason if self._sync_loop else self._read().reason

    @property
    def is_format_unknown(self) -> bool:
        return self._sync_loop.is_format_unknown if self._sync_loop else self._read().is_format_unknown

    @property
    def mirror(self) -> MirrorStatus | None:
        """How the mirror is doing that the leader keeps; None where there is none to be kept."""
        if self._mirror_status is None:
            return None
        if self._sync_loop:
            return self._mirror_status()
        return self._read().mirror or MirrorStatus.unknown(NOBODY)

    @property
    def cursor(self) -> Cursor | None:
        return self._replica.find_cursor()

    @property
    def revision(self) -> int | None:
        cursor = self.cursor
        return None if cursor is None else cursor.revision

    async def run(self, stop: asyncio.Event) -> None:
        """Follow, or wait for the turn to, until `stop` is set. By then this process answers nobody any more."""
        await self._presence.enter()
        await self._run(stop)
        with self._presence.leave() as is_last:
            if is_last and self._say_goodbye is not None:
                await self._say_goodbye()

    def origin_seen(self, *, is_back: bool) -> None:
        if self._sync_loop is not None:
            self._sync_loop.origin_seen(is_back=is_back)

    async def _run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await self._renew_replica()
                self._held = self._lock.try_acquire() or await self._take_over()
                if self._held is not None:
                    try:
                        await self._follow(stop, self._held)
                    finally:
                        self._held.release()
            except (lmdb.Error, OSError, ReplicaBroken) as error:
                _log.warning("can't use the replica: %s: %s", type(error).__name__, error)
            await tasks.pause(stop, TRY_SECONDS)

    async def _take_over(self) -> Held | None:
        """The lock of a leader that has stopped moving, if there is one."""
        if not self._lock.is_still:
            return None
        holder, held = self._lock.holder, self._lock.take_over()
        if held is not None:
            # Others may be at it in the same moment, and the last one has it.
            await asyncio.sleep(TRY_SECONDS)
            if held.is_current:
                _log.warning("process %s follows the record and has stopped moving: it is replaced", holder)
                return held
            held.release()
        return None

    async def _follow(self, stop: asyncio.Event, held: Held) -> None:
        _log.info("process %d follows the record", os.getpid())
        sync_loop = self._sync_loop = self._new_sync_loop()
        following = asyncio.ensure_future(sync_loop.run(stop))
        leading = asyncio.ensure_future(self._keep_leading(sync_loop, held))
        running = [following, leading]
        if self._report is not None:
            running.append(asyncio.ensure_future(self._report()))
        try:
            await asyncio.wait((following, leading), return_when=asyncio.FIRST_COMPLETED)
            if leading.done() and not stop.is_set():
                leading.result()
                _log.warning("process %d was stopped for a while: another follows the record by now", os.getpid())
        finally:
            await tasks.end(*running)
            await sync_loop.close()
            self._sync_loop = None
        if following.done() and not following.cancelled():
            following.result()

    async def _renew_replica(self) -> None:
        """Let go of files that were found broken, so that the process that follows can replace them."""
        if self._replica.needs_reopening:
            # On the loop's thread, where the validations run: none of them is reading while the map goes away.
            self._replica.close()
            with contextlib.suppress(ReplicaBroken):
                await asyncio.to_thread(self._replica.reopen)

    async def _keep_leading(self, sync_loop: SyncLoop, held: Held) -> None:
        """Returns when another process has taken over."""
        while held.is_current:
            try:
                held.beat()
                self._write(sync_loop)
            except OSError as error:
                _log.warning("can't write %s: %s", self._path, error.strerror)
            await asyncio.sleep(WRITE_SECONDS)

    def _write(self, sync_loop: SyncLoop) -> None:
        status = {
            "synced": sync_loop.is_synced,
            "since": to_iso(sync_loop.since),
            "reason": sync_loop.reason,
            "format_unknown": sync_loop.is_format_unknown,
            "written_at": self._clock.elapsed(),
            "mirror": None if self._mirror_status is None else self._mirror_status().to_json(),
        }
        atomic_file.write(self._path, json.dumps(status).encode(), is_durable=False)

    def _read(self) -> LeaderStatus:
        """The status that was written last; a silent leader's says nothing of now."""
        try:
            return LeaderStatus.parse(self._path.read_text(), self._clock.elapsed())
        except (OSError, ValueError, LookupError, TypeError):
            return LeaderStatus(is_synced=False, since=self._started, reason=NOBODY)


@dataclass(frozen=True, slots=True)
class LeaderStatus:
    """What the process that follows says of the replica."""

    is_synced: bool
    since: datetime
    reason: str | None
    mirror: MirrorStatus | None = None
    is_format_unknown: bool = False

    @classmethod
    def parse(cls, text: str, now: float) -> LeaderStatus:
        """`now` is by `Clock.elapsed`. Raises ValueError, LookupError, TypeError for what no leader has written."""
        told = json.loads(text)
        # The clock is that of this machine since it started: a time to come is of an earlier start.
        if told["written_at"] > now:
            raise ValueError("of an earlier start")
        since = datetime.fromisoformat(told["since"])
        if now - told["written_at"] > STALE_SECONDS:
            return cls(is_synced=False, since=since, reason=NOBODY)
        mirror = told.get("mirror")
        return cls(
            bool(told["synced"]),
            since,
            None if told["reason"] is None else str(told["reason"]),
            None if mirror is None else MirrorStatus.from_json(mirror),
            told.get("format_unknown") is True,
        )
