"""Owns the nouns: frozen values for what the control plane manages, and how their ids look.

Times are aware UTC datetimes with millisecond precision. `number` is the row's own number: small, never reused, and
the name under which a replica knows the row; `id` is the public name.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from keywright.domain.limits import Quota, RateLimit
from keywright.domain.permissions import Access, Grantee

BASE62 = string.digits + string.ascii_letters
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class IdKind(StrEnum):
    """The prefix of a public id."""

    ACCOUNT = "acct"
    PROJECT = "proj"
    BUCKET = "bckt"
    CONSUMER = "csmr"
    KEY = "key"
    MANAGER = "eusr"
    PLAN = "plan"


def new_id(kind: IdKind, random_bytes: Callable[[int], bytes]) -> str:
    """A new public id: the kind's prefix, `_`, and 24 base62 characters (32 for a bucket): 142 random bits and more."""
    length = 32 if kind is IdKind.BUCKET else 24
    # 32 spare bits keep the bias of the modulus far below anything that could be seen.
    number = int.from_bytes(random_bytes(length), "big")
    characters = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        characters.append(BASE62[digit])
    return f"{kind}_{''.join(characters)}"


def to_millis(moment: datetime) -> int:
    """Milliseconds since the epoch, cut off (not rounded), so that a time never moves into the future."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def from_millis(millis: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=millis)


def to_iso(moment: datetime) -> str:
    """ISO 8601 in UTC with milliseconds and `Z`, the form of every time in the API."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Account:
    number: int
    id: str
    name: str
    created_at: datetime
    updated_at: datetime


class WhenStale(StrEnum):
    """What an edge does with a bucket's keys when its replica has been out of step for longer than the owner allows."""

    SERVE = "serve"
    REFUSE = "refuse"


def refuse_after(max_staleness_seconds: int | None, when_stale: str) -> int | None:
    """How many seconds a replica may be out of step and still judge the bucket's keys; None for ever."""
    return max_staleness_seconds if when_stale == WhenStale.REFUSE else None


class Environment(StrEnum):
    PRODUCTION = "production"
    PREVIEW = "preview"
    WORKING_COPY = "working-copy"


@dataclass(frozen=True, slots=True)
class Project:
    """`environments` maps each environment to the name of its bucket."""

    number: int
    id: str
    name: str
    created_at: datetime
    updated_at: datetime
    environments: Mapping[Environment, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SelfServe:
    """What end users may do in a bucket by themselves, with the consumers that they manage.

    They may always look, rename, roll and revoke. The two numbers bound what one user makes: consumers that the user
    manages, and keys of a consumer that are good.
    """

    enabled: bool = True
    create_consumers: bool = False
    delete_consumers: bool = True
    create_keys: bool = True
    max_consumers: int = 10
    max_keys: int = 20


DEFAULT_SELF_SERVE = SelfServe()


@dataclass(frozen=True, slots=True)
class Bucket:
    """`grants` holds the access of other accounts by account id, `grant_ends` when those end that do. `account_id` is
    None for the system bucket alone.

    `when_stale` counts for replicas that have been out of step for more than `max_staleness_seconds`. `default_scopes`
    are granted to consumers of which none are said; `features` names the powers that its keys or consumers have or had.
    With `record_addresses` edges tell from which networks its keys are used.
    `former_key_prefixes` are those that its keys may have as well: it was made with them, or changed to them.
    """

    number: int
    id: str
    account_id: str | None
    name: str
    description: str | None
    tags: Mapping[str, str]
    is_retrievable: bool
    key_prefix: str
    created_at: datetime
    updated_at: datetime
    max_staleness_seconds: int | None = None
    when_stale: WhenStale = WhenStale.SERVE
    grants: Mapping[str, Access] = field(default_factory=dict)
    self_serve: SelfServe = DEFAULT_SELF_SERVE
    grant_ends: Mapping[str, datetime] = field(default_factory=dict)
    default_scopes: Sequence[str] = ()
    features: Sequence[str] = ()
    record_addresses: bool = False
    former_key_prefixes: Sequence[str] = ()

    def grants_at(self, now: datetime) -> Mapping[str, Access]:
        """The access of other accounts that has not ended: what the record, and so every edge, has may be behind."""
        ended = {account_id for account_id, end in self.grant_ends.items() if end <= now}
        return {account_id: access for account_id, access in self.grants.items() if account_id not in ended}


@dataclass(frozen=True, slots=True)
class Plan:
    """A name in a bucket for scopes and limits of many consumers: of those of which none are said themselves.

    `scopes`, `rate_limits` and `quotas` are None where nothing is said of them, empty for none at all.
    """

    number: int
    id: str
    bucket_number: int
    name: str
    description: str | None
    created_at: datetime
    updated_at: datetime
    scopes: Sequence[str] | None = None
    rate_limits: Sequence[RateLimit] | None = None
    quotas: Sequence[Quota] | None = None


@dataclass(frozen=True, slots=True)
class Consumer:
    """`scopes`, `allowed_ips`, `rate_limits` and `quotas` are None where nothing is said of them. But for addresses
    those of the plan hold then, and where that has none either the bucket's default scopes. `last_used_at` is what
    edges have told, None where they told nothing or nobody asked.
    """

    number: int
    id: str
    bucket_number: int
    name: str
    description: str | None
    tags: Mapping[str, str]
    metadata: Mapping[str, Any]
    created_at: datetime
    updated_at: datetime
    enabled: bool = True
    scopes: Sequence[str] | None = None
    allowed_ips: Sequence[str] | None = None
    plan: Plan | None = None
    rate_limits: Sequence[RateLimit] | None = None
    quotas: Sequence[Quota] | None = None
    last_used_at: datetime | None = field(default=None, compare=False)

    @property
    def plan_number(self) -> int | None:
        return None if self.plan is None else self.plan.number


class DisabledBy(StrEnum):
    """Who switched a key off: what the provider did, no manager undoes."""

    PROVIDER = "provider"
    MANAGER = "manager"


@dataclass(frozen=True, slots=True)
class Key:
    """`sealed` is the encrypted secret, None in a bucket that is not retrievable.

    `disabled_by` is None for a key that is enabled. `scopes`, `allowed_ips` and `rate_limits` are None where nothing is
    said of them. `last_used_at` and the region are what edges have told, None where they told nothing or nobody asked.
    """

    number: int
    id: str
    bucket_number: int
    consumer_number: int
    digest: bytes
    hint: str
    description: str | None
    expires_at: datetime | None
    created_at: datetime
    updated_at: datetime
    sealed: bytes | None = field(default=None, repr=False)
    enabled: bool = True
    disabled_by: DisabledBy | None = None
    scopes: Sequence[str] | None = None
    allowed_ips: Sequence[str] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    rate_limits: Sequence[RateLimit] | None = None
    last_used_at: datetime | None = field(default=None, compare=False)
    last_used_region: str | None = field(default=None, compare=False)
    last_used_network: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Manager:
    """An end user who may manage a consumer's keys; `sub` is None for an invite.

    `sub` is a name that `issuer` gives: the same from another issuer is another person. Without an issuer nobody is
    that person yet.
    """

    number: int
    id: str
    consumer_number: int
    email: str
    sub: str | None
    issuer: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ManagementKey:
    """A credential for the Developer API: a key, and whom it stands for."""

    key: Key
    grantee: Grantee
