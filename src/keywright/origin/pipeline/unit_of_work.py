"""Owns who acts and what for: the actor, its unit of work, and the two questions every rule begins with."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from keywright.domain.keyformat import Digester
from keywright.domain.models import Account, Bucket
from keywright.domain.permissions import Access, Grantee, Permissions
from keywright.domain.problems import Forbidden, NotFound
from keywright.origin.accounts import store as account_rows
from keywright.origin.buckets import store as bucket_rows
from keywright.origin.db.engine import Transaction
from keywright.origin.keys.vault import Vault

ACCOUNT_NAME = r"^[a-z0-9_-]{1,128}$"
PROJECT_NAME = r"^[a-z0-9-]{1,64}$"
BUCKET_NAME = r"^[a-z0-9-]{5,128}$"
CONSUMER_NAME = r"^[a-z0-9_-]{1,128}$"


class ActorKind(StrEnum):
    SERVICE = "service"
    """A program that holds a management key."""
    USER = "user"
    SYSTEM = "system"
    """This deployment itself: bootstrap and maintenance."""
    ANONYMOUS = "anonymous"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts. `sub` is the id of a management key or a user's subject; `connection` says how they came in."""

    sub: str
    kind: ActorKind
    grantee: Grantee
    email: str | None = None
    connection: str | None = None
    description: str | None = None
    expires_at: datetime | None = None
    """When the management key that acts ends."""
    owns_buckets: bool = True
    """Whether write access to a bucket reaches the bucket itself, and not only its consumers and their keys."""
    account_ids: tuple[str, ...] = ()
    """The accounts in which somebody has a role, and acts in one of them; empty for whoever came in otherwise."""

    @property
    def holding(self) -> str:
        """What the actor's rights come from, as a refusal calls it."""
        return "Your role" if self.kind is ActorKind.USER else "This management key"


NOBODY = Actor("anonymous", ActorKind.ANONYMOUS, Grantee("", Permissions()))
SYSTEM = Actor("system", ActorKind.SYSTEM, Grantee("", Permissions(), is_root=True))


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes and times that a deployment may set. `metadata_bytes` counts the encoded JSON object."""

    metadata_bytes: int = 1024
    tags: int = 5
    session_idle: timedelta = timedelta(minutes=60)
    """How long nobody may use a portal's session before it ends."""
    session_life: timedelta = timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class RequestSource:
    """Where a request came from, for the audit log."""

    request_id: str
    address: str | None = None
    user_agent: str | None = None
    method: str | None = None
    url: str | None = None
    source: str = "api"
    """The door: `api` or `portal`."""


@dataclass(slots=True)
class AuditDraft:
    """What is being tried, written to the audit log whether it succeeds or is refused."""

    action: str | None = None
    account_id: str | None = None
    resources: list[dict[str, Any]] = field(default_factory=list)

    def concerns(self, type: str, id: str, **metadata: Any) -> None:
        self.resources.append({"type": type, "id": id, "metadata": metadata or None})


@dataclass(frozen=True, slots=True)
class Dependencies:
    """What every unit of work is given by the composition root."""

    vault: Vault
    digester: Digester
    random_bytes: Callable[[int], bytes]
    clock: Callable[[], datetime]
    limits: Limits


@dataclass(frozen=True, slots=True)
class UnitOfWork:
    """One unit of work: an open transaction, who acts, when, and with what."""

    tx: Transaction
    actor: Actor
    now: datetime
    dependencies: Dependencies
    audit_draft: AuditDraft


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list: at most `limit` items from `offset` on."""

    limit: int = 1000
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Unset:
    """The value of a field that an update leaves as it is (None would empty it)."""


UNSET = Unset()


async def get_account(work: UnitOfWork, name: str, need: Access) -> Account:
    """The account of that name, if the actor may do this much in it.

    Raises NotFound where the actor may not know of it, Forbidden where it may do less.
    """
    account = await _find_visible(work, name)
    work.audit_draft.account_id = account.id
    if work.actor.grantee.on_account(account.id) < need:
        raise Forbidden(f"{work.actor.holding} has no {need.label} access to the account.")
    return account


async def get_bucket(
    work: UnitOfWork, account_name: str, name: str, need: Access, *, is_own: bool = False, is_for_update: bool = False
) -> tuple[Account, Bucket]:
    """The bucket of that name as the account sees it: its own, or shared with it.

    With `is_own` a shared one will not do. Raises NotFound and Forbidden as `get_account` does.
    """
    account = await _find_visible(work, account_name)
    work.audit_draft.account_id = account.id
    bucket = await _find_bucket(work, name, is_for_update=is_for_update)
    if bucket is None or (bucket.account_id != account.id and account.id not in bucket.grants):
        raise NotFound(f"The account has no bucket named {name!r}." if is_name(BUCKET_NAME, name) else None)
    access = access_to(work, bucket)
    if access is Access.NONE:
        # 404, not 403: a 403 would tell that the bucket exists.
        raise NotFound(f"The account has no bucket named {name!r}.")
    if access < need:
        raise Forbidden(f"{work.actor.holding} has no {need.label} access to the bucket.")
    if is_own and bucket.account_id != account.id:
        raise Forbidden("The bucket belongs to another account, which alone may do this.")
    if is_own and need >= Access.WRITE and not work.actor.owns_buckets:
        raise Forbidden("Your role reaches the bucket's consumers and keys, not the bucket itself.")
    return account, bucket


def access_to(work: UnitOfWork, bucket: Bucket) -> Access:
    """How far the actor's permissions reach in this bucket."""
    return work.actor.grantee.on_bucket(
        bucket_id=bucket.id, bucket_name=bucket.name, account_id=bucket.account_id, grants=bucket.grants
    )


async def get_named_account(work: UnitOfWork, name: str) -> Account:
    """An account that is only pointed at, as when a bucket is shared with it. Raises NotFound."""
    account = await account_rows.find_account(work.tx, name) if is_name(ACCOUNT_NAME, name) else None
    if account is None:
        raise NotFound("There is no such account.")
    return account


def is_consumer_name(name: str) -> bool:
    return is_name(CONSUMER_NAME, name)


def replaced(given: Any, kept: Any, empty: Any = None) -> Any:
    """The new value of a field in an update: `kept` where nothing was given, `empty` where null was."""
    if isinstance(given, Unset):
        return kept
    return empty if given is None else given


def check_tags(
    work: UnitOfWork, tags: Mapping[str, str], problems: list[dict[str, str]], field: str = "body.tags"
) -> None:
    """Adds what is wrong with a set of tags to `problems`."""
    most = work.dependencies.limits.tags
    if len(tags) > most:
        problems.append({"field": field, "message": f"holds {len(tags)} tags; at most {most} are allowed"})


def names_of(items: Sequence[Any]) -> str:
    return ", ".join(str(item) for item in items)


async def _find_visible(work: UnitOfWork, name: str) -> Account:
    account = await account_rows.find_account(work.tx, name) if is_name(ACCOUNT_NAME, name) else None
    grantee = work.actor.grantee
    if account is None or not (grantee.is_root or account.id == grantee.account_id):
        # 404, not 403: a 403 would tell that the account exists.
        raise NotFound(f"{work.actor.holding} knows no such account.")
    return account


async def _find_bucket(work: UnitOfWork, name: str, *, is_for_update: bool) -> Bucket | None:
    # A name that no bucket can have (the system bucket's among them) is not looked for.
    if not is_name(BUCKET_NAME, name):
        return None
    return await bucket_rows.find(work.tx, name, is_for_update=is_for_update)


def is_name(pattern: str, name: str) -> bool:
    """Whether a name fits one of the patterns above as a whole."""
    # `$` would let a trailing line feed pass.
    return re.fullmatch(pattern[1:-1], name, re.ASCII) is not None
