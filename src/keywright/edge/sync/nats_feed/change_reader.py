"""Owns reading the changes that a broker keeps, from a cursor on and as they come, each proved to follow the last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keywright.edge.sync.feed import SnapshotNeeded, Untrusted, record_of
from keywright.edge.sync.nats_feed.head_watch import age_of
from keywright.nats.connection import BrokerUnavailable
from keywright.nats.subjects import FOR_CHANGES
from keywright.protocol.changes import NOWHERE, Batch, Change, Cursor
from keywright.protocol.frames import Frame, FrameKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from keywright.edge.sync.nats_feed.head_watch import HeadWatch
    from keywright.edge.sync.nats_feed.session import NatsSession
    from keywright.nats.connection import Message
    from keywright.nats.streams import StreamReader, Streams

_LARGEST_BATCH = 5000


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
            return await streams.read(self._session.subjects.changes_stream, seq, self._wake)

        await self.stop()
        self._reader = await self._session.first(open_at)
        self.handed_on = after

    async def stop(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.stop()

    def forget(self) -> None:
        """As `stop`, where the connection goes as well."""
        self._reader = None

    async def take(self, after: Cursor, record: str | None) -> Batch:
        """What has come of the changes, some at least if there are any. Raises SnapshotNeeded, Untrusted."""
        changes: list[Change] = []
        cursor = after
        while self._reader is not None and len(changes) < _LARGEST_BATCH:
            message = await self._reader.take()
            if message is None:
                break
            frame = changes_frame_in(self._session, message)
            if record_of(frame) != record:
                raise SnapshotNeeded("the stream goes on with another record")
            if message.seq >= self._awaited:
                self._awaited = 0
            if age_of(frame.cursor) > age_of(cursor):
                if frame.follows != cursor:
                    raise SnapshotNeeded(
                        f"the kept changes go on from revision {frame.follows.revision}, not from here"
                    )
                changes += frame.changes
                cursor = frame.cursor
            self._head.accept(frame)
        self.handed_on = cursor
        return Batch(after, changes, cursor)


async def last_frame(session: NatsSession, streams: Streams) -> Frame:
    """The frame of the newest message of the changes. Raises BrokerUnavailable where there is none."""
    stream = session.subjects.changes_stream
    message = await streams.find(stream, (await streams.bounds(stream)).last)
    if message is None:
        raise BrokerUnavailable(f"{streams.name} has no changes yet: no origin has published any")
    return session.frame_in(message, FOR_CHANGES)


async def find_behind(session: NatsSession, streams: Streams, after: Cursor) -> tuple[int, int]:
    """The seq of the first message that goes beyond a cursor, and that of the last one."""
    stream = session.subjects.changes_stream

    def is_beyond(message: Message) -> bool:
        return age_of(session.frame_in(message, FOR_CHANGES).cursor) > age_of(after)

    bounds = await streams.bounds(stream)
    return await streams.bisect(stream, bounds, is_beyond), bounds.last


def changes_frame_in(session: NatsSession, message: Message) -> Frame:
    """Raises Untrusted where a frame of changes is none, or lacks one."""
    frame = session.frame_in(message, FOR_CHANGES)
    if frame.kind is not FrameKind.CHANGES or frame.cursor.revision != frame.follows.revision + len(frame.changes):
        raise Untrusted("there is not one change for each revision")
    return frame
