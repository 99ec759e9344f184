"""Owns taking a snapshot of the feed into the replica: by one process at a time, whole, and never one that is older."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from keywright.edge.sync.feed import RecordBehind
from keywright.edge.sync.thread_bridge import PageBridge

if TYPE_CHECKING:
    from collections.abc import Callable

    from keywright.edge.replica.replica import Replica
    from keywright.edge.sync.feed import Feed, Snapshot
    from keywright.edge.sync.thread_bridge import WriterThread

_log = logging.getLogger(__name__)

LOCK_SECONDS = 0.05
"""How often it is looked whether the process that loads is done."""


class SnapshotLoader:
    """Of one loop. Nothing else may write to the replica while it loads."""

    def __init__(self, replica: Replica, feed: Feed, writer: WriterThread) -> None:
        self._replica = replica
        self._feed = feed
        self._writer = writer

    async def load(self, is_needed: Callable[[], bool]) -> None:
        """Load a snapshot, or wait for another process on this replica that is loading one already.

        Returns when none is needed any more. Raises RecordBehind, and what the feed raises.
        """
        while is_needed():
            with self._replica.loading() as is_ours:
                # Asked again under the lock: the other process may have finished in between.
                if is_ours and is_needed():
                    await self._take(await self._feed.snapshot())
                    return
            await asyncio.sleep(LOCK_SECONDS)

    async def _take(self, snapshot: Snapshot) -> None:
        try:
            self._compare(snapshot)
        except BaseException:
            await _close(snapshot)
            raise
        pages = PageBridge(asyncio.get_running_loop(), snapshot.changes)
        loaded = asyncio.ensure_future(
            self._writer.run(
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


async def _close(snapshot: Snapshot) -> None:
    close = getattr(snapshot.changes, "aclose", None)
    if close is not None:
        await close()
