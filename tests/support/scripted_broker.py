"""An origin at a broker that does what a test tells it to: honest frames around which a test may do anything."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from edge.world import DIGESTER, PEPPER_CHECK, at, bucket, consumer, key, state
from keywright.nats.connection import Connection
from keywright.nats.subjects import FOR_CHANGES, FOR_HEARTBEATS, FOR_SNAPSHOT, Subjects
from keywright.protocol.changes import Change, Cursor
from keywright.protocol.feed_formats import NEWEST
from keywright.protocol.frames import Frame, FrameKind, FrameSigner
from support.nats import streams_of

SIGNER = FrameSigner(DIGESTER)
LOG: list[Change] = [bucket(1, "my-bucket"), consumer(1, 1), key("zpka_secret-1", 1, 1), key("zpka_secret-2", 1, 1)]

Alter = Callable[[Frame], Frame]
Damage = Callable[[bytes], bytes]


def as_it_is(frame: Frame) -> Frame:
    return frame


@dataclass
class ScriptedOrigin:
    connection: Connection
    log: list[Change] = field(default_factory=lambda: list(LOG))
    deployment: str = "dply_1"
    pepper_check: str = PEPPER_CHECK
    history: int = 1
    damage: Damage = lambda data: data
    clock: Callable[[], float] = time.time
    feed_format: int = NEWEST

    @property
    def subjects(self) -> Subjects:
        return self.connection.subjects.in_format(self.feed_format)

    async def start(self) -> None:
        """The streams, a snapshot, and the stream of changes where it leads on."""
        store, subjects = streams_of(self.connection), self.subjects
        await store.create(subjects.changes_stream, [subjects.changes], 1)
        await store.create(subjects.snapshots_stream, [subjects.snapshot_pages, subjects.snapshot_ends], 1)
        await self.snapshot()
        await self.put(len(self.log), ())

    async def commit(self, *changes: Change, alter: Alter = as_it_is) -> None:
        """One message that brings these changes."""
        follows = len(self.log)
        self.log += changes
        await self.put(follows, changes, alter)

    async def put(self, follows: int, changes: Sequence[Change], alter: Alter = as_it_is) -> None:
        cursors = self.at(follows), self.at(follows + len(changes))
        frame = self._frame(FOR_CHANGES, *cursors, changes=changes)
        subjects = self.subjects
        await self._put(subjects.changes_stream, subjects.changes, self._encode(alter(frame)))

    async def snapshot(self, log: Sequence[Change] | None = None, alter: Alter = as_it_is) -> None:
        """Two pages and an end, of the record as it is or was."""
        log = self.log if log is None else log
        cursor, puts, subjects = self.at(len(log)), state(log), self.subjects
        nonce = f"{FOR_SNAPSHOT}{time.monotonic_ns()}"
        blank = self._frame(nonce, cursor, cursor)
        for number, part in enumerate((puts[:2], puts[2:])):
            page = replace(blank, kind=FrameKind.PAGE, number=number, changes=part)
            await self._put(subjects.snapshots_stream, subjects.snapshot_pages, self._encode(alter(page)))
        end = replace(blank, kind=FrameKind.END, number=2)
        await self._put(subjects.snapshots_stream, subjects.snapshot_ends, self._encode(alter(end)))

    async def heartbeat(self, alter: Alter = as_it_is) -> None:
        cursor = self.at(len(self.log))
        frame = alter(self._frame(FOR_HEARTBEATS, cursor, cursor))
        await self.connection.publish(self.subjects.heartbeats, self._encode(frame), self.pepper_check)

    def at(self, revision: int) -> Cursor:
        return at(revision, self.history)

    def _frame(self, nonce: str, follows: Cursor, cursor: Cursor, changes: Sequence[Change] = ()) -> Frame:
        common = self.deployment, FrameKind.CHANGES, self.subjects.scope, nonce, 0
        return Frame(*common, follows, cursor, cursor.revision, int(self.clock() * 1000), changes)

    def _encode(self, frame: Frame) -> bytes:
        return self.damage(SIGNER.encode(frame))

    async def _put(self, stream: str, subject: str, data: bytes) -> None:
        store = streams_of(self.connection)
        after = (await store.bounds(stream)).last
        await store.append(subject, data, self.pepper_check, after=after, name=str(after))
