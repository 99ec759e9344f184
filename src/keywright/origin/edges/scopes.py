"""Owns what an edge may know, by the token that it follows with: which buckets, and which management keys. Pure.

An edge of the deployment knows everything. Any other knows the buckets of its account, and those shared with it, in
which its token may validate. Of a shared bucket it is told its own grant and the owner, and of no other account; of
management keys those that may validate in what it knows, with the parts of their permissions that speak of it, and of
a root key nothing.

The replica behind an edge may still be of an earlier token: it is filled anew for each, but only when it can. So both
count (HeldScopes), until the edge is further than it was when it first came with the new one.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from keywright.domain.permissions import EVERY_BUCKET, Access, Grantee, Permissions
from keywright.protocol.changes import BucketPut

DEPLOYMENT = ""
"""Stands for an account where an edge follows everything: those beside an origin, and those with the root key."""
MOST_EARLIER = 8
"""Whoever changes its token more often than that, without ever moving, is taken to know all of its account."""


@dataclass(frozen=True, slots=True)
class EdgeScope:
    """What a token shows. `names` are buckets of the account, or shared with it; None: all of these.

    `is_earlier`: of a version that told each edge more of management keys than it had to know.
    """

    account_id: str
    names: frozenset[str] | None = None
    owned_bucket_id: str | None = None
    is_earlier: bool = False

    @classmethod
    def of(cls, grantee: Grantee) -> EdgeScope:
        if grantee.is_root:
            return EVERYTHING
        named = _named(grantee.permissions)
        is_whole = grantee.owned_bucket_id is None and _is_whole(grantee.permissions)
        return cls(grantee.account_id, None if is_whole else frozenset(named), grantee.owned_bucket_id)

    @property
    def is_everything(self) -> bool:
        return self.account_id == DEPLOYMENT

    def view(self, bucket: BucketPut) -> BucketPut | None:
        """The bucket as such an edge knows it; None if it doesn't."""
        if self.is_everything:
            return bucket
        if self.owned_bucket_id is not None:
            return bucket if bucket.bucket_id == self.owned_bucket_id else None
        if self.names is not None and bucket.name not in self.names:
            return None
        if bucket.account_id == self.account_id:
            return bucket
        own = bucket.grants.get(self.account_id, Access.NONE)
        return replace(bucket, grants={self.account_id: own}) if own >= Access.VALIDATE else None

    def view_key(self, grantee: Grantee, buckets: Collection[BucketPut]) -> Grantee | None:
        """A management key as such an edge knows it, beside the buckets that it knows; None if it doesn't."""
        if self.is_everything:
            return grantee
        if grantee.is_root:
            return None
        if grantee.account_id != self.account_id:
            kept = {bucket.name for bucket in buckets if may_validate(grantee, bucket)}
        elif not _is_whole(grantee.permissions):
            kept = _named(grantee.permissions)
            kept &= kept if self.names is None else self.names
        else:
            # Buckets that are yet to be made are among these.
            kept = {EVERY_BUCKET} if self.names is None else set(self.names)
        if not kept:
            return None
        shown = Permissions(buckets=dict.fromkeys(sorted(kept), Access.VALIDATE))
        return Grantee(grantee.account_id, shown, owned_bucket_id=grantee.owned_bucket_id)


EVERYTHING = EdgeScope(DEPLOYMENT)


def may_validate(grantee: Grantee, bucket: BucketPut) -> bool:
    access = grantee.on_bucket(
        bucket_id=bucket.bucket_id, bucket_name=bucket.name, account_id=bucket.account_id, grants=bucket.grants
    )
    return access >= Access.VALIDATE


@dataclass(frozen=True, slots=True)
class HeldScopes:
    """What the replica of an edge may hold: what its token shows, and at or before `since` also `earlier` ones."""

    now: EdgeScope
    earlier: tuple[EdgeScope, ...] = ()
    since: int = 0

    @classmethod
    def unknown(cls, account_id: str) -> HeldScopes:
        """Of an edge of which an earlier version kept the row: all that any token of its account ever showed."""
        return cls(_all_of(account_id))

    @classmethod
    def first(cls, scope: EdgeScope, revision: int) -> HeldScopes:
        """Of one that nobody knows, and that has a replica already: of which token, it does not say."""
        return cls(scope) if scope.is_everything else cls(_all_of(scope.account_id)).followed_by(scope, revision)

    def followed_by(self, scope: EdgeScope, revision: int) -> HeldScopes:
        """The edge comes with this token now, and says that it is at this revision."""
        if scope == self.now:
            return self
        earlier = tuple(dict.fromkeys(one for one in self.at(revision) if one != scope))
        if len(earlier) > MOST_EARLIER:
            earlier = (_all_of(scope.account_id),)
        return HeldScopes(scope, earlier, max(revision, self.since))

    def at(self, revision: int) -> Sequence[EdgeScope]:
        """What counts for a replica that is at this revision: it can't have come further with an earlier token."""
        return (self.now,) if revision > self.since else (self.now, *self.earlier)

    def encode(self) -> str:
        earlier = [_to_json(one) for one in self.earlier]
        return json.dumps({"now": _to_json(self.now), "earlier": earlier, "since": self.since}, separators=(",", ":"))

    @classmethod
    def decode(cls, account_id: str, text: str | None) -> HeldScopes:
        if text is None:
            return cls.unknown(account_id)
        value = json.loads(text)
        earlier = tuple(_from_json(account_id, one) for one in value["earlier"])
        return cls(_from_json(account_id, value["now"]), earlier, value["since"])


def _all_of(account_id: str) -> EdgeScope:
    return EdgeScope(account_id, is_earlier=account_id != DEPLOYMENT)


def _named(permissions: Permissions) -> set[str]:
    return {name for name, access in permissions.buckets.items() if access >= Access.VALIDATE}


def _is_whole(permissions: Permissions) -> bool:
    return permissions.on_bucket(EVERY_BUCKET) >= Access.VALIDATE


def _to_json(scope: EdgeScope) -> dict[str, Any]:
    names = None if scope.names is None else sorted(scope.names)
    return {"names": names, "ownedBucket": scope.owned_bucket_id, "isEarlier": scope.is_earlier}


def _from_json(account_id: str, value: dict[str, Any]) -> EdgeScope:
    names = None if value["names"] is None else frozenset(value["names"])
    return EdgeScope(account_id, names, value["ownedBucket"], value["isEarlier"])
