"""Rules of the provider's own credentials: management keys of an account and owner keys of a bucket.

Both are keys like any other: each belongs to a consumer of its own in the hidden system bucket, whose metadata says
what the key may do (domain/permissions.py) and whose tags say where it is listed.
"""

from __future__ import annotations

from datetime import datetime

from keywright.domain.keyformat import Secret
from keywright.domain.models import Account, Bucket, Consumer, IdKind, Key, ManagementKey, new_id, to_iso
from keywright.domain.permissions import SYSTEM_BUCKET, Access, Grantee, Permissions
from keywright.domain.problems import Conflict, Forbidden, NotFound
from keywright.origin.buckets import store as bucket_rows
from keywright.origin.consumers import store as consumer_rows
from keywright.origin.keys import rules as key_rules
from keywright.origin.keys import store as key_rows
from keywright.origin.keys.rules import KeyDraft, MadeKey
from keywright.origin.pipeline.unit_of_work import Page, UnitOfWork, get_account, get_bucket

KEY_PREFIX = "kwmk"
"""A prefix of their own, so that a leak scanner can tell whose front door is open."""

MAX_MANAGEMENT_KEYS = 1000
MAX_OWNER_KEYS = 100
"""Of an account and of a bucket: enough for any team, few enough to be listed and ended in one step."""


async def create(
    work: UnitOfWork,
    account_name: str,
    *,
    description: str | None,
    expires_at: datetime | None,
    permissions: Permissions,
) -> tuple[ManagementKey, Secret]:
    """A management key of an account; nobody hands on more than they hold."""
    account = await get_account(work, account_name, Access.WRITE)
    if not work.actor.grantee.is_root and not work.actor.grantee.permissions.includes(permissions):
        raise Forbidden("A management key can't have more permissions than the key that creates it.")
    _check_expiry(work, expires_at)
    if len(await _list_tagged(work, "account", account.id)) >= MAX_MANAGEMENT_KEYS:
        raise Conflict(f"An account has at most {MAX_MANAGEMENT_KEYS} management keys; delete some first.")
    grantee = Grantee(account.id, permissions)
    made = await _make(work, grantee, {"account": account.id}, KeyDraft(description, expires_at))
    work.audit_draft.concerns("management-key", made.key.id, account=account.name)
    return ManagementKey(made.key, grantee), made.secret


async def make_root(work: UnitOfWork, account: Account, secret: Secret | None) -> MadeKey:
    """The bootstrap key: everything, in every account."""
    grantee = Grantee(account.id, Permissions(account=Access.WRITE, feed=True), is_root=True)
    draft = KeyDraft("Root key, made at the first start", custom=secret)
    return await _make(work, grantee, {"account": account.id}, draft)


async def list_of(work: UnitOfWork, account_name: str, page: Page) -> tuple[list[ManagementKey], int]:
    account = await get_account(work, account_name, Access.READ)
    visible = [
        ManagementKey(key, grantee)
        for _, key, grantee in await _list_tagged(work, "account", account.id)
        # Who is not root neither sees nor ends the root key, though it may have the run of this account.
        if work.actor.grantee.is_root or not grantee.is_root
    ]
    return visible[page.offset : page.offset + page.limit], len(visible)


async def get(work: UnitOfWork, account_name: str, key_id: str) -> ManagementKey:
    account = await get_account(work, account_name, Access.READ)
    _, key, grantee = await _get_visible(work, account, key_id)
    return ManagementKey(key, grantee)


async def delete(work: UnitOfWork, account_name: str, key_id: str) -> None:
    account = await get_account(work, account_name, Access.WRITE)
    consumer, key, _ = await _get_visible(work, account, key_id)
    work.audit_draft.concerns("management-key", key.id, account=account.name)
    await consumer_rows.delete(work.tx, consumer)


async def create_owner_key(
    work: UnitOfWork, account_name: str, bucket_name: str, *, description: str | None, expires_at: datetime | None
) -> MadeKey:
    """One more owner of a bucket: it may do anything in that bucket and nothing else."""
    # Held: a bucket that is being deleted gets no owner key that would outlive it.
    account, bucket = await get_bucket(work, account_name, bucket_name, Access.WRITE, is_own=True, is_for_update=True)
    _check_expiry(work, expires_at)
    if len(await _list_tagged(work, "bucket", bucket.id)) >= MAX_OWNER_KEYS:
        raise Conflict(f"A bucket has at most {MAX_OWNER_KEYS} owner keys; delete some first.")
    made = await make_owner_key(work, account, bucket, description=description, expires_at=expires_at)
    work.audit_draft.concerns("owner-key", made.key.id, bucket=bucket.name)
    return made


async def make_owner_key(
    work: UnitOfWork, account: Account, bucket: Bucket, *, description: str | None, expires_at: datetime | None
) -> MadeKey:
    """The owner key itself, without rights asked."""
    permissions = Permissions(buckets={bucket.name: Access.WRITE})
    grantee = Grantee(account.id, permissions, owned_bucket_id=bucket.id)
    return await _make(work, grantee, {"bucket": bucket.id}, KeyDraft(description, expires_at))


async def list_owner_keys(work: UnitOfWork, account_name: str, bucket_name: str, page: Page) -> tuple[list[Key], int]:
    _, bucket = await get_bucket(work, account_name, bucket_name, Access.READ, is_own=True)
    keys = [key for _, key, _ in await _list_tagged(work, "bucket", bucket.id)]
    return keys[page.offset : page.offset + page.limit], len(keys)


async def get_owner_key(work: UnitOfWork, account_name: str, bucket_name: str, key_id: str) -> Key:
    _, bucket = await get_bucket(work, account_name, bucket_name, Access.READ, is_own=True)
    _, key = await _get_owner_key(work, bucket, key_id)
    return key


async def delete_owner_key(work: UnitOfWork, account_name: str, bucket_name: str, key_id: str) -> None:
    _, bucket = await get_bucket(work, account_name, bucket_name, Access.WRITE, is_own=True)
    consumer, key = await _get_owner_key(work, bucket, key_id)
    work.audit_draft.concerns("owner-key", key.id, bucket=bucket.name)
    await consumer_rows.delete(work.tx, consumer)


async def delete_owner_keys(work: UnitOfWork, bucket: Bucket) -> None:
    """All of them, as part of deleting the bucket."""
    for consumer, _, _ in await _list_tagged(work, "bucket", bucket.id):
        await consumer_rows.delete(work.tx, consumer)


def _check_expiry(work: UnitOfWork, expires_at: datetime | None) -> None:
    """A key that ends can't make one that outlives it: its end would mean nothing."""
    own = work.actor.expires_at
    if own is not None and (expires_at is None or expires_at > own):
        raise Forbidden(f"The key that creates it expires at {to_iso(own)}, so expiresOn must be set, and no later.")


async def _make(work: UnitOfWork, grantee: Grantee, tags: dict[str, str], draft: KeyDraft) -> MadeKey:
    system = await _get_system_bucket(work)
    id = new_id(IdKind.CONSUMER, work.dependencies.random_bytes)
    consumer = await consumer_rows.insert(
        work.tx,
        id=id,
        bucket=system,
        name=id,
        description=None,
        tags=tags,
        metadata=grantee.to_json(),
        now=work.now,
    )
    (made,) = await key_rules.make(work, system, consumer, [draft])
    return made


async def _get_system_bucket(work: UnitOfWork) -> Bucket:
    bucket = await bucket_rows.find(work.tx, SYSTEM_BUCKET)
    if bucket is None:
        raise RuntimeError("the record has no system bucket: it was not bootstrapped")
    return bucket


async def _list_tagged(work: UnitOfWork, tag: str, value: str) -> list[tuple[Consumer, Key, Grantee]]:
    system = await _get_system_bucket(work)
    consumers, _ = await consumer_rows.list_of(
        work.tx, system, tags={tag: value}, manager_email=None, limit=MAX_MANAGEMENT_KEYS + MAX_OWNER_KEYS, offset=0
    )
    keys = await key_rows.list_of_all(work.tx, [consumer.number for consumer in consumers])
    return [
        (consumer, key, Grantee.from_json(consumer.metadata)) for consumer in consumers for key in keys[consumer.number]
    ]


async def _get_visible(work: UnitOfWork, account: Account, key_id: str) -> tuple[Consumer, Key, Grantee]:
    for consumer, key, grantee in await _list_tagged(work, "account", account.id):
        if key.id == key_id and (work.actor.grantee.is_root or not grantee.is_root):
            return consumer, key, grantee
    raise NotFound("The account has no such management key.")


async def _get_owner_key(work: UnitOfWork, bucket: Bucket, key_id: str) -> tuple[Consumer, Key]:
    for consumer, key, _ in await _list_tagged(work, "bucket", bucket.id):
        if key.id == key_id:
            return consumer, key
    raise NotFound("The bucket has no such owner key.")
