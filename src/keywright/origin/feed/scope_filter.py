"""Owns what a reader of the feed is sent. Pure: changes go in, and come out as the reader may see them, or hidden.

What a reader may see is the business of edges/scopes.py: root everything, every other key the buckets in which it may
validate, with what an edge must know of them. Numbers of rows and revisions tell nothing, so those of what is not
shown are handed on where a replica might have it.

What a key sees follows from its buckets and those buckets' grants. A bucket keeps name and account for life, so only
a grant can show a reader more than it was sent before: then it needs a snapshot. That is told from the change alone, so
it holds wherever the reader's cursor is. A change in a bucket that was withdrawn or deleted since is hidden already;
the end of that bucket follows in the same log.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import assert_never

from keywright.domain.permissions import SYSTEM_BUCKET, Access, Grantee
from keywright.origin.edges.scopes import EdgeScope
from keywright.protocol.changes import (
    BucketDelete,
    BucketPut,
    Change,
    ConsumerDelete,
    ConsumerPut,
    Hidden,
    KeyDelete,
    KeyPut,
    PlanDelete,
    PlanPut,
)

_HIDDEN = Hidden()
_RULES = 2
"""Goes up when readers are sent something else of the same record: their replicas are filled anew then."""


class ScopeFilter:
    """What one reader sees. It is told of the buckets and management keys there are, then asked about each change."""

    def __init__(self, grantee: Grantee) -> None:
        self._scope = EdgeScope.of(grantee)
        self._system: int | None = None
        self._buckets: dict[int, BucketPut] = {}
        self._managing: set[int] = set()

    @property
    def is_everything(self) -> bool:
        return self._scope.is_everything

    def view(self, put: Change) -> Change | None:
        """The record as the reader may see it, if it may. Told of buckets first, then consumers, then keys."""
        if self.is_everything:
            return put
        match put:
            case BucketPut():
                return self._view_bucket(put)
            case PlanPut():
                return put if put.bucket_number in self._buckets else None
            case ConsumerPut():
                return self._view_consumer(put)
            case KeyPut():
                return put if self._sees_key(put) else None
        return None

    def pass_on(self, change: Change) -> Change:  # noqa: PLR0911
        """The change as the reader gets it. Raises ScopeGrew."""
        if self.is_everything:
            return change
        match change:
            case BucketPut():
                shown = self._view_bucket(change)
                if shown is not None and change.grants:
                    # Grants came or went: of this bucket to the reader, or of management keys of others to this bucket.
                    raise ScopeGrew
                # Of one that is not shown the reader loses all it may have had; the number tells nothing.
                return shown or BucketDelete(change.number)
            case BucketDelete():
                self._buckets.pop(change.number, None)
                return change
            case PlanPut() | PlanDelete():
                return change if change.bucket_number in self._buckets else _HIDDEN
            case ConsumerPut():
                return self._view_consumer(change) or _HIDDEN
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

    def _view_bucket(self, put: BucketPut) -> BucketPut | None:
        if put.name == SYSTEM_BUCKET:
            self._system = put.number
            return put
        shown = self._scope.view(put)
        if shown is None:
            self._buckets.pop(put.number, None)
        else:
            self._buckets[put.number] = shown
        return shown

    def _view_consumer(self, put: ConsumerPut) -> ConsumerPut | None:
        if put.bucket_number != self._system:
            return put if put.bucket_number in self._buckets else None
        shown = self._scope.view_key(Grantee.from_json(json.loads(put.metadata)), self._buckets.values())
        if shown is None:
            self._managing.discard(put.number)
            return None
        self._managing.add(put.number)
        return replace(put, metadata=json.dumps(shown.to_json(), separators=(",", ":")))

    def _sees_key(self, put: KeyPut) -> bool:
        if put.bucket_number == self._system:
            return put.consumer_number in self._managing
        return put.bucket_number in self._buckets


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
    seen = [_RULES, grantee.account_id, grantee.owned_bucket_id, permissions.account >= Access.VALIDATE, named]
    return hashlib.sha256(json.dumps(seen).encode()).hexdigest()[:16]
