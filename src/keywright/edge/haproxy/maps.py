"""Owns the maps in a HAProxy that decides by itself: filled from the replica, kept in step with every change to it.

HAProxy forgets what it was told when it restarts, and knows nothing of an edge that has died. So its configuration
believes the maps only until the moment in the entry `lease`, which is written anew every second: see mirroring.py. The
entry `at` says what the maps hold, and of which deployment: where it is missing (a new HAProxy), or is not what this
edge left, everything is filled in again. How entries look is in entries.py.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
from typing import TYPE_CHECKING

import lmdb

from keywright.edge.haproxy import socket as haproxy_socket
from keywright.edge.haproxy.belief import Belief
from keywright.edge.haproxy.mirroring import RENEW_SECONDS, Mirroring, Stopped
from keywright.edge.haproxy.socket import HaproxyError
from keywright.edge.mirror import MirrorStatus
from keywright.edge.replica.replica import ReplicaBroken

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from keywright.edge.haproxy.mirroring import Event
    from keywright.edge.replica.endings import Ending
    from keywright.edge.replica.replica import Replica
    from keywright.protocol.changes import Batch, Cursor

_log = logging.getLogger(__name__)


class HaproxyMaps:
    """Mirrors a replica into one HAProxy for as long as `run` runs, in the process that follows the record.

    It is the replica's observer: its methods `applied`, `replaced` and `swept` are called on the writer's thread. And
    it is a Mirror: what it holds counts for what the edge reports.
    """

    def __init__(
        self,
        socket_path: Path,
        replica: Replica,
        *,
        is_following: Callable[[], bool],
        lease_seconds: int,
        clock: Callable[[], int],
        note_path: Path,
    ) -> None:
        """`note_path` is the file in which it is noted until when HAProxy believes what."""
        self.on_change: Callable[[], None] = lambda: None
        self._socket_path = socket_path
        self._replica = replica
        self._is_following = is_following
        self._lease_seconds = lease_seconds
        self._events: collections.deque[Event] = collections.deque()
        self._wakeup = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._belief = Belief(note_path, clock, lease_seconds * 1000, replica.has_been_at)
        self._is_started = False
        self._mirroring = Mirroring(
            replica,
            self._events,
            self._belief,
            clock,
            on_change=self._tell_change,
            is_stopping=lambda: self._stop is not None and self._stop.is_set(),
        )
        self._failure: str | None = None
        self._is_told_behind = False

    # -- the replica's observer ---------------------------------------------------------------------------------------

    def applied(self, batch: Batch, endings: Sequence[Ending]) -> None:
        self._note(("batch", batch, endings))

    def replaced(self) -> None:
        self._note(("replaced",))

    def swept(self, *, is_keys: bool, names: list[bytes]) -> None:
        """Take out what can't be reached any more, so that HAProxy's memory is not filled with it."""
        self._note(("swept", is_keys, names))

    def _note(self, event: Event) -> None:
        self._events.append(event)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._wakeup.set)

    # -- the mirror ---------------------------------------------------------------------------------------------------

    def reached(self, cursor: Cursor | None) -> Cursor | None:
        if not self._is_started:
            self._start()
        return self._belief.reached(cursor)

    def status(self) -> MirrorStatus:
        held, lag = self._mirroring.held, self._mirroring.lag_seconds
        return MirrorStatus(
            is_synced=not lag and self._failure is None,
            revision=None if held is None else held.revision,
            lag_seconds=lag,
            pending=self._mirroring.pending,
            blocked=self._mirroring.blocked,
            is_believed=self._belief.is_lasting,
            reason=self._failure,
        )

    def _tell_change(self) -> None:
        self.on_change()

    # -- the loop -----------------------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """Keep HAProxy in step until `stop` is set. Survives everything but being cancelled."""
        self._loop, self._stop = asyncio.get_running_loop(), stop
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: self._wakeup.set())
        telling = asyncio.create_task(self._tell_how_it_is())
        try:
            while not stop.is_set():
                self._wakeup.clear()
                if self._is_following():
                    await self._try_round()
                else:
                    self._forget()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wakeup.wait(), RENEW_SECONDS)
        finally:
            telling.cancel()
            stopping.cancel()

    def _start(self) -> None:
        """The process that mirrored before this one has left what it knew."""
        self._is_started = True
        self._belief.start()

    def _forget(self) -> None:
        """Another process follows, and mirrors."""
        self._events.clear()
        self._mirroring.forget()
        self._is_started = False

    async def _try_round(self) -> None:
        if not self._is_started:
            self._start()
        try:
            async with haproxy_socket.connect(self._socket_path) as socket:
                await self._mirroring.round(socket)
        except Stopped:
            pass
        except (OSError, EOFError, TimeoutError, HaproxyError, lmdb.Error, ReplicaBroken) as error:
            self._mirroring.break_off()
            failure = f"{type(error).__name__}: {error}"
            if failure != self._failure:
                _log.warning("can't keep HAProxy at %s up to date: %s", self._socket_path, failure)
            self._failure = failure
        else:
            if self._failure is not None:
                _log.info("HAProxy at %s is up to date again", self._socket_path)
            self._failure = None

    async def _tell_how_it_is(self) -> None:
        """Say in the log that the maps are far behind, and that they no longer are. A failure has its own line."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            if not self._is_following():
                continue
            status = self.status()
            if status.lag_seconds > self._lease_seconds and status.reason is None and not self._is_told_behind:
                self._is_told_behind = True
                _log.warning(
                    "HAProxy at %s is %d s behind: %d entries are to be written, %d consumers blocked meanwhile",
                    self._socket_path, status.lag_seconds, status.pending, status.blocked,
                )  # fmt: skip
            elif self._is_told_behind and status.is_synced:
                self._is_told_behind = False
                _log.info("HAProxy at %s is in step again", self._socket_path)
