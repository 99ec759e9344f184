"""Owns the replica as others use it: what an edge knows of buckets, consumers and keys, in LMDB files on its own disk.

A thin shell around what reads the files (reader.py) and what writes them (writer.py); it opens, closes and replaces
them (files.py), and tells an observer what was committed. Several processes may share a replica: each opens it itself,
after the fork; any may write, and each sees a commit of any other at its very next look-up. Where changes come from is
the business of edge/sync.
"""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Protocol

import lmdb

from keywright.domain.powers import UnknownPower
from keywright.domain.unset import UNSET, Unset
from keywright.edge.heartbeat_lock import HeartbeatLock
from keywright.edge.replica import integrity
from keywright.edge.replica.files import MAP_SIZE, Files, ReplicaBroken, ReplicaFull
from keywright.edge.replica.reader import NotReady, PagePosition, ReplicaReader, Stale
from keywright.edge.replica.writer import Gap, Overtaken, ReplicaWriter, WrongPepper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from keywright.edge.replica.endings import Ending
    from keywright.edge.replica.lease import Lease
    from keywright.protocol.changes import Batch, BucketPut, Change, Cursor, KeyPut, PlanPut
    from keywright.runtime.disk import Disk

    Guard = AbstractContextManager[object]

__all__ = [
    "UNREADABLE", "Gap", "NotReady", "Observer", "Overtaken", "PagePosition", "Replica", "ReplicaBroken", "ReplicaFull",
    "Stale", "WrongPepper",
]  # fmt: skip

ABANDON_SECONDS = 10.0
"""How long a process that starts waits for others to let go of broken files."""
FOLLOWING, LOADING = "following.lock", "loading.lock"
"""Names of locks: of the process that follows the record, and of the one that loads a snapshot."""
UNREADABLE = (lmdb.Error, ReplicaBroken, UnknownPower, ValueError, LookupError, TypeError)
"""What reading a replica may raise when its files can't be read, or not any more."""


class Observer(Protocol):
    """Somebody who is told, on the writer's thread, what this process has committed to the replica."""

    def applied(self, batch: Batch, endings: Sequence[Ending]) -> None: ...
    def replaced(self) -> None: ...
    def swept(self, *, is_keys: bool, names: list[bytes]) -> None: ...


def _unknown_lag() -> float:
    return math.inf


class Replica:
    """Reads from any thread; writes from any thread, each transaction on one.

    Nobody may be reading when the files are closed. Where readers are on other threads than whoever closes, they hold
    `guard` while they read.

    `lag_seconds` tells how long it may have been out of step; without it that is not known, and so endless.
    """

    observer: Observer | None = None
    disk: Disk | None = None
    """Whose reserve is used when there is no room for what was committed; None where nobody looks after it."""
    _lease: Lease | None = None

    def __init__(
        self,
        files: Files,
        pepper_check: str,
        *,
        lag_seconds: Callable[[], float] = _unknown_lag,
        guard: Guard | None = None,
    ) -> None:
        """Use `Replica.open`, `Replica.open_or_replace` or `Replica.open_to_read`."""
        self._pepper_check = pepper_check
        self._lag_seconds = lag_seconds
        self.commits = files.commits
        """How long it took this process to commit, the fsync included."""
        self._guard = guard or contextlib.nullcontext()
        self._use(files)

    @classmethod
    def open(
        cls,
        path: Path,
        pepper_check: str,
        *,
        map_size: int = MAP_SIZE,
        lag_seconds: Callable[[], float] = _unknown_lag,
    ) -> Replica:
        """Open what is in the directory, or make it. Raises ReplicaBroken when that can't be trusted."""
        return cls(Files.open(path, map_size, integrity.probe), pepper_check, lag_seconds=lag_seconds)

    @classmethod
    def open_or_replace(
        cls,
        path: Path,
        pepper_check: str,
        *,
        map_size: int = MAP_SIZE,
        lag_seconds: Callable[[], float] = _unknown_lag,
        guard: Guard | None = None,
        abandon_seconds: float | None = None,
    ) -> Replica:
        """Open the replica; an empty one takes the place of a broken one, unless another process still uses that
        (`abandon_seconds`: for how long, see `Files.open`).
        """
        files = Files.open(path, map_size, integrity.probe, replace=True, abandon_seconds=abandon_seconds)
        return cls(files, pepper_check, lag_seconds=lag_seconds, guard=guard)

    @classmethod
    def open_to_read(
        cls,
        path: Path,
        pepper_check: str,
        *,
        lag_seconds: Callable[[], float] = _unknown_lag,
        guard: Guard | None = None,
    ) -> Replica:
        """Open a replica that another process keeps, to read it. Raises ReplicaBroken, OSError when there is none."""
        files = Files.open_to_read(path, integrity.probe)
        return cls(files, pepper_check, lag_seconds=lag_seconds, guard=guard)

    def close(self) -> None:
        with self._guard:
            self._files.close()

    def reopen(self, *, abandon: bool = False) -> None:
        """Close, and open or replace again: the cure when the files turned out to be broken while in use.

        Raises ReplicaBroken while other processes still use the broken files; with `abandon`, which is for who has what
        fills new ones, only for as long as they may be about to let go.
        """
        self.close()
        path, map_size, abandon_seconds = self._files.path, self._files.map_size, 0.0 if abandon else None
        self._use(Files.open(path, map_size, integrity.probe, replace=True, abandon_seconds=abandon_seconds))

    def bind(self, lease: Lease) -> None:
        """Answer only while this lease lasts."""
        self._lease = self._reader.lease = lease

    @property
    def is_lease_over(self) -> bool:
        """Whether no key may be answered for, whatever its bucket says."""
        return self._lease is not None and self._lease.is_over()

    # -- reading: see ReplicaReader -----------------------------------------------------------------------------------

    @property
    def cursor(self) -> Cursor | None:
        return self._reader.cursor

    @property
    def revision(self) -> int | None:
        """The revision that the replica is at; None before its first snapshot (or if that is of another pepper)."""
        cursor = self._reader.cursor
        return None if cursor is None else cursor.revision

    def find_cursor(self) -> Cursor | None:
        return self._reader.find_cursor()

    @property
    def pepper_check(self) -> str | None:
        return self._reader.pepper_check

    @property
    def deployment_id(self) -> str | None:
        """Of which record it is, and what the token may see of that: the deployment's id, then `/` and the view."""
        return self._reader.deployment_id

    @property
    def followed_id(self) -> str | None:
        """The deployment's id alone; None before the first snapshot. Raises as `deployment_id` does."""
        found = self.deployment_id
        return None if found is None else found.partition("/")[0]

    def find_followed_id(self) -> str | None:
        """The same; None as well where nothing can be read now, as while the files are replaced."""
        try:
            return self.followed_id if self.is_open else None
        except (NotReady, *UNREADABLE):
            return None

    def buckets(self) -> list[BucketPut]:
        return self._reader.buckets()

    def plans(self) -> list[PlanPut]:
        return self._reader.plans()

    def page(self, position: PagePosition, limit: int) -> tuple[list[Change], PagePosition | None]:
        return self._reader.page(position, limit)

    @property
    def count(self) -> int:
        """How many keys and consumers there are, with those that are yet to be swept."""
        return self._reader.count

    def has_been_at(self, cursor: Cursor) -> bool:
        """Whether it is known to have been there, on its way to where it is."""
        return self._reader.has_been_at(cursor)

    def has_row(self, name: bytes, *, is_keys: bool) -> bool:
        """Whether there is a key, or a consumer, under this name of its row."""
        return self._reader.has_row(name, is_keys=is_keys)

    def find_key(self, bucket_number: int, digest: bytes) -> KeyPut | None:
        """The key itself, whatever has become of its bucket and its consumer."""
        return self._reader.find_key(bucket_number, digest)

    def endings_since(self, cursor: Cursor) -> tuple[Cursor, list[Ending]] | None:
        """Where the replica is, and what ended since it was at `cursor`; None where that is not known (any more)."""
        return self._reader.endings_since(cursor)

    def records(self) -> list[Change]:
        """Every record that can be reached, as puts in the order of a snapshot: a list, for tests and tools."""
        puts: list[Change] = [*self.buckets(), *self.plans()]
        position: PagePosition | None = PagePosition()
        while position is not None:
            page, position = self.page(position, 1000)
            puts += page
        return puts

    # -- writing: see ReplicaWriter -----------------------------------------------------------------------------------

    def apply(self, batch: Batch) -> Cursor:
        try:
            applied = self._writer.apply(batch)
        except ReplicaFull:
            if not self._make_room():
                raise
            applied = self._writer.apply(batch)
        if self.observer is not None:
            self.observer.applied(batch, applied.endings)
        return applied.cursor

    def load(
        self,
        deployment_id: str,
        pepper_check: str,
        cursor: Cursor,
        changes: Iterable[Change],
        *,
        replaces: Cursor | Unset | None = UNSET,
    ) -> None:
        try:
            self._writer.load(deployment_id, pepper_check, cursor, changes, replaces=replaces)
        except ReplicaFull:
            # For the next attempt.
            self._make_room()
            raise
        if self.observer is not None:
            self.observer.replaced()

    def sweep(self, limit: int = 1000) -> int:
        """As the writer does; returns how many records were removed."""
        swept = self._writer.sweep(limit)
        if swept.names and self.observer is not None:
            self.observer.swept(is_keys=swept.is_keys, names=swept.names)
        return len(swept.names)

    @property
    def has_garbage(self) -> bool:
        """Whether a sweep would find anything to look at."""
        return self._writer.has_garbage

    # -- the files ----------------------------------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        return self._files.path

    @property
    def is_open(self) -> bool:
        return self._files.is_open

    @property
    def is_marked_corrupt(self) -> bool:
        """Whether this or another process met broken pages: `reopen` is called for."""
        return self._files.is_marked_corrupt

    @property
    def needs_reopening(self) -> bool:
        return not self.is_open or self.is_marked_corrupt or self.is_replaced

    @property
    def is_replaced(self) -> bool:
        """Whether the files that are open here are no longer those in the directory."""
        return self._files.is_replaced

    def mark_corrupt(self) -> None:
        """Say that the files are broken, to every process that uses them. They go on being read until `reopen`."""
        self._files.mark_corrupt()

    @property
    def used_bytes(self) -> int:
        """How much of the file is in use or kept for reuse."""
        return self._files.used_bytes

    def reader_check(self) -> int:
        """Free the places of readers that died; they keep old pages from reuse. Returns how many there were."""
        return self._files.reader_check()

    def beat(self) -> None:
        """Say that this process still moves, in the middle of a write that takes long."""
        self._files.beat()

    def new_lock(self, name: str) -> HeartbeatLock:
        """A lock among all processes on this replica, as this one sees it."""
        return HeartbeatLock(self.path / name)

    @contextlib.contextmanager
    def following(self) -> Iterator[bool]:
        """Be the one process that writes what it has into this replica; yields False, at once, if another one is."""
        held = self.new_lock(FOLLOWING).try_acquire()
        try:
            yield held is not None
        finally:
            if held is not None:
                held.release()

    def _make_room(self) -> bool:
        """Whether there was a reserve to give up. What found no room is counted."""
        if self.disk is None:
            return False
        is_given = self.disk.give_up()
        if not is_given:
            self.disk.refused["replica"] += 1
        return is_given

    def _use(self, files: Files) -> None:
        self._files = files
        # A count that others were told must not fall.
        files.commits = self.commits
        # With each opening anew: other files count their transactions anew, and might come by an old view's number.
        self._reader = ReplicaReader(files, self._pepper_check, self._lag_seconds)
        self._reader.lease = self._lease
        self._writer = ReplicaWriter(files, self._pepper_check)
        # The reader's own methods: a call in between would cost each validation.
        self.find = self._reader.find
        self.find_bucket = self._reader.find_bucket
        self.check_fresh = self._reader.check_fresh
