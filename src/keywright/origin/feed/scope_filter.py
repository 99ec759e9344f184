"""Owns what a reader of the feed may see. Pure: changes go in, and come out as they are, hidden, or as an end.

Root sees everything. Every other key sees the buckets of its account, and those shared with it, in which its
permissions let it validate; and of the hidden system bucket the management keys that may validate in one of these.

What a key sees follows from its buckets and those buckets' grants. A bucket keeps name and account for life, so only
a grant can show a reader more than it was sent before: then it needs a snapshot. That is told from the change alone, so
it holds wherever the reader's cursor is. A change in a bucket that was withdrawn or deleted since is hidden already;
the end of that bucket follows in the same log.
"""

from __future__ import annotations

import hashlib
import json
from typing import assert_never

from keywright.domain.permissions import EVERY_BUCKET, SYSTEM_BUCKET, Access, Grantee
from keywright.protocol.changes import (
    BucketDelete,
    BucketPut,
    Change,
    ConsumerDelete,
    ConsumerPut,
    Hidden,
    KeyDelete,
    KeyPut,
)

_HIDDEN = Hidden()


class ScopeFilter:
    """What one reader sees. It is told of the buckets and management keys there are, then asked about each change."""

    def __init__(self, grantee: Grantee) -> None:
        self._reader = grantee
        self._system: int | None = None
        self._buckets: dict[int, BucketPut] = {}
        self._managing: set[int] = set()

    @property
    def is_everything(self) -> bool:
        return self._reader.is_root

    def shows(self, put: Change) -> bool:
        """Whether the reader may see this record. Told of buckets first, then consumers, then keys."""
        if self.is_everything:
            return True
        match put:
            case BucketPut():
                return self._sees_bucket(put)
            case ConsumerPut():
                return self._sees_consumer(put)
            case KeyPut():
                return self._sees_key(put)
        return False

    def pass_on(self, change: Change) -> Change:  # noqa: PLR0911
        """The change as the reader gets it. Raises ScopeGrew."""
        if self.is_everything:
            return change
        match change:
            case BucketPut():
                is_shown = self._sees_bucket(change)
                if is_shown and change.grants:
                    # Grants came or went: of this bucket to the reader, or of management keys of others to this bucket.
                    raise ScopeGrew
                # Of one that is not shown the reader loses all it may have had; the number tells nothing.
                return change if is_shown else BucketDelete(change.number)
            case BucketDelete():
                self._buckets.pop(change.number, None)
                return change
            case ConsumerPut():
                return change if self._sees_consumer(change) else _HIDDEN
            case ConsumerDelete():
                self._managing.discard(change.number)
                return change
            case KeyPut():
                return change if self._sees_key(change) else _HIDDEN
            case KeyDelete():
                is_shown = change.bucket_number in self._buckets or change.bucket_number == self._system
                return change if is_shown else _HIDDEN
            case Hidden():
                return change
            case _:
                assert_never(change)

    def _sees_bucket(self, put: BucketPut) -> bool:
        if put.name == SYSTEM_BUCKET:
            self._system = put.number
            return True
        if _may_validate(self._reader, put):
            self._buckets[put.number] = put
            return True
        self._buckets.pop(put.number, None)
        return False

    def _sees_consumer(self, put: ConsumerPut) -> bool:
        if put.bucket_number != self._system:
            return put.bucket_number in self._buckets
        grantee = Grantee.from_json(json.loads(put.metadata))
        if self._matters(grantee):
            self._managing.add(put.number)
            return True
        self._managing.discard(put.number)
        return False

    def _sees_key(self, put: KeyPut) -> bool:
        if put.bucket_number == self._system:
            return put.consumer_number in self._managing
        return put.bucket_number in self._buckets

    def _matters(self, grantee: Grantee) -> bool:
        """Whether a management key may validate in a bucket that the reader sees, or comes to see without a grant."""
        if grantee.is_root:
            return True
        if grantee.account_id == self._reader.account_id:
            names = [name for name, access in grantee.permissions.buckets.items() if access >= Access.VALIDATE]
            if grantee.permissions.account >= Access.VALIDATE or EVERY_BUCKET in names:
                return True
            if any(self._reader.permissions.on_bucket(name) >= Access.VALIDATE for name in names):
                return True
        return any(_may_validate(grantee, bucket) for bucket in self._buckets.values())


class ScopeGrew(Exception):
    """The reader may see more than it was sent so far: only a snapshot can tell it."""


def may_follow(grantee: Grantee) -> bool:
    return grantee.is_root or grantee.permissions.feed


def scope_id(grantee: Grantee) -> str:
    """The same for keys that see the same, and a different one for a replica that must be filled anew."""
    if grantee.is_root:
        return "everything"
    permissions = grantee.permissions
    named = sorted(name for name, access in permissions.buckets.items() if access >= Access.VALIDATE)
    seen = [grantee.account_id, grantee.owned_bucket_id, permissions.account >= Access.VALIDATE, named]
    return hashlib.sha256(json.dumps(seen).encode()).hexdigest()[:16]


def _may_validate(grantee: Grantee, bucket: BucketPut) -> bool:
    access = grantee.on_bucket(
        bucket_id=bucket.bucket_id, bucket_name=bucket.name, account_id=bucket.account_id, grants=bucket.grants
    )
    return access >= Access.VALIDATE
