"""Rules of owner keys, which may do anything in one bucket and nothing else. One is made with each bucket."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from keywright.domain.models import Account, Bucket, Consumer, Key
from keywright.domain.paging import Page
from keywright.domain.permissions import Access, Grantee, Permissions
from keywright.domain.problems import Conflict, NotFound
from keywright.domain.unset import UNSET, Unset
from keywright.origin.buckets.access import get_bucket
from keywright.origin.consumers import store as consumer_rows
from keywright.origin.keys import powers
from keywright.origin.keys.rules import KeyDraft, MadeKey
from keywright.origin.management_keys import rules as management
from keywright.origin.pipeline.unit_of_work import UnitOfWork

MAX_OWNER_KEYS = 100
"""Of a bucket: enough for any team, few enough to be listed and ended in one step."""


async def create(
    work: UnitOfWork,
    account_name: str,
    bucket_name: str,
    *,
    description: str | None,
    expires_at: datetime | None,
    enabled: bool = True,
    allowed_ips: Sequence[str] | None = None,
) -> MadeKey:
    """One more owner of a bucket: it may do anything in that bucket and nothing else."""
    # Held: a bucket that is being deleted gets no owner key that would outlive it.
    account, bucket = await get_bucket(work, account_name, bucket_name, Access.WRITE, is_own=True, is_for_update=True)
    management.check_expiry(work, expires_at)
    if len(await management.list_tagged(work, "bucket", bucket.id)) >= MAX_OWNER_KEYS:
        raise Conflict(f"A bucket has at most {MAX_OWNER_KEYS} owner keys; delete some first.")
    draft = KeyDraft(description, expires_at, enabled=enabled, allowed_ips=allowed_ips)
    made = await _make(work, account, bucket, draft)
    work.audit_draft.concerns("owner-key", made.key.id, bucket=bucket.name)
    powers.tell_of_new(work, made.key)
    return made


async def make(
    work: UnitOfWork, account: Account, bucket: Bucket, *, description: str | None, expires_at: datetime | None
) -> MadeKey:
    """The owner key itself, without rights asked."""
    return await _make(work, account, bucket, KeyDraft(description, expires_at))


async def _make(work: UnitOfWork, account: Account, bucket: Bucket, draft: KeyDraft) -> MadeKey:
    permissions = Permissions(buckets={bucket.name: Access.WRITE})
    grantee = Grantee(account.id, permissions, owned_bucket_id=bucket.id)
    return await management.make(work, grantee, {"bucket": bucket.id}, draft)


async def list_of(work: UnitOfWork, account_name: str, bucket_name: str, page: Page) -> tuple[list[Key], int]:
    _, bucket = await get_bucket(work, account_name, bucket_name, Access.READ, is_own=True)
    keys = [key for _, key, _ in await management.list_tagged(work, "bucket", bucket.id)]
    return keys[page.offset : page.offset + page.limit], len(keys)


async def get(work: UnitOfWork, account_name: str, bucket_name: str, key_id: str) -> Key:
    _, bucket = await get_bucket(work, account_name, bucket_name, Access.READ, is_own=True)
    _, key = await _get(work, bucket, key_id)
    return key


async def update(
    work: UnitOfWork,
    account_name: str,
    bucket_name: str,
    key_id: str,
    *,
    enabled: bool | Unset = UNSET,
    allowed_ips: Sequence[str] | Unset | None = UNSET,
) -> Key:
    """Switches an owner key off or on, or says from where it may be used."""
    _, bucket = await get_bucket(work, account_name, bucket_name, Access.WRITE, is_own=True)
    consumer, key = await _get(work, bucket, key_id)
    work.audit_draft.concerns("owner-key", key.id, bucket=bucket.name)
    return await management.change(work, consumer, key, enabled=enabled, allowed_ips=allowed_ips)


async def delete(work: UnitOfWork, account_name: str, bucket_name: str, key_id: str) -> None:
    _, bucket = await get_bucket(work, account_name, bucket_name, Access.WRITE, is_own=True)
    consumer, key = await _get(work, bucket, key_id)
    work.audit_draft.concerns("owner-key", key.id, bucket=bucket.name)
    await consumer_rows.delete(work.tx, consumer)


async def delete_all(work: UnitOfWork, bucket: Bucket) -> None:
    """All of them, as part of deleting the bucket."""
    for consumer, _, _ in await management.list_tagged(work, "bucket", bucket.id):
        await consumer_rows.delete(work.tx, consumer)


async def _get(work: UnitOfWork, bucket: Bucket, key_id: str) -> tuple[Consumer, Key]:
    for consumer, key, _ in await management.list_tagged(work, "bucket", bucket.id):
        if key.id == key_id:
            return consumer, key
    raise NotFound("The bucket has no such owner key.")
