"""Owns until when a HAProxy believes which maps: by that an edge knows what it may report as applied.

There may be more than one HAProxy that believes: after a reload the former process ends its requests by the maps that
it had, until its lease is over. Each lease is noted on disk before it is written into HAProxy, so that the edge knows
after a restart, too, what the one before it has left.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from keywright.edge.haproxy.socket import Entry, Map
from keywright.edge.note_file import NoteFile
from keywright.protocol.changes import Cursor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from keywright.edge.haproxy.socket import Socket

_log = logging.getLogger(__name__)


class Believer(NamedTuple):
    """A HAProxy that says yes by maps that hold this, until then (milliseconds since the epoch). None: nobody knows."""

    cursor: Cursor | None
    until: int


class Belief:
    """What the HAProxy at the socket, and those before it, may say yes by."""

    def __init__(
        self, path: Path, clock: Callable[[], int], lease_millis: int, has_been_at: Callable[[Cursor], bool]
    ) -> None:
        """`has_been_at` tells whether the replica came by a cursor: one of another history says nothing."""
        self._file = NoteFile(path, _log, so="HAProxy gets no lease")
        self._has_been_at = has_been_at
        self._clock = clock
        self._lease_millis = lease_millis
        self._now: Believer | None = None
        """The HAProxy at the socket."""
        self._others: list[Believer] = []

    def start(self) -> None:
        """Nothing is known but what the edge before this one has noted; it had perhaps no place for that."""
        self._now = None
        try:
            rows = self._file.read()
            if not isinstance(rows, list):
                raise TypeError("a list")
            self._others = [Believer(None if at is None else Cursor.parse(at), int(until)) for at, until in rows]
        except (OSError, ValueError, TypeError):
            self._others = [Believer(None, self._clock() + self._lease_millis)]

    def meet(self, cursor: Cursor | None, until: int) -> None:
        """The HAProxy at the socket has these maps, and a lease until then: it may be one of those that are known."""
        known = [one for one in self._others if one.cursor == cursor and cursor is not None]
        if known:
            self._others.remove(known[-1])
        self._now = Believer(cursor, until)

    def lose(self) -> None:
        """Another HAProxy is at the socket by now, or none."""
        if self._now is not None:
            self._others.append(self._now)
            self._now = None

    def renew(self, cursor: Cursor) -> int | None:
        """The maps hold this: until when they may be believed, if that could be noted."""
        until = self._clock() + self._lease_millis
        believer = Believer(cursor, until)
        self._forget_over()
        rows = [[None if one.cursor is None else str(one.cursor), one.until] for one in (*self._others, believer)]
        if not self._file.write(rows):
            return None
        self._now = believer
        return until

    @property
    def cursor(self) -> Cursor | None:
        """What the maps of the HAProxy at the socket hold."""
        return None if self._now is None else self._now.cursor

    @property
    def is_lasting(self) -> bool:
        """Whether the HAProxy at the socket believes its maps now."""
        return self._now is not None and self._now.until > self._clock()

    def reached(self, cursor: Cursor | None) -> Cursor | None:
        """How far the edge is whose replica is at `cursor`: no further than who says yes by maps of its own."""
        self._forget_over()
        believers = [*self._others, *([self._now] if self._now is not None and self.is_lasting else [])]
        reached = cursor
        for one in believers:
            if reached is None or one.cursor is None or not (one.cursor == cursor or self._has_been_at(one.cursor)):
                return None
            reached = min(reached, one.cursor, key=lambda cursor: cursor.revision)
        return reached

    def _forget_over(self) -> None:
        now = self._clock()
        self._others = [one for one in self._others if one.until > now]


class Told(NamedTuple):
    """What the map `state` tells HAProxy. Each of its entries is there twice: once for the maps of what has powers,
    which edges of before know nothing of and leave as they are.
    """

    mark: str | None
    """What the maps hold: deployment:cursor."""
    lease: int
    """Until when they are believed, in milliseconds since the epoch."""
    is_whole: bool
    """Whether all maps hold the same."""

    def cursor(self, deployment_id: str | None) -> Cursor | None:
        """What all maps hold, if it is of this deployment."""
        of, _, text = (self.mark or "").rpartition(":")
        if of != deployment_id or not self.is_whole:
            return None
        try:
            return Cursor.parse(text)
        except ValueError:
            return None


async def read_told(socket: Socket) -> Told:
    mark, mark3, lease = [await socket.get(Map.STATE, name) for name in ("at", "at3", "lease")]
    return Told(mark, 0 if lease is None else int(lease), mark == mark3 or not socket.has_powers)


async def tell_mark(socket: Socket, mark: str) -> None:
    await socket.write([(Entry(Map.STATE, name), mark) for name in ("at3", "at")])


async def tell_lease(socket: Socket, until: int) -> None:
    await socket.write([(Entry(Map.STATE, name), str(until)) for name in ("lease3", "lease")])


async def take_back(socket: Socket, *, has_lease: bool) -> None:
    """Have it forget what its maps hold, and `has_lease`: have it believe them no more."""
    names = ("lease", "lease3", "at", "at3") if has_lease else ("at", "at3")
    await socket.write([(Entry(Map.STATE, name), None) for name in names])
