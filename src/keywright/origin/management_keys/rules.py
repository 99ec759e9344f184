"""Rules of management keys: the provider's own credentials.

They are keys like any other: each belongs to a consumer of its own in the hidden system bucket, whose metadata says
what the key may do (domain/permissions.py) and whose tags say where it is listed. So are the owner keys of a bucket
(buckets/owner_keys_rules.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from keywright.domain.keyformat import Secret
from keywright.domain.models import (
    Account,
    Bucket,
    Consumer,
    DisabledBy,
    IdKind,
    Key,
    ManagementKey,
    new_id,
    to_iso,
)
from keywright.domain.paging import Page
from keywright.domain.permissions import SYSTEM_BUCKET, Access, Grantee, Permissions
from keywright.domain.problems import Conflict, Forbidden, NotFound
from keywright.domain.text import is_whole
from keywright.domain.unset import UNSET, Unset, updated
from keywright.origin.accounts.access import get_account
from keywright.origin.auth import session_store as session_rows
from keywright.origin.buckets import store as bucket_rows
from keywright.origin.consumers import store as consumer_rows
from keywright.origin.keys import powers
from keywright.origin.keys import rules as key_rules
from keywright.origin.keys import store as key_rows
from keywright.origin.keys.rules import KeyDraft, MadeKey
from keywright.origin.pipeline.unit_of_work import UnitOfWork

ManagementKeyMade = tuple[ManagementKey, Secret]
"""The key, and the secret that is shown once."""

MAX_MANAGEMENT_KEYS = 1000
"""Of an account: enough for any team, few enough to be listed and ended in one step."""
MAX_LISTED = 1100
"""No owner has more of them, and a little more."""


async def create(
    work: UnitOfWork,
    account_name: str,
    *,
    description: str | None,
    expires_at: datetime | None,
    permissions: Permissions,
    enabled: bool = True,
    allowed_ips: Sequence[str] | None = None,
) -> ManagementKeyMade:
    """A management key of an account; nobody hands on more than they hold."""
    account = await get_account(work, account_name, Access.WRITE)
    if not work.actor.grantee.is_root and not work.actor.grantee.permissions.includes(permissions):
        raise Forbidden("A management key can't have more permissions than the key that creates it.")
    check_expiry(work, expires_at)
    if len(await list_tagged(work, "account", account.id)) >= MAX_MANAGEMENT_KEYS:
        raise Conflict(f"An account has at most {MAX_MANAGEMENT_KEYS} management keys; delete some first.")
    grantee = Grantee(account.id, permissions)
    draft = KeyDraft(description, expires_at, enabled=enabled, allowed_ips=allowed_ips)
    made = await make(work, grantee, {"account": account.id}, draft)
    work.audit_draft.concerns("management-key", made.key.id, account=account.name)
    powers.tell_of_new(work, made.key)
    return ManagementKey(made.key, grantee), made.secret


async def make_root(work: UnitOfWork, account: Account, draft: KeyDraft) -> ManagementKeyMade:
    """A root key: everything, in every account. It is listed in one of them."""
    grantee = Grantee(account.id, Permissions(account=Access.WRITE, feed=True), is_root=True)
    made = await make(work, grantee, {"account": account.id}, draft)
    return ManagementKey(made.key, grantee), made.secret


async def list_of(work: UnitOfWork, account_name: str, page: Page) -> tuple[list[ManagementKey], int]:
    account = await get_account(work, account_name, Access.READ)
    visible = [
        ManagementKey(key, grantee)
        for _, key, grantee in await list_tagged(work, "account", account.id)
        # Who is not root neither sees nor ends the root key, though it may have the run of this account.
        if work.actor.grantee.is_root or not grantee.is_root
    ]
    return visible[page.offset : page.offset + page.limit], len(visible)


async def get(work: UnitOfWork, account_name: str, key_id: str) -> ManagementKey:
    account = await get_account(work, account_name, Access.READ)
    _, key, grantee = await _get_visible(work, account, key_id)
    return ManagementKey(key, grantee)


async def update(
    work: UnitOfWork,
    account_name: str,
    key_id: str,
    *,
    enabled: bool | Unset = UNSET,
    allowed_ips: Sequence[str] | Unset | None = UNSET,
) -> ManagementKey:
    """Switches a management key off or on, or says from where it may be used. The last root key stays on."""
    account = await get_account(work, account_name, Access.WRITE)
    consumer, key, grantee = await _get_visible(work, account, key_id)
    work.audit_draft.concerns("management-key", key.id, account=account.name)
    if grantee.is_root and enabled is False:
        await _require_another_root(work, key)
    changed = await change(work, consumer, key, enabled=enabled, allowed_ips=allowed_ips)
    return ManagementKey(changed, grantee)


async def change(
    work: UnitOfWork,
    consumer: Consumer,
    key: Key,
    *,
    enabled: bool | Unset,
    allowed_ips: Sequence[str] | Unset | None,
) -> Key:
    """The change itself, without rights asked."""
    changed = replace(
        key,
        enabled=updated(enabled, key.enabled),
        disabled_by=key.disabled_by if isinstance(enabled, Unset) else None if enabled else DisabledBy.PROVIDER,
        allowed_ips=updated(allowed_ips, key.allowed_ips),
        updated_at=work.now,
    )
    if not changed.enabled:
        # As when it is deleted: switched on again, it brings nobody back who was signed in.
        await session_rows.delete_of_key(work.tx, key.number)
    powers.tell_of_change(work, key, changed)
    work.tx.concerns(consumer_rows.put(consumer))
    return await key_rows.update(work.tx, key, changed)


async def delete(work: UnitOfWork, account_name: str, key_id: str) -> None:
    account = await get_account(work, account_name, Access.WRITE)
    consumer, key, grantee = await _get_visible(work, account, key_id)
    work.audit_draft.concerns("management-key", key.id, account=account.name)
    if grantee.is_root:
        await _require_another_root(work, key)
    await consumer_rows.delete(work.tx, consumer)


def check_expiry(work: UnitOfWork, expires_at: datetime | None) -> None:
    """A key that ends can't make one that outlives it: its end would mean nothing. Nor is one made that has ended."""
    key_rules.check_end(work, "body.expiresOn", expires_at)
    own = work.actor.expires_at
    if own is not None and (expires_at is None or expires_at > own):
        raise Forbidden(f"The key that creates it expires at {to_iso(own)}, so expiresOn must be set, and no later.")


async def make(work: UnitOfWork, grantee: Grantee, tags: dict[str, str], draft: KeyDraft) -> MadeKey:
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


async def _require_another_root(work: UnitOfWork, key: Key) -> None:
    """Without a root key no account can be managed, and no request makes another one."""
    # Held to the commit, so that of two that end each other, or themselves, the second one sees the first.
    await bucket_rows.find(work.tx, SYSTEM_BUCKET, is_for_update=True)
    others = [row.key for row in await key_rows.list_root_keys(work.tx) if row.key.id != key.id]
    if not any(one.enabled and (one.expires_at is None or one.expires_at > work.now) for one in others):
        make_one = "make another one first, on the machine of the database: `keywright root-key create`"
        raise Conflict(f"This is the last root key that is good, without which accounts can't be managed; {make_one}.")


async def _get_system_bucket(work: UnitOfWork) -> Bucket:
    bucket = await bucket_rows.find(work.tx, SYSTEM_BUCKET)
    if bucket is None:
        raise RuntimeError("the record has no system bucket: it was not bootstrapped")
    return bucket


async def list_tagged(work: UnitOfWork, tag: str, value: str) -> list[tuple[Consumer, Key, Grantee]]:
    system = await _get_system_bucket(work)
    consumers, _ = await consumer_rows.list_of(
        work.tx, system, tags={tag: value}, manager_email=None, limit=MAX_LISTED, offset=0
    )
    keys = await key_rows.list_of_all(work.tx, [consumer.number for consumer in consumers])
    return [
        (consumer, key, Grantee.from_json(consumer.metadata)) for consumer in consumers for key in keys[consumer.number]
    ]


async def _get_visible(work: UnitOfWork, account: Account, key_id: str) -> tuple[Consumer, Key, Grantee]:
    row = (
        await key_rows.find_management_key_by_id(work.tx, key_id) if is_whole("^key_[0-9A-Za-z]{24}$", key_id) else None
    )
    if row is not None:
        system = await _get_system_bucket(work)
        consumer = await consumer_rows.find(work.tx, system, row.consumer_name, tags={"account": account.id})
        grantee = Grantee.from_json(row.consumer_metadata)
        if consumer is not None and (work.actor.grantee.is_root or not grantee.is_root):
            return consumer, row.key, grantee
    raise NotFound("The account has no such management key.")
