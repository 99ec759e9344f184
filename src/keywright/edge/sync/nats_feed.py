"""Owns following the record over a NATS broker, and making sure that what the broker gives is the record's.

The broker is trusted with nothing. What it gives must carry the origin's MAC (frames.py) and lead on from the very
cursor that this edge is at; a snapshot must be whole, and no older than what the edge has. So whoever holds the broker
can only withhold, and that shows: the edge is in step only while it hears the origin's heartbeats, which are recent by
this machine's own clock, and only as of the time in the newest frame that says where the record was.

Of several domains the first that answers is read from: the hub, and when that is cut off, the mirror in this region.
A snapshot, which is large, is read from the mirror if that has one as new.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from keywright.edge.sync.feed import OtherPepper, RecordBehind, Refused, Snapshot, SnapshotNeeded, Untrusted
from keywright.nats.connection import BrokerRefused, BrokerUnavailable, Connection, Message, StreamMissing, connect
from keywright.nats.streams import StreamReader, Streams, read_all
from keywright.nats.subjects import FOR_CHANGES, FOR_HEARTBEATS, FOR_SNAPSHOT, Subjects, frame_in
from keywright.protocol.changes import NOWHERE, Batch, Change, Cursor
from keywright.protocol.frames import Frame, FrameError, FrameKind, FrameSigner
from keywright.runtime.nats_options import NatsOptions

if TYPE_CHECKING:
    from keywright.domain.keyformat import Digester
    from keywright.runtime.clock import Clock

SILENCE_SECONDS = 6.0
"""Three heartbeats of the origin: what was heard before says nothing of now."""
FIRST_WORD_SECONDS = 2.5
"""How long a question waits for a first heartbeat; it also holds up the end of the process that long."""
CLOCK_SECONDS = 60.0
"""How far the clocks of origin and edge may be apart, and how long a broker may hold a heartbeat back."""
_LARGEST_BATCH = 5000
_T = TypeVar("_T")


class NotKnownToBeAll(Exception):
    """All that came was handed on, but nothing that the origin said lately tells that it is all there is."""


@dataclass(frozen=True, slots=True)
class Word:
    """A frame that says where the record was, and the moment (`Clock.elapsed`) of which that is true."""

    frame: Frame
    true_at: float


class NatsFeed:
    """A live feed (feeds.py). `close` it when it is no longer needed. To be used by one task at a time."""

    # Each batch is asked for until there is none: a shorter one says nothing here.
    batch_size = 1

    def __init__(
        self,
        options: NatsOptions,
        digester: Digester,
        clock: Clock,
        *,
        edge_name: str,
    ) -> None:
        self.ring: Callable[[], None] = lambda: None
        """Called with whatever comes, so that a follower that is waiting to try again need not wait longer."""
        self._options = options
        self._subjects = Subjects(options.prefix)
        self._edge_name = edge_name
        self._signer = FrameSigner(digester)
        self._pepper_check = digester.pepper_check()
        self._clock = clock
        self._connection: Connection | None = None
        self._stores: list[Streams] = []
        self._reading: StreamReader | None = None
        self._is_at_mirror = False
        self._came = asyncio.Event()
        self._said: deque[Message] = deque(maxlen=100)
        self._record: str | None = None
        self._at = NOWHERE
        self._handed_on = NOWHERE
        self._awaited = 0
        self._word: Word | None = None
        self._voice_at = self._voice_time = float("-inf")
        self._why = ""

    @property
    def synced_at(self) -> float | None:
        return self._word.true_at if self._word is not None and self._is_in_step() else None

    async def deployment_id(self) -> str:
        """Whose record the broker has. Replicas of another one are replaced."""
        async with self._connected():
            frame = await self._first(self._last_frame)
        if _record_of(frame) != self._record:
            self._record, self._at, self._word = _record_of(frame), NOWHERE, None
        return _record_of(frame)

    async def changes(self, after: Cursor) -> Batch:
        self._at = after
        asked_at = self._clock.elapsed()
        async with self._connected():
            is_hub_back = self._is_at_mirror and self._is_heard()
            if self._reading is None or self._handed_on != after or is_hub_back:
                await self._read_on(after)
            while not (batch := await self._take(after)).changes and not self._is_in_step():
                if self._clock.elapsed() - asked_at > SILENCE_SECONDS:
                    # The origin is heard, and is further. What is read here has come to an end unnoticed.
                    raise BrokerUnavailable("the broker does not give the changes that the origin says there are")
                await self._hear(max(asked_at + FIRST_WORD_SECONDS, self._voice_at + SILENCE_SECONDS))
        return batch

    async def wait_for_news(self) -> None:
        if self._reading is not None:
            with self._meaning():
                await self._hear(self._voice_at + SILENCE_SECONDS)

    async def snapshot(self) -> Snapshot:
        """The newest snapshot with the changes behind it: a replica that is filled from it begins with the present."""
        async with self._connected():
            store, message, end = await self._newest_snapshot()
            record = _record_of(end)
            behind = await self._first(lambda one: self._all_behind(one, end))
        there = end.cursor if behind is None else behind.cursor
        if record == self._record and _age(there) < _age(self._at):
            what = f"the newest snapshot at the broker (revision {there.revision}) is older than this replica"
            if there.may_become(self._at):
                raise RecordBehind(f"{what} (revision {self._at.revision})")
            raise Untrusted(f"{what} (revision {self._at.revision}), and of a past that the record no longer has")
        if behind is None:
            # The relay is about to write one that they do lead on from.
            raise BrokerUnavailable("the changes at the broker do not lead on from its newest snapshot")
        return Snapshot(record, self._pepper_check, there, self._pages(store, message, end, behind.changes))

    async def close(self) -> None:
        connection, self._connection, self._reading = self._connection, None, None
        if connection is not None:
            await connection.close()

    # -- the connection -----------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[None]:
        """Connected to the broker; after anything that went wrong there, no longer."""
        with self._meaning():
            try:
                if self._connection is None:
                    await self._connect()
                yield
            except (NotKnownToBeAll, StreamMissing):
                # With the connection, a heartbeat tells when to ask again.
                raise
            except SnapshotNeeded:
                await self._stop_reading()
                raise
            except BaseException:
                await self.close()
                raise

    async def _connect(self) -> None:
        connection = self._connection = await connect(self._options, f"edge {self._edge_name}", self._clock, self._lost)
        self._stores = [Streams(connection, domain) for domain in (self._options.domain, *self._options.mirrors)]
        await connection.subscribe(self._subjects.heartbeats, self._overhear)

    def _lost(self) -> None:
        # One that was given up here ends, too, and that is no news.
        if self._connection is not None:
            self._wake()

    @contextmanager
    def _meaning(self) -> Iterator[None]:
        """What a failure at the broker means for who follows the record."""
        try:
            yield
        except BrokerRefused as error:
            raise Refused(str(error)) from error
        except FrameError as error:
            raise Untrusted(str(error)) from error

    async def _first(self, ask: Callable[[Streams], Awaitable[_T]]) -> _T:
        """The answer of the first domain that gives one; if none does, what the first one's failure was."""
        failure: Exception | None = None
        for store in self._stores:
            try:
                answer = await ask(store)
            except (BrokerUnavailable, BrokerRefused) as error:
                failure = failure or error
            else:
                return answer
        raise failure or BrokerUnavailable("no domain to ask")

    def _wake(self) -> None:
        self._came.set()
        self.ring()

    def _frame_in(self, message: Message, purpose: str) -> Frame:
        if message.pepper_check not in (None, self._pepper_check):
            raise OtherPepper("the pepper of this edge is not the origin's: no key would be known. Give it that one")
        return frame_in(message, self._signer, purpose)

    # -- what is said -------------------------------------------------------------------------------------------------

    def _overhear(self, message: Message) -> None:
        self._said.append(message)
        self._wake()

    async def _hear(self, until: float) -> None:
        """Return when something has come. Raises NotKnownToBeAll when the time is up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, until - self._clock.elapsed())):
                await self._came.wait()
        if self._clock.elapsed() >= until and not self._said:
            raise NotKnownToBeAll(self._why or f"nothing was heard of the origin for {SILENCE_SECONDS:g} s")
        self._came.clear()
        while self._said:
            frame = self._frame_in(self._said.popleft(), FOR_HEARTBEATS)
            if _record_of(frame) == self._record:
                self._heed(frame)

    def _heed(self, heartbeat: Frame) -> None:
        """Note that the origin is there, unless this was said long ago or against what is known."""
        age = self._clock.millis() / 1000 - heartbeat.time / 1000
        word = self._word
        if abs(age) > CLOCK_SECONDS:
            said = f"{age:.0f} s ago" if age > 0 else f"in {-age:.0f} s"
            self._why = f"by this machine's clock the origin's last heartbeat was made {said}: a clock is wrong, or the broker holds heartbeats back"  # noqa: E501
        elif heartbeat.time <= self._voice_time:
            self._why = "the broker repeats old heartbeats of the origin"
        elif (
            word is not None
            and _age(heartbeat.cursor) < _age(word.frame.cursor)
            and heartbeat.time / 1000 > word.frame.time / 1000 + SILENCE_SECONDS
        ):
            self._why = f"the origin is at revision {heartbeat.cursor.revision}, which is before this replica's"
        else:
            self._why = ""
            self._voice_at, self._voice_time = self._clock.elapsed(), heartbeat.time
            self._weigh(heartbeat)

    def _weigh(self, frame: Frame) -> None:
        """Take the frame's word for where the record is, if it is the newest."""
        # A time that has yet to come was told by a wrong clock; it must not outlast what the right one says later.
        frame = replace(frame, time=min(frame.time, self._clock.millis()))
        if self._word is None or _newness(frame) > _newness(self._word.frame):
            ago = max(0.0, self._clock.millis() / 1000 - frame.time / 1000)
            self._word = Word(frame, self._clock.elapsed() - ago)

    def _is_heard(self) -> bool:
        return self._clock.elapsed() - self._voice_at <= SILENCE_SECONDS

    def _is_in_step(self) -> bool:
        """Whether all that the record had by the newest word has been handed on, and the origin is still there."""
        if self._word is None or not self._is_heard() or self._awaited:
            return False
        frame = self._word.frame
        return frame.cursor == self._handed_on and frame.head <= frame.cursor.revision

    # -- what is kept -------------------------------------------------------------------------------------------------

    async def _last_frame(self, store: Streams) -> Frame:
        bounds = await store.bounds(self._subjects.changes_stream)
        message = await store.find(self._subjects.changes_stream, bounds.last)
        if message is None:
            raise BrokerUnavailable(f"{store.name} has no changes yet: no origin has relayed any")
        return self._frame_in(message, FOR_CHANGES)

    async def _read_on(self, after: Cursor) -> None:
        """Begin to read where the first message is that goes beyond a cursor."""

        async def open_at(store: Streams) -> StreamReader:
            place, last = await self._place_behind(store, after)
            # What is there already was not heard of; until it has come, nothing is known to be all.
            self._awaited = last if place <= last else 0
            self._is_at_mirror = store is not self._stores[0]
            return await store.read(self._subjects.changes_stream, place, self._wake)

        await self._stop_reading()
        self._reading = await self._first(open_at)
        self._handed_on = after

    async def _stop_reading(self) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            await reading.stop()

    async def _take(self, after: Cursor) -> Batch:
        """What has come of the changes, some at least if there are any. Raises SnapshotNeeded, Untrusted."""
        changes: list[Change] = []
        cursor = after
        while self._reading is not None and len(changes) < _LARGEST_BATCH:
            message = await self._reading.take()
            if message is None:
                break
            frame = self._changes_in(message)
            if _record_of(frame) != self._record:
                raise SnapshotNeeded("the stream goes on with another record")
            if message.seq >= self._awaited:
                self._awaited = 0
            if _age(frame.cursor) > _age(cursor):
                if frame.follows != cursor:
                    raise SnapshotNeeded(
                        f"the kept changes go on from revision {frame.follows.revision}, not from here"
                    )
                changes += frame.changes
                cursor = frame.cursor
            self._weigh(frame)
        self._handed_on = cursor
        return Batch(after, changes, cursor)

    def _changes_in(self, message: Message) -> Frame:
        frame = self._frame_in(message, FOR_CHANGES)
        if frame.kind is not FrameKind.CHANGES or frame.cursor.revision != frame.follows.revision + len(frame.changes):
            raise Untrusted("there is not one change for each revision")
        return frame

    async def _place_behind(self, store: Streams, after: Cursor) -> tuple[int, int]:
        """Where the first message is that goes beyond a cursor, and where the last one is."""

        def is_beyond(message: Message) -> bool:
            return _age(self._frame_in(message, FOR_CHANGES).cursor) > _age(after)

        bounds = await store.bounds(self._subjects.changes_stream)
        return await store.bisect(self._subjects.changes_stream, bounds, is_beyond), bounds.last

    async def _all_behind(self, store: Streams, end: Frame) -> Batch | None:
        """Every change that is kept now behind a snapshot, no more than the relay lets come between two of them.

        None if they do not lead on from it.
        """
        changes: list[Change] = []
        cursor = end.cursor
        place, last = await self._place_behind(store, cursor)
        if place <= last:
            async for message in read_all(store, self._subjects.changes_stream, place, last):
                frame = self._changes_in(message)
                if frame.follows != cursor or _record_of(frame) != _record_of(end):
                    return None
                changes += frame.changes
                cursor = frame.cursor
        return Batch(end.cursor, changes, cursor)

    async def _newest_snapshot(self) -> tuple[Streams, Message, Frame]:
        found: list[tuple[Streams, Message, Frame]] = []
        failures: list[Exception] = []
        for store in self._stores:
            try:
                message = await store.find_last(self._subjects.snapshots_stream, self._subjects.snapshot_ends)
            except (BrokerUnavailable, BrokerRefused) as error:
                failures.append(error)
                continue
            if message is not None:
                end = self._frame_in(message, FOR_SNAPSHOT)
                if end.kind is not FrameKind.END:
                    raise Untrusted("the end of the snapshot is none")
                found.append((store, message, end))
        if not found:
            raise failures[0] if failures else BrokerUnavailable("the broker has no snapshot yet")
        # Of equals the last: the mirror is nearer.
        return max(reversed(found), key=lambda one: _age(one[2].cursor))

    async def _pages(
        self, store: Streams, message: Message, end: Frame, changes: Sequence[Change]
    ) -> AsyncIterator[Sequence[Change]]:
        """Every page, then the changes behind. Raises when a page is missing or of another snapshot: a part is never
        taken for the whole.
        """
        first = message.seq - end.number
        with self._meaning():
            async for one in read_all(store, self._subjects.snapshots_stream, first, message.seq):
                frame = self._frame_in(one, FOR_SNAPSHOT)
                kind = FrameKind.END if one.seq == message.seq else FrameKind.PAGE
                expected = (end.nonce, end.deployment_id, end.cursor, kind, one.seq - first)
                if (frame.nonce, frame.deployment_id, frame.cursor, frame.kind, frame.number) != expected:
                    raise Untrusted("the snapshot's pages are not those of one snapshot")
                yield frame.changes
        yield changes


def _age(cursor: Cursor) -> tuple[int, int]:
    """Grows along a history; and a record that was restored goes on later than what it lost (commit_log.py)."""
    return cursor.stamped_at, cursor.revision


def _newness(frame: Frame) -> tuple[int, int, int]:
    return *_age(frame.cursor), frame.time


def _record_of(frame: Frame) -> str:
    return f"{frame.deployment_id}/{frame.scope}"
