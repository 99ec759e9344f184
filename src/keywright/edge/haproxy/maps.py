"""Owns the maps in a HAProxy that decides by itself: filled from the replica, kept in step with every change to it.

HAProxy forgets what it was told when it restarts, and knows nothing of an edge that has died. So its configuration
believes the maps only until the moment in the entry `lease`, which is written anew every second, and only while the
maps hold all that the replica holds. The entry `at` says which cursor of which deployment that is: where it is
missing (a new HAProxy), or is not where this edge left it, everything is filled in again.

    buckets     name                    -> number
    keys        bucket's number.digest  -> key id | consumer's number | end in milliseconds
    consumers   number                  -> consumer id | name | metadata, percent-encoded
    state       lease, at               -> milliseconds since the epoch; deployment:cursor
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

import lmdb

from keywright.domain.permissions import SYSTEM_BUCKET
from keywright.edge.haproxy import socket as haproxy_socket
from keywright.edge.haproxy.socket import HaproxyError, Map, Socket
from keywright.edge.replica import records
from keywright.edge.replica.replica import PagePosition, ReplicaBroken, Stale
from keywright.protocol.changes import BucketDelete, BucketPut, ConsumerDelete, ConsumerPut, KeyDelete, KeyPut

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from keywright.edge.replica.replica import Replica
    from keywright.protocol.changes import Batch, Change, Cursor

_log = logging.getLogger(__name__)

RENEW_SECONDS = 1.0
PAGE_SIZE = 250
NEVER = 9_999_999_999_999
"""The end of a key that has none: in the year 2286."""
MAX_VALUE_BYTES = 12_000
"""HAProxy takes a command, and passes a request on, only in a buffer of 16 kB."""
TOO_LONG = "-"
_MIRRORED: tuple[Map, ...] = (Map.BUCKETS, Map.CONSUMERS, Map.KEYS)
_Entry = tuple[Map, str, str]
_Event = (
    tuple[Literal["batch"], "Batch"] | tuple[Literal["entries"], list[tuple[Map, str]]] | tuple[Literal["new"], None]
)


class HaproxyMaps:
    """Mirrors a replica into one HAProxy for as long as `run` runs, in the process that follows the record.

    It is the replica's observer: its methods `applied`, `replaced` and `swept` are called on the writer's thread.
    """

    def __init__(
        self,
        socket_path: Path,
        replica: Replica,
        *,
        is_following: Callable[[], bool],
        lease_seconds: int,
        clock: Callable[[], int],
    ) -> None:
        self._socket_path = socket_path
        self._replica = replica
        self._is_following = is_following
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._events: collections.deque[_Event] = collections.deque()
        self._wakeup = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._cursor: Cursor | None = None
        """Where the maps are, as far as this process knows; None when it doesn't."""
        self._buckets: dict[int, BucketPut] = {}
        self._failure: str | None = None

    # -- the replica's observer ---------------------------------------------------------------------------------------

    def applied(self, batch: Batch) -> None:
        self._note(("batch", batch))

    def replaced(self) -> None:
        self._note(("new", None))

    def swept(self, *, is_keys: bool, names: list[bytes]) -> None:
        """Take out what can't be reached any more, so that HAProxy's memory is not filled with it."""
        if is_keys:
            split = records.BUCKET_NUMBER_BYTES
            gone = [(Map.KEYS, _key_name(records.unpack_number(name[:split]), name[split:])) for name in names]
        else:
            gone = [(Map.CONSUMERS, str(records.unpack_number(name))) for name in names]
        self._note(("entries", gone))

    def _note(self, event: _Event) -> None:
        self._events.append(event)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._wakeup.set)

    # -- the loop -----------------------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """Keep HAProxy in step until `stop` is set. Survives everything but being cancelled."""
        self._loop = asyncio.get_running_loop()
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: self._wakeup.set())
        try:
            while not stop.is_set():
                self._wakeup.clear()
                if self._is_following():
                    await self._try_round()
                else:
                    # Another process follows, and mirrors.
                    self._events.clear()
                    self._cursor = None
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wakeup.wait(), RENEW_SECONDS)
        finally:
            stopping.cancel()

    async def _try_round(self) -> None:
        try:
            async with haproxy_socket.connect(self._socket_path) as socket:
                await self._round(socket)
        except (OSError, EOFError, TimeoutError, HaproxyError, lmdb.Error, ReplicaBroken) as error:
            # What was half done is not known; the mark in HAProxy tells what is to be believed.
            self._cursor = None
            failure = f"{type(error).__name__}: {error}"
            if failure != self._failure:
                _log.warning("can't keep HAProxy at %s up to date: %s", self._socket_path, failure)
            self._failure = failure
        else:
            if self._failure is not None:
                _log.info("HAProxy at %s is up to date again", self._socket_path)
            self._failure = None

    async def _round(self, socket: Socket) -> None:
        cursor = self._replica.cursor
        if cursor is None:
            return
        mark = await socket.get(Map.STATE, "at")
        if self._cursor is None and mark == self._mark(cursor):
            # An edge before this one left it so, and nothing has happened since.
            self._cursor = cursor
            self._buckets = {put.number: put for put in self._replica.buckets() if put.name != SYSTEM_BUCKET}
        elif self._cursor is None or mark != self._mark(self._cursor):
            await self._fill(socket, mark)
        while self._events:
            await self._take(socket, self._events.popleft())
            if self._cursor is None:
                await self._fill(socket, mark)
        if self._cursor is not None and self._cursor == self._replica.cursor:
            await self._withhold_stale(socket)
            await socket.put(Map.STATE, "at", self._mark(self._cursor))
            await socket.put(Map.STATE, "lease", str(self._clock() + self._lease_seconds * 1000))
        elif not self._events:
            # A change of which nobody told; without a lease until it is in the maps.
            self._cursor = None

    async def _take(self, socket: Socket, event: _Event) -> None:
        match event:
            case ("new", _):
                self._cursor = None
            case ("entries", gone):
                for map_, name in gone:
                    await socket.delete(map_, name)
            case ("batch", batch):
                if batch.follows == self._cursor:
                    for change in batch.changes:
                        await self._apply(socket, change)
                    self._cursor = batch.cursor
                elif self._cursor is None or batch.follows.revision >= self._cursor.revision:
                    self._cursor = None

    async def _apply(self, socket: Socket, change: Change) -> None:
        """What is put in comes first: a bucket that was only changed is never without its entry."""
        former = self._buckets.get(change.number) if isinstance(change, BucketPut | BucketDelete) else None
        for map_, name, value in self._entries(change):
            await socket.put(map_, name, value)
        match change:
            case BucketPut() if former is not None and former.name != change.name:
                await self._delete_bucket(socket, former)
            case BucketDelete():
                self._buckets.pop(change.number, None)
                await self._delete_bucket(socket, former)
            case ConsumerDelete():
                await socket.delete(Map.CONSUMERS, str(change.number))
            case KeyDelete():
                await socket.delete(Map.KEYS, _key_name(change.bucket_number, change.digest))

    async def _delete_bucket(self, socket: Socket, bucket: BucketPut | None) -> None:
        """Free a bucket's name, unless a newer bucket has taken it already."""
        if bucket is not None and await socket.get(Map.BUCKETS, bucket.name) == str(bucket.number):
            await socket.delete(Map.BUCKETS, bucket.name)

    async def _withhold_stale(self, socket: Socket) -> None:
        """Take out the buckets whose owners want no answer from a replica that is out of step for too long."""
        for bucket in self._buckets.values():
            if bucket.refuse_after is None:
                continue
            try:
                self._replica.check_fresh(bucket)
            except Stale:
                await self._delete_bucket(socket, bucket)
            else:
                await socket.put(Map.BUCKETS, bucket.name, str(bucket.number))

    # -- filling ------------------------------------------------------------------------------------------------------

    async def _fill(self, socket: Socket, mark: str | None) -> None:
        """Put everything in anew, beside what is there, which goes on being believed until its lease ends."""
        self._events.clear()
        # Asked after that: what is applied from here on is in the events, and what was applied before in the pages.
        cursor = self._replica.cursor
        if cursor is None:
            return
        if mark is not None and not mark.startswith(f"{self._replica.deployment_id}:"):
            # Numbers of another deployment would be taken for ours while one map is new and the next one still old.
            await socket.delete(Map.STATE, "lease")
        await socket.delete(Map.STATE, "at")
        versions = {map_: await socket.prepare(map_) for map_ in _MIRRORED}
        self._buckets = {}
        buckets: list[Change] = [*self._replica.buckets()]
        await self._add(socket, versions, buckets)
        count = 0
        position: PagePosition | None = PagePosition()
        while position is not None:
            # On the loop's thread, as all reading: none of it is under way when the files are closed.
            page, position = self._replica.page(position, PAGE_SIZE)
            await self._add(socket, versions, page)
            count += len(page)
        for map_ in _MIRRORED:
            await socket.commit(map_, versions[map_])
        self._cursor = cursor
        _log.info(
            "filled HAProxy at %s with %d keys and consumers, revision %d", self._socket_path, count, cursor.revision
        )

    async def _add(self, socket: Socket, versions: dict[Map, int], changes: list[Change]) -> None:
        rows: dict[Map, list[str]] = {map_: [] for map_ in _MIRRORED}
        for change in changes:
            for map_, name, value in self._entries(change):
                rows[map_].append(f"{name} {value}")
        for map_, lines in rows.items():
            await socket.add_all(map_, versions[map_], lines)

    def _entries(self, change: Change) -> list[_Entry]:
        """What a change puts into the maps; nothing for deletions, and for the hidden bucket, which no gateway asks."""
        match change:
            case BucketPut() if change.name != SYSTEM_BUCKET:
                self._buckets[change.number] = change
                return [(Map.BUCKETS, change.name, str(change.number))]
            case ConsumerPut() if change.bucket_number in self._buckets:
                value = f"{change.consumer_id}|{change.name}|{quote(change.metadata, safe='')}"
                if len(value) > MAX_VALUE_BYTES:
                    # A consumer without its metadata would be another one to the API, so its keys are refused.
                    _log.error("consumer %s is refused by HAProxy: its metadata is too long", change.consumer_id)
                    value = TOO_LONG
                return [(Map.CONSUMERS, str(change.number), value)]
            case KeyPut() if change.bucket_number in self._buckets:
                end = NEVER if change.expires_at is None else max(change.expires_at, 0)
                name = _key_name(change.bucket_number, change.digest)
                return [(Map.KEYS, name, f"{change.key_id}|{change.consumer_number}|{end}")]
            case _:
                return []

    def _mark(self, cursor: Cursor) -> str:
        return f"{self._replica.deployment_id}:{cursor}"


def _key_name(bucket_number: int, digest: bytes) -> str:
    return f"{bucket_number}.{digest.hex()}"
