"""Owns what a publisher does on one connection to the broker: put changes behind its stream, and be heard there."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from keywright.nats.connection import (
    BrokerRefused,
    Connection,
    Message,
    NotLast,
    OtherDeployment,
    StreamMissing,
)
from keywright.nats.streams import Bounds, Streams
from keywright.nats.subjects import FOR_CHANGES, FOR_HEARTBEATS, Subjects, frame_in
from keywright.origin.db import commit_log
from keywright.origin.db.commit_log import NotKept
from keywright.origin.feed.acknowledgements import NatsAcknowledgements
from keywright.origin.feed.leases import NatsLeases
from keywright.origin.feed.log_tail import LogSlice, LogTail
from keywright.origin.feed.nats_retention import BeingWritten, NatsRetention, PublishSource
from keywright.origin.limits.endpoint import NatsShares
from keywright.origin.quotas import losses
from keywright.origin.usage.intake.endpoint import NatsUsage
from keywright.protocol.changes import Change, Cursor, NotInFormat2
from keywright.protocol.feed_formats import change_in
from keywright.protocol.frames import Frame, FrameError, FrameKind, pack
from keywright.runtime import tasks

log = logging.getLogger("keywright.origin")

HEARTBEAT_SECONDS = 2.0
RESTART_PAUSE_SECONDS = 0.5
BEHIND_PAUSE_SECONDS = 0.01
_OLDER_LOOKS, _LOOK_SECONDS = 50, 0.1


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """The last message of the stream of changes, and the cursor that it leads to: None if that is none of ours."""

    seq: int
    cursor: Cursor | None


class PublishSession:
    """`run` it once; after a failure it is of no more use, as its connection."""

    def __init__(
        self,
        tail: LogTail,
        source: PublishSource,
        acknowledgements: NatsAcknowledgements,
        shares: NatsShares,
        leases: NatsLeases,
        usage: NatsUsage,
        connection: Connection,
        deployment_id: str,
        *,
        snapshot_changes: int,
        furthest: Cursor | None,
    ) -> None:
        """`furthest` is what an earlier session of this process knew."""
        self.furthest = furthest
        """The latest cursor that this process knows to have been at the broker."""
        self._tail = tail
        self._source = source
        self._acknowledgements = acknowledgements
        self._shares = shares
        self._leases = leases
        self._usage = usage
        self._connection = connection
        self._streams = Streams(connection, connection.options.domain)
        self._subjects = connection.subjects.in_format(source.feed_format)
        self._deployment_id = deployment_id
        self._retention = NatsRetention(connection, source, changes_apart=snapshot_changes)
        self._end = StreamEnd(0, None)
        self._next_heartbeat = 0.0
        self._published_as_of = 0.0
        self._seen: Cursor | None = None
        """The latest cursor that was at the end of the stream in this session."""

    async def run(self, on_caught_up: Callable[[], None]) -> None:
        """Until something fails. Raises BrokerUnavailable, BrokerRefused, DatabaseUnavailable."""
        await self._create_streams()
        # Before anything is heard or answered here: the heartbeats and reports would be another deployment's, too.
        await self._find_end()
        await self._connection.subscribe(self._subjects.heartbeats, self._on_heartbeat)
        await self._connection.reply(self._subjects.reports, self._acknowledgements.answer)
        await self._answer_limits()
        await self._answer_usage()
        retaining: asyncio.Task[None] | None = None
        try:
            async with self._tail.reading():
                await self._look_at_end()
                has_lost = False
                while True:
                    piece = await self._next_slice()
                    if retaining is None:
                        has_lost = has_lost or self._has_lost(piece)
                        if not piece.changes:
                            on_caught_up()
                            stream = self._subjects.changes_stream
                            log.info("publishes to NATS from revision %d on (%s)", piece.cursor.revision, stream)
                            retaining = asyncio.create_task(self._retention.run(write_at_once=has_lost))
                    await self._publish(piece)
                    await self._heartbeat(piece)
                    if retaining is not None and retaining.done():
                        retaining.result()
        finally:
            if retaining is not None:
                await tasks.end(retaining)

    async def _answer_limits(self) -> None:
        """Where the broker lets us: with the permissions of before edges divide limits evenly, are lent no quotas, and
        hear all else.
        """
        subject = self._subjects.shares
        if not await self._connection.try_to_reply(subject, self._shares.answer):
            log.warning("the broker refuses %s: edges that follow it get no shares of global rate limits", subject)
        subject = self._subjects.leases
        if not await self._connection.try_to_reply(subject, self._leases.answer):
            log.warning("the broker refuses %s: edges that follow it are lent no quotas", subject)

    async def _answer_usage(self) -> None:
        """Where the broker lets us, as above: without that usage waits at the edges."""
        subject = self._subjects.usage
        if not await self._connection.try_to_reply_below(subject, self._usage.answer):
            log.warning("the broker refuses %s.*: the usage of edges that follow it waits there", subject)

    async def drop(self) -> None:
        """Take away what the broker keeps in this format, unless it is another deployment's.

        Raises BrokerUnavailable, BrokerRefused.
        """
        try:
            await self._find_end()
        except StreamMissing:
            return
        await self._retention.delete()
        log.info("%s is not published to any more: the broker keeps it no longer", self._subjects.changes_stream)

    async def _create_streams(self) -> None:
        """Those of an older format come first: without room for all, edges of before go on."""
        subjects, replicas = self._subjects, self._connection.options.replicas
        for older in self._source.older:
            await self._until_there(subjects.in_format(older))
        of_snapshots = [subjects.snapshot_pages, subjects.snapshot_ends]
        try:
            await self._streams.create(subjects.changes_stream, [subjects.changes], replicas)
            await self._streams.create(subjects.snapshots_stream, of_snapshots, replicas)
        except BrokerRefused as error:
            if not self._source.older:
                raise
            told = "allow the broker's users these streams, as deploy/nats does, or set KEYWRIGHT_NATS_FORMATS=2"
            raise BrokerRefused(f"{error} ({subjects.changes_stream}): {told}") from error

    async def _until_there(self, subjects: Subjects) -> None:
        """Raises StreamMissing where nobody makes them."""
        for left in reversed(range(_OLDER_LOOKS)):
            try:
                await self._streams.bounds(subjects.changes_stream)
                await self._streams.bounds(subjects.snapshots_stream)
            except StreamMissing:
                if not left:
                    raise
                await asyncio.sleep(_LOOK_SECONDS)
            else:
                return

    async def _next_slice(self) -> LogSlice:
        """What follows the stream as it stands, which is begun anew if need be; nothing when a heartbeat is due."""
        while True:
            end = self._end
            if end.cursor is None or self._is_overtaken(end.cursor):
                self._say_restart(end)
                await self._restart_stream(None)
                continue
            if self._tail.is_stopped:
                # It waits for nothing any more; what is still committed is published all the same.
                await asyncio.sleep(BEHIND_PAUSE_SECONDS)
            until_heartbeat = max(0.0, self._next_heartbeat - self._source.clock.elapsed())
            try:
                return await self._tail.after(end.cursor, until_heartbeat)
            except NotKept:
                self._say_restart(end)
                await self._restart_stream(end.cursor)

    def _has_lost(self, piece: LogSlice) -> bool:
        """Whether the broker may have had later changes than it has now.

        Then edges may be between two of the messages that it gets anew, and only a later snapshot leads on from there.
        """
        return bool(piece.changes) if self.furthest is None else piece.follows.revision < self.furthest.revision

    def _is_overtaken(self, cursor: Cursor) -> bool:
        """Whether an old message was put behind what this session has seen or put there.

        What would follow it leads on from nowhere that an edge is. At the start of a session that is `_has_lost`.
        """
        seen = self._seen
        return seen is not None and (cursor.stamped_at, cursor.revision) < (seen.stamped_at, seen.revision)

    async def _find_end(self) -> StreamEnd:
        """Raises OtherDeployment."""
        bounds = await self._streams.bounds(self._subjects.changes_stream)
        message = await self._streams.find(self._subjects.changes_stream, bounds.last)
        if message is None:
            return StreamEnd(bounds.last, None)
        try:
            frame = self._frame_in(message)
        except FrameError as error:
            await self._refuse_other(message, bounds)
            log.error("the last message at the broker was not made here: %s", error)  # noqa: TRY400
            return StreamEnd(bounds.last, None)
        if frame.deployment_id == self._deployment_id:
            return StreamEnd(bounds.last, frame.cursor)
        await self._refuse_other(message, bounds)
        return StreamEnd(bounds.last, None)

    async def _refuse_other(self, last: Message, bounds: Bounds) -> None:
        """Raise OtherDeployment if the stream is another's: if its first message, or else its last, is.

        Whose first message is ours is ours, whatever somebody put behind it.
        """
        first = await self._streams.find(self._subjects.changes_stream, bounds.first)
        for message in (first, last):
            holder = None if message is None else self._holder_of(message)
            if holder == self._deployment_id:
                return
            if holder is not None:
                raise OtherDeployment(
                    f"the stream {self._subjects.changes_stream} is of another deployment ({holder}), and this is "
                    f"{self._deployment_id}: give one of them another KEYWRIGHT_NATS_PREFIX, or delete the stream"
                )

    def _holder_of(self, message: Message) -> str | None:
        """The deployment that wrote a message, as far as that can be known."""
        try:
            return self._frame_in(message).deployment_id
        except FrameError:
            # Another pepper's messages can't be read here: they name their deployment in the clear.
            if message.pepper_check in (None, "", self._source.pepper_check):
                return None
            return message.deployment_id or "with another pepper"

    async def _publish(self, piece: LogSlice) -> None:
        """Put the changes behind the stream, in as few messages as they fit.

        One that only a snapshot can tell to readers of this format has the stream begin anew behind such a one.
        """
        cursors = [piece.follows, *(cursor for cursor, _ in piece.changes)]
        passed, done = self._passed(piece), 0
        for part in pack(passed):
            frame = self._frame(FOR_CHANGES, piece, cursors[done], cursors[done + len(part)], part)
            try:
                await self._append(frame)
            except NotLast:
                # Another process was first. It may have seen more than this one.
                self._tail.wake()
                await self._look_at_end()
                await asyncio.sleep(BEHIND_PAUSE_SECONDS)
                return
            done += len(part)
        if len(passed) < len(piece.changes):
            log.info("%s begins anew: what was kept from its readers comes back", self._subjects.changes_stream)
            await self._restart_stream(None)

    def _passed(self, piece: LogSlice) -> list[Change]:
        """The changes as they are published, up to the first that only a snapshot can tell."""
        passed: list[Change] = []
        with contextlib.suppress(NotInFormat2):
            passed.extend(change_in(change, self._source.feed_format) for _, change in piece.changes)
        return passed

    async def _append(self, frame: Frame) -> None:
        """Raises NotLast."""
        name = f"{frame.cursor.revision}-{frame.cursor.stamp}"
        data, check = self._source.signer.encode(frame), self._source.pepper_check
        seq = await self._streams.append(
            self._subjects.changes, data, check, after=self._end.seq, name=name, deployment_id=self._deployment_id
        )
        self._end = StreamEnd(seq, frame.cursor)
        self.furthest = self._seen = frame.cursor
        self._retention.note(frame.cursor)

    def _say_restart(self, end: StreamEnd) -> None:
        stream = self._subjects.changes_stream
        if end.seq == 0:
            log.info("the broker has no changes yet: %s begins", stream)
        else:
            log.warning("what the broker has does not lead on to this record: %s begins anew", stream)

    async def _restart_stream(self, lost: Cursor | None) -> None:
        """Begin the stream anew behind what is there, where a new snapshot leads on."""
        if lost is not None:
            # If the record was restored, no edge may take it for one that has yet to get to where it was.
            async with self._source.database.write() as tx:
                await losses.note_lost_cursor(tx, lost)
                await commit_log.note_loss(tx, lost)
        try:
            cursor = await self._retention.write_snapshot()
            await self._append(self._frame(FOR_CHANGES, None, cursor, cursor, ()))
        except (NotLast, BeingWritten):
            # Another process is at it.
            await asyncio.sleep(RESTART_PAUSE_SECONDS)
            await self._look_at_end()
        else:
            await self._streams.purge(self._subjects.changes_stream, self._end.seq)

    async def _heartbeat(self, piece: LogSlice) -> None:
        """Say where the record is, unless another process has said so lately or this one knows nothing new."""
        now = self._source.clock.elapsed()
        if now < self._next_heartbeat:
            return
        self._next_heartbeat = now + HEARTBEAT_SECONDS
        if (await self._streams.bounds(self._subjects.changes_stream)).last != self._end.seq:
            # Not by us: another process was first, or somebody who has no business there.
            await self._look_at_end()
        if piece.as_of > self._published_as_of:
            self._published_as_of = piece.as_of
            frame = self._frame(FOR_HEARTBEATS, piece, piece.cursor, piece.cursor, ())
            data = self._source.signer.encode(frame)
            await self._connection.publish(self._subjects.heartbeats, data, self._source.pepper_check)

    async def _look_at_end(self) -> None:
        """Find the end anew, where it is not what was put there last. Raises OtherDeployment."""
        self._end = await self._find_end()
        if self._end.cursor is not None and not self._is_overtaken(self._end.cursor):
            self._seen = self._end.cursor

    def _on_heartbeat(self, message: Message) -> None:
        source = self._source
        try:
            frame = self._frame_in(message, FOR_HEARTBEATS)
        except FrameError:
            return
        if frame.deployment_id == self._deployment_id and abs(source.clock.millis() - frame.time) < 1000:
            # A little later than the other's next one is due.
            self._next_heartbeat = source.clock.elapsed() + HEARTBEAT_SECONDS * source.uniform(1.05, 1.25)

    def _frame(
        self, purpose: str, piece: LogSlice | None, follows: Cursor, cursor: Cursor, part: Sequence[Change]
    ) -> Frame:
        clock = self._source.clock
        head, ago = (cursor.revision, 0.0) if piece is None else (piece.head, clock.elapsed() - piece.as_of)
        at = clock.millis() - int(ago * 1000)
        common = self._deployment_id, FrameKind.CHANGES, self._subjects.scope, purpose, 0
        return Frame(*common, follows, cursor, max(head, cursor.revision), at, part)

    def _frame_in(self, message: Message, purpose: str = FOR_CHANGES) -> Frame:
        return frame_in(message, self._source.signer, purpose, self._subjects.scope)
