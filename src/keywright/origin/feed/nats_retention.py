"""Owns what a broker keeps for edges that begin there, and how much: snapshots and the changes since.

There is always a snapshot that the kept changes lead on from. A new one is written every so many changes; then the
changes before the one before it are taken away, and so is every older snapshot. Any process may do all of this at any
time: a page is kept only directly behind the page before it, so of two writers one is refused and gives up.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from keywright.nats.connection import Connection, Message, NotLast, StreamMissing
from keywright.nats.streams import Bounds, Streams
from keywright.nats.subjects import FOR_CHANGES, FOR_SNAPSHOT, frame_in
from keywright.origin.db import commit_log
from keywright.origin.db.commit_log import NotKept
from keywright.origin.db.snapshot_stream import stream_snapshot
from keywright.origin.db.transaction import Database
from keywright.origin.deployment.store import find_deployment
from keywright.origin.feed.nats_mirrors import Mirrors
from keywright.protocol.changes import Change, Cursor
from keywright.protocol.feed_formats import puts_in
from keywright.protocol.frames import Frame, FrameError, FrameKind, FrameSigner, pack
from keywright.runtime.backoff import Uniform
from keywright.runtime.clock import Clock

log = logging.getLogger("keywright.origin")

LOOK_SECONDS = 10.0
WRITER_SECONDS = 30.0
"""A snapshot whose last page is older than this has been given up by its writer."""


@dataclass(frozen=True, slots=True)
class PublishSource:
    """What is published, in which format, and with what. One for each process and format."""

    database: Database
    signer: FrameSigner
    pepper_check: str
    clock: Clock
    uniform: Uniform
    feed_format: int
    older: Sequence[int] = ()
    """Formats that are published as well, and come first where the broker has not room for all."""
    mirror_problems: dict[str, str] = field(default_factory=dict)
    """What is wrong with the mirrors of a domain, by its name (nats_mirrors.py)."""


class NatsRetention:
    """One for each connection to the broker. A snapshot is due `changes_apart` changes after the one before."""

    def __init__(self, connection: Connection, source: PublishSource, *, changes_apart: int) -> None:
        self._subjects = connection.subjects.in_format(source.feed_format)
        self._streams = Streams(connection, connection.options.domain)
        self._mirrors = Mirrors(connection, self._subjects, self._streams, source.mirror_problems)
        self._source = source
        self._changes_apart = changes_apart
        self._kept: Cursor | None = None
        self._is_due = asyncio.Event()

    def note(self, cursor: Cursor) -> None:
        """Say how far the stream of changes is."""
        if self._kept is not None and cursor.revision - self._kept.revision >= self._changes_apart:
            self._is_due.set()

    async def run(self, *, write_at_once: bool) -> None:
        """Keep what is kept as it should be, until cancelled or until the broker or the record fails."""
        while True:
            self._is_due.clear()
            # Another process was first, or is at it: then there is nothing to do.
            with contextlib.suppress(NotLast, BeingWritten):
                if write_at_once:
                    write_at_once = False
                    await self.write_snapshot()
                await self._look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS * self._source.uniform(0.5, 1.0)):
                    await self._is_due.wait()

    async def _look(self) -> None:
        end = await self._find_end()
        bounds = await self._streams.bounds(self._subjects.changes_stream)
        if end is None or await self._is_due_after(end[1].cursor, bounds):
            await self.write_snapshot()
            end = await self._find_end()
        if end is not None:
            self._kept = end[1].cursor
            await self._trim(*end, bounds)
        await self._mirrors.sync()

    async def _is_due_after(self, kept: Cursor, bounds: Bounds) -> bool:
        first, last = await self._frame_at(bounds.first), await self._frame_at(bounds.last)
        if last is not None and last.cursor.revision - kept.revision >= self._changes_apart:
            return True
        # That can't come to be by us; but who may write to the broker may take away from it.
        return first is not None and first.follows.revision > kept.revision

    async def _find_end(self) -> tuple[Message, Frame] | None:
        """The end of the newest snapshot, if that was taken of this very record."""
        message = await self._streams.find_last(self._subjects.snapshots_stream, self._subjects.snapshot_ends)
        frame = self._end_in(message)
        if message is None or frame is None:
            return None
        async with self._source.database.read() as tx:
            found = await find_deployment(tx)
            try:
                await commit_log.lead_on(tx, frame.cursor, limit=1)
            except NotKept:
                return None
        return (message, frame) if found is not None and found.id == frame.deployment_id else None

    async def write_snapshot(self) -> Cursor:
        """Write a snapshot of the record as it is now. Raises BeingWritten, NotLast, DatabaseUnavailable."""
        subjects = self._subjects
        stream = subjects.snapshots_stream
        bounds = await self._streams.bounds(stream)
        last = await self._streams.find(stream, bounds.last)
        if last is not None and bounds.idle_seconds < WRITER_SECONDS and await self._is_being_written(last):
            raise BeingWritten
        at, number = bounds.last, 0
        nonce = FOR_SNAPSHOT + secrets.token_urlsafe(12)
        started = self._source.clock.millis()
        async with self._source.database.read(is_snapshot=True) as tx:
            found = await find_deployment(tx)
            if found is None:
                raise NotKept("there is no deployment here yet")

            def frame(kind: FrameKind, part: Sequence[Change] = ()) -> bytes:
                cursor = found.head
                common = found.id, kind, subjects.scope, nonce, number
                return self._source.signer.encode(Frame(*common, cursor, cursor, cursor.revision, started, part))

            async for page in stream_snapshot(tx):
                for part in pack(puts_in(page, self._source.feed_format)):
                    data = frame(FrameKind.PAGE, part)
                    at = await self._put(subjects.snapshot_pages, data, at, f"{nonce}-{number}")
                    number += 1
        await self._put(subjects.snapshot_ends, frame(FrameKind.END), at, f"{nonce}-end")
        log.info("wrote a snapshot at revision %d to %s", found.head.revision, stream)
        return found.head

    async def delete(self) -> None:
        """Take away all that the broker keeps in this format, the mirrors first."""
        await self._mirrors.delete()
        for stream in (self._subjects.changes_stream, self._subjects.snapshots_stream):
            with contextlib.suppress(StreamMissing):
                await self._streams.delete(stream)

    async def _is_being_written(self, last: Message) -> bool:
        """Whether the last message is a page that a snapshot goes on from, and not one that somebody sent again."""
        page = self._snapshot_frame_in(last)
        if page is None or page.kind is not FrameKind.PAGE:
            return False
        if page.number == 0:
            return abs(self._source.clock.millis() - page.time) < WRITER_SECONDS * 1000
        before = self._snapshot_frame_in(await self._streams.find(self._subjects.snapshots_stream, last.seq - 1))
        return before is not None and (before.nonce, before.number) == (page.nonce, page.number - 1)

    async def _trim(self, message: Message, end: Frame, bounds: Bounds) -> None:
        """Take away what nobody needs who begins with the newest snapshot, or with the one before it."""
        first_page = message.seq - end.number
        before = await self._streams.find(self._subjects.snapshots_stream, first_page - 1)
        previous = self._end_in(before)
        if before is not None and previous is not None:
            first_page = before.seq - previous.number
            await self._trim_changes(previous.cursor.revision, bounds)
        if (await self._streams.bounds(self._subjects.snapshots_stream)).first < first_page:
            await self._streams.purge(self._subjects.snapshots_stream, first_page)

    async def _trim_changes(self, revision: int, bounds: Bounds) -> None:
        def is_needed(message: Message) -> bool:
            frame = self._change_in(message)
            return frame is not None and frame.cursor.revision > revision

        first = await self._streams.find(self._subjects.changes_stream, bounds.first)
        if first is not None and not is_needed(first):
            needed = await self._streams.bisect(self._subjects.changes_stream, bounds, is_needed)
            # The last message stays: it tells how far the stream is.
            await self._streams.purge(self._subjects.changes_stream, min(needed, bounds.last))

    async def _put(self, subject: str, data: bytes, after: int, name: str) -> int:
        return await self._streams.append(subject, data, self._source.pepper_check, after=after, name=name)

    async def _frame_at(self, seq: int) -> Frame | None:
        return self._change_in(await self._streams.find(self._subjects.changes_stream, seq))

    def _change_in(self, message: Message | None) -> Frame | None:
        with contextlib.suppress(FrameError):
            return None if message is None else self._frame_in(message, FOR_CHANGES)
        return None

    def _end_in(self, message: Message | None) -> Frame | None:
        frame = self._snapshot_frame_in(message)
        return frame if frame is not None and frame.kind is FrameKind.END else None

    def _snapshot_frame_in(self, message: Message | None) -> Frame | None:
        with contextlib.suppress(FrameError):
            return None if message is None else self._frame_in(message, FOR_SNAPSHOT)
        return None

    def _frame_in(self, message: Message, purpose: str) -> Frame:
        return frame_in(message, self._source.signer, purpose, self._subjects.scope)


class BeingWritten(Exception):
    """Another process is writing a snapshot."""
