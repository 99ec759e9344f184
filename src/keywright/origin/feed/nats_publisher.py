"""Owns carrying the log to a NATS broker: each change once, in order, whichever process of the origin brings it there.

Every process relays. Each puts what it sees committed behind the last message that it knows of; the broker takes the
first of several and refuses the others, who read what stands there now and go on from it. So nobody is elected, nobody
is waited for, and one that was killed in the middle leaves nothing to repair. The record is the truth: a relay begins
at the last message that it finds, though the broker may have acknowledged later ones and lost them; and a stream that
is gone, or of another past, is begun anew behind a new snapshot (keeper.py).
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from keywright.domain.keyformat import Digester
from keywright.nats import connection as broker
from keywright.nats.connection import (
    Broker,
    BrokerOptions,
    BrokerRefused,
    BrokerUnavailable,
    Message,
    NotLast,
    StreamMissing,
)
from keywright.origin.db import commit_log
from keywright.origin.db.commit_log import NotKept
from keywright.origin.db.engine import DatabaseUnavailable
from keywright.origin.db.transaction import Database
from keywright.origin.deployment.store import find_deployment
from keywright.origin.feed.acknowledgements import Reports
from keywright.origin.feed.log_tail import Stretch, Tail
from keywright.origin.feed.nats_retention import BeingWritten, Keeper
from keywright.protocol.changes import Change, Cursor
from keywright.protocol.frames import Frame, FrameError, FrameKind, FrameSigner, pack
from keywright.protocol.reports import Report
from keywright.runtime import tasks

log = logging.getLogger("keywright.origin")

HEARTBEAT_SECONDS = 2.0
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 10.0
REFUSED_PAUSE_SECONDS = 30.0
SEED_PAUSE_SECONDS = 0.5
BEHIND_PAUSE_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Place:
    """The last message of the stream of changes, and the cursor that it leads to: None if that is none of ours."""

    at: int
    cursor: Cursor | None


class Relay:
    """One for each process. `run` it until it is cancelled."""

    def __init__(
        self,
        tail: Tail,
        database: Database,
        digester: Digester,
        options: BrokerOptions,
        acknowledge: Callable[[Report], Awaitable[float]],
        *,
        snapshot_changes: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.tail = tail
        self.database = database
        self.signer = FrameSigner(digester)
        self.pepper_check = digester.pepper_check()
        self.options = options
        self.reports = Reports(digester, acknowledge)
        self.snapshot_changes = snapshot_changes
        self.clock = clock
        self.furthest: Cursor | None = None
        """The latest cursor that this process knows to have been at the broker."""
        self._failures: set[str] = set()

    async def run(self) -> None:
        """Survives everything but being cancelled."""
        pause = 0.0
        while True:
            started = time.monotonic()
            try:
                await self._connect_and_carry()
            except (BrokerRefused, BrokerUnavailable, DatabaseUnavailable, NotKept) as error:
                # A stream that is missing is made at the next attempt.
                is_refused = isinstance(error, BrokerRefused) and not isinstance(error, StreamMissing)
                self._note(error, logging.ERROR if is_refused else logging.WARNING)
                if time.monotonic() - started > LONGEST_PAUSE_SECONDS:
                    pause = 0.0
                longer = min(max(2 * pause, FIRST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
                pause = REFUSED_PAUSE_SECONDS if is_refused else longer
            except Exception:
                log.exception("the relay failed")
                pause = LONGEST_PAUSE_SECONDS
            # Random, so that many processes don't come back in step.
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311

    async def _connect_and_carry(self) -> None:
        async with self.database.read() as tx:
            found = await find_deployment(tx)
        if found is None:
            raise NotKept("there is no deployment here yet")
        connection = await broker.connect(self.options, "relay")
        try:
            carrier = Carrier(self, connection, found.id)
            await carrier.run(self._failures.clear)
        finally:
            await connection.close()

    def _note(self, error: Exception, level: int) -> None:
        """Log the first failure of each kind since all was well; the others would only say it again."""
        kind = type(error).__name__
        if kind not in self._failures:
            self._failures.add(kind)
            log.log(level, "can't relay to the broker: %s: %s", kind, error)


class Carrier:
    """A relay on one connection to the broker."""

    def __init__(self, relay: Relay, connection: Broker, deployment_id: str) -> None:
        self._relay = relay
        self._tail = relay.tail
        self._connection = connection
        self._store = connection.store()
        self._options = connection.options
        self._deployment_id = deployment_id
        self._keeper = Keeper(
            connection, relay.database, relay.signer, relay.pepper_check, changes_apart=relay.snapshot_changes
        )
        self._place = Place(0, None)
        self._next_heartbeat = 0.0
        self._said_as_of = 0.0

    async def run(self, on_caught_up: Callable[[], None]) -> None:
        """Until something fails. Raises BrokerUnavailable, BrokerRefused, DatabaseUnavailable."""
        options = self._options
        await self._store.make(options.changes, [options.change_subject], options.replicas)
        await self._store.make(options.snapshots, [options.page_subject, options.end_subject], options.replicas)
        await self._connection.listen(options.heartbeat_subject, self._hear)
        await self._connection.answer(options.report_subject, self._relay.reports.answer)
        keeping: asyncio.Task[None] | None = None
        try:
            async with self._tail.reading():
                self._place = await self._find_place()
                has_lost = False
                while True:
                    stretch = await self._next_stretch()
                    if keeping is None:
                        has_lost = has_lost or self._has_lost(stretch)
                        if not stretch.changes:
                            on_caught_up()
                            log.info("relays to the broker from revision %d on", stretch.cursor.revision)
                            keeping = asyncio.create_task(self._keeper.run(write_at_once=has_lost))
                    await self._put(stretch)
                    await self._beat(stretch)
                    if keeping is not None and keeping.done():
                        keeping.result()
        finally:
            if keeping is not None:
                await tasks.end(keeping)

    async def _next_stretch(self) -> Stretch:
        """What follows the stream as it stands, which is begun anew if need be; nothing when a heartbeat is due."""
        while True:
            place = self._place
            if place.cursor is None:
                await self._seed(place, None)
                continue
            if self._tail.is_stopped:
                # It waits for nothing any more; what is still committed is carried all the same.
                await asyncio.sleep(BEHIND_PAUSE_SECONDS)
            try:
                return await self._tail.after(place.cursor, max(0.0, self._next_heartbeat - time.monotonic()))
            except NotKept:
                await self._seed(place, place.cursor)

    def _has_lost(self, stretch: Stretch) -> bool:
        """Whether the broker may have had later changes than it has now.

        Then edges may be between two of the messages that it gets anew, and only a later snapshot leads on from there.
        """
        furthest = self._relay.furthest
        return bool(stretch.changes) if furthest is None else stretch.follows.revision < furthest.revision

    async def _find_place(self) -> Place:
        bounds = await self._store.bounds(self._options.changes)
        message = await self._store.find(self._options.changes, bounds.last)
        if message is None:
            return Place(bounds.last, None)
        try:
            frame = broker.frame_in(message, self._relay.signer, broker.FOR_CHANGES)
        except FrameError as error:
            log.error("the last message at the broker was not made here: %s", error)  # noqa: TRY400
            return Place(bounds.last, None)
        return Place(bounds.last, frame.cursor if frame.deployment_id == self._deployment_id else None)

    async def _put(self, stretch: Stretch) -> None:
        """Put the changes behind the stream, in as few messages as they fit."""
        cursors = [stretch.follows, *(cursor for cursor, _ in stretch.changes)]
        done = 0
        for part in pack([change for _, change in stretch.changes]):
            frame = self._frame(broker.FOR_CHANGES, stretch, cursors[done], cursors[done + len(part)], part)
            try:
                await self._keep(frame)
            except NotLast:
                # Another process was first. It may have seen more than this one.
                self._tail.ring()
                self._place = await self._find_place()
                await asyncio.sleep(BEHIND_PAUSE_SECONDS)
                return
            done += len(part)

    async def _keep(self, frame: Frame) -> None:
        """Raises NotLast."""
        name = f"{frame.cursor.revision}-{frame.cursor.stamp}"
        data, check = self._relay.signer.encode(frame), self._relay.pepper_check
        at = await self._store.put(self._options.change_subject, data, check, after=self._place.at, name=name)
        self._place = Place(at, frame.cursor)
        self._relay.furthest = frame.cursor
        self._keeper.note(frame.cursor)

    async def _seed(self, place: Place, lost: Cursor | None) -> None:
        """Begin the stream anew behind what is there, where a new snapshot leads on."""
        if place.at == 0:
            log.info("the broker has no changes yet: its stream begins")
        else:
            log.warning("what the broker has does not lead on to this record: its stream begins anew")
        if lost is not None:
            # If the record was restored, no edge may take it for one that has yet to get to where it was.
            async with self._relay.database.write() as tx:
                await commit_log.note_loss(tx, lost)
        try:
            cursor = await self._keeper.write()
            await self._keep(self._frame(broker.FOR_CHANGES, None, cursor, cursor, ()))
        except (NotLast, BeingWritten):
            # Another process is at it.
            await asyncio.sleep(SEED_PAUSE_SECONDS)
            self._place = await self._find_place()
        else:
            await self._store.purge(self._options.changes, self._place.at)

    async def _beat(self, stretch: Stretch) -> None:
        """Say where the record is, unless another process has said so lately or this one knows nothing new."""
        now = time.monotonic()
        if now < self._next_heartbeat:
            return
        self._next_heartbeat = now + HEARTBEAT_SECONDS
        if stretch.as_of > self._said_as_of:
            self._said_as_of = stretch.as_of
            frame = self._frame(broker.FOR_HEARTBEATS, stretch, stretch.cursor, stretch.cursor, ())
            data = self._relay.signer.encode(frame)
            await self._connection.say(self._options.heartbeat_subject, data, self._relay.pepper_check)

    def _hear(self, message: Message) -> None:
        try:
            frame = broker.frame_in(message, self._relay.signer, broker.FOR_HEARTBEATS)
        except FrameError:
            return
        if frame.deployment_id == self._deployment_id and abs(self._relay.clock() - frame.time / 1000) < 1:
            # A little later than the other's next one is due.
            late = random.uniform(1.05, 1.25)  # noqa: S311
            self._next_heartbeat = time.monotonic() + HEARTBEAT_SECONDS * late

    def _frame(
        self, purpose: str, stretch: Stretch | None, follows: Cursor, cursor: Cursor, part: Sequence[Change]
    ) -> Frame:
        head, ago = (cursor.revision, 0.0) if stretch is None else (stretch.head, time.monotonic() - stretch.as_of)
        at = int((self._relay.clock() - ago) * 1000)
        head = max(head, cursor.revision)
        common = self._deployment_id, FrameKind.CHANGES, broker.EVERYTHING, purpose, 0
        return Frame(*common, follows, cursor, head, at, part)
