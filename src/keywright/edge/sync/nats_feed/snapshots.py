"""Owns finding the newest snapshot that a broker keeps, and reading it whole, with the changes behind it, or not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keywright.edge.sync.feed import OtherPepper, Untrusted, record_of
from keywright.edge.sync.nats_feed.change_reader import changes_frame_in, find_behind
from keywright.edge.sync.nats_feed.head_watch import age_of
from keywright.edge.sync.nats_feed.session import translated
from keywright.nats.connection import BrokerRefused, BrokerUnavailable
from keywright.nats.subjects import FOR_CHANGES, FOR_SNAPSHOT
from keywright.protocol.changes import Batch, Change
from keywright.protocol.frames import Frame, FrameError, FrameKind

if TYPE_CHECKING:
    from keywright.edge.sync.nats_feed.session import NatsSession
    from keywright.nats.streams import Streams


@dataclass(frozen=True, slots=True)
class KeptSnapshot:
    """Where a snapshot is kept: the streams that have it, the seq of its end, and the frame that is there."""

    streams: Streams
    last_seq: int
    end: Frame

    @property
    def first_seq(self) -> int:
        return self.last_seq - self.end.number


async def find_newest(session: NatsSession) -> KeptSnapshot:
    """Of all domains. Raises BrokerUnavailable, BrokerRefused, Untrusted."""
    subjects = session.subjects
    found: list[KeptSnapshot] = []
    failures: list[Exception] = []
    for streams in session.domains:
        try:
            message = await streams.find_last(subjects.snapshots_stream, subjects.snapshot_ends)
            end = None if message is None else session.frame_in(message, FOR_SNAPSHOT)
            if end is not None and end.kind is not FrameKind.END:
                raise Untrusted("the end of the snapshot is none")
        except (BrokerUnavailable, BrokerRefused, FrameError, OtherPepper, Untrusted) as error:
            # Another domain may have one that can be read; and the publisher writes another here.
            failures.append(error)
            continue
        if message is not None and end is not None:
            found.append(KeptSnapshot(streams, message.seq, end))
    if not found:
        raise failures[0] if failures else BrokerUnavailable("the broker has no snapshot yet")
    # Of equals the last: the mirror is nearer.
    return max(reversed(found), key=lambda one: age_of(one.end.cursor))


async def changes_behind(session: NatsSession, streams: Streams, snapshot: KeptSnapshot) -> Batch | None:
    """Every change that is kept now behind a snapshot, no more than the publisher lets come between two of them.

    None if they do not lead on from it.
    """
    end = snapshot.end
    changes: list[Change] = []
    cursor = end.cursor
    seq, last = await find_behind(session, streams, cursor)
    if seq <= last:
        async for message in streams.read_all(session.subjects.changes_stream, seq, last):
            try:
                frame = changes_frame_in(session, message)
            except (FrameError, OtherPepper, Untrusted) as error:
                session.note_skipped(FOR_CHANGES, str(error))
                continue
            if record_of(frame) != record_of(end) or age_of(frame.cursor) <= age_of(cursor):
                # What is told again, by whoever may write to the broker, is no news.
                continue
            if frame.follows != cursor:
                return None
            changes += frame.changes
            cursor = frame.cursor
    return Batch(end.cursor, changes, cursor)


async def pages_of(
    session: NatsSession, snapshot: KeptSnapshot, changes: Sequence[Change]
) -> AsyncIterator[Sequence[Change]]:
    """Every page, then these changes behind. Raises when a page is missing or of another snapshot: a part is never
    taken for the whole.
    """
    end, first, last = snapshot.end, snapshot.first_seq, snapshot.last_seq
    with translated():
        async for message in snapshot.streams.read_all(session.subjects.snapshots_stream, first, last):
            frame = session.frame_in(message, FOR_SNAPSHOT)
            kind = FrameKind.END if message.seq == last else FrameKind.PAGE
            expected = (end.nonce, end.deployment_id, end.cursor, kind, message.seq - first)
            if (frame.nonce, frame.deployment_id, frame.cursor, frame.kind, frame.number) != expected:
                raise Untrusted("the snapshot's pages are not those of one snapshot")
            yield frame.changes
    yield changes
