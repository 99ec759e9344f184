"""Rules of buckets: their life, and sharing them with other accounts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from keywright.domain.keyformat import find_prefix_fault
from keywright.domain.models import (
    BASE62,
    DEFAULT_SELF_SERVE,
    Account,
    Bucket,
    Environment,
    IdKind,
    SelfServe,
    WhenStale,
    new_id,
    to_iso,
)
from keywright.domain.paging import Page
from keywright.domain.permissions import EVERY_BUCKET, Access
from keywright.domain.problems import BadRequest, Conflict, Forbidden, NotFound
from keywright.domain.unset import UNSET, Unset, updated
from keywright.origin.accounts.access import get_account, get_named_account
from keywright.origin.buckets import deleted_store
from keywright.origin.buckets import owner_keys_rules as owner_keys
from keywright.origin.buckets import store as rows
from keywright.origin.buckets.access import access_to, get_bucket
from keywright.origin.db.engine import MissingReference, UniqueViolation
from keywright.origin.keys import powers
from keywright.origin.keys.rules import MadeKey, check_end
from keywright.origin.pipeline.unit_of_work import UnitOfWork

MAX_STALENESS_SECONDS = 3_155_760_000
MAX_SELF_SERVE_COUNT = 1000
MAX_FORMER_PREFIXES = 16
"""Of a bucket: each is one more rule of every scanner."""
# Taken as it is, it would be a wish to be safe that does nothing.
_UNBOUNDED = {"field": "body.maxStalenessSeconds", "message": "is required where whenStale is refuse"}


@dataclass(frozen=True, slots=True)
class BucketDraft:
    """What a caller says of a new bucket."""

    name: str
    description: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    is_retrievable: bool = True
    key_prefix: str | None = None
    """None: the deployment's."""
    max_staleness_seconds: int | None = None
    when_stale: WhenStale = WhenStale.SERVE
    self_serve: SelfServe = DEFAULT_SELF_SERVE
    default_scopes: Sequence[str] = ()
    record_addresses: bool = False


@dataclass(frozen=True, slots=True)
class Grant:
    """What another account may do in a bucket."""

    account_name: str
    access: Access
    created_at: datetime
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class BucketView:
    """A bucket as the actor sees it: how far they may go in it, and the projects that use it, each as what."""

    bucket: Bucket
    access: Access
    places: Sequence[tuple[str, Environment]]


async def create(work: UnitOfWork, account_name: str, draft: BucketDraft) -> tuple[Bucket, MadeKey]:
    """A new bucket, born with its owner key, which ends with the key that makes it."""
    account = await get_account(work, account_name, Access.WRITE)
    problems: list[dict[str, str]] = []
    work.dependencies.limits.check_tags(draft.tags, problems)
    if draft.when_stale is WhenStale.REFUSE and draft.max_staleness_seconds is None:
        problems.append(_UNBOUNDED)
    _check_prefix(draft.key_prefix, problems)
    if problems:
        raise BadRequest("The bucket exceeds a limit.", errors=problems)
    bucket = await make(work, account, draft)
    # What makes it may end: then so does what it made.
    owner_key = await owner_keys.make(work, account, bucket, description=None, expires_at=work.actor.expires_at)
    work.audit_draft.concerns("bucket", bucket.id, name=bucket.name)
    powers.tell_of_new(work, bucket)
    return bucket, owner_key


async def make(work: UnitOfWork, account: Account, draft: BucketDraft) -> Bucket:
    """The row of a new bucket and its data key, without rights asked or an owner key made."""
    taken = f"The name {draft.name!r} is taken; bucket names are unique."
    # A gateway may still ask for a deleted bucket by its name: another account's keys must not pass there.
    if await rows.find_account_of_retired(work.tx, draft.name) not in {None, account.id}:
        raise Conflict(taken)
    try:
        bucket = await rows.insert(
            work.tx,
            id=new_id(IdKind.BUCKET, work.dependencies.random_bytes),
            account=account,
            name=draft.name,
            description=draft.description,
            tags=draft.tags,
            is_retrievable=draft.is_retrievable,
            key_prefix=draft.key_prefix or work.dependencies.key_prefix,
            max_staleness_seconds=draft.max_staleness_seconds,
            when_stale=draft.when_stale,
            self_serve=draft.self_serve,
            default_scopes=draft.default_scopes,
            record_addresses=draft.record_addresses,
            now=work.now,
        )
    except UniqueViolation:
        raise Conflict(taken) from None
    if bucket.is_retrievable:
        master_key_id, sealed = work.dependencies.vault.new_data_key(bucket.id)
        await rows.set_data_key(work.tx, bucket.number, master_key_id=master_key_id, sealed=sealed)
    return bucket


async def make_for_project(work: UnitOfWork, account: Account, project_name: str, environment: Environment) -> Bucket:
    """A bucket for an environment of a new project, with an owner key that can be updated through the API."""
    name = f"{project_name}-{environment}"
    is_free = await rows.find_account_of_retired(work.tx, name) in {None, account.id}
    if not is_free or await rows.find(work.tx, name) is not None:
        digits = (BASE62[byte % 36] for byte in work.dependencies.random_bytes(6))
        name = f"{name}-{''.join(digits)}"
    bucket = await make(work, account, BucketDraft(name, description=f"{project_name}, {environment}"))
    await owner_keys.make(work, account, bucket, description=None, expires_at=work.actor.expires_at)
    return bucket


async def list_of(work: UnitOfWork, account_name: str, page: Page) -> tuple[list[Bucket], int]:
    """The buckets of an account that the actor may see, its own and those shared with it. Raises Forbidden for none."""
    account = await get_account(work, account_name, Access.NONE)
    wanted = _visible(work, account, Access.READ)
    if wanted.names == [] and wanted.id is None:
        raise Forbidden(f"{work.actor.holding} has no read access to the account, nor to a bucket of it.")
    return await rows.search(work.tx, account, wanted, now=work.now, limit=page.limit, offset=page.offset)


async def search(
    work: UnitOfWork, account_name: str, *, project: str | None, environment: Environment | None, page: Page
) -> tuple[list[BucketView], int]:
    """The buckets of an account that the actor may know of, its own and those shared with it.

    Who may not read the account as a whole sees those that its permissions reach by name, or by way of `*`.
    """
    account = await get_account(work, account_name, Access.NONE)
    wanted = replace(_visible(work, account, Access.NONE), project=project, environment=environment)
    found, total = await rows.search(work.tx, account, wanted, now=work.now, limit=page.limit, offset=page.offset)
    places = await rows.list_places(work.tx, account, found)
    return [BucketView(one, access_to(work, one), places[one.number]) for one in found], total


async def view(work: UnitOfWork, account_name: str, name: str) -> tuple[Account, BucketView]:
    """A bucket with what the actor may do in it, and the account that looks at it."""
    account, bucket = await get_bucket(work, account_name, name, Access.READ)
    places = await rows.list_places(work.tx, account, [bucket])
    return account, BucketView(bucket, access_to(work, bucket), places[bucket.number])


async def get(work: UnitOfWork, account_name: str, name: str) -> Bucket:
    _, bucket = await get_bucket(work, account_name, name, Access.READ)
    return bucket


async def update(
    work: UnitOfWork,
    account_name: str,
    name: str,
    *,
    description: str | Unset | None,
    tags: Mapping[str, str] | Unset | None,
    max_staleness_seconds: int | Unset | None = UNSET,
    when_stale: WhenStale | Unset | None = UNSET,
    self_serve: Mapping[str, Any] | Unset | None = UNSET,
    default_scopes: Sequence[str] | Unset = UNSET,
    record_addresses: bool | Unset = UNSET,
    key_prefix: str | Unset = UNSET,
) -> Bucket:
    """Replaces what is given; of `self_serve` the members that are given, and null sets all of it to the defaults.

    Another prefix is for the keys to come. Those that there are keep theirs, and stay good.
    """
    _, bucket = await get_bucket(work, account_name, name, Access.WRITE, is_own=True, is_for_update=True)
    work.audit_draft.concerns("bucket", bucket.id, name=bucket.name)
    new_tags = updated(tags, bucket.tags, {})
    problems: list[dict[str, str]] = []
    work.dependencies.limits.check_tags(new_tags, problems)
    new_staleness = updated(max_staleness_seconds, bucket.max_staleness_seconds)
    new_when_stale = updated(when_stale, bucket.when_stale, WhenStale.SERVE)
    if when_stale is WhenStale.REFUSE and max_staleness_seconds is None:
        problems.append(_UNBOUNDED)
    new_prefix = updated(key_prefix, bucket.key_prefix)
    if new_prefix != bucket.key_prefix:
        _check_prefix(new_prefix, problems)
    if problems:
        raise BadRequest("The bucket exceeds a limit.", errors=problems)
    if new_when_stale is WhenStale.REFUSE and new_staleness is None:
        # What was sent is in order by itself: it is what the bucket has already that it does not go with.
        raise Conflict("A stale edge can refuse only where the bucket says when one is stale.", errors=[_UNBOUNDED])
    new_description = updated(description, bucket.description)
    new_self_serve = DEFAULT_SELF_SERVE if self_serve is None else bucket.self_serve
    if not isinstance(self_serve, Unset):
        new_self_serve = replace(new_self_serve, **(self_serve or {}))
    changed = await rows.update(
        work.tx,
        bucket,
        description=new_description,
        tags=new_tags,
        max_staleness_seconds=new_staleness,
        when_stale=new_when_stale,
        self_serve=new_self_serve,
        default_scopes=updated(default_scopes, bucket.default_scopes),
        record_addresses=updated(record_addresses, bucket.record_addresses),
        key_prefix=new_prefix,
        former_key_prefixes=_former_prefixes(bucket, new_prefix),
        now=work.now,
    )
    powers.tell_of_change(work, bucket, changed)
    return changed


async def delete(work: UnitOfWork, account_name: str, name: str) -> None:
    """Deletes a bucket with all that is in it; every key of it ends with the answer."""
    _, bucket = await get_bucket(work, account_name, name, Access.WRITE, is_own=True, is_for_update=True)
    work.audit_draft.concerns("bucket", bucket.id, name=bucket.name)
    await remove(work, bucket)


async def remove(work: UnitOfWork, bucket: Bucket) -> None:
    """The deletion itself, without rights asked: the owner keys go with the bucket, and its usage stays."""
    await owner_keys.delete_all(work, bucket)
    await deleted_store.note_bucket(work.tx, bucket, work.now)
    await rows.delete(work.tx, bucket)


async def share(
    work: UnitOfWork,
    account_name: str,
    name: str,
    *,
    with_account: str,
    access: Access,
    expires_at: datetime | None = None,
) -> Grant:
    """Let another account use the bucket, or change what it may do there and until when.

    What a key that ends shares is shared no longer than that. Raises Forbidden for who asks for more.
    """
    account, bucket = await get_bucket(work, account_name, name, Access.WRITE, is_own=True, is_for_update=True)
    work.audit_draft.concerns("bucket", bucket.id, name=bucket.name, account=with_account, access=access.label)
    if with_account == account.name:
        raise BadRequest("The bucket is this account's own.", errors=[_own_account_error()])
    end = _end_of_grant(work, expires_at)
    other = await get_named_account(work, with_account)
    try:
        await rows.put_grant(work.tx, bucket, other, access, expires_at=end, now=work.now)
    except MissingReference:
        raise NotFound("There is no such account.") from None
    return Grant(with_account, access, work.now, end)


async def list_grants(work: UnitOfWork, account_name: str, name: str, page: Page) -> tuple[list[Grant], int]:
    _, bucket = await get_bucket(work, account_name, name, Access.READ, is_own=True)
    found, total = await rows.list_grants(work.tx, bucket, now=work.now, limit=page.limit, offset=page.offset)
    return [Grant(row.name, Access(row.access), row.created_at, row.expires_at) for row in found], total


async def unshare(work: UnitOfWork, account_name: str, name: str, *, with_account: str) -> None:
    _, bucket = await get_bucket(work, account_name, name, Access.WRITE, is_own=True, is_for_update=True)
    work.audit_draft.concerns("bucket", bucket.id, name=bucket.name, account=with_account)
    other = await get_named_account(work, with_account)
    if other.id not in bucket.grants_at(work.now):
        raise NotFound("The bucket is not shared with that account.")
    await rows.delete_grant(work.tx, bucket, other)


def _check_prefix(prefix: str | None, problems: list[dict[str, str]]) -> None:
    fault = None if prefix is None else find_prefix_fault(prefix)
    if fault is not None:
        problems.append({"field": "body.keyPrefix", "message": fault})


def _former_prefixes(bucket: Bucket, prefix: str) -> list[str]:
    """What the bucket's keys may begin with beside this prefix, the latest last. Raises Conflict for too many."""
    former = [one for one in (*bucket.former_key_prefixes, bucket.key_prefix) if one != prefix]
    if len(former) > MAX_FORMER_PREFIXES:
        least = f"a bucket has at most {MAX_FORMER_PREFIXES} former prefixes, which keys may still have"
        raise Conflict(f"The prefix can't be changed once more: {least}. Take one of those.")
    return former


def _end_of_grant(work: UnitOfWork, expires_at: datetime | None) -> datetime | None:
    check_end(work, "body.expiresOn", expires_at)
    own = work.actor.expires_at
    if own is None or (expires_at is not None and expires_at <= own):
        return expires_at
    if expires_at is not None:
        raise Forbidden(f"The key that shares it expires at {to_iso(own)}, so expiresOn must be no later.")
    return own


def _visible(work: UnitOfWork, account: Account, need: Access) -> rows.BucketSearch:
    """Which buckets of an account the actor may know of, and those that it reaches by name only with `need` or more."""
    grantee = work.actor.grantee
    held = grantee.permissions.buckets
    names = None
    if grantee.owned_bucket_id is None and grantee.on_account(account.id) < Access.READ:
        is_every = held.get(EVERY_BUCKET, Access.NONE) >= Access.READ
        names = None if is_every else [name for name, access in held.items() if access >= need]
    return rows.BucketSearch(names=names, id=grantee.owned_bucket_id)


def _own_account_error() -> dict[str, str]:
    return {"field": "body.account", "message": "is the account that owns the bucket"}
