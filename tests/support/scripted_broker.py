"""An origin at a broker that does what a test tells it to: honest frames around which a test may do anything."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from edge.world import DIGESTER, PEPPER_CHECK, at, bucket, consumer, key, state
from keywright.nats import connection as broker
from keywright.nats.connection import Broker
from keywright.protocol.changes import Change, Cursor
from keywright.protocol.frames import Frame, FrameKind, FrameSigner

SIGNER = FrameSigner(DIGESTER)
LOG: list[Change] = [bucket(1, "my-bucket"), consumer(1, 1), key("zpka_secret-1", 1, 1), key("zpka_secret-2", 1, 1)]

Alter = Callable[[Frame], Frame]
Damage = Callable[[bytes], bytes]


def as_it_is(frame: Frame) -> Frame:
    return frame


@dataclass
class ScriptedRelay:
    connection: Broker
    log: list[Change] = field(default_factory=lambda: list(LOG))
    deployment: str = "dply_1"
    pepper_check: str = PEPPER_CHECK
    history: int = 1
    damage: Damage = lambda data: data
    clock: Callable[[], float] = time.time

    async def start(self) -> None:
        """The streams, a snapshot, and the stream of changes where it leads on."""
        store, options = self.connection.store(), self.connection.options
        await store.make(options.changes, [options.change_subject], 1)
        await store.make(options.snapshots, [options.page_subject, options.end_subject], 1)
        await self.snapshot()
        await self.put(len(self.log), ())

    async def commit(self, *changes: Change, alter: Alter = as_it_is) -> None:
        """One message that brings these changes."""
        follows = len(self.log)
        self.log += changes
        await self.put(follows, changes, alter)

    async def put(self, follows: int, changes: Sequence[Change], alter: Alter = as_it_is) -> None:
        cursors = self.at(follows), self.at(follows + len(changes))
        frame = self._frame(broker.FOR_CHANGES, *cursors, changes=changes)
        options = self.connection.options
        await self._put(options.changes, options.change_subject, self._encode(alter(frame)))

    async def snapshot(self, log: Sequence[Change] | None = None, alter: Alter = as_it_is) -> None:
        """Two pages and an end, of the record as it is or was."""
        log = self.log if log is None else log
        cursor, puts, options = self.at(len(log)), state(log), self.connection.options
        nonce = f"{broker.FOR_SNAPSHOT}{time.monotonic_ns()}"
        blank = self._frame(nonce, cursor, cursor)
        for number, part in enumerate((puts[:2], puts[2:])):
            page = replace(blank, kind=FrameKind.PAGE, number=number, changes=part)
            await self._put(options.snapshots, options.page_subject, self._encode(alter(page)))
        end = replace(blank, kind=FrameKind.END, number=2)
        await self._put(options.snapshots, options.end_subject, self._encode(alter(end)))

    async def beat(self, alter: Alter = as_it_is) -> None:
        cursor = self.at(len(self.log))
        frame = alter(self._frame(broker.FOR_HEARTBEATS, cursor, cursor))
        await self.connection.say(self.connection.options.heartbeat_subject, self._encode(frame), self.pepper_check)

    def at(self, revision: int) -> Cursor:
        return at(revision, self.history)

    def _frame(self, nonce: str, follows: Cursor, cursor: Cursor, changes: Sequence[Change] = ()) -> Frame:
        common = self.deployment, FrameKind.CHANGES, broker.EVERYTHING, nonce, 0
        return Frame(*common, follows, cursor, cursor.revision, int(self.clock() * 1000), changes)

    def _encode(self, frame: Frame) -> bytes:
        return self.damage(SIGNER.encode(frame))

    async def _put(self, stream: str, subject: str, data: bytes) -> None:
        store = self.connection.store()
        after = (await store.bounds(stream)).last
        await store.put(subject, data, self.pepper_check, after=after, name=str(after))
