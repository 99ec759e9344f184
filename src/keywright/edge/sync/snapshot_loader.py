"""Owns taking a snapshot of the feed into the replica: by one process at a time, whole, and never one that is older."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from typing import TYPE_CHECKING

from keywright.edge.heartbeat_lock import BEAT_SECONDS
from keywright.edge.replica.replica import LOADING
from keywright.edge.sync.feed import RecordBehind
from keywright.edge.sync.thread_bridge import PageBridge
from keywright.protocol.feed_formats import is_same_record
from keywright.runtime import tasks

if TYPE_CHECKING:
    from collections.abc import Callable

    from keywright.edge.heartbeat_lock import Held
    from keywright.edge.replica.replica import Replica
    from keywright.edge.sync.feed import Feed, Snapshot
    from keywright.edge.sync.thread_bridge import WriterThread
    from keywright.protocol.changes import Cursor

_log = logging.getLogger(__name__)

LOCK_SECONDS = 0.05
"""How often it is looked whether the process that loads is done."""


class SnapshotLoader:
    """Of one loop. Nothing else may write to the replica while it loads."""

    def __init__(self, replica: Replica, feed: Feed, writer: WriterThread) -> None:
        self._replica = replica
        self._feed = feed
        self._writer = writer
        self._lock = replica.new_lock(LOADING)

    async def load(self, is_needed: Callable[[], bool]) -> None:
        """Load a snapshot, or wait for another process on this replica that is loading one already.

        Returns when none is needed any more. Raises RecordBehind, Overtaken, and what the feed raises.
        """
        while is_needed():
            held = self._lock.try_acquire()
            if held is None and self._lock.is_still:
                _log.warning("process %s, which loads a snapshot, has stopped: another is loaded", self._lock.holder)
                held = self._lock.take_over()
            if held is None:
                await asyncio.sleep(LOCK_SECONDS)
                continue
            beating = asyncio.ensure_future(_keep_beating(held))
            try:
                # Asked again under the lock: the other process may have finished in between.
                if is_needed():
                    await self._take(await self._feed.snapshot())
                    return
            finally:
                await tasks.end(beating)
                held.release()

    async def _take(self, snapshot: Snapshot) -> None:
        try:
            here = self._compare(snapshot)
        except BaseException:
            await _close(snapshot)
            raise
        pages = PageBridge(asyncio.get_running_loop(), snapshot.changes)
        loaded = asyncio.ensure_future(
            self._writer.run(
                functools.partial(self._replica.load, replaces=here),
                snapshot.deployment_id,
                snapshot.pepper_check,
                snapshot.cursor,
                iter(pages),
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

    def _compare(self, snapshot: Snapshot) -> Cursor | None:
        """Say what a snapshot means that is no later than the replica; where the replica is. Raises RecordBehind if it
        must not be taken.
        """
        here, there = self._replica.cursor, snapshot.cursor
        held = self._replica.deployment_id
        # In another format it is the same record, of which nothing may be taken back.
        is_other = held is None or not is_same_record(snapshot.deployment_id, held)
        if here is None or here.revision < there.revision or is_other:
            return here
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
        return here


async def _keep_beating(held: Held) -> None:
    while True:
        with contextlib.suppress(OSError):
            held.beat()
        await asyncio.sleep(BEAT_SECONDS)


async def _close(snapshot: Snapshot) -> None:
    close = getattr(snapshot.changes, "aclose", None)
    if close is not None:
        await close()
