"""Owns what a broker keeps for edges that begin there, and how much: snapshots, the changes since, mirrors of both.

There is always a snapshot that the kept changes lead on from. A new one is written every so many changes; then the
changes before the one before it are taken away, and so is every older snapshot. Any process may do all of this at any
time: a page is kept only directly behind the page before it, so of two writers one is refused and gives up.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
import time
from collections.abc import Sequence

from keywright.nats import connection as broker
from keywright.nats.connection import Bounds, Broker, BrokerUnavailable, Message, NotLast, Store, StreamMissing
from keywright.origin.db import commit_log
from keywright.origin.db.commit_log import NotKept
from keywright.origin.db.snapshot_stream import stream_snapshot
from keywright.origin.db.transaction import Database
from keywright.origin.deployment.store import find_deployment
from keywright.protocol.changes import Change, Cursor
from keywright.protocol.frames import Frame, FrameError, FrameKind, FrameSigner, pack

log = logging.getLogger("keywright.origin")

LOOK_SECONDS = 10.0
WRITER_SECONDS = 30.0
"""A snapshot whose last page is older than this has been given up by its writer."""


class BeingWritten(Exception):
    """Another process is writing a snapshot."""


class Keeper:
    """One for each connection to the broker."""

    def __init__(
        self, connection: Broker, database: Database, signer: FrameSigner, pepper_check: str, *, changes_apart: int
    ) -> None:
        self._options = connection.options
        self._store = connection.store()
        self._mirrors = [connection.store(domain) for domain in self._options.mirrors]
        self._database = database
        self._signer = signer
        self._pepper_check = pepper_check
        self._changes_apart = changes_apart
        self._kept: Cursor | None = None
        self._is_due = asyncio.Event()
        self._away: set[str] = set()

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
                    await self.write()
                await self._look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS * random.uniform(0.5, 1.0)):  # noqa: S311
                    await self._is_due.wait()

    async def _look(self) -> None:
        end = await self._find_end()
        bounds = await self._store.bounds(self._options.changes)
        if end is None or await self._is_due_after(end[1].cursor, bounds):
            await self.write()
            end = await self._find_end()
        if end is not None:
            self._kept = end[1].cursor
            await self._trim(*end, bounds)
        for mirror in self._mirrors:
            await self._tend(mirror)

    async def _is_due_after(self, kept: Cursor, bounds: Bounds) -> bool:
        first, last = await self._frame_at(bounds.first), await self._frame_at(bounds.last)
        if last is not None and last.cursor.revision - kept.revision >= self._changes_apart:
            return True
        # That can't come to be by us; but who may write to the broker may take away from it.
        return first is not None and first.follows.revision > kept.revision

    async def _find_end(self) -> tuple[Message, Frame] | None:
        """The end of the newest snapshot, if that was taken of this very record."""
        message = await self._store.find_last(self._options.snapshots, self._options.end_subject)
        frame = self._end_in(message)
        if message is None or frame is None:
            return None
        async with self._database.read() as tx:
            found = await find_deployment(tx)
            try:
                await commit_log.lead_on(tx, frame.cursor, limit=1)
            except NotKept:
                return None
        return (message, frame) if found is not None and found.id == frame.deployment_id else None

    async def write(self) -> Cursor:
        """Write a snapshot of the record as it is now. Raises BeingWritten, NotLast, DatabaseUnavailable."""
        stream, options = self._options.snapshots, self._options
        bounds = await self._store.bounds(stream)
        last = await self._store.find(stream, bounds.last)
        if last is not None and self._end_in(last) is None and bounds.idle_seconds < WRITER_SECONDS:
            raise BeingWritten
        at, number = bounds.last, 0
        nonce = broker.FOR_SNAPSHOT + secrets.token_urlsafe(12)
        started = int(time.time() * 1000)
        async with self._database.read(is_snapshot=True) as tx:
            found = await find_deployment(tx)
            if found is None:
                raise NotKept("there is no deployment here yet")

            def frame(kind: FrameKind, part: Sequence[Change] = ()) -> bytes:
                cursor = found.head
                common = found.id, kind, broker.EVERYTHING, nonce, number
                return self._signer.encode(Frame(*common, cursor, cursor, cursor.revision, started, part))

            async for page in stream_snapshot(tx):
                for part in pack(page):
                    data = frame(FrameKind.PAGE, part)
                    at = await self._put(options.page_subject, data, at, f"{nonce}-{number}")
                    number += 1
        await self._put(options.end_subject, frame(FrameKind.END), at, f"{nonce}-end")
        log.info("wrote a snapshot at revision %d to the broker", found.head.revision)
        return found.head

    async def _trim(self, message: Message, end: Frame, bounds: Bounds) -> None:
        """Take away what nobody needs who begins with the newest snapshot, or with the one before it."""
        first_page = message.place - end.number
        before = await self._store.find(self._options.snapshots, first_page - 1)
        previous = self._end_in(before)
        if before is not None and previous is not None:
            first_page = before.place - previous.number
            await self._trim_changes(previous.cursor.revision, bounds)
        if (await self._store.bounds(self._options.snapshots)).first < first_page:
            await self._store.purge(self._options.snapshots, first_page)

    async def _trim_changes(self, revision: int, bounds: Bounds) -> None:
        def is_needed(message: Message) -> bool:
            frame = self._change_in(message)
            return frame is not None and frame.cursor.revision > revision

        first = await self._store.find(self._options.changes, bounds.first)
        if first is not None and not is_needed(first):
            needed = await self._store.bisect(self._options.changes, bounds, is_needed)
            # The last message stays: it tells how far the stream is.
            await self._store.purge(self._options.changes, min(needed, bounds.last))

    async def _tend(self, mirror: Store) -> None:
        """Make the mirrors of another domain, and take away there what was taken away here."""
        try:
            for stream in (self._options.changes, self._options.snapshots):
                ours = await self._store.bounds(stream)
                try:
                    theirs = await mirror.bounds(stream)
                except StreamMissing:
                    await mirror.make_mirror(stream, self._options.domain)
                    continue
                if theirs.last > ours.last:
                    # Of a stream that is gone: it would wait for ever for that one to go on.
                    await mirror.delete(stream)
                    await mirror.make_mirror(stream, self._options.domain)
                elif theirs.first < ours.first:
                    await mirror.purge(stream, ours.first)
            self._away.discard(mirror.name)
        except BrokerUnavailable as error:
            if mirror.name not in self._away:
                self._away.add(mirror.name)
                log.warning("can't tend the mirror: %s", error)

    async def _put(self, subject: str, data: bytes, after: int, name: str) -> int:
        return await self._store.put(subject, data, self._pepper_check, after=after, name=name)

    async def _frame_at(self, place: int) -> Frame | None:
        return self._change_in(await self._store.find(self._options.changes, place))

    def _change_in(self, message: Message | None) -> Frame | None:
        with contextlib.suppress(FrameError):
            return None if message is None else broker.frame_in(message, self._signer, broker.FOR_CHANGES)
        return None

    def _end_in(self, message: Message | None) -> Frame | None:
        with contextlib.suppress(FrameError):
            frame = None if message is None else broker.frame_in(message, self._signer, broker.FOR_SNAPSHOT)
            return frame if frame is not None and frame.kind is FrameKind.END else None
        return None
