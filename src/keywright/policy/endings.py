"""Owns telling an application which keys have ended, so that it can close what they opened: WebSockets and streams.

    with source.endings() as endings:
        async for ended in endings:        (or `for`, on a thread)
            ...

A source finds out by looking into its replica now and then, whichever process on the machine follows the record.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import heapq
import threading
from typing import TYPE_CHECKING, NamedTuple, Self

from keywright.edge.replica.replica import UNREADABLE
from keywright.policy.rules.identity import Ended

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from keywright.edge.replica.endings import Ending
    from keywright.edge.replica.replica import Replica
    from keywright.protocol.changes import Cursor

LOOK_SECONDS = 0.1


class _Coming(NamedTuple):
    """A key that was given an end which lies ahead."""

    ends_at: int
    bucket_number: int
    digest: str
    key_id: str
    ending: Ending


class Endings:
    """One subscription: an iterator, also asynchronous, that goes on until it is closed. Nothing is missed between
    two steps of it. Each item is told once, within a tenth of a second. May be closed from any thread.

    A key whose end was known when it was let in ends without a word: whoever lets it in has `expires_at`.
    """

    def __init__(
        self, reading: Callable[[], contextlib.AbstractContextManager[Replica | None]], clock: Callable[[], int]
    ) -> None:
        """Use `ReplicaSource.endings`. `reading` gives the replica while it may be read, None while there is none."""
        self._reading = reading
        self._clock = clock
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._cursor: Cursor | None = None
        self._waiting: collections.deque[Ended] = collections.deque()
        self._coming: list[_Coming] = []
        self._look()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Ended:
        while not self._closed.is_set():
            found = self._find_next()
            if found is not None:
                return found
            self._closed.wait(LOOK_SECONDS)
        raise StopIteration

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Ended:
        while not self._closed.is_set():
            found = self._find_next()
            if found is not None:
                return found
            await asyncio.sleep(LOOK_SECONDS)
        raise StopAsyncIteration

    def close(self) -> None:
        self._closed.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _find_next(self) -> Ended | None:
        with self._lock:
            if not self._waiting:
                self._look()
            return self._waiting.popleft() if self._waiting else None

    def _look(self) -> None:
        # A replica that can't be read now is read later, from where it was.
        with contextlib.suppress(*UNREADABLE), self._reading() as replica:
            if replica is None:
                return
            cursor = replica.cursor
            if cursor is None:
                return
            if self._cursor is None:
                self._cursor = cursor
            elif cursor != self._cursor:
                self._take_in(replica.endings_since(self._cursor), cursor)
            if self._coming and self._coming[0].ends_at <= self._clock():
                self._waiting += _grouped(self._over(replica))

    def _take_in(self, found: tuple[Cursor, list[Ending]] | None, cursor: Cursor) -> None:
        if found is None:
            self._cursor, self._coming = cursor, []
            self._waiting.append(Ended())
            return
        self._cursor = found[0]
        ended = [one for one in found[1] if not one.is_narrowed]
        now = self._clock()
        for one in ended:
            if one.ends_at is not None and one.ends_at > now and one.digest is not None and one.key_id is not None:
                heapq.heappush(self._coming, _Coming(one.ends_at, one.bucket_number, one.digest, one.key_id, one))
        self._waiting += _grouped(one for one in ended if one.ends_at is None or one.ends_at <= now)

    def _over(self, replica: Replica) -> list[Ending]:
        """Those whose time has come, but for what was given a later end meanwhile, or has been told of."""
        over = []
        now = self._clock()
        while self._coming and self._coming[0].ends_at <= now:
            coming = heapq.heappop(self._coming)
            key = replica.find_key(coming.bucket_number, bytes.fromhex(coming.digest))
            if key is not None and key.key_id == coming.key_id and key.expires_at == coming.ends_at:
                over.append(coming.ending)
        return over


def _grouped(endings: Iterable[Ending]) -> Sequence[Ended]:
    """One for each consumer whose keys ended; consumers and buckets for themselves."""
    keys: dict[tuple[str | None, str | None], set[str]] = {}
    whole: dict[Ended, None] = {}
    for one in endings:
        if one.key_id is None:
            whole[Ended(one.bucket_name, one.consumer_id)] = None
        else:
            keys.setdefault((one.bucket_name, one.consumer_id), set()).add(one.key_id)
    return [*whole, *(Ended(bucket, consumer, frozenset(ids)) for (bucket, consumer), ids in keys.items())]
