"""Owns reading the changes that a broker keeps, from a cursor on and as they come, each proved to follow the last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keywright.edge.sync.feed import OtherPepper, SnapshotNeeded, Untrusted, record_of
from keywright.edge.sync.nats_feed.head_watch import age_of
from keywright.nats.connection import BrokerUnavailable
from keywright.nats.subjects import FOR_CHANGES
from keywright.protocol.changes import NOWHERE, Batch, Change, Cursor
from keywright.protocol.frames import Frame, FrameError, FrameKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from keywright.edge.sync.nats_feed.head_watch import HeadWatch
    from keywright.edge.sync.nats_feed.session import NatsSession
    from keywright.nats.connection import Message
    from keywright.nats.streams import StreamReader, Streams

_LARGEST_BATCH = 5000
_LAST_MESSAGES = 20


class NoChangesYet(BrokerUnavailable):
    """There is a stream, and nothing in it: it was begun, or begun anew, a moment ago."""


class ChangeReader:
    """Reads one stream of changes at a time. `wake` is called whenever something has come of it."""

    def __init__(self, session: NatsSession, head: HeadWatch, wake: Callable[[], None]) -> None:
        self.handed_on = NOWHERE
        """The cursor that the last batch led to."""
        self.is_at_mirror = False
        self._session = session
        self._head = head
        self._wake = wake
        self._reader: StreamReader | None = None
        self._record: str | None = None
        self._next: Frame | None = None
        self._awaited = 0

    @property
    def is_open(self) -> bool:
        return self._reader is not None

    @property
    def is_awaiting(self) -> bool:
        """Whether messages that were there when the reading began have yet to come."""
        return self._awaited > 0

    def is_open_at(self, after: Cursor) -> bool:
        return self._reader is not None and self.handed_on == after

    async def open(self, after: Cursor) -> None:
        """Begin to read where the first message is that goes beyond a cursor."""

        async def open_at(streams: Streams) -> StreamReader:
            seq, last = await find_behind(self._session, streams, after)
            # What is there already was not heard of; until it has come, nothing is known to be all.
            self._awaited = last if seq <= last else 0
            self.is_at_mirror = streams is not self._session.domains[0]
            stream = self._session.subjects.changes_stream
            is_told = self._session.hears_changes and not self.is_at_mirror
            return streams.read(stream, seq, self._on_message, is_told=is_told)

        await self.stop()
        self.handed_on = after
        self._reader = await self._session.first(open_at)

    async def stop(self) -> None:
        reader, self._reader, self._next = self._reader, None, None
        if reader is not None:
            await reader.stop()

    def look(self) -> None:
        """There may be more."""
        if self._reader is not None:
            self._reader.look()

    def take(self, after: Cursor, record: str | None) -> Batch:
        """What has come of the changes, some at least if there are any. Raises SnapshotNeeded, BrokerUnavailable."""
        self._record = record
        changes: list[Change] = []
        cursor = self.handed_on = after
        while len(changes) < _LARGEST_BATCH and (frame := self._take_next()) is not None:
            if frame.follows != cursor:
                raise SnapshotNeeded(f"the kept changes go on from revision {frame.follows.revision}, not from here")
            changes += frame.changes
            cursor = self.handed_on = frame.cursor
            self._head.accept(frame)
        return Batch(after, changes, cursor)

    def _take_next(self) -> Frame | None:
        """The next frame that goes beyond what was handed on, if one has come."""
        while self._reader is not None and self._next is None:
            message = self._reader.take()
            if message is None:
                return None
            self._next = self._use(message)
        frame, self._next = self._next, None
        return frame

    def _on_message(self) -> None:
        """What can't be used wakes nobody: whoever may write to the broker would keep every edge busy."""
        reader = self._reader
        if reader is None or self._record is None or self._next is not None or reader.has_ended:
            self._wake()
            return
        was_awaiting = self.is_awaiting
        while self._next is None and (message := reader.pop()) is not None:
            self._next = self._use(message)
        if self._next is not None or was_awaiting is not self.is_awaiting:
            self._wake()

    def _use(self, message: Message) -> Frame | None:
        """The frame of a message that brings something new; None of any other, which is passed over."""
        if message.seq >= self._awaited:
            self._awaited = 0
        try:
            frame = changes_frame_in(self._session, message)
        except (FrameError, OtherPepper, Untrusted) as error:
            self._session.note_skipped(FOR_CHANGES, str(error))
            return None
        if record_of(frame) != self._record:
            self._session.note_skipped(FOR_CHANGES, "it is of another deployment")
            return None
        if age_of(frame.cursor) > age_of(self.handed_on):
            return frame
        self._head.accept(frame)
        return None


async def last_frame(session: NatsSession, streams: Streams) -> Frame:
    """The newest frame of the changes that can be read, of the last few messages.

    Raises NoChangesYet where there is none, and what is wrong with the last message where none can be read.
    """
    stream = session.subjects.changes_stream
    bounds = await streams.bounds(stream)
    failure: Exception | None = None
    for seq in range(bounds.last, max(bounds.first - 1, bounds.last - _LAST_MESSAGES), -1):
        message = await streams.find(stream, seq)
        if message is None:
            continue
        try:
            return session.frame_in(message, FOR_CHANGES)
        except (FrameError, OtherPepper) as error:
            failure = failure or error
    raise failure or NoChangesYet(f"{streams.name} has no changes yet: no origin has published any")


async def find_behind(session: NatsSession, streams: Streams, after: Cursor) -> tuple[int, int]:
    """The seq of the first message that goes beyond a cursor, and that of the last one."""
    stream = session.subjects.changes_stream

    def is_beyond(message: Message) -> bool:
        frame = session.find_frame(message, FOR_CHANGES)
        return frame is not None and age_of(frame.cursor) > age_of(after)

    bounds = await streams.bounds(stream)
    return await streams.bisect(stream, bounds, is_beyond), bounds.last


def changes_frame_in(session: NatsSession, message: Message) -> Frame:
    """Raises FrameError, OtherPepper, and Untrusted where a frame of changes is none, or lacks one."""
    frame = session.frame_in(message, FOR_CHANGES)
    if frame.kind is not FrameKind.CHANGES or frame.cursor.revision != frame.follows.revision + len(frame.changes):
        raise Untrusted("there is not one change for each revision")
    return frame
