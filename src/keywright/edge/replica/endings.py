"""Owns what a batch takes away: which keys, consumers and buckets end with it or are good for less from there on, and
the journal of that in the replica.

A change to a key tells its digest; whose key it was, and that it was there at all, only the replica knows that it is
applied to. So it is found out in the transaction that applies the batch, and kept there for a while: one row a batch,
under its revision. Whoever has seen the replica at a cursor, in this process or another, can ask what ended since.
"""

from __future__ import annotations

import json
from dataclasses import astuple, dataclass, field
from typing import TYPE_CHECKING, Any

from keywright.domain.powers import is_enabled
from keywright.edge.replica import records, rows
from keywright.protocol.changes import (
    BucketDelete,
    BucketPut,
    ConsumerDelete,
    ConsumerPut,
    Cursor,
    KeyDelete,
    KeyPut,
    PlanPut,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keywright.edge.replica.files import Files
    from keywright.protocol.changes import Change

KEPT_BATCHES = 20_000
KEPT_BYTES = 16 * 1024**2
"""Of endings, not counting the batches that took nothing away."""
_STAMP_BYTES = 24


@dataclass(frozen=True, slots=True)
class Ending:
    """A key that ended, or a consumer with all its keys, or a bucket with all its consumers: the rest is None.

    `ends_at` (milliseconds since the epoch) is the key's new end where it was moved to an earlier one, which may lie
    ahead; None: it ended with the change. `digest` is the key's, as hexadecimal digits. `is_narrowed`: nothing has
    ended, but what the powers of the key or the consumer allow, or what the bucket grants, may be less than before.
    """

    bucket_number: int
    bucket_name: str | None
    consumer_number: int | None = None
    consumer_id: str | None = None
    key_id: str | None = None
    digest: str | None = None
    ends_at: int | None = None
    is_narrowed: bool = False


@dataclass(slots=True)
class Endings:
    """Finds the endings of one batch, asked about each change before that is applied in the transaction `tx`."""

    files: Files
    tx: Any
    found: list[Ending] = field(default_factory=list)
    _names: dict[int, str | None] = field(default_factory=dict)
    _consumers: dict[int, str | None] = field(default_factory=dict)

    def look_at(self, change: Change) -> None:
        match change:
            case KeyPut():
                self._put_key(change)
            case KeyDelete():
                former = self._find_key(change.bucket_number, change.digest)
                if former is not None:
                    self._end_key(change, former, None)
            case ConsumerPut():
                self._put_consumer(change)
            case ConsumerDelete():
                self._delete_consumer(change.number)
            case BucketDelete():
                name = self._name_of(change.number)
                if name is not None:
                    self.found.append(Ending(change.number, name))
                    self._names.pop(change.number, None)
            case BucketPut():
                name = self._name_of(change.number)
                if name is not None and name != change.name:
                    self.found.append(Ending(change.number, name))
                granted = rows.find_default_scopes(self.files, self.tx, change.number)
                if name is not None and not granted <= set(change.default_scopes):
                    self.found.append(Ending(change.number, name, is_narrowed=True))
                self._names.pop(change.number, None)
            case PlanPut():
                former_plan = rows.find_plan_put(self.files, self.tx, change.bucket_number, change.number)
                if former_plan is not None and former_plan.powers != change.powers:
                    # Whoever has it may do less than before.
                    name = self._name_of(change.bucket_number)
                    self.found.append(Ending(change.bucket_number, name, is_narrowed=True))

    def _put_key(self, put: KeyPut) -> None:
        former = self._find_key(put.bucket_number, put.digest)
        if former is None:
            return
        if (
            former.consumer_number != put.consumer_number
            or former.key_id != put.key_id
            or (is_enabled(former.powers) and not is_enabled(put.powers))
        ):
            self._end_key(put, former, None)
        elif put.expires_at is not None and (former.expires_at is None or put.expires_at < former.expires_at):
            self._end_key(put, former, max(put.expires_at, 0))
        elif put.powers is not None and put.powers != former.powers:
            self._end_key(put, former, None, is_narrowed=True)

    def _end_key(
        self, change: KeyPut | KeyDelete, former: KeyPut, ends_at: int | None, *, is_narrowed: bool = False
    ) -> None:
        consumer_id = self._consumer_id_of(former.consumer_number)
        bucket = change.bucket_number
        digest = change.digest.hex()
        name, number = self._name_of(bucket), former.consumer_number
        self.found.append(Ending(bucket, name, number, consumer_id, former.key_id, digest, ends_at, is_narrowed))

    def _put_consumer(self, put: ConsumerPut) -> None:
        """One that is switched off ends all its keys, for as long as it is."""
        former = self._find_consumer(put.number)
        if former is None:
            return
        if is_enabled(former.powers) and not is_enabled(put.powers):
            self._end_consumer(former)
        elif put.powers != former.powers:
            # Also where none are said any more: what it inherits then may be less.
            self._end_consumer(former, is_narrowed=True)

    def _delete_consumer(self, number: int) -> None:
        former = self._find_consumer(number)
        if former is not None:
            self._end_consumer(former)

    def _end_consumer(self, put: ConsumerPut, *, is_narrowed: bool = False) -> None:
        bucket = put.bucket_number
        name = self._name_of(bucket)
        self.found.append(Ending(bucket, name, put.number, put.consumer_id, is_narrowed=is_narrowed))

    def _find_key(self, bucket_number: int, digest: bytes) -> KeyPut | None:
        return rows.find_key_put(self.files, self.tx, records.pack_bucket_number(bucket_number) + digest)

    def _find_consumer(self, number: int) -> ConsumerPut | None:
        return rows.find_consumer_put(self.files, self.tx, records.pack_number(number))

    def _consumer_id_of(self, number: int) -> str | None:
        if number not in self._consumers:
            found = self._find_consumer(number)
            self._consumers[number] = None if found is None else found.consumer_id
        return self._consumers[number]

    def _name_of(self, number: int) -> str | None:
        if number not in self._names:
            packed = records.pack_bucket_number(number)
            kept = self.tx.get(packed, db=self.files.bucket_names)
            self._names[number] = None if kept is None else records.checked(packed, kept).decode()
        return self._names[number]


def begin(files: Files, tx: Any, cursor: Cursor) -> None:
    """The journal begins anew here: of what was before nothing is known."""
    tx.drop(files.endings, delete=False)
    _put(files, tx, cursor, b"")
    tx.put(b"endings", records.pack_number(0), db=files.meta)


def note(files: Files, tx: Any, follows: Cursor, cursor: Cursor, found: Sequence[Ending]) -> None:
    """Write down what the batch from one cursor to the other has ended, and forget what is too long ago."""
    if _stamp_at(files, tx, follows) is None:
        # A version that keeps no journal has applied what came before.
        begin(files, tx, follows)
    value = json.dumps([_row(one) for one in found], separators=(",", ":")).encode() if found else b""
    _put(files, tx, cursor, value)
    size = records.unpack_number(tx.get(b"endings", b"", db=files.meta)) + len(value)
    size = _forget(files, tx, size)
    if found or size:
        tx.put(b"endings", records.pack_number(size), db=files.meta)


def has_been_at(files: Files, tx: Any, cursor: Cursor) -> bool:
    """Whether the replica is known to have been at this cursor, on its way to where it is."""
    return files.endings is not None and _stamp_at(files, tx, cursor) is not None


def since(files: Files, tx: Any, cursor: Cursor) -> list[Ending] | None:
    """What ended since the replica was at this cursor, oldest first; None where that is not known (any more)."""
    if not has_been_at(files, tx, cursor):
        return None
    found: list[Ending] = []
    with tx.cursor(files.endings) as rows:
        rows.set_range(records.pack_number(cursor.revision + 1))
        for name, kept in rows:
            value = records.checked(name, kept)[_STAMP_BYTES:]
            if value:
                found += [Ending(*row) for row in json.loads(value)]
    return found


def _row(one: Ending) -> tuple[Any, ...]:
    """As a reader of before knows it, where nothing else is to be said."""
    row = astuple(one)
    return row if one.is_narrowed else row[:-1]


def _put(files: Files, tx: Any, cursor: Cursor, value: bytes) -> None:
    name = records.pack_number(cursor.revision)
    tx.put(name, records.with_check(name, records.encode_stamp(cursor) + value), db=files.endings)


def _stamp_at(files: Files, tx: Any, cursor: Cursor) -> bytes | None:
    """The stamp under this revision, if it is the cursor's: the replica has been there."""
    name = records.pack_number(cursor.revision)
    kept = tx.get(name, db=files.endings)
    if kept is None:
        return None
    stamp = bytes(records.checked(name, kept)[:_STAMP_BYTES])
    return stamp if stamp == records.encode_stamp(cursor) else None


def _forget(files: Files, tx: Any, size: int) -> int:
    count = tx.stat(files.endings)["entries"]
    with tx.cursor(files.endings) as rows:
        # The newest stays in any case: it is what the next batch follows.
        while (count > KEPT_BATCHES or size > KEPT_BYTES) and count > 1 and rows.first():
            size -= max(0, len(rows.value()) - _STAMP_BYTES - records.CHECK_BYTES)
            count -= 1
            rows.delete()
    return size
