"""Owns bringing one HAProxy's maps from what they hold to what the replica holds, and saying how long to believe them.

The lease is renewed while nobody gets in by the maps whom the replica would refuse. So what takes away is written
first, or, where that is much, the consumers whose keys it is are blocked until it is (guard.py); what gives may be
late.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Literal

from keywright.domain.permissions import SYSTEM_BUCKET
from keywright.edge.haproxy import entries, filling
from keywright.edge.haproxy.backlog import Backlog, Owner
from keywright.edge.haproxy.belief import read_told, take_back, tell_lease, tell_mark
from keywright.edge.haproxy.bucket_names import BucketNames
from keywright.edge.haproxy.costs import Costs
from keywright.edge.haproxy.guard import Guard
from keywright.edge.haproxy.powered import Telling
from keywright.edge.haproxy.socket import AT_ONCE, Map
from keywright.protocol.changes import Cursor

if TYPE_CHECKING:
    import collections
    from collections.abc import Callable, Sequence

    from keywright.edge.haproxy.belief import Belief
    from keywright.edge.haproxy.socket import Socket
    from keywright.edge.replica.endings import Ending
    from keywright.edge.replica.replica import Replica
    from keywright.protocol.changes import Batch

_log = logging.getLogger(__name__)

RENEW_SECONDS = 1.0
SLICE_SECONDS = 0.05
"""For so long entries that are there are changed before anything else gets its turn."""

Event = (
    tuple[Literal["batch"], "Batch", "Sequence[Ending]"]
    | tuple[Literal["swept"], bool, "Sequence[bytes]"]
    | tuple[Literal["replaced"]]
)
"""What was committed to the replica."""


class Lost(Exception):
    """What the maps lack is not known any more: it is found out anew."""


class Stopped(Exception):
    """There is no more time: the process ends."""


class Mirroring:
    """What is known of the HAProxy at the socket. Its methods run one at a time, on the event loop's thread."""

    def __init__(
        self,
        replica: Replica,
        events: collections.deque[Event],
        belief: Belief,
        clock: Callable[[], int],
        *,
        on_change: Callable[[], None],
        is_stopping: Callable[[], bool],
    ) -> None:
        self._replica = replica
        self._events = events
        self._belief = belief
        self._clock = clock
        self._on_change = on_change
        self._is_stopping = is_stopping
        self._guard = Guard()
        self._names = BucketNames(replica, self._guard)
        self._costs = Costs()
        self._telling = Telling()
        self._backlog: Backlog | None = None
        self._mark: str | None = None
        """What HAProxy has as `at`, while `_backlog` tells what it lacks."""
        self._held: Cursor | None = None
        """What its maps hold."""
        self._carried: set[Owner] = set()
        """Whose keys are wrongly in the maps until a fill is done, besides those in the backlog."""
        self._is_sound = False
        """Whether all that is wrongly in the maps is known."""
        self._must_fill = self._is_filling = False
        self._renewed_at = self._current_at = time.monotonic()
        self._unheard: Cursor | None = None

    @property
    def held(self) -> Cursor | None:
        return self._held if self._mark is not None else None

    @property
    def pending(self) -> int:
        return 0 if self._backlog is None else len(self._backlog)

    @property
    def blocked(self) -> int:
        return self._guard.count

    @property
    def lag_seconds(self) -> float:
        return 0.0 if self._is_current() else time.monotonic() - self._current_at

    def forget(self) -> None:
        """Another process follows, and mirrors."""
        self._backlog = self._mark = self._held = None
        self._guard.forget()

    def break_off(self) -> None:
        """A round has failed: what it was about to do may have been done or not, which is no harm to most of it."""
        self._guard.forget()
        if self._mark is None:
            # By nothing would it be seen that another HAProxy is at the socket by then.
            self._backlog = None

    async def round(self, socket: Socket) -> None:
        """Write all that is pending by the end of it, and the lease from time to time. Raises as the socket does,
        Stopped, and what reading the replica may raise. What was begun is taken up again by the next round.
        """
        while True:
            self._is_filling = False
            try:
                if not await self._meet(socket):
                    return
                while await self._go_on(socket):
                    pass
            except Lost:
                self._backlog = None
                continue
            return

    # -- getting to know what is there --------------------------------------------------------------------------------

    async def _meet(self, socket: Socket) -> bool:
        """See to it that the backlog is about the HAProxy at the socket; False while there is nothing to mirror."""
        mark = await socket.get(Map.STATE, "at")
        if self._backlog is not None and mark == self._mark:
            return True
        if self._mark is not None and mark != self._mark:
            # The former one goes on with the requests that it has, by the maps that it has.
            self._belief.lose()
        self._guard.forget()
        # What was committed before this moment is in the pages; what comes after it is in the events.
        self._events.clear()
        cursor = self._replica.cursor
        if cursor is None:
            return False
        told = await read_told(socket)
        held = told.cursor(self._replica.deployment_id)
        self._belief.meet(held, told.lease)
        self._mark, self._held = told.mark, held
        await self._begin(socket, told.mark, held, cursor)
        return True

    async def _begin(self, socket: Socket, mark: str | None, held: Cursor | None, cursor: Cursor) -> None:
        while True:
            known = None if held is None else self._replica.endings_since(held)
            cursor = cursor if known is None else known[0]
            buckets = self._replica.buckets()
            newest = self._replica.cursor
            if newest is None:
                raise Lost
            if newest == cursor:
                # All of it was read at one place.
                break
            cursor = newest
        self._carried = set()
        self._unheard = None
        if known is not None:
            _, ended = known
            self._carried = {
                Owner(one.bucket_number, one.consumer_number) for one in ended if one.consumer_number is not None
            }
            await self._names.take_out(socket, ended)
            await self._names.narrow(socket, ended, {put.number: put for put in buckets if put.name != SYSTEM_BUCKET})
        elif mark is not None:
            # Numbers of another deployment would be taken for ours while one map is new and the next still old.
            is_other = not mark.startswith(f"{self._replica.deployment_id}:")
            await take_back(socket, has_lease=is_other)
            self._mark = self._held = None
        self._backlog = Backlog(cursor, buckets)
        self._is_sound = known is not None
        self._must_fill = held != cursor

    # -- one step -----------------------------------------------------------------------------------------------------

    async def _go_on(self, socket: Socket) -> bool:
        """One step; whether there are more."""
        await self._see_to_what_is_new(socket)
        backlog = self._known_backlog()
        if self._must_fill or self._costs.is_fill_quicker(backlog, self._replica.count):
            await self._fill(socket)
            return True
        if backlog:
            await self._write_some(socket, backlog)
            return True
        if not self._guard.is_clear:
            await self._guard.release(socket, (), backlog.buckets)
        self._note_held(backlog)
        await self._renew(socket, self._replica.cursor)
        if backlog.absorbed != self._replica.cursor and not self._events:
            # Perhaps it is told a moment later.
            if self._unheard == backlog.absorbed:
                raise Lost
            self._unheard = backlog.absorbed
        else:
            self._unheard = None
        return bool(self._events)

    async def _see_to_what_is_new(self, socket: Socket) -> None:
        """What can't wait until anything else is done."""
        if self._is_stopping():
            raise Stopped
        newest = self._replica.cursor
        self._absorb()
        backlog = self._known_backlog()
        self._telling.tell(backlog.unjudged, backlog.buckets, has_maps=socket.has_powers)
        writes = backlog.bucket_writes()
        if writes:
            backlog.written((await socket.write(writes)).writes)
        if socket.has_blocks and (self._carried or self._must_wait(backlog)):
            await self._guard.hold(socket, self._blocked(backlog), backlog.buckets)
        if time.monotonic() - self._renewed_at >= RENEW_SECONDS:
            await self._renew(socket, newest)

    def _absorb(self) -> None:
        backlog = self._known_backlog()
        while self._events:
            match self._events.popleft():
                case ("replaced",):
                    raise Lost
                case ("swept", is_keys, names):
                    # What is there again is no garbage, whichever of both was heard of first.
                    gone = [name for name in names if not self._replica.has_row(name, is_keys=is_keys)]
                    backlog.throw_away(entries.swept_entry(name, is_keys=is_keys) for name in gone)
                case ("batch", batch, endings):
                    if batch.follows == backlog.absorbed:
                        backlog.absorb(batch, endings, self._clock())
                    elif batch.follows.revision >= backlog.absorbed.revision:
                        raise Lost

    async def _write_some(self, socket: Socket, backlog: Backlog) -> None:
        is_taking = backlog.takes > 0
        written = await socket.write(backlog.next_writes(AT_ONCE), SLICE_SECONDS)
        backlog.written(written.writes)
        self._costs.note_written(written)
        self._note_held(backlog)
        if not is_taking:
            self._costs.note_given(written)
            # HAProxy has been held up for as long; what has time lets it breathe.
            await asyncio.sleep(written.seconds)
        elif not backlog.takes and not self._guard.is_clear:
            await self._guard.release(socket, (), backlog.buckets)

    async def _fill(self, socket: Socket) -> None:
        """Make the maps anew, beside what is there, which goes on being believed meanwhile if it may be."""
        former = self._known_backlog()
        self._carried |= set(former.owners)
        # What is pending is in the pages; what comes from here on is written after them once more.
        self._backlog = Backlog(former.absorbed, former.buckets.values())
        self._must_fill = self._is_filling = True
        await self._see_to_what_is_new(socket)
        began = time.monotonic()
        count = await filling.fill(
            socket,
            self._replica,
            known=[put for put in self._replica.buckets() if put.name != SYSTEM_BUCKET],
            buckets=lambda: self._names.answering(self._known_backlog().buckets.values()),
            clock=self._clock,
            between=lambda: self._see_to_what_is_new(socket),
            unjudged=self._backlog.unjudged,
        )
        self._costs.note_filled(count, time.monotonic() - began)
        _log.info("filled HAProxy with %d keys and consumers, revision %d", count, former.absorbed.revision)
        self._must_fill = self._is_filling = False
        self._is_sound = True
        self._carried = set()
        backlog = self._known_backlog()
        self._note_held(backlog)
        await self._guard.release(socket, backlog.owners if self._must_wait(backlog) else (), backlog.buckets)

    # -- the lease ----------------------------------------------------------------------------------------------------

    async def _renew(self, socket: Socket, newest: Cursor | None) -> None:
        """Say that the maps may be believed, if they may: if all is known that was committed up to `newest`."""
        backlog = self._known_backlog()
        if newest is None or newest.revision > backlog.absorbed.revision or not self._is_harmless(socket, backlog):
            return
        # Before anything has been filled in there is nothing to say of it. And an edge that has promised to answer for
        # no key any more does not let HAProxy answer.
        if self._held is None or self._replica.is_lease_over:
            return
        await self._names.withhold_stale(socket, backlog.buckets.values())
        is_news = self._belief.cursor != self._held
        until = self._belief.renew(self._held)
        if until is None:
            return
        mark = f"{self._replica.deployment_id}:{self._held}"
        await tell_mark(socket, mark)
        self._mark = mark
        await tell_lease(socket, until)
        self._renewed_at = time.monotonic()
        self._is_current()
        if is_news:
            self._on_change()

    def _is_harmless(self, socket: Socket, backlog: Backlog) -> bool:
        """Whether nobody gets in by the maps, as they are, whom the replica would refuse."""
        if not self._is_sound:
            return False
        if not backlog.takes and not self._carried:
            return True
        return socket.has_blocks and (bool(self._carried) or self._must_wait(backlog))

    def _must_wait(self, backlog: Backlog) -> bool:
        """Whether it takes long until what takes away is written."""
        return backlog.takes > 0 and (
            self._is_filling or self._must_fill or self._guard.count > 0 or self._costs.is_guard_needed(backlog)
        )

    def _blocked(self, backlog: Backlog) -> set[Owner]:
        return self._carried | set(backlog.owners)

    # -- the parts ----------------------------------------------------------------------------------------------------

    def _known_backlog(self) -> Backlog:
        if self._backlog is None:
            raise Lost
        return self._backlog

    def _note_held(self, backlog: Backlog) -> None:
        if not self._is_filling and not self._must_fill and self._held != backlog.held:
            self._held = backlog.held

    def _is_current(self) -> bool:
        if self._held is None or self._held != self._replica.find_cursor():
            return False
        self._current_at = time.monotonic()
        return True
