"""Owns what a management key may do: its permissions, their JSON form, and the one function that compares them.

A management key is a key of a consumer in the hidden bucket SYSTEM_BUCKET; that consumer's metadata is a `Grantee` in
JSON, so the same record that proves the key tells its rights, at the origin and at every edge.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

SYSTEM_BUCKET = "_system"
"""Name of the bucket whose consumers are the management keys; no name that the API accepts begins with `_`."""

EVERY_BUCKET = "*"


class Access(IntEnum):
    """How far a permission reaches; each level includes those below it."""

    NONE = 0
    VALIDATE = 1
    READ = 2
    WRITE = 3

    @classmethod
    def of(cls, name: str) -> Access:
        return cls[name.upper()]

    @property
    def label(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Permissions:
    """`account` covers the account and all its buckets; `buckets` names single ones, or all with `*`."""

    account: Access = Access.NONE
    buckets: Mapping[str, Access] = field(default_factory=dict)
    feed: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "account": self.account.label,
            "buckets": {name: access.label for name, access in self.buckets.items()},
            "feed": self.feed,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Permissions:
        return cls(
            account=Access.of(value.get("account", "none")),
            buckets={name: Access.of(access) for name, access in value.get("buckets", {}).items()},
            feed=bool(value.get("feed", False)),
        )

    def includes(self, other: Permissions) -> bool:
        """Whether `other` asks for nothing that these permissions lack: nobody hands on more than they hold."""
        if other.account > self.account or (other.feed and not (self.feed or self.account is Access.WRITE)):
            return False
        return all(access <= self.on_bucket(name) for name, access in other.buckets.items())

    def on_bucket(self, name: str) -> Access:
        named = self.buckets.get(name, Access.NONE)
        return max(self.account, named, self.buckets.get(EVERY_BUCKET, Access.NONE))


@dataclass(frozen=True, slots=True)
class Grantee:
    """Whom a management key stands for: one account (or, for root, every account) and, for an owner key, one bucket.

    `account_id` is the account that the key belongs to. `owned_bucket_id` is set for bucket-owner keys, whose
    permissions end with that bucket even if another bucket takes its name.
    """

    account_id: str
    permissions: Permissions
    is_root: bool = False
    owned_bucket_id: str | None = None

    def to_json(self) -> dict[str, Any]:
        value: dict[str, Any] = {"account": self.account_id, "permissions": self.permissions.to_json()}
        if self.is_root:
            value["root"] = True
        if self.owned_bucket_id is not None:
            value["ownedBucket"] = self.owned_bucket_id
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Grantee:
        return cls(
            account_id=value["account"],
            permissions=Permissions.from_json(value["permissions"]),
            is_root=bool(value.get("root", False)),
            owned_bucket_id=value.get("ownedBucket"),
        )

    def on_account(self, account_id: str) -> Access:
        """The access to an account as a whole: its buckets list, projects, management keys, audit log."""
        if self.is_root:
            return Access.WRITE
        return self.permissions.account if account_id == self.account_id else Access.NONE

    def on_bucket(
        self, *, bucket_id: str, bucket_name: str, account_id: str | None, grants: Mapping[str, Access]
    ) -> Access:
        """The access to a bucket of `account_id` that is shared with the accounts in `grants` (by account id)."""
        if self.is_root:
            return Access.WRITE
        if self.owned_bucket_id is not None:
            return Access.WRITE if bucket_id == self.owned_bucket_id else Access.NONE
        held = self.permissions.on_bucket(bucket_name)
        if account_id == self.account_id:
            return held
        return min(held, grants.get(self.account_id, Access.NONE))
