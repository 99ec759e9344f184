"""Owns writing a replica: batches of changes, whole snapshots, and sweeping out what can't be reached any more.

Records and cursor move in one transaction, so a replica is at one revision or at another and never between; and only a
batch that follows that very cursor moves them, so it is never of two histories.

A deleted consumer or bucket takes its keys with it at once, because they can't be reached without it; the bytes they
leave behind are *garbage*, which `sweep` takes away bit by bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, assert_never

import lmdb

from keywright.domain.unset import UNSET, Unset
from keywright.edge.replica import endings, records
from keywright.edge.replica.endings import Endings
from keywright.edge.replica.files import FORMAT, FORMAT_WITH_POWERS
from keywright.edge.replica.rows import is_garbage, read_cursor
from keywright.protocol.changes import (
    BucketDelete,
    BucketPut,
    ConsumerDelete,
    ConsumerPut,
    Hidden,
    KeyDelete,
    KeyPut,
    PlanDelete,
    PlanPut,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from keywright.edge.replica.endings import Ending
    from keywright.edge.replica.files import Files
    from keywright.protocol.changes import Batch, Change, Cursor

_T = TypeVar("_T")
BEAT_CHANGES = 1000
"""After so many changes of a snapshot others are told that this process still moves."""


class Gap(Exception):
    """A batch follows a cursor that this replica has not been at: changes are missing, or are of another past."""


class Overtaken(Exception):
    """Another process has moved the replica since the snapshot was asked for, which may be older than that."""


class WrongPepper(Exception):
    """The snapshot's digests were made under another pepper: this process could recognise none of its keys."""


@dataclass(frozen=True, slots=True)
class Swept:
    """The names of the rows that one sweep removed, all of them of keys or all of consumers."""

    is_keys: bool
    names: list[bytes]


class Applied(NamedTuple):
    """Where the replica is after a batch, and what that has ended: nothing if it had been applied before."""

    cursor: Cursor
    endings: Sequence[Ending]


class ReplicaWriter:
    """Writes the open files, from any thread, each transaction on one. LMDB's writer lock puts all writers in a row."""

    def __init__(self, files: Files, pepper_check: str) -> None:
        self._files = files
        self._pepper_check = pepper_check

    def apply(self, batch: Batch) -> Applied:
        """Apply a batch that follows this replica's cursor, in one transaction; returns where that has led.

        A batch that follows an earlier revision is a repeat, or another process was faster: it is ignored, and what to
        ask for next is seen from the cursor. Raises Gap when changes before the batch are missing.
        """
        return self._write(lambda tx: self._apply(tx, batch))

    def load(
        self,
        deployment_id: str,
        pepper_check: str,
        cursor: Cursor,
        changes: Iterable[Change],
        *,
        replaces: Cursor | Unset | None = UNSET,
    ) -> None:
        """Replace everything by a snapshot, in one transaction: until it is whole, all readers keep what was there.

        Fastest with consumers in order of number and keys in order of bucket number and digest. `changes` may block,
        and may raise: then nothing has happened. Raises WrongPepper for a snapshot that this process couldn't use, and
        Overtaken when the replica isn't at the cursor `replaces` (None: nowhere) any more, if that is told.
        """
        if pepper_check != self._pepper_check:
            raise WrongPepper("the snapshot was made under another pepper than this process has")
        files = self._files
        # No second attempt here: `changes` can be read once only.
        with files.write() as tx:
            if not isinstance(replaces, Unset):
                found = read_cursor(files, tx, self._pepper_check)
                if found != replaces:
                    raise Overtaken(f"the replica went from {replaces} to {found} meanwhile")
            for db in files.records:
                tx.drop(db, delete=False)
            tx.put(b"format", FORMAT, db=files.meta)
            tx.delete(b"sweep", db=files.meta)
            for number, change in enumerate(changes):
                self._change(tx, change, append=True)
                if not number % BEAT_CHANGES:
                    files.beat()
            tx.put(b"deployment", deployment_id.encode(), db=files.meta)
            tx.put(b"pepper", pepper_check.encode(), db=files.meta)
            self._move(tx, cursor)
            endings.begin(files, tx, cursor)

    def sweep(self, limit: int) -> Swept:
        """Look at up to `limit` records for garbage and remove it, going on where the last sweep stopped.

        Nothing is looked at, or written, when no consumer or bucket was deleted since the last sweep of everything.
        """
        if not self.has_garbage:
            return Swept(is_keys=False, names=[])
        return self._write(lambda tx: self._sweep(tx, limit))

    @property
    def has_garbage(self) -> bool:
        """Whether a consumer or bucket was deleted since the last sweep of everything."""
        with self._files.read() as tx:
            return tx.get(b"sweep", db=self._files.meta) is not None

    def _write(self, change: Callable[[Any], _T]) -> _T:
        while True:
            try:
                with self._files.write() as tx:
                    return change(tx)
            except lmdb.MapFullError:
                continue  # The map has been doubled.

    def _apply(self, tx: Any, batch: Batch) -> Applied:
        cursor = read_cursor(self._files, tx, self._pepper_check)
        if cursor is None or (cursor != batch.follows and cursor.revision <= batch.follows.revision):
            raise Gap(f"a batch follows {batch.follows}, the replica is at {cursor}")
        if cursor != batch.follows:
            return Applied(cursor, ())
        ended = Endings(self._files, tx)
        for change in batch.changes:
            ended.look_at(change)
            self._change(tx, change)
        self._move(tx, batch.cursor)
        endings.note(self._files, tx, batch.follows, batch.cursor, ended.found)
        return Applied(batch.cursor, ended.found)

    def _move(self, tx: Any, cursor: Cursor) -> None:
        tx.put(b"revision", records.pack_number(cursor.revision), db=self._files.meta)
        tx.put(b"stamp", records.encode_stamp(cursor), db=self._files.meta)

    def _change(self, tx: Any, change: Change, *, append: bool = False) -> None:  # noqa: PLR0912
        files = self._files
        match change:
            case KeyPut():
                self._put_key(tx, change, append)
            case KeyDelete():
                name = records.pack_bucket_number(change.bucket_number) + change.digest
                for db in (files.keys, files.keys3):
                    tx.delete(name, db=db)
            case ConsumerPut():
                self._put_consumer(tx, change, append)
            case ConsumerDelete():
                number = records.pack_number(change.number)
                # It is in one of them.
                if tx.delete(number, db=files.consumers) or tx.delete(number, db=files.consumers3):
                    self._ask_for_sweep(tx)
            case BucketPut():
                self._put_bucket(tx, change)
            case BucketDelete():
                self._delete_bucket_name(tx, change.number)
                number = records.pack_bucket_number(change.number)
                tx.delete(number, db=files.buckets3)
                self._delete_plans(tx, number)
                if tx.delete(number, db=files.bucket_names):
                    self._ask_for_sweep(tx)
            case PlanPut():
                self._raise_format(tx)
                name = records.plan_name(change.bucket_number, change.number)
                tx.put(name, records.with_check(name, records.encode_plan(change)), db=files.plans3)
            case PlanDelete():
                tx.delete(records.plan_name(change.bucket_number, change.number), db=files.plans3)
            case Hidden():
                pass
            case _:
                assert_never(change)

    def _put_key(self, tx: Any, put: KeyPut, append: bool) -> None:
        name = records.pack_bucket_number(put.bucket_number) + put.digest
        if put.powers is None:
            self._put(tx, self._files.keys, self._files.keys3, name, records.encode_key(put), append)
        else:
            self._raise_format(tx)
            self._put(tx, self._files.keys3, self._files.keys, name, records.encode_key3(put), append)

    def _put_consumer(self, tx: Any, put: ConsumerPut, append: bool) -> None:
        name = records.pack_number(put.number)
        if put.powers is None:
            self._put(tx, self._files.consumers, self._files.consumers3, name, records.encode_consumer(put), append)
        else:
            self._raise_format(tx)
            self._put(tx, self._files.consumers3, self._files.consumers, name, records.encode_consumer3(put), append)

    def _put_bucket(self, tx: Any, put: BucketPut) -> None:
        files = self._files
        self._delete_bucket_name(tx, put.number)
        name, number = put.name.encode(), records.pack_bucket_number(put.number)
        tx.put(name, records.with_check(name, records.encode_bucket(put)), db=files.buckets)
        tx.put(number, records.with_check(number, name), db=files.bucket_names)
        if put.has_powers:
            self._raise_format(tx)
            tx.put(number, records.with_check(number, records.encode_bucket3(put)), db=files.buckets3)
        else:
            tx.delete(number, db=files.buckets3)

    def _raise_format(self, tx: Any) -> None:
        """From now on this is not for the version before: it would miss what stands beside what it reads."""
        tx.put(b"format", FORMAT_WITH_POWERS, db=self._files.meta)

    def _put(self, tx: Any, db: Any, other: Any, name: bytes, record: bytes, append: bool) -> None:
        """Put a record, which is then no more in the `other` database of its kind: with powers, or without."""
        value = records.with_check(name, record)
        if not (append and tx.put(name, value, db=db, append=True)):
            tx.put(name, value, db=db)
        if not append:
            tx.delete(name, db=other)

    def _delete_bucket_name(self, tx: Any, number: int) -> None:
        """Free the name of a bucket, unless a newer bucket has taken it already."""
        packed = records.pack_bucket_number(number)
        kept = tx.get(packed, db=self._files.bucket_names)
        if kept is None:
            return
        name = records.checked(packed, kept)
        value = tx.get(name, db=self._files.buckets)
        if value is not None and records.read_bucket(name, value).number == number:
            tx.delete(name, db=self._files.buckets)

    def _delete_plans(self, tx: Any, bucket: bytes) -> None:
        with tx.cursor(self._files.plans3) as plans:
            plans.set_range(bucket)
            while plans.key()[: len(bucket)] == bucket and plans.delete():
                pass

    def _ask_for_sweep(self, tx: Any) -> None:
        """Note that there is garbage: behind a sweep that is under way, too, which therefore goes round once more."""
        kept = tx.get(b"sweep", db=self._files.meta)
        position = _SweepPosition() if kept is None else _SweepPosition.decode(kept).again()
        tx.put(b"sweep", position.encode(), db=self._files.meta)

    def _sweep(self, tx: Any, limit: int) -> Swept:
        files = self._files
        kept = tx.get(b"sweep", db=files.meta)
        if kept is None:
            return Swept(is_keys=False, names=[])
        position = _SweepPosition.decode(kept)
        db = position.database(files)
        rows = files.rows_from(tx, db, position.name, limit)
        garbage = [name for name, value in rows[:limit] if is_garbage(files, tx, db, name, value)]
        for name in garbage:
            tx.delete(name, db=db)
        following = position.after(rows[limit][0] if len(rows) > limit else None)
        if following is None:
            tx.delete(b"sweep", db=files.meta)
        else:
            tx.put(b"sweep", following.encode(), db=files.meta)
        return Swept(position.is_among_keys, garbage)


@dataclass(frozen=True, slots=True)
class _SweepPosition:
    """How far a sweep is: keys come first, then consumers; those with powers behind those without. It is kept in `meta`
    while there is one.

    Encoded as: which records (k, K, c, C; capitals have powers), whether to go round again (a, n), the name to begin
    with.
    """

    kind: bytes = b"k"
    goes_round_again: bool = False
    name: bytes = b""

    @classmethod
    def decode(cls, kept: bytes) -> _SweepPosition:
        return cls(kept[:1], kept[1:2] == b"a", kept[2:])

    def encode(self) -> bytes:
        return self.kind + (b"a" if self.goes_round_again else b"n") + self.name

    @property
    def is_among_keys(self) -> bool:
        return self.kind in b"kK"

    def database(self, files: Files) -> Any:
        return {b"k": files.keys, b"K": files.keys3, b"c": files.consumers, b"C": files.consumers3}[self.kind]

    def again(self) -> _SweepPosition:
        return _SweepPosition(self.kind, True, self.name)

    def after(self, next_name: bytes | None) -> _SweepPosition | None:
        """Where to go on: at this name, else at the next kind of records; None when the sweep is done."""
        if next_name is not None:
            return _SweepPosition(self.kind, self.goes_round_again, next_name)
        following = b"kKcC".partition(self.kind)[2][:1]
        if following:
            return _SweepPosition(following, self.goes_round_again)
        return _SweepPosition() if self.goes_round_again else None
