"""Owns reading a replica: look-ups of buckets and keys, the cursor, and pages of everything that can be reached.

Decoded records are cached for as long as no transaction commits, in this process or another. What a key is worth is
judged elsewhere (validator.py); how files are opened and records laid out, too (files.py, records.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import lmdb

from keywright.domain.powers import FEATURES, UnknownPower, inheriting
from keywright.edge.replica import endings, records
from keywright.edge.replica.files import ReplicaBroken
from keywright.edge.replica.in_use import LOOK_SECONDS
from keywright.edge.replica.rows import check_features, find_consumer, find_key_put, is_garbage, read_cursor
from keywright.protocol.changes import Cursor
from keywright.runtime.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from keywright.domain.powers import Powers
    from keywright.domain.verdict import ConsumerRecord, KeyRecord
    from keywright.edge.replica.endings import Ending
    from keywright.edge.replica.files import Files
    from keywright.edge.replica.lease import Lease
    from keywright.edge.replica.records import BucketRecord
    from keywright.protocol.changes import BucketPut, Change, KeyPut, PlanPut

CACHED_RECORDS = 20_000
"""How many decoded records one process keeps in memory, at most 2 KiB each and mostly far smaller."""
Found = tuple["KeyRecord | None", "ConsumerRecord | None"]
_NOTHING: Found = (None, None)


class NotReady(Exception):
    """The replica holds no snapshot of the deployment that this process's pepper belongs to."""


class Stale(Exception):
    """The replica has been out of step for longer than the bucket's owner, or whoever runs the edge, allows."""


_LEASE_IS_OVER = "out of step, or unheard, for as long as this edge promised to answer"


@dataclass(frozen=True, slots=True)
class PagePosition:
    """Where a page begins: in which of the databases that are gone through, in their order; and a record's name there.

    Consumers come first, then keys; of each, those without powers before those with.
    """

    database: int = 0
    name: bytes = b""


class ReplicaReader:
    """Look-ups in the open files, from any thread.

    `lag_seconds` tells how long the replica may have been out of step.
    """

    def __init__(self, files: Files, pepper_check: str, lag_seconds: Callable[[], float]) -> None:
        self._files = files
        self._pepper_check = pepper_check
        self._lag_seconds = lag_seconds
        self.lease: Lease | None = None
        """Until when anything may be answered."""
        self._view = _View(-1, is_ready=False)
        self._elapsed = Clock().elapsed
        self._looked_at = -math.inf

    def find(self, bucket: str, digest: bytes) -> tuple[KeyRecord | None, ConsumerRecord | None] | None:
        """The key with this digest and its consumer, each None when there is none; None when there is no such bucket.

        Raises NotReady without a snapshot or when the files were replaced, Stale when the bucket's owner would rather
        have no answer, lmdb.Error or ValueError when the files can't be read.
        """
        if self._elapsed() - self._looked_at >= LOOK_SECONDS:
            self._look()
        if self.lease is not None and self.lease.is_over():
            raise Stale(_LEASE_IS_OVER)
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
        record = view.buckets[bucket]
        found = (
            self._find_with_powers(tx, record, name, value)
            if record.has_powers
            else self._find_plain(tx, prefix, name, value)
        )
        if found is None:
            return _NOTHING
        view.misses += 1
        # One in four is kept: keys in use get there soon, and a stream of keys that are seen once costs little.
        if not view.misses & 3:
            if len(view.found) >= CACHED_RECORDS:
                view.found.clear()
            view.found[name] = found
        return found

    def _find_plain(self, tx: Any, prefix: bytes, name: bytes, value: bytes | None) -> Found | None:
        if value is None:
            return None
        key = records.decode_key(records.checked(name, value))
        number = value[:8]
        owner = tx.get(number, None, self._files.consumers)
        if owner is None or owner[:4] != prefix:
            return key, None
        return key, records.decode_consumer(records.checked(number, owner))

    def _find_with_powers(self, tx: Any, bucket: BucketRecord, name: bytes, value: bytes | None) -> Found | None:
        """As `find`, in a bucket whose keys may have powers, or inherit some. `value` is the key without any."""
        files = self._files
        if value is not None:
            key = records.decode_key(records.checked(name, value))
        else:
            value = tx.get(name, None, files.keys3)
            if value is None:
                return None
            key = records.decode_key3(records.checked(name, value))
        number, consumer = value[:8], None
        owner, has_powers = find_consumer(files, tx, number)
        if owner is not None and owner[:4] == bucket.prefix:
            decode = records.decode_consumer3 if has_powers else records.decode_consumer
            consumer = decode(records.checked(number, owner))
        if consumer is not None:
            own = consumer.powers
            plan = None if own is None or own.plan is None else self._find_plan(tx, bucket, own.plan)
            if plan is not None or bucket.default_scopes is not None:
                consumer = consumer._replace(powers=inheriting(own, plan, bucket.default_scopes))
        return key, consumer

    def _find_plan(self, tx: Any, bucket: BucketRecord, number: int) -> Powers:
        name = records.plan_name(bucket.number, number)
        kept = None if self._files.plans3 is None else tx.get(name, None, self._files.plans3)
        if kept is None:
            raise UnknownPower(f"a plan that is not here: {number}")
        return records.decode_plan(records.checked(name, kept))

    def find_bucket(self, name: str) -> BucketRecord | None:
        """The bucket of this name. Raises as `find` does."""
        if self._elapsed() - self._looked_at >= LOOK_SECONDS:
            self._look()
        with self._files.read() as tx:
            view = self._view
            if view.tx_id != tx.id():
                view = self._new_view(tx)
            return self._find_bucket(tx, view, name)

    def check_fresh(self, bucket: BucketRecord | BucketPut) -> None:
        """Raise Stale when the replica has been out of step for longer than the bucket, or the edge's lease, allows."""
        if self.lease is not None and self.lease.is_over():
            raise Stale(_LEASE_IS_OVER)
        limit = bucket.refuse_after
        if limit is not None and self._lag_seconds() > limit:
            raise Stale(f"out of step for more than {limit} s")

    @property
    def cursor(self) -> Cursor | None:
        """How far the replica is: None before its first snapshot, or if that is of another pepper.

        An older version left no stamp: nothing leads on from there.
        """
        with self._files.read() as tx:
            return read_cursor(self._files, tx, self._pepper_check)

    def find_cursor(self) -> Cursor | None:
        """The cursor for who only tells of it: None, too, when the replica can't be read."""
        try:
            self._look()
            return self.cursor
        except (lmdb.Error, ReplicaBroken, NotReady):
            return None

    @property
    def pepper_check(self) -> str | None:
        """Of the snapshot that is here, whether it is of this process's pepper or not."""
        with self._files.read() as tx:
            value = tx.get(b"pepper", db=self._files.meta)
            return None if value is None else value.decode()

    @property
    def deployment_id(self) -> str | None:
        with self._files.read() as tx:
            value = tx.get(b"deployment", db=self._files.meta)
            return None if value is None else value.decode()

    def buckets(self) -> list[BucketPut]:
        """Every bucket, in order of number."""
        with self._files.read() as tx:
            rows = [self._read_bucket(tx, name, kept) for name, kept in tx.cursor(self._files.buckets)]
        return [records.bucket_put(row) for row in sorted(rows, key=lambda row: row.number)]

    def plans(self) -> list[PlanPut]:
        """Every plan, in order of its bucket's number and its own."""
        files = self._files
        if files.plans3 is None:
            return []
        with files.read() as tx:
            return [records.plan_put(name, records.checked(name, kept)) for name, kept in tx.cursor(files.plans3)]

    def page(self, position: PagePosition, limit: int) -> tuple[list[Change], PagePosition | None]:
        """Up to `limit` consumers, then keys, from a position on, and the position to go on from.

        `PagePosition()` is the beginning. Each page is read at a moment of its own: what changes between two of them is
        among the changes since the first.
        """
        files = self._files
        parts: tuple[tuple[Any, Callable[[bytes, bytes], Change]], ...] = (
            (files.consumers, records.consumer_put), (files.consumers3, records.consumer_put3),
            (files.keys, records.key_put), (files.keys3, records.key_put3),
        )  # fmt: skip
        if not files.has_powers:
            parts = (parts[0], parts[2])
        db, decode = parts[position.database]
        with files.read() as tx:
            rows = files.rows_from(tx, db, position.name, limit)
            puts: list[Change] = [
                decode(name, records.checked(name, kept))
                for name, kept in rows[:limit]
                if not is_garbage(files, tx, db, name, kept)
            ]
        if len(rows) > limit:
            return puts, PagePosition(position.database, rows[limit][0])
        following = position.database + 1
        return puts, PagePosition(following) if following < len(parts) else None

    def has_row(self, name: bytes, *, is_keys: bool) -> bool:
        files = self._files
        with files.read() as tx:
            if is_keys:
                return tx.get(name, db=files.keys) is not None or (
                    files.has_powers and tx.get(name, db=files.keys3) is not None
                )
            return find_consumer(files, tx, name)[0] is not None

    def find_key(self, bucket_number: int, digest: bytes) -> KeyPut | None:
        name = records.pack_bucket_number(bucket_number) + digest
        with self._files.read() as tx:
            return find_key_put(self._files, tx, name)

    @property
    def count(self) -> int:
        files = self._files
        counted = (files.keys, files.consumers, files.keys3, files.consumers3)
        with files.read() as tx:
            return sum(int(tx.stat(db)["entries"]) for db in counted if db is not None)

    def has_been_at(self, cursor: Cursor) -> bool:
        with self._files.read() as tx:
            return endings.has_been_at(self._files, tx, cursor)

    def endings_since(self, cursor: Cursor) -> tuple[Cursor, list[Ending]] | None:
        with self._files.read() as tx:
            now = read_cursor(self._files, tx, self._pepper_check)
            if now is None or now == cursor:
                return None if now is None else (now, [])
            found = endings.since(self._files, tx, cursor)
            return None if found is None else (now, found)

    def _look(self) -> None:
        """Raise NotReady when other files have taken the place of these, as they may have while this process was
        stopped: those who have moved on don't write here any more.
        """
        if self._files.is_replaced:
            raise NotReady("the files were replaced")
        self._looked_at = self._elapsed()

    def _new_view(self, tx: Any) -> _View:
        check_features(self._files, tx)
        is_ready = read_cursor(self._files, tx, self._pepper_check) is not None
        view = self._view = _View(tx.id(), is_ready=is_ready)
        return view

    def _find_bucket(self, tx: Any, view: _View, name: str) -> BucketRecord | None:
        if not view.is_ready:
            raise NotReady("no snapshot yet")
        record = view.buckets.get(name)
        if record is None:
            # Other names than ASCII ones (lone surrogates among them) are no bucket's, and LMDB limits their length.
            value = tx.get(name.encode(), db=self._files.buckets) if name.isascii() and 0 < len(name) <= 255 else None
            if value is None:
                return None
            record = self._read_bucket(tx, name.encode(), value)
            if not record.features <= FEATURES:
                raise UnknownPower(f"a bucket with powers that this version can't judge: {name}")
            view.buckets[name] = record
            # The short way is for buckets whose owner leaves it open how old an answer may be.
            if record.refuse_after is None:
                view.prefixes[name] = record.prefix
        return record

    def _read_bucket(self, tx: Any, name: bytes, kept: bytes) -> BucketRecord:
        record = records.read_bucket(name, kept)
        number = record.prefix
        beside = tx.get(number, None, self._files.buckets3) if self._files.has_powers else None
        return record if beside is None else records.with_bucket3(record, records.checked(number, beside))


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
        self.found: dict[bytes, Found] = {}
