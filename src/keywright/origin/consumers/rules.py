"""Rules of consumers and of those who manage them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from keywright.domain.keyformat import Secret
from keywright.domain.limits import Quota, RateLimit
from keywright.domain.models import Bucket, Consumer, IdKind, Key, Manager, Plan, new_id
from keywright.domain.paging import Page
from keywright.domain.permissions import Access
from keywright.domain.problems import BadRequest, Conflict, NotFound
from keywright.domain.unset import UNSET, Unset, updated
from keywright.origin.auth.actors import EMAIL_LINK_ISSUER, EMAIL_LINK_SUBJECT
from keywright.origin.buckets import deleted_store
from keywright.origin.buckets.access import get_bucket
from keywright.origin.consumers import store as rows
from keywright.origin.consumers.access import ConsumerPath, Tags, get_consumer
from keywright.origin.consumers.store import ConsumerSearch, Place
from keywright.origin.db.engine import MissingReference, UniqueViolation
from keywright.origin.keys import powers
from keywright.origin.keys import rules as key_rules
from keywright.origin.keys import store as key_rows
from keywright.origin.keys.rules import KeyDraft
from keywright.origin.pipeline.unit_of_work import UnitOfWork
from keywright.origin.plans import rules as plan_rules

__all__ = [
    "ConsumerDraft", "ConsumerSearch", "ConsumerView", "Include", "ManagerDraft", "Place", "add_manager", "create",
    "delete", "delete_manager", "get", "get_manager", "list_managers", "list_of", "search", "update",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class ManagerDraft:
    """An e-mail address alone invites; with the user's `sub` it makes a manager.

    Without an `issuer` the subject is one of the identity provider that this deployment has.
    """

    email: str
    sub: str | None = None
    issuer: str | None = None

    def issuer_or(self, configured: str | None) -> str | None:
        """Who names the subject; None for an invite, and where there is no provider yet."""
        if self.sub is None or self.issuer is not None:
            return self.issuer
        # As the list of managers shows whoever came by link, and might be copied from there.
        return EMAIL_LINK_ISSUER if self.sub == EMAIL_LINK_SUBJECT + self.email.lower() else configured


@dataclass(frozen=True, slots=True)
class ConsumerDraft:
    name: str
    description: str | None = None
    tags: Tags = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    managers: Sequence[ManagerDraft] = ()
    keys: Sequence[KeyDraft] = ()
    enabled: bool = True
    scopes: Sequence[str] | None = None
    allowed_ips: Sequence[str] | None = None
    plan: str | None = None
    rate_limits: Sequence[RateLimit] | None = None
    quotas: Sequence[Quota] | None = None


@dataclass(frozen=True, slots=True)
class Include:
    """What a reader wants to see of each consumer besides itself."""

    keys: bool = False
    managers: bool = False
    invites: bool = False
    secrets: bool = False


@dataclass(frozen=True, slots=True)
class ConsumerView:
    """A consumer with what was asked for; None is what was not. `secrets` are by key id."""

    consumer: Consumer
    keys: Sequence[Key] | None = None
    managers: Sequence[Manager] | None = None
    invites: Sequence[Manager] | None = None
    secrets: Mapping[str, Secret] = field(default_factory=dict)


async def create(work: UnitOfWork, account_name: str, bucket_name: str, draft: ConsumerDraft) -> ConsumerView:
    """A new consumer, with its managers and keys if any; keys made here are shown."""
    _, bucket = await get_bucket(work, account_name, bucket_name, Access.WRITE)
    plan = await _find_plan(work, bucket, draft.plan)
    _check_limits(work, draft.tags, draft.metadata, powers.granted_by(bucket, plan, draft.scopes))
    try:
        consumer = await rows.insert(
            work.tx,
            id=new_id(IdKind.CONSUMER, work.dependencies.random_bytes),
            bucket=bucket,
            name=draft.name,
            description=draft.description,
            tags=draft.tags,
            metadata=draft.metadata,
            enabled=draft.enabled,
            scopes=draft.scopes,
            allowed_ips=draft.allowed_ips,
            plan=plan,
            rate_limits=draft.rate_limits,
            quotas=draft.quotas,
            now=work.now,
        )
    except UniqueViolation:
        raise Conflict(f"The bucket has a consumer named {draft.name!r} already.") from None
    except MissingReference:
        raise NotFound("The account has no such bucket.") from None
    work.audit_draft.concerns("consumer", consumer.id, name=consumer.name, bucket=bucket.name)
    powers.tell_of_new(work, consumer)
    managers = [await _make_manager(work, consumer, manager) for manager in draft.managers]
    key_rules.check_drafts(work, bucket, consumer, draft.keys, "body.apiKeys.{}")
    made = await key_rules.make(work, bucket, consumer, draft.keys)
    return ConsumerView(
        consumer,
        keys=[one.key for one in reversed(made)] or None,
        managers=[manager for manager in reversed(managers) if manager.sub is not None] or None,
        invites=[manager for manager in reversed(managers) if manager.sub is None] or None,
        secrets={one.key.id: one.secret for one in made},
    )


async def list_of(
    work: UnitOfWork,
    account_name: str,
    bucket_name: str,
    *,
    tags: Tags,
    manager_email: str | None,
    include: Include,
    page: Page,
    unused_since: datetime | None = None,
) -> tuple[list[ConsumerView], int]:
    """With `unused_since` those that were made before that moment, and of which no key was found VALID since."""
    _, bucket = await get_bucket(work, account_name, bucket_name, Access.READ)
    email = manager_email.lower() if manager_email is not None else None
    found, total = await rows.list_of(
        work.tx,
        bucket,
        tags=tags,
        manager_email=email,
        unused_since=unused_since,
        limit=page.limit,
        offset=page.offset,
    )
    numbers = [consumer.number for consumer in found]
    views = {consumer.number: ConsumerView(consumer) for consumer in found}
    if include.keys:
        keys = await key_rows.list_of_all(work.tx, numbers)
        secrets: Mapping[str, Secret] = {}
        if include.secrets:
            secrets = await key_rules.reveal(work, bucket, found, [key for some in keys.values() for key in some])
        views = {n: replace(view, keys=keys[n], secrets=secrets) for n, view in views.items()}
    if include.managers or include.invites:
        managers = await rows.list_managers_of_all(work.tx, numbers)
        views = {n: _with_managers(view, managers[n], include) for n, view in views.items()}
    return list(views.values()), total


async def search(
    work: UnitOfWork, account_name: str, bucket_name: str, wanted: ConsumerSearch, *, place: Place, limit: int
) -> tuple[list[ConsumerView], int]:
    """The consumers that are looked for, from a place in the list on: newest first, with keys, managers and invites.

    One more than `limit` is returned where there are more; and how many there are in all.
    """
    _, bucket = await get_bucket(work, account_name, bucket_name, Access.READ)
    found, total = await rows.search(work.tx, bucket, wanted, place=place, limit=limit + 1)
    numbers = [consumer.number for consumer in found]
    keys = await key_rows.list_of_all(work.tx, numbers)
    managers = await rows.list_managers_of_all(work.tx, numbers)
    views = (ConsumerView(consumer, keys=keys[consumer.number]) for consumer in found)
    everybody = Include(managers=True, invites=True)
    return [_with_managers(view, managers[view.consumer.number], everybody) for view in views], total


async def get(work: UnitOfWork, path: ConsumerPath, include: Include) -> ConsumerView:
    bucket, consumer = await get_consumer(work, path, Access.READ)
    view = ConsumerView(consumer)
    if include.keys:
        keys = (await key_rows.list_of_all(work.tx, [consumer.number]))[consumer.number]
        secrets = await key_rules.reveal(work, bucket, [consumer], keys) if include.secrets else {}
        view = replace(view, keys=keys, secrets=secrets)
    if include.managers or include.invites:
        managers = await rows.list_managers_of_all(work.tx, [consumer.number])
        view = _with_managers(view, managers[consumer.number], include)
    return view


async def update(
    work: UnitOfWork,
    path: ConsumerPath,
    *,
    description: str | Unset | None,
    tags: Tags | Unset | None,
    metadata: Mapping[str, Any] | Unset | None,
    enabled: bool | Unset = UNSET,
    scopes: Sequence[str] | Unset | None = UNSET,
    allowed_ips: Sequence[str] | Unset | None = UNSET,
    plan: str | Unset | None = UNSET,
    rate_limits: Sequence[RateLimit] | Unset | None = UNSET,
    quotas: Sequence[Quota] | Unset | None = UNSET,
) -> Consumer:
    """Replaces what is given as a whole; None empties it, and takes scopes, addresses and limits back to nothing said.

    `plan` is the name of a plan of the bucket, None for none.
    """
    bucket, consumer = await get_consumer(work, path, Access.WRITE, is_for_update=True)
    new_tags = updated(tags, consumer.tags, {})
    new_metadata = updated(metadata, consumer.metadata, {})
    new_scopes = updated(scopes, consumer.scopes)
    new_plan = consumer.plan if isinstance(plan, Unset) else await _find_plan(work, bucket, plan, consumer.plan)
    granted = powers.granted_by(bucket, new_plan, new_scopes)
    told = []
    if (new_metadata, new_scopes, new_plan) != (consumer.metadata, consumer.scopes, consumer.plan):
        told = await key_rows.list_told(work.tx, consumer)
    _check_limits(work, new_tags, new_metadata, granted, told)
    new_description = updated(description, consumer.description)
    changed = replace(
        consumer,
        description=new_description,
        tags=new_tags,
        metadata=new_metadata,
        enabled=updated(enabled, consumer.enabled),
        scopes=new_scopes,
        allowed_ips=updated(allowed_ips, consumer.allowed_ips),
        plan=new_plan,
        rate_limits=updated(rate_limits, consumer.rate_limits),
        quotas=updated(quotas, consumer.quotas),
        updated_at=work.now,
    )
    powers.tell_of_change(work, consumer, changed)
    return await rows.update(work.tx, consumer, changed)


async def delete(work: UnitOfWork, path: ConsumerPath) -> None:
    """Deletes a consumer; all its keys end with the answer."""
    _, consumer = await get_consumer(work, path, Access.WRITE, is_for_update=True)
    await deleted_store.note_consumer(work.tx, consumer.number, work.now)
    await rows.delete(work.tx, consumer)


async def add_manager(work: UnitOfWork, path: ConsumerPath, draft: ManagerDraft) -> Manager:
    """A manager or an invite. Naming the `sub` of one who is only invited turns the invite into a manager.

    So it does for a manager whom another provider named than the one that there is now.
    """
    _, consumer = await get_consumer(work, path, Access.WRITE, is_for_update=True)
    known = await rows.find_manager(work.tx, consumer, email=draft.email.lower())
    configured = work.dependencies.issuer
    issuer = draft.issuer_or(configured)
    if known is not None and draft.sub is not None:
        is_lost = known.issuer != issuer and (known.issuer is None or known.issuer != configured)
        if known.sub is None or is_lost:
            return await rows.set_manager_sub(work.tx, known, draft.sub, issuer)
    return await _make_manager(work, consumer, draft)


async def list_managers(
    work: UnitOfWork, path: ConsumerPath, *, with_invites: bool, page: Page
) -> tuple[list[Manager], int]:
    _, consumer = await get_consumer(work, path, Access.READ)
    return await rows.list_managers(work.tx, consumer, with_invites=with_invites, limit=page.limit, offset=page.offset)


async def get_manager(work: UnitOfWork, path: ConsumerPath, manager_id: str) -> Manager:
    """A manager or an invite by its id."""
    _, consumer = await get_consumer(work, path, Access.READ)
    for manager in (await rows.list_managers_of_all(work.tx, [consumer.number]))[consumer.number]:
        if manager.id == manager_id:
            return manager
    raise NotFound("The consumer has no such manager.")


async def delete_manager(work: UnitOfWork, path: ConsumerPath, manager_id: str) -> Manager:
    _, consumer = await get_consumer(work, path, Access.WRITE)
    manager = None
    if manager_id.isascii() and manager_id.isprintable():
        manager = await rows.delete_manager(work.tx, consumer, manager_id)
    if manager is None:
        raise NotFound("The consumer has no such manager.")
    work.audit_draft.concerns("manager", manager.id)
    return manager


async def _make_manager(work: UnitOfWork, consumer: Consumer, draft: ManagerDraft) -> Manager:
    try:
        manager = await rows.insert_manager(
            work.tx,
            id=new_id(IdKind.MANAGER, work.dependencies.random_bytes),
            consumer=consumer,
            email=draft.email.lower(),
            sub=draft.sub,
            issuer=draft.issuer_or(work.dependencies.issuer),
            now=work.now,
        )
    except UniqueViolation:
        raise Conflict(f"The consumer has a manager or an invite for {draft.email!r} already.") from None
    work.audit_draft.concerns("manager", manager.id)
    return manager


async def _find_plan(work: UnitOfWork, bucket: Bucket, name: str | None, had: Plan | None = None) -> Plan | None:
    """The plan that a consumer is to have. Raises BadRequest where the bucket has none of that name."""
    if name is None or (had is not None and had.name == name):
        return None if name is None else had
    return await plan_rules.find_to_give(work, bucket, name)


def _with_managers(view: ConsumerView, managers: Sequence[Manager], include: Include) -> ConsumerView:
    return replace(
        view,
        managers=[one for one in managers if one.sub is not None] if include.managers else None,
        invites=[one for one in managers if one.sub is None] if include.invites else None,
    )


def _check_limits(
    work: UnitOfWork,
    tags: Tags,
    metadata: Mapping[str, Any],
    granted: Sequence[str],
    told: Sequence[tuple[Mapping[str, Any], Sequence[str] | None]] = (),
) -> None:
    """`told` is what an API is told of its keys besides: the metadata and the scopes of each that has any."""
    problems: list[dict[str, str]] = []
    limits = work.dependencies.limits
    limits.check_tags(tags, problems)
    limits.check_metadata(metadata, problems)
    for key_metadata, scopes in (({}, None), *told):
        if not problems:
            limits.check_identity(metadata, key_metadata, granted if scopes is None else scopes, problems)
    if problems:
        raise BadRequest("The consumer exceeds a limit.", errors=problems)
