"""Owns NatsFeed: what an edge asks of the record, answered by what a broker keeps and by what its origin publishes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from keywright.edge.sync.feed import (
    OtherFormat,
    OtherPepper,
    RecordBehind,
    Refused,
    Snapshot,
    SnapshotNeeded,
    Untrusted,
    record_of,
)
from keywright.edge.sync.nats_feed import snapshots
from keywright.edge.sync.nats_feed.change_reader import ChangeReader, NoChangesYet, last_frame
from keywright.edge.sync.nats_feed.head_watch import SILENCE_SECONDS, HeadWatch, age_of
from keywright.edge.sync.nats_feed.session import NatsSession, translated
from keywright.nats.connection import BrokerUnavailable, Message, NobodyAnswers, StreamMissing
from keywright.nats.subjects import FOR_HEARTBEATS
from keywright.protocol.changes import NOWHERE, Batch, Cursor
from keywright.protocol.feed_formats import FORMATS, NEWEST, is_same_record

if TYPE_CHECKING:
    from keywright.domain.keyformat import Digester
    from keywright.protocol.frames import Frame
    from keywright.runtime.clock import Clock
    from keywright.runtime.nats_options import NatsOptions

_log = logging.getLogger("keywright.edge")

FIRST_HEARTBEAT_SECONDS = 2.5
"""How long a question waits for a first heartbeat; it also holds up the end of the process that long."""


class NotKnownToBeAll(Exception):
    """All that came was handed on, but nothing that the origin said lately tells that it is all there is."""


class OtherFormatKept(NotKnownToBeAll, OtherFormat):
    """And what came is of a format that this version does not read."""


class NatsFeed:
    """A live feed (sync/feed.py). `close` it when it is no longer needed. To be used by one task at a time."""

    def __init__(
        self,
        options: NatsOptions,
        digester: Digester,
        clock: Clock,
        *,
        edge_name: str,
        silence_seconds: float = SILENCE_SECONDS,
        first_heartbeat_seconds: float = FIRST_HEARTBEAT_SECONDS,
        formats: Sequence[int] = FORMATS,
    ) -> None:
        """`formats` are those that it reads, the oldest first."""
        self.on_message: Callable[[], None] = lambda: None
        """Called when the origin is heard again, so that a loop that waits for that to try again waits no longer."""
        self._clock = clock
        self._first_heartbeat_seconds = first_heartbeat_seconds
        self._pepper_check = digester.pepper_check()
        self._session = NatsSession(
            options,
            digester,
            clock,
            edge_name,
            on_heartbeat=self._on_heartbeat,
            on_change=self._on_change,
            on_lost=self._wake,
        )
        self._head = HeadWatch(clock, silence_seconds)
        self._reader = ChangeReader(self._session, self._head, self._wake)
        self._woken = asyncio.Event()
        self._is_unheard = False
        """Whether the last question failed for want of a word of the origin: the next word is a reason to ask again."""
        self._early: Frame | None = None
        """The newest heartbeat that came before it was known whose record it is that is followed."""
        self._record: str | None = None
        self._at = NOWHERE
        self._formats = formats
        self._is_newer_there = False
        """Whether an origin was heard that publishes in a newer format than is followed."""
        self._newer_time = 0
        self._said = ""

    @property
    def synced_at(self) -> float | None:
        known = self._head.known
        return known.true_at if known is not None and self._is_current() else None

    def is_last(self, batch: Batch) -> bool:
        """Each batch is asked for until there is none: that one is short says nothing here."""
        return not batch.changes

    async def deployment_id(self) -> str:
        """Whose record the broker has, in the newest format that it has here. Replicas of another one are replaced."""
        record = record_of(await self._newest_frame())
        if record != self._record:
            if self._record is None or not is_same_record(record, self._record):
                self._at = NOWHERE
            self._record = record
            self._head.forget()
            if self._early is not None and record_of(self._early) == record:
                self._head.on_heartbeat(self._early)
        return record

    async def _newest_frame(self) -> Frame:
        """The last one of the newest format, and from now on that is followed.

        An origin of before writes none of a newer one; nor does a broker give it that is not told to.
        """
        self._is_newer_there = False
        for feed_format in reversed(self._formats):
            if self._session.subjects.feed_format != feed_format:
                await self._reader.stop()
                self._session.subjects = self._session.subjects.in_format(feed_format)
                self._early = None
            try:
                async with self._connected():
                    frame = await self._session.first(lambda streams: last_frame(self._session, streams))
            except (Refused, NobodyAnswers) as error:
                if feed_format == self._formats[0] or isinstance(error, OtherPepper):
                    raise
                refused = str(error)
                if self._session.has_complaints:
                    await self.close()
                continue
            if feed_format != self._formats[-1]:
                self._say_older(feed_format, refused)
            return frame
        raise AssertionError("there is no format")

    def _say_older(self, feed_format: int, refused: str) -> None:
        if refused != self._said:
            self._said = refused
            told = "follows format %d of the feed: keys with powers are refused here. Format %d: %s"
            _log.warning(told, feed_format, NEWEST, refused)

    async def changes(self, after: Cursor) -> Batch:
        self._at = after
        asked_at = self._clock.elapsed()
        async with self._following():
            is_hub_back = self._reader.is_at_mirror and self._head.is_heard
            if not self._reader.is_open_at(after) or is_hub_back:
                await self._reader.open(after)
            while not (batch := self._reader.take(after, self._record)).changes and not self._is_current():
                if self._clock.elapsed() - asked_at > self._head.silence_seconds:
                    # The origin is heard, and is further. What is read here has come to an end unnoticed.
                    raise BrokerUnavailable("the broker does not give the changes that the origin says there are")
                await self._wait(max(asked_at + self._first_heartbeat_seconds, self._head.silent_at))
        return batch

    async def wait_for_changes(self) -> None:
        if self._reader.is_open:
            try:
                with translated():
                    await self._wait(self._head.silent_at)
            except NotKnownToBeAll:
                self._is_unheard = True
                raise

    async def snapshot(self) -> Snapshot:
        """The newest snapshot with the changes behind it: a replica that is filled from it begins with the present."""
        async with self._following():
            found = await snapshots.find_newest(self._session)
            behind = await self._session.first(lambda streams: snapshots.changes_behind(self._session, streams, found))
        record = record_of(found.end)
        there = found.end.cursor if behind is None else behind.cursor
        if record == self._record and age_of(there) < age_of(self._at):
            what = f"the newest snapshot at the broker (revision {there.revision}) is older than this replica"
            if there.may_become(self._at):
                raise RecordBehind(f"{what} (revision {self._at.revision})")
            raise Untrusted(f"{what} (revision {self._at.revision}), and of a past that the record no longer has")
        if behind is None:
            # The publisher is about to write one that they do lead on from.
            raise BrokerUnavailable("the changes at the broker do not lead on from its newest snapshot")
        pages = snapshots.pages_of(self._session, found, behind.changes)
        return Snapshot(record, self._pepper_check, there, pages)

    async def close(self) -> None:
        await self._reader.stop()
        self._head.problem = ""
        await self._session.close()

    @asynccontextmanager
    async def _following(self) -> AsyncIterator[None]:
        """Connected, to read what `deployment_id` found. Where a newer format is gone since, an older one may be there:
        that is a failure to be tried again soon, and not the refusal that a broker without any stream is.
        """
        try:
            async with self._connected():
                yield
        except Refused as error:
            feed_format = self._session.subjects.feed_format
            if feed_format != self._formats[0] and isinstance(error.__cause__, StreamMissing):
                raise BrokerUnavailable(f"format {feed_format} of the feed is gone: {error}") from error
            raise

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[None]:
        """Connected to the broker; after anything that went wrong there, no longer."""
        with translated():
            self._is_unheard = False
            try:
                await self._session.open()
                yield
            except (NotKnownToBeAll, StreamMissing, NoChangesYet):
                # With the connection, a heartbeat tells when to ask again.
                self._is_unheard = True
                raise
            except SnapshotNeeded:
                await self._reader.stop()
                raise
            except BaseException:
                await self.close()
                raise

    async def _wait(self, until: float) -> None:
        """Return when something has come. Raises NotKnownToBeAll when the time (`Clock.elapsed`) is up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, until - self._clock.elapsed())):
                await self._woken.wait()
        if not self._woken.is_set():
            silence = f"nothing was heard of the origin for {self._head.silence_seconds:g} s"
            kind = OtherFormatKept if self._session.is_format_unknown else NotKnownToBeAll
            raise kind(f"{self._head.problem or silence}{self._session.passed_over}")
        self._woken.clear()
        if self._is_newer_there:
            raise BrokerUnavailable("an origin publishes in a newer format of the feed than was followed here")

    def _on_heartbeat(self, message: Message, feed_format: int) -> None:
        """Judged as it comes: one that proves nothing, whoever sent it, wakes nobody and ends no round."""
        frame = self._session.find_frame(message, FOR_HEARTBEATS, feed_format)
        followed = self._session.subjects.feed_format
        if frame is None or feed_format < followed:
            return
        if feed_format > followed:
            self._on_newer(frame)
            return
        if self._record is None:
            if (self._early is None or frame.time > self._early.time) and self._head.is_recent(frame):
                self._early = frame
                self._wake()
        elif record_of(frame) == self._record and self._head.on_heartbeat(frame):
            self._wake()

    def _on_newer(self, frame: Frame) -> None:
        is_news = frame.time > self._newer_time and self._head.is_recent(frame)
        # Where nothing is followed yet, any format is one to ask for.
        if is_news and (self._record is None or is_same_record(record_of(frame), self._record)):
            self._newer_time, self._is_newer_there = frame.time, True
            self._wake()

    def _on_change(self) -> None:
        self._reader.look()

    def _wake(self) -> None:
        self._woken.set()
        if self._is_unheard:
            self.on_message()

    def _is_current(self) -> bool:
        """Whether all that the record had by the newest known head was handed on, and the origin is still there."""
        known = self._head.known
        if known is None or not self._head.is_heard or self._reader.is_awaiting:
            return False
        return known.frame.cursor == self._reader.handed_on and known.frame.head <= known.frame.cursor.revision
