"""Rules of keys: how they come to be, are shown, change, roll and end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from keywright.domain import keyformat
from keywright.domain.keyformat import Secret
from keywright.domain.limits import RateLimit
from keywright.domain.models import Bucket, Consumer, DisabledBy, IdKind, Key, new_id
from keywright.domain.paging import Page
from keywright.domain.permissions import Access
from keywright.domain.problems import BadRequest, Conflict, Forbidden, NotFound
from keywright.domain.unset import UNSET, Unset, updated
from keywright.origin.buckets import store as bucket_rows
from keywright.origin.buckets.access import access_to
from keywright.origin.consumers.access import ConsumerPath, Tags, get_consumer
from keywright.origin.db.engine import MissingReference, UniqueViolation
from keywright.origin.keys import powers
from keywright.origin.keys import store as rows
from keywright.origin.keys.vault import BucketVault
from keywright.origin.pipeline.unit_of_work import UnitOfWork

NO_TAGS: Tags = {}


@dataclass(frozen=True, slots=True)
class KeyDraft:
    """What a caller says of a new key; `custom` is a secret that it brings along."""

    description: str | None = None
    expires_at: datetime | None = None
    custom: Secret | None = None
    enabled: bool = True
    scopes: Sequence[str] | None = None
    allowed_ips: Sequence[str] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    tags: Tags = field(default_factory=dict)
    rate_limits: Sequence[RateLimit] | None = None


@dataclass(frozen=True, slots=True)
class MadeKey:
    """A key at the only moment when its secret is surely at hand."""

    key: Key
    secret: Secret = field(repr=False)


async def create(
    work: UnitOfWork, path: ConsumerPath, drafts: Sequence[KeyDraft], *, is_bulk: bool = False
) -> list[MadeKey]:
    """New keys for a consumer, all or none, in the order of the drafts. Raises BadRequest for one that has ended."""
    bucket, consumer = await get_consumer(work, path, Access.WRITE)
    for index, draft in enumerate(drafts):
        # A key that is brought along may have ended where it comes from, and is kept as what it is.
        if draft.custom is None:
            check_end(work, f"body.{index}.expiresOn" if is_bulk else "body.expiresOn", draft.expires_at)
    check_drafts(work, bucket, consumer, drafts, "body.{}" if is_bulk else "body")
    return await make(work, bucket, consumer, drafts)


def check_drafts(work: UnitOfWork, bucket: Bucket, consumer: Consumer, drafts: Sequence[KeyDraft], place: str) -> None:
    """Raises BadRequest for what is too large, and for scopes that the consumer has not. `place` is where each draft
    stands in the body, with {} for its number.
    """
    problems: list[dict[str, str]] = []
    for index, draft in enumerate(drafts):
        here, limits = place.format(index), work.dependencies.limits
        limits.check_tags(draft.tags, problems, place=here)
        limits.check_metadata(draft.metadata, problems, place=here)
        broken = powers.find_ungranted(bucket, consumer, draft.scopes)
        if broken is not None:
            problems.append({"field": f"{here}.scopes", "message": broken})
        if not problems and (draft.metadata or draft.scopes):
            powers.check_identity(work, bucket, consumer, draft, problems, place=here)
    if problems:
        raise BadRequest("The key exceeds a limit.", errors=problems)


async def make(work: UnitOfWork, bucket: Bucket, consumer: Consumer, drafts: Sequence[KeyDraft]) -> list[MadeKey]:
    """The keys themselves, without rights asked. Raises Conflict when a custom secret is in the bucket already."""
    if not drafts:
        return []
    vault = await _open_vault(work, bucket)
    new: list[rows.NewKey] = []
    secrets: list[Secret] = []
    for draft in drafts:
        secret = draft.custom or keyformat.generate(bucket.key_prefix, work.dependencies.random_bytes)
        id = new_id(IdKind.KEY, work.dependencies.random_bytes)
        new.append(
            rows.NewKey(
                id=id,
                digest=work.dependencies.digester.digest(secret.reveal()),
                hint=keyformat.hint_of(secret),
                description=draft.description,
                expires_at=draft.expires_at,
                sealed=vault.seal(secret, consumer_id=consumer.id, key_id=id) if vault else None,
                enabled=draft.enabled,
                disabled_by=None if draft.enabled else DisabledBy.PROVIDER,
                scopes=draft.scopes,
                allowed_ips=draft.allowed_ips,
                metadata=draft.metadata,
                tags=draft.tags,
                rate_limits=draft.rate_limits,
            )
        )
        secrets.append(secret)
    try:
        made = await rows.insert_all(work.tx, consumer, new, now=work.now)
    except UniqueViolation:
        raise Conflict("A key with this value exists in the bucket already.") from None
    except MissingReference:
        raise NotFound("The bucket has no such consumer.") from None
    for key in made:
        work.audit_draft.concerns("key", key.id)
        powers.tell_of_new(work, key)
    return [MadeKey(key, secret) for key, secret in zip(made, secrets, strict=True)]


def check_end(work: UnitOfWork, field: str, expires_at: datetime | None) -> None:
    """Raises BadRequest for an end that is past: a new key that has ended already is nobody's wish."""
    if expires_at is not None and expires_at <= work.now:
        raise BadRequest("The end has passed already.", errors=[{"field": field, "message": "must lie in the future"}])


async def list_of(
    work: UnitOfWork, path: ConsumerPath, page: Page, *, tags: Tags = NO_TAGS
) -> tuple[Bucket, Consumer, list[Key], int]:
    bucket, consumer = await get_consumer(work, path, Access.READ)
    keys, total = await rows.list_of(work.tx, consumer, tags=tags, limit=page.limit, offset=page.offset)
    return bucket, consumer, keys, total


async def get(
    work: UnitOfWork, path: ConsumerPath, key_id: str, *, tags: Tags = NO_TAGS
) -> tuple[Bucket, Consumer, Key]:
    """`tags` guard the key: one that has others is not found."""
    bucket, consumer = await get_consumer(work, path, Access.READ)
    return bucket, consumer, await _get(work, consumer, key_id, tags=tags, is_for_update=False)


async def reveal(
    work: UnitOfWork, bucket: Bucket, consumers: Sequence[Consumer], keys: Sequence[Key]
) -> dict[str, Secret]:
    """The secrets of keys of these consumers, by key id. Raises BadRequest in a bucket that keeps none.

    Who may only read a bucket sees no secrets: with them it could act as any consumer. Raises Forbidden.
    """
    if access_to(work, bucket) < Access.WRITE:
        raise Forbidden("Showing keys needs write access to the bucket.")
    if not bucket.is_retrievable:
        raise BadRequest(
            "The keys of this bucket can't be shown: it was created with isRetrievable false.",
            errors=[{"field": "query.key-format", "message": "visible is not possible in this bucket"}],
        )
    vault = await _open_vault(work, bucket)
    ids = {consumer.number: consumer.id for consumer in consumers}
    return {
        key.id: vault.open(key.sealed, consumer_id=ids[key.consumer_number], key_id=key.id)
        for key in keys
        if vault is not None and key.sealed is not None
    }


async def show(work: UnitOfWork, path: ConsumerPath, key_id: str) -> Secret:
    """The secret of one key. Raises BadRequest and Forbidden as `reveal` does."""
    bucket, consumer = await get_consumer(work, path, Access.READ)
    key = await _get(work, consumer, key_id, tags=NO_TAGS, is_for_update=False)
    work.audit_draft.concerns("key", key.id)
    return (await reveal(work, bucket, [consumer], [key]))[key.id]


async def update(
    work: UnitOfWork,
    path: ConsumerPath,
    key_id: str,
    *,
    description: str | Unset | None,
    expires_at: datetime | Unset | None,
    secret: str | Unset | None,
    enabled: bool | Unset = UNSET,
    scopes: Sequence[str] | Unset | None = UNSET,
    allowed_ips: Sequence[str] | Unset | None = UNSET,
    metadata: Mapping[str, Any] | Unset = UNSET,
    tags: Tags | Unset = UNSET,
    rate_limits: Sequence[RateLimit] | Unset | None = UNSET,
    by: DisabledBy = DisabledBy.PROVIDER,
    guard: Tags = NO_TAGS,
) -> Key:
    """Replaces what is given. A secret can't be changed, but may be sent back as it was read.

    `by` is who switches the key, if it is. Raises Forbidden for a manager who would undo what the provider did.
    """
    bucket, consumer = await get_consumer(work, path, Access.WRITE)
    key = await _get(work, consumer, key_id, tags=guard, is_for_update=True)
    work.audit_draft.concerns("key", key.id)
    if isinstance(secret, str) and not is_value_of(work, key, secret):
        raise BadRequest(
            "The value of a key can't be changed: create another key, or roll the consumer's keys.",
            errors=[{"field": "body.key", "message": "is not the value of this key"}],
        )
    changed = replace(
        key,
        description=updated(description, key.description),
        expires_at=updated(expires_at, key.expires_at),
        **_switched(key, enabled, by),
        scopes=updated(scopes, key.scopes),
        allowed_ips=updated(allowed_ips, key.allowed_ips),
        metadata=updated(metadata, key.metadata),
        tags=updated(tags, key.tags),
        rate_limits=updated(rate_limits, key.rate_limits),
        updated_at=work.now,
    )
    _check_change(work, bucket, consumer, key, changed)
    powers.tell_of_change(work, key, changed)
    return await rows.update(work.tx, key, changed)


async def delete(work: UnitOfWork, path: ConsumerPath, key_id: str, *, guard: Tags = NO_TAGS) -> None:
    _, consumer = await get_consumer(work, path, Access.WRITE)
    key = await _get(work, consumer, key_id, tags=guard, is_for_update=True)
    work.audit_draft.concerns("key", key.id)
    await rows.delete(work.tx, key)


async def roll(
    work: UnitOfWork, path: ConsumerPath, *, expires_at: datetime | None, is_shown: bool = True
) -> tuple[Bucket, MadeKey]:
    """A new key without expiry; every other key that would outlive `expires_at` (now, if None) ends then.

    No key's life is made longer, and none that has ended is touched; one that is switched off ends as well, so that
    switching it on never brings back what was rolled. `is_shown`: the caller shows the new key. Raises
    BadRequest where nobody could ever see it: that would lock the consumer out.
    """
    bucket, consumer = await get_consumer(work, path, Access.WRITE, is_for_update=True)
    if not (is_shown or bucket.is_retrievable):
        raise BadRequest(
            "The keys of this bucket are shown only when they are made: ask for the new one with "
            "Prefer: return=representation."
        )
    check_end(work, "body.expiresOn", expires_at)
    moment = expires_at or work.now
    for key in await rows.list_outliving(work.tx, consumer, moment):
        await rows.update(work.tx, key, replace(key, expires_at=moment, updated_at=work.now))
    (made,) = await make(work, bucket, consumer, [KeyDraft()])
    return bucket, made


def _switched(key: Key, enabled: bool | Unset, by: DisabledBy) -> dict[str, Any]:
    """Whether the key is on, and who switched it off. What a manager switched off the provider may make its own."""
    is_providers = key.disabled_by is DisabledBy.PROVIDER
    if isinstance(enabled, Unset) or (not enabled and is_providers):
        return {}
    if enabled and is_providers and by is DisabledBy.MANAGER:
        raise Forbidden("The provider has switched this key off, and alone can switch it on.")
    return {"enabled": enabled, "disabled_by": None if enabled else by}


def _check_change(work: UnitOfWork, bucket: Bucket, consumer: Consumer, key: Key, changed: Key) -> None:
    """Raises BadRequest for what is too large, or wider than the consumer. What is there already may stay."""
    problems: list[dict[str, str]] = []
    work.dependencies.limits.check_tags(changed.tags, problems)
    work.dependencies.limits.check_metadata(changed.metadata, problems)
    if set(changed.scopes or ()) != set(key.scopes or ()):
        broken = powers.find_ungranted(bucket, consumer, changed.scopes)
        if broken is not None:
            problems.append({"field": "body.scopes", "message": broken})
    if not problems and (changed.metadata != key.metadata or changed.scopes != key.scopes):
        powers.check_identity(work, bucket, consumer, changed, problems)
    if problems:
        raise BadRequest("The key exceeds a limit.", errors=problems)


async def _get(work: UnitOfWork, consumer: Consumer, key_id: str, *, tags: Tags, is_for_update: bool) -> Key:
    key = None
    if key_id.isascii() and key_id.isprintable():
        key = await rows.find(work.tx, consumer, key_id, is_for_update=is_for_update)
    if key is None or not tags.items() <= key.tags.items():
        raise NotFound("The consumer has no such key" + (", or it has other tags." if tags else "."))
    return key


def is_value_of(work: UnitOfWork, key: Key, secret: str) -> bool:
    """Whether a text is this key, whole or masked."""
    return secret == keyformat.mask(key.hint) or work.dependencies.digester.digest(secret) == key.digest


async def _open_vault(work: UnitOfWork, bucket: Bucket) -> BucketVault | None:
    if not bucket.is_retrievable:
        return None
    try:
        master_key_id, sealed = await bucket_rows.get_data_key(work.tx, bucket.number)
    except MissingReference:
        raise NotFound("The account has no such bucket.") from None
    return work.dependencies.vault.bucket(bucket.id, master_key_id, sealed)
