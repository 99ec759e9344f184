"""Owns the replica: what an edge knows of buckets, consumers and keys, in one LMDB environment on its own disk.

Records and cursor move in one transaction, so a replica is at one revision or at another and never between; and only a
batch that follows that very cursor moves them, so it is never of two histories. Several
processes may share a replica: each opens it itself, after the fork; any may write, LMDB's writer lock puts them in a
row; each sees a commit of any other at its very next look-up. What a key is worth is judged elsewhere (validator.py),
where changes come from is known elsewhere (sync.py, feeds.py), how files are guarded and laid out too (store.py,
records.py).

A deleted consumer or bucket takes its keys with it at once, because they can't be reached without it; the bytes they
leave behind are *garbage*, which `sweep` takes away bit by bit.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, assert_never

import lmdb

from keywright.edge.replica import files as store
from keywright.edge.replica import records
from keywright.edge.replica.files import ReplicaBroken
from keywright.protocol.changes import (
    BucketDelete,
    BucketPut,
    ConsumerDelete,
    ConsumerPut,
    Cursor,
    Hidden,
    KeyDelete,
    KeyPut,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from keywright.domain.verdict import ConsumerRecord, KeyRecord
    from keywright.edge.replica.records import BucketRecord
    from keywright.protocol.changes import Batch, Change

    Guard = AbstractContextManager[object]

__all__ = ["Gap", "NotReady", "Observer", "Replica", "ReplicaBroken", "Stale", "WrongPepper"]

Lag = Callable[[], float]

_T = TypeVar("_T")

CACHED_RECORDS = 20_000
"""How many decoded records one process keeps in memory, at most 2 KiB each and mostly far smaller."""


def _unknown_lag() -> float:
    return math.inf


class Gap(Exception):
    """A batch follows a cursor that this replica has not been at: changes are missing, or are of another past."""


class NotReady(Exception):
    """The replica holds no snapshot of the deployment that this process's pepper belongs to."""


class WrongPepper(Exception):
    """The snapshot's digests were made under another pepper: this process could recognise none of its keys."""


class Observer(Protocol):
    """Somebody who is told, on the writer's thread, what this process has committed to the replica."""

    def applied(self, batch: Batch) -> None: ...
    def replaced(self) -> None: ...
    def swept(self, *, is_keys: bool, names: list[bytes]) -> None: ...


class Stale(Exception):
    """The replica has been out of step for longer than the bucket's owner allows."""


class Replica:
    """Reads from any thread; writes from any thread, each transaction on one.

    Nobody may be reading when the files are closed. Where readers are on other threads than whoever closes, they hold
    `guard` while they read.

    `lag_seconds` tells how long it may have been out of step; without it that is not known, and so endless.
    """

    observer: Observer | None = None

    def __init__(
        self, files: store.Files, pepper_check: str, *, lag_seconds: Lag = _unknown_lag, guard: Guard | None = None
    ) -> None:
        """Use `Replica.open`, `Replica.open_or_replace` or `Replica.open_to_read`."""
        self._files = files
        self._pepper_check = pepper_check
        self._lag_seconds = lag_seconds
        self._guard = guard or contextlib.nullcontext()
        self._view = _View(-1, is_ready=False)
        self._audit_place = (0, b"")
        """Which database, and the name to begin with."""

    @classmethod
    def open(
        cls, path: Path, pepper_check: str, *, map_size: int = store.MAP_SIZE, lag_seconds: Lag = _unknown_lag
    ) -> Replica:
        """Open what is in the directory, or make it. Raises ReplicaBroken when that can't be trusted."""
        return cls(store.Files.open(path, map_size, _probe), pepper_check, lag_seconds=lag_seconds)

    @classmethod
    def open_or_replace(
        cls,
        path: Path,
        pepper_check: str,
        *,
        map_size: int = store.MAP_SIZE,
        lag_seconds: Lag = _unknown_lag,
        guard: Guard | None = None,
    ) -> Replica:
        """Open the replica; an empty one takes the place of a broken one, unless another process still uses that."""
        files = store.Files.open(path, map_size, _probe, replace=True)
        return cls(files, pepper_check, lag_seconds=lag_seconds, guard=guard)

    @classmethod
    def open_to_read(
        cls, path: Path, pepper_check: str, *, lag_seconds: Lag = _unknown_lag, guard: Guard | None = None
    ) -> Replica:
        """Open a replica that another process keeps, to read it. Raises ReplicaBroken, OSError when there is none."""
        return cls(store.Files.open_to_read(path, _probe), pepper_check, lag_seconds=lag_seconds, guard=guard)

    def close(self) -> None:
        with self._guard:
            self._files.close()

    def reopen(self) -> None:
        """Close, and open or replace again: the cure when the files turned out to be broken while in use.

        Raises ReplicaBroken while other processes still use the broken files.
        """
        self.close()
        # Before the files: the new ones count their transactions anew, and might come by the old view's number.
        self._view = _View(-1, is_ready=False)
        self._audit_place = (0, b"")
        self._files = store.Files.open(self._files.path, self._files.map_size, _probe, replace=True)

    # -- reading ------------------------------------------------------------------------------------------------------

    def find(self, bucket: str, digest: bytes) -> tuple[KeyRecord | None, ConsumerRecord | None] | None:
        """The key with this digest and its consumer, each None when there is none; None when there is no such bucket.

        Raises NotReady without a snapshot, Stale when the bucket's owner would rather have no answer, lmdb.Error or
        ValueError when the files can't be read.
        """
        files = self._files
        try:
            tx = files.begin(files.keys)
        except lmdb.MapResizedError:
            files.refresh_map_size()
            tx = files.begin(files.keys)
        except lmdb.BadRslotError:
            # A child that was forked from this process has ended, and gave up this process's place among the readers
            # as if it were its own. LMDB has noticed, and takes another.
            tx = files.begin(files.keys)
        # Decoded records are kept as long as no transaction commits, in this process or another: what is found under
        # the id of this very transaction is what the transaction itself would find.
        view = self._view
        if view.tx_id != tx.id():
            view = self._new_view(tx)
        prefix = view.prefixes.get(bucket)
        if prefix is None:
            record = self._find_bucket(tx, view, bucket)
            if record is None:
                return None
            prefix = record.prefix
            self.check_fresh(record)
        name = prefix + digest
        found = view.found.get(name)
        if found is not None:
            return found
        value = tx.get(name)
        if value is None:
            return _NOTHING
        key = records.decode_key(records.checked(name, value))
        number = value[:8]
        owner = tx.get(number, None, files.consumers)
        consumer = None
        if owner is not None and owner[:4] == prefix:
            consumer = records.decode_consumer(records.checked(number, owner))
        found = (key, consumer)
        view.misses += 1
        # One in four is kept: keys in use get there soon, and a stream of keys that are seen once costs little.
        if not view.misses & 3:
            if len(view.found) >= CACHED_RECORDS:
                view.found.clear()
            view.found[name] = found
        return found

    def find_bucket(self, name: str) -> BucketRecord | None:
        """The bucket of this name. Raises as `find` does."""
        with self._files.read() as tx:
            view = self._view
            if view.tx_id != tx.id():
                view = self._new_view(tx)
            return self._find_bucket(tx, view, name)

    def check_fresh(self, bucket: BucketRecord | BucketPut) -> None:
        """Raise Stale when the replica has been out of step for longer than the bucket allows."""
        limit = bucket.refuse_after
        if limit is not None and self._lag_seconds() > limit:
            raise Stale(f"out of step for more than {limit} s")

    @property
    def revision(self) -> int | None:
        """The revision that the replica is at; None before its first snapshot (or if that is of another pepper)."""
        cursor = self.cursor
        return None if cursor is None else cursor.revision

    @property
    def cursor(self) -> Cursor | None:
        """Where the replica is; None as for `revision`. An older version left no stamp: nothing leads on from there."""
        with self._files.read() as tx:
            return self._cursor(tx)

    def find_cursor(self) -> Cursor | None:
        """The cursor for who only tells of it: None, too, when the replica can't be read."""
        try:
            return self.cursor
        except (lmdb.Error, ReplicaBroken):
            return None

    @property
    def deployment_id(self) -> str | None:
        with self._files.read() as tx:
            value = tx.get(b"deployment", db=self._files.meta)
            return None if value is None else value.decode()

    @property
    def path(self) -> Path:
        return self._files.path

    @property
    def pepper_check(self) -> str:
        return self._pepper_check

    @property
    def is_open(self) -> bool:
        return self._files.is_open

    @property
    def is_marked_corrupt(self) -> bool:
        """Whether this or another process met broken pages: `reopen` is called for."""
        return self._files.is_marked_corrupt

    @property
    def is_replaced(self) -> bool:
        """Whether the files that are open here are no longer those in the directory."""
        return self._files.is_replaced

    def mark_corrupt(self) -> None:
        """Say that the files are broken, to every process that uses them. They go on being read until `reopen`."""
        self._files.mark_corrupt()

    def records(self) -> list[Change]:
        """Every record that can be reached, as puts in the order of a snapshot: a list, for tests and tools."""
        puts: list[Change] = [*self.buckets()]
        place: tuple[bool, bytes] | None = (False, b"")
        while place is not None:
            page, place = self.page(place, 1000)
            puts += page
        return puts

    def buckets(self) -> list[BucketPut]:
        """Every bucket, in order of number."""
        with self._files.read() as tx:
            rows = [_bucket(name, kept) for name, kept in tx.cursor(self._files.buckets)]
        return [records.bucket_put(row) for row in sorted(rows, key=lambda row: row.number)]

    def page(self, place: tuple[bool, bytes], limit: int) -> tuple[list[Change], tuple[bool, bytes] | None]:
        """Up to `limit` consumers, then keys, from a place on, and the place to go on from.

        A place is (whether it is among the keys, the name there); (False, b"") is the beginning. Each page is read at
        a moment of its own: what changes between two of them is among the changes since the first.
        """
        files = self._files
        is_keys, start = place
        db, decode = (files.keys, records.key_put) if is_keys else (files.consumers, records.consumer_put)
        with files.read() as tx:
            rows = self._rows_from(tx, db, start, limit)
            puts: list[Change] = [
                decode(name, records.checked(name, kept))
                for name, kept in rows[:limit]
                if not self._is_garbage(tx, db, name, kept)
            ]
        if len(rows) > limit:
            return puts, (is_keys, rows[limit][0])
        return puts, None if is_keys else (True, b"")

    def audit(self, limit: int) -> bool:
        """Look at up to `limit` records for damage, going on where the last look stopped; whether all were looked at.

        `find` sees damage in what it finds; but a record whose own name is damaged is not found, and to say UNKNOWN of
        its key would be wrong. Raises ReplicaBroken.
        """
        files = self._files
        if self._audit_place == (0, b""):
            files.walk()
        databases = (files.bucket_names, files.buckets, files.consumers, files.keys)
        number, start = self._audit_place
        if number == len(databases):
            return True
        db, count, last = databases[number], 0, b""
        with files.read() as tx, tx.cursor(db) as cursor:
            if cursor.set_range(start):
                for name, kept in cursor:
                    if count == limit:
                        self._audit_place = (number, name)
                        return False
                    records.checked(name, kept)
                    # In its place, and found from above: so are the pages between.
                    if name <= last or tx.get(name, db=db) != kept:
                        raise ReplicaBroken("a record is not in its place")
                    count, last = count + 1, name
        self._audit_place = (number + 1, b"")
        return False

    @property
    def used_bytes(self) -> int:
        """How much of the file is in use or kept for reuse."""
        return self._files.used_bytes

    def reader_check(self) -> int:
        """Free the places of readers that died; they keep old pages from reuse. Returns how many there were."""
        return self._files.reader_check()

    # -- writing ------------------------------------------------------------------------------------------------------

    def apply(self, batch: Batch) -> Cursor:
        """Apply a batch that follows this replica's cursor, in one transaction; returns the cursor it has afterwards.

        A batch that follows an earlier revision is a repeat, or another process was faster: it is ignored, and what to
        ask for next is seen from the cursor. Raises Gap when changes before the batch are missing.
        """
        cursor = self._write(lambda tx: self._apply(tx, batch))
        if self.observer is not None:
            self.observer.applied(batch)
        return cursor

    def load(self, deployment_id: str, pepper_check: str, cursor: Cursor, changes: Iterable[Change]) -> None:
        """Replace everything by a snapshot, in one transaction: until it is whole, all readers keep what was there.

        Fastest with consumers in order of number and keys in order of bucket number and digest. `changes` may block,
        and may raise: then nothing has happened. Raises WrongPepper for a snapshot that this process couldn't use.
        """
        if pepper_check != self._pepper_check:
            raise WrongPepper("the snapshot was made under another pepper than this process has")
        files = self._files
        # No second attempt here: `changes` can be read once only.
        with files.write() as tx:
            for db in (files.buckets, files.bucket_names, files.consumers, files.keys):
                tx.drop(db, delete=False)
            tx.delete(b"sweep", db=files.meta)
            for change in changes:
                self._change(tx, change, append=True)
            tx.put(b"deployment", deployment_id.encode(), db=files.meta)
            tx.put(b"pepper", pepper_check.encode(), db=files.meta)
            self._move(tx, cursor)
        if self.observer is not None:
            self.observer.replaced()

    def sweep(self, limit: int = 1000) -> int:
        """Look at up to `limit` records for garbage and remove it, going on where the last sweep stopped.

        Nothing is looked at, or written, when no consumer or bucket was deleted since the last sweep of everything.
        Returns how many records were removed.
        """
        with self._files.read() as tx:
            if tx.get(b"sweep", db=self._files.meta) is None:
                return 0
        is_keys, names = self._write(lambda tx: self._sweep(tx, limit))
        if names and self.observer is not None:
            self.observer.swept(is_keys=is_keys, names=names)
        return len(names)

    @contextlib.contextmanager
    def loading(self) -> Iterator[bool]:
        """Ask to be the one process that loads a snapshot; yields False, at once, when another one is."""
        with self._files.try_lock("loading.lock") as is_ours:
            yield is_ours

    @contextlib.contextmanager
    def following(self) -> Iterator[bool]:
        """Ask to be the one process that follows the record into this replica; yields False, at once, if one does."""
        with self._files.try_lock("following.lock") as is_ours:
            yield is_ours

    @contextlib.contextmanager
    def auditing(self) -> Iterator[bool]:
        """Ask to be the one process that looks for damage; yields False, at once, when another one does."""
        with self._files.try_lock("audit.lock") as is_ours:
            yield is_ours

    # -- private ------------------------------------------------------------------------------------------------------

    def _new_view(self, tx: Any) -> _View:
        view = self._view = _View(tx.id(), is_ready=self._cursor(tx) is not None)
        return view

    def _cursor(self, tx: Any) -> Cursor | None:
        meta = self._files.meta
        revision = tx.get(b"revision", db=meta)
        if revision is None or tx.get(b"pepper", db=meta) != self._pepper_check.encode():
            return None
        return Cursor(records.unpack_number(revision), *records.decode_stamp(tx.get(b"stamp", b"", db=meta)))

    def _move(self, tx: Any, cursor: Cursor) -> None:
        tx.put(b"revision", records.pack_number(cursor.revision), db=self._files.meta)
        tx.put(b"stamp", records.encode_stamp(cursor), db=self._files.meta)

    def _find_bucket(self, tx: Any, view: _View, name: str) -> BucketRecord | None:
        if not view.is_ready:
            raise NotReady("no snapshot yet")
        record = view.buckets.get(name)
        if record is None:
            # Other names than ASCII ones (lone surrogates among them) are no bucket's, and LMDB limits their length.
            value = tx.get(name.encode(), db=self._files.buckets) if name.isascii() and 0 < len(name) <= 255 else None
            if value is None:
                return None
            record = view.buckets[name] = _bucket(name.encode(), value)
            # The short way is for buckets that nothing else has to be asked of.
            if record.refuse_after is None:
                view.prefixes[name] = record.prefix
        return record

    def _write(self, change: Callable[[Any], _T]) -> _T:
        while True:
            try:
                with self._files.write() as tx:
                    return change(tx)
            except lmdb.MapFullError:
                continue  # The map has been doubled.

    def _apply(self, tx: Any, batch: Batch) -> Cursor:
        cursor = self._cursor(tx)
        if cursor is None or (cursor != batch.follows and cursor.revision <= batch.follows.revision):
            raise Gap(f"a batch follows {batch.follows}, the replica is at {cursor}")
        if cursor != batch.follows:
            return cursor
        for change in batch.changes:
            self._change(tx, change)
        self._move(tx, batch.cursor)
        return batch.cursor

    def _change(self, tx: Any, change: Change, *, append: bool = False) -> None:
        files = self._files
        match change:
            case KeyPut():
                name = records.pack_bucket_number(change.bucket_number) + change.digest
                self._put(tx, files.keys, name, records.with_check(name, records.encode_key(change)), append)
            case KeyDelete():
                tx.delete(records.pack_bucket_number(change.bucket_number) + change.digest, db=files.keys)
            case ConsumerPut():
                name = records.pack_number(change.number)
                self._put(tx, files.consumers, name, records.with_check(name, records.encode_consumer(change)), append)
            case ConsumerDelete():
                if tx.delete(records.pack_number(change.number), db=files.consumers):
                    self._ask_for_sweep(tx)
            case BucketPut():
                self._delete_bucket_name(tx, change.number)
                name, number = change.name.encode(), records.pack_bucket_number(change.number)
                tx.put(name, records.with_check(name, records.encode_bucket(change)), db=files.buckets)
                tx.put(number, records.with_check(number, name), db=files.bucket_names)
            case BucketDelete():
                self._delete_bucket_name(tx, change.number)
                if tx.delete(records.pack_bucket_number(change.number), db=files.bucket_names):
                    self._ask_for_sweep(tx)
            case Hidden():
                pass
            case _:
                assert_never(change)

    def _put(self, tx: Any, db: Any, name: bytes, value: bytes, append: bool) -> None:
        if not (append and tx.put(name, value, db=db, append=True)):
            tx.put(name, value, db=db)

    def _delete_bucket_name(self, tx: Any, number: int) -> None:
        """Free the name of a bucket, unless a newer bucket has taken it already."""
        packed = records.pack_bucket_number(number)
        kept = tx.get(packed, db=self._files.bucket_names)
        if kept is None:
            return
        name = records.checked(packed, kept)
        value = tx.get(name, db=self._files.buckets)
        if value is not None and _bucket(name, value).number == number:
            tx.delete(name, db=self._files.buckets)

    def _rows_from(self, tx: Any, db: Any, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Up to `limit` rows, and the one after them, which tells where to go on."""
        with tx.cursor(db) as cursor:
            return list(itertools.islice(cursor, limit + 1)) if cursor.set_range(start) else []

    def _is_garbage(self, tx: Any, db: Any, name: bytes, value: bytes) -> bool:
        files = self._files
        bucket = (name if db is files.keys else value)[: records.BUCKET_NUMBER_BYTES]
        if tx.get(bucket, db=files.bucket_names) is None:
            return True
        if db is files.consumers:
            return False
        consumer = tx.get(value[:8], db=files.consumers)
        return consumer is None or consumer[: records.BUCKET_NUMBER_BYTES] != bucket

    def _ask_for_sweep(self, tx: Any) -> None:
        """Note that there is garbage: behind a sweep that is under way, too, which therefore goes round once more."""
        place = tx.get(b"sweep", db=self._files.meta)
        tx.put(b"sweep", b"kn" if place is None else place[:1] + b"a" + place[2:], db=self._files.meta)

    def _sweep(self, tx: Any, limit: int) -> tuple[bool, list[bytes]]:
        """Returns whether it was at the keys, and the names that it removed.

        The place in `meta` is: which records (k, c), whether to go round again (a, n), the name to begin with."""
        files = self._files
        place = tx.get(b"sweep", db=files.meta)
        if place is None:
            return False, []
        is_keys, rest, start = place[:1] == b"k", place[1:2], place[2:]
        db = files.keys if is_keys else files.consumers
        rows = self._rows_from(tx, db, start, limit)
        garbage = [name for name, value in rows[:limit] if self._is_garbage(tx, db, name, value)]
        for name in garbage:
            tx.delete(name, db=db)
        if len(rows) > limit:
            tx.put(b"sweep", place[:2] + rows[limit][0], db=files.meta)
        elif is_keys:
            tx.put(b"sweep", b"c" + rest, db=files.meta)
        elif rest == b"a":
            tx.put(b"sweep", b"kn", db=files.meta)
        else:
            tx.delete(b"sweep", db=files.meta)
        return is_keys, garbage


class _View:
    """What one process has decoded of the state that one transaction id stands for. Never changed to another id.

    Two threads may hold different views for a moment; each writes only what it read under its own view's id.
    """

    __slots__ = ("buckets", "found", "is_ready", "misses", "prefixes", "tx_id")

    def __init__(self, tx_id: int, *, is_ready: bool) -> None:
        self.tx_id = tx_id
        self.is_ready = is_ready
        self.misses = 0
        self.buckets: dict[str, BucketRecord] = {}
        self.prefixes: dict[str, bytes] = {}
        self.found: dict[bytes, tuple[KeyRecord, ConsumerRecord | None]] = {}


_NOTHING = (None, None)


def _bucket(name: bytes, kept: bytes) -> BucketRecord:
    return records.decode_bucket(name.decode(), records.checked(name, kept))


def _probe(files: store.Files) -> None:
    """Read the first and the last record of each kind; raises one of store.BROKEN if they are none."""
    with files.begin(files.meta) as tx:
        revision = tx.get(b"revision")
        if revision is not None and len(revision) != 8:
            raise ValueError("a revision of another length")
        records.decode_stamp(tx.get(b"stamp", b""))
        for name, kept in tx.cursor(files.buckets):
            _bucket(name, kept)
        for db, decode in ((files.consumers, records.consumer_put), (files.keys, records.key_put)):
            with tx.cursor(db) as cursor:
                for move in (cursor.first, cursor.last):
                    if move():
                        name, kept = cursor.item()
                        decode(name, records.checked(name, kept))
