"""Rules of self-serve: what an end user may do, with the consumers that the user manages and with no others.

A consumer that the user does not manage is not found, whether it exists or not. For one that is, the user acts with the
bucket's own rights, so that a key is made, rolled and ended by the same rules whoever asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from keywright.domain.keyformat import Secret
from keywright.domain.models import BASE62, Bucket, Consumer, DisabledBy, Key, Manager
from keywright.domain.names import BUCKET_NAME, CONSUMER_NAME
from keywright.domain.permissions import Access, Grantee, Permissions
from keywright.domain.problems import Conflict, Forbidden, NotFound
from keywright.domain.text import is_whole
from keywright.domain.unset import UNSET, Unset
from keywright.origin.accounts import store as account_rows
from keywright.origin.auth.actors import EMAIL_LINK_ISSUER
from keywright.origin.buckets import store as bucket_rows
from keywright.origin.consumers import rules as consumer_rules
from keywright.origin.consumers import store as consumer_rows
from keywright.origin.consumers.access import ConsumerPath
from keywright.origin.consumers.rules import ConsumerDraft, ConsumerView, ManagerDraft
from keywright.origin.keys import rules as key_rules
from keywright.origin.keys import store as key_rows
from keywright.origin.keys.rules import KeyDraft, MadeKey
from keywright.origin.pipeline.unit_of_work import UnitOfWork
from keywright.origin.self_serve import store as rows

MOST_SHOWN = 1000
NAME_CHARACTERS = 16


@dataclass(frozen=True, slots=True)
class ConsumerRef:
    """A consumer as an end user names it: by its name, or by its id."""

    bucket_name: str
    name: str | None = None
    id: str | None = None


async def get_bucket(work: UnitOfWork, name: str) -> Bucket:
    """A bucket that is open to end users. Raises NotFound."""
    bucket = await bucket_rows.find(work.tx, name) if is_whole(BUCKET_NAME, name) else None
    if bucket is None or bucket.account_id is None or not bucket.self_serve.enabled:
        raise NotFound("There is no such bucket, or self-serve is off for it.")
    work.audit_draft.account_id = bucket.account_id
    return bucket


async def may_manage(work: UnitOfWork, path: Mapping[str, str]) -> None:
    """Whether the user manages the consumer that an address names. Raises NotFound."""
    await _find(work, _ref_of(path))


async def may_create_keys(work: UnitOfWork, path: Mapping[str, str]) -> None:
    """Whether the user may make keys of the consumer that an address names. Raises NotFound, Forbidden."""
    bucket, _ = await _find(work, _ref_of(path))
    _check_creates_keys(bucket)


async def may_create(work: UnitOfWork, path: Mapping[str, str]) -> None:
    """Whether the user may make consumers in the bucket that an address names. Raises NotFound, Forbidden."""
    _check_creates_consumers(work, await get_bucket(work, path["bucketName"]))


async def has_invites(work: UnitOfWork, bucket: Bucket) -> bool:
    return bool(await _list_invites(work, bucket))


async def accept_invites(work: UnitOfWork, bucket: Bucket) -> int:
    """Makes the user a manager wherever this verified address is invited; of how many consumers."""
    invites = await _list_invites(work, bucket, is_for_update=True)
    await rows.bind(work.tx, invites, work.actor)
    for invite in invites:
        work.audit_draft.concerns("manager", invite.id)
    return len(invites)


async def list_consumers(
    work: UnitOfWork, bucket_name: str, *, with_secrets: bool
) -> tuple[Bucket, list[ConsumerView]]:
    """The consumers that the user manages, newest first, with their keys; at most the newest 1000.

    With `with_secrets` the keys are shown, where the bucket keeps them.
    """
    bucket = await get_bucket(work, bucket_name)
    consumers = await rows.list_of(work.tx, bucket, work.actor, limit=MOST_SHOWN)
    return bucket, await _with_keys(work, bucket, consumers, with_secrets=with_secrets)


async def get_consumer(
    work: UnitOfWork, ref: ConsumerRef, *, with_secrets: bool = False
) -> tuple[Bucket, ConsumerView]:
    """One consumer with its keys, its managers and invites."""
    bucket, consumer = await _find(work, ref)
    people = (await consumer_rows.list_managers_of_all(work.tx, [consumer.number]))[consumer.number]
    (view,) = await _with_keys(work, bucket, [consumer], with_secrets=with_secrets)
    return bucket, replace(
        view,
        managers=[one for one in people if _is_bound(work, one)],
        invites=[one for one in people if not _is_bound(work, one)],
    )


async def may_create_consumer(work: UnitOfWork, bucket: Bucket) -> bool:
    settings = bucket.self_serve
    if not settings.create_consumers or work.actor.email is None:
        return False
    return await rows.count(work.tx, bucket, work.actor) < settings.max_consumers


async def create_consumer(
    work: UnitOfWork, bucket_name: str, *, description: str | None
) -> tuple[Bucket, ConsumerView]:
    """A consumer that the user manages, with its first key, which is shown. Raises Forbidden."""
    bucket = await get_bucket(work, bucket_name)
    email = _check_creates_consumers(work, bucket)
    owner, account_name = await _as_owner(work, bucket)
    # Held, so that two of these at once are counted one after the other.
    await bucket_rows.find(work.tx, bucket.name, is_for_update=True)
    if not await may_create_consumer(work, bucket):
        raise Conflict(f"A user may have at most {bucket.self_serve.max_consumers} consumers here.")
    user = ManagerDraft(email, work.actor.sub, work.actor.issuer)
    letters = (BASE62[byte % 36] for byte in work.dependencies.random_bytes(NAME_CHARACTERS))
    draft = ConsumerDraft("user-" + "".join(letters), description, managers=[user], keys=[KeyDraft()])
    return bucket, await consumer_rules.create(owner, account_name, bucket.name, draft)


async def rename(work: UnitOfWork, ref: ConsumerRef, *, description: str | Unset | None) -> tuple[Bucket, Consumer]:
    bucket, owner, path, _ = await _own(work, ref)
    return bucket, await consumer_rules.update(owner, path, description=description, tags=UNSET, metadata=UNSET)


async def delete_consumer(work: UnitOfWork, ref: ConsumerRef) -> None:
    bucket, owner, path, _ = await _own(work, ref)
    if not bucket.self_serve.delete_consumers:
        raise Forbidden("You can't delete consumers of this bucket.")
    await consumer_rules.delete(owner, path)


async def create_key(
    work: UnitOfWork, ref: ConsumerRef, *, description: str | None, expires_at: datetime | None
) -> tuple[Bucket, MadeKey]:
    """A new key, which is shown. Raises Forbidden and Conflict."""
    bucket, owner, path, consumer = await _own(work, ref)
    _check_creates_keys(bucket)
    if await rows.count_good_keys(work.tx, consumer, work.now) >= bucket.self_serve.max_keys:
        raise Conflict(f"A consumer may have at most {bucket.self_serve.max_keys} keys here; delete one first.")
    key_rules.check_end(work, "body.expiresOn", expires_at)
    (made,) = await key_rules.create(owner, path, [KeyDraft(description, expires_at)])
    return bucket, made


async def update_key(
    work: UnitOfWork,
    ref: ConsumerRef,
    key_id: str,
    *,
    enabled: bool | Unset,
    scopes: Sequence[str] | Unset | None,
    allowed_ips: Sequence[str] | Unset | None,
) -> Key:
    """Switches a key off, or on again where no provider switched it off, and says what it is good for, of what is
    granted to the consumer, and from where. Raises Forbidden, and BadRequest for scopes beyond that.
    """
    _, owner, path, _ = await _own(work, ref)
    return await key_rules.update(
        owner,
        path,
        key_id,
        description=UNSET,
        expires_at=UNSET,
        secret=UNSET,
        enabled=enabled,
        scopes=scopes,
        allowed_ips=allowed_ips,
        by=DisabledBy.MANAGER,
    )


async def roll(
    work: UnitOfWork, ref: ConsumerRef, *, expires_at: datetime | None, is_shown: bool
) -> tuple[Bucket, MadeKey]:
    """A new key; every other one ends at `expires_at`, or at once. `is_shown`: the caller shows the user the new key.

    Raises BadRequest where nobody could ever see it: that would lock the user out.
    """
    _, owner, path, _ = await _own(work, ref)
    return await key_rules.roll(owner, path, expires_at=expires_at, is_shown=is_shown)


async def delete_key(work: UnitOfWork, ref: ConsumerRef, key_id: str) -> None:
    _, owner, path, _ = await _own(work, ref)
    await key_rules.delete(owner, path, key_id)


async def get_key(work: UnitOfWork, ref: ConsumerRef, key_id: str) -> Key:
    _, view = await get_consumer(work, ref)
    for key in view.keys or ():
        if key.id == key_id:
            return key
    raise NotFound("The consumer has no such key.")


async def get_manager(work: UnitOfWork, ref: ConsumerRef, manager_id: str) -> Manager:
    """A fellow manager, or somebody who is invited."""
    _, view = await get_consumer(work, ref)
    for person in (*(view.managers or ()), *(view.invites or ())):
        if person.id == manager_id:
            return person
    raise NotFound("The consumer has no such manager.")


async def reveal_key(work: UnitOfWork, ref: ConsumerRef, key_id: str) -> tuple[Key, Secret]:
    """One key, whole. In a write transaction it leaves an audit entry. Raises BadRequest where it is not kept."""
    bucket, owner, path, consumer = await _own(work, ref)
    _, _, key = await key_rules.get(owner, path, key_id)
    work.audit_draft.concerns("key", key.id)
    return key, (await key_rules.reveal(owner, bucket, [consumer], [key]))[key.id]


async def invite(work: UnitOfWork, ref: ConsumerRef, *, email: str) -> Manager:
    """Invites a fellow manager. Raises Conflict where that address manages or is invited already."""
    _, owner, path, _ = await _own(work, ref)
    return await consumer_rules.add_manager(owner, path, ManagerDraft(email))


async def remove_manager(work: UnitOfWork, ref: ConsumerRef, manager_id: str) -> None:
    """Removes a manager or takes back an invite. Raises Conflict for the last manager: nobody could come back."""
    _, owner, path, consumer = await _own(work, ref)
    people = (await consumer_rows.list_managers_of_all(work.tx, [consumer.number]))[consumer.number]
    managers = [one.id for one in people if _is_bound(work, one)]
    if managers == [manager_id]:
        raise Conflict("The last manager can't be removed.")
    await consumer_rules.delete_manager(owner, path, manager_id)


def _check_creates_consumers(work: UnitOfWork, bucket: Bucket) -> str:
    """The verified address of a user who may. Raises Forbidden."""
    if not bucket.self_serve.create_consumers:
        raise Forbidden("You can't create consumers in this bucket. Ask for an invite to one.")
    if work.actor.email is None:
        raise Forbidden(
            "A verified e-mail address is needed to create a consumer. Neither the token (claims email and "
            "email_verified) nor the identity provider's userinfo tells one."
        )
    return work.actor.email


def _check_creates_keys(bucket: Bucket) -> None:
    if not bucket.self_serve.create_keys:
        raise Forbidden("You can't create keys in this bucket, but you can roll them.")


def _ref_of(path: Mapping[str, str]) -> ConsumerRef:
    return ConsumerRef(path["bucketName"], name=path.get("consumerName"), id=path.get("consumerId"))


async def _with_keys(
    work: UnitOfWork, bucket: Bucket, consumers: Sequence[Consumer], *, with_secrets: bool
) -> list[ConsumerView]:
    keys = await key_rows.list_of_all(work.tx, [consumer.number for consumer in consumers])
    secrets: Mapping[str, Secret] = {}
    if with_secrets and bucket.is_retrievable:
        owner, _ = await _as_owner(work, bucket)
        secrets = await key_rules.reveal(owner, bucket, consumers, [key for some in keys.values() for key in some])
    return [ConsumerView(one, keys=keys[one.number], secrets=secrets) for one in consumers]


async def _find(work: UnitOfWork, ref: ConsumerRef, *, is_for_update: bool = False) -> tuple[Bucket, Consumer]:
    bucket = await get_bucket(work, ref.bucket_name)
    consumer = None
    # What no consumer can be called is not looked for.
    if is_whole(CONSUMER_NAME, ref.name or "") or is_whole("^csmr_[0-9A-Za-z]{24}$", ref.id or ""):
        consumer = await rows.find(work.tx, bucket, work.actor, name=ref.name, id=ref.id, is_for_update=is_for_update)
    if consumer is None:
        # 404, not 403: a 403 would tell that the consumer exists.
        raise NotFound("You manage no such consumer.")
    return bucket, consumer


async def _own(work: UnitOfWork, ref: ConsumerRef) -> tuple[Bucket, UnitOfWork, ConsumerPath, Consumer]:
    """A consumer that the user manages, held, and what it takes to change it by the rules."""
    bucket, consumer = await _find(work, ref, is_for_update=True)
    owner, account_name = await _as_owner(work, bucket)
    return bucket, owner, ConsumerPath(account_name, bucket.name, consumer.name), consumer


async def _as_owner(work: UnitOfWork, bucket: Bucket) -> tuple[UnitOfWork, str]:
    """This work with the rights of the bucket's owner, and the name of its account.

    The audit entry names the user all the same.
    """
    account = await account_rows.find_account_by_id(work.tx, bucket.account_id or "")
    if account is None:
        raise NotFound("There is no such bucket.")
    rights = Permissions(buckets={bucket.name: Access.WRITE})
    grantee = Grantee(account.id, rights, owned_bucket_id=bucket.id)
    return replace(work, actor=replace(work.actor, grantee=grantee)), account.name


async def _list_invites(work: UnitOfWork, bucket: Bucket, *, is_for_update: bool = False) -> list[Manager]:
    actor = work.actor
    if actor.email is None:
        return []
    return await rows.list_invites(
        work.tx, bucket, email=actor.email, issuers=_issuers(work), is_for_update=is_for_update
    )


def _issuers(work: UnitOfWork) -> frozenset[str]:
    """By whose word a manager is one, as this user sees it. By another's, the address is invited once more.

    An identity provider's word counts for more than a link: it takes over what the same address accepted by one, and
    a link takes nothing from the provider that there is.
    """
    issuers = {work.actor.issuer}
    if work.actor.issuer == EMAIL_LINK_ISSUER:
        issuers.add(work.dependencies.issuer)
    return frozenset(issuer for issuer in issuers if issuer is not None)


def _is_bound(work: UnitOfWork, person: Manager) -> bool:
    return person.sub is not None and person.issuer in _issuers(work)
