"""Rows of consumers, their tags and their managers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from keywright.domain.keyformat import HINT_LENGTH
from keywright.domain.limits import Quota, RateLimit
from keywright.domain.models import Bucket, Consumer, Manager, Plan, to_millis
from keywright.domain.powers import encode_powers, features_of
from keywright.origin.buckets import store as bucket_rows
from keywright.origin.db.prepared import prepared
from keywright.origin.db.tables import UtcTime, consumer_tags, consumers, keys, last_used, managers, to_json
from keywright.origin.db.transaction import Transaction
from keywright.origin.plans import store as plan_rows
from keywright.protocol.changes import ConsumerDelete, ConsumerPut

Tags = Mapping[str, str]

_USED_AT = (
    sa.select(sa.func.max(last_used.c.used_at))
    .where(last_used.c.consumer_number == consumers.c.number)
    .scalar_subquery()
)
SHOWN = sa.select(consumers, sa.type_coerce(_USED_AT, UtcTime).label("last_used_at"))
"""Rows of consumers as `complete` takes them."""
_BY_NAME = prepared(
    SHOWN.where(consumers.c.bucket_number == sa.bindparam("bucket"), consumers.c.name == sa.bindparam("name"))
)
_BY_NAME_HELD = prepared(_BY_NAME.with_for_update())
_TAGS_OF = prepared(
    sa.select(consumer_tags)
    .where(consumer_tags.c.consumer_number.in_(sa.bindparam("numbers", expanding=True)))
    .order_by(consumer_tags.c.consumer_number, consumer_tags.c.position)
)


async def insert(
    tx: Transaction,
    *,
    id: str,
    bucket: Bucket,
    name: str,
    description: str | None,
    tags: Tags,
    metadata: Mapping[str, Any],
    enabled: bool = True,
    scopes: Sequence[str] | None = None,
    allowed_ips: Sequence[str] | None = None,
    plan: Plan | None = None,
    rate_limits: Sequence[RateLimit] | None = None,
    quotas: Sequence[Quota] | None = None,
    now: datetime,
) -> Consumer:
    """Raises UniqueViolation when the bucket has a consumer of that name, MissingReference when the bucket is gone."""
    powers: dict[str, Any] = {"enabled": enabled, "scopes": scopes, "allowed_ips": allowed_ips}
    powers |= {"rate_limits": rate_limits, "quotas": quotas}
    values = {"id": id, "name": name, "description": description, "metadata": metadata, **powers}
    plan_number = None if plan is None else plan.number
    await bucket_rows.require_features(tx, bucket.number, features_of(encode_powers(**powers, plan=plan_number)))
    values |= {"plan_number": plan_number, "created_at": now, "updated_at": now}
    number = await tx.insert(consumers, bucket_number=bucket.number, **values)
    consumer = Consumer(number, id, bucket.number, name, description, tags, metadata, now, now, **powers, plan=plan)
    await _insert_tags(tx, number, tags)
    tx.record(put(consumer))
    return consumer


def put(consumer: Consumer) -> ConsumerPut:
    """The change that brings a replica's record of this consumer up to date."""
    metadata = to_json(consumer.metadata)
    return ConsumerPut(
        consumer.number, consumer.id, consumer.bucket_number, consumer.name, metadata, _powers_of(consumer)
    )


def _powers_of(consumer: Consumer) -> str | None:
    return encode_powers(
        enabled=consumer.enabled,
        scopes=consumer.scopes,
        allowed_ips=consumer.allowed_ips,
        plan=consumer.plan_number,
        rate_limits=consumer.rate_limits,
        quotas=consumer.quotas,
    )


async def find(
    tx: Transaction, bucket: Bucket, name: str, *, tags: Tags, is_for_update: bool = False
) -> Consumer | None:
    """The consumer of that name whose tags match all of `tags`, held against other writers with `is_for_update`."""
    row = await tx.first(_BY_NAME_HELD if is_for_update else _BY_NAME, bucket=bucket.number, name=name)
    if row is None:
        return None
    # The tags are read once the row is held: those of a moment before could belong to another writer's past.
    (consumer,) = await complete(tx, [row])
    return consumer if tags.items() <= consumer.tags.items() else None


async def list_of(
    tx: Transaction,
    bucket: Bucket,
    *,
    tags: Tags,
    manager_email: str | None,
    unused_since: datetime | None = None,
    limit: int,
    offset: int,
) -> tuple[list[Consumer], int]:
    """Newest first, and how many there are in all. `manager_email` is compared in lower case. `unused_since` passes
    over consumers of which a key was used since, and those that were made since.
    """
    conditions = [consumers.c.bucket_number == bucket.number, *_matching(tags)]
    if manager_email is not None:
        managed = sa.select(managers.c.consumer_number).where(managers.c.email == manager_email)
        conditions.append(consumers.c.number.in_(managed))
    if unused_since is not None:
        of_consumer = last_used.c.consumer_number == consumers.c.number
        was_used = sa.exists().where(of_consumer, last_used.c.used_at >= to_millis(unused_since))
        conditions += [consumers.c.created_at < unused_since, ~was_used]
    newest = SHOWN.where(*conditions).order_by(consumers.c.number.desc())
    rows = await tx.all(newest.limit(limit).offset(offset))
    total = await tx.scalar(sa.select(sa.func.count()).select_from(consumers).where(*conditions))
    return await complete(tx, rows), total


@dataclass(frozen=True, slots=True)
class ConsumerSearch:
    """What to look for; None leaves a field out. `name` is a part of a name, `hint` the end of a key.

    A tag is a name and a value, or None for any value; `manager` is an e-mail address in lower case.
    """

    name: str | None = None
    tag: tuple[str, str | None] | None = None
    manager: str | None = None
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a list, newest first, a page begins: after a row, before one, or at the top.

    A row's number rather than an offset: the thousandth page costs what the first does, and none shifts meanwhile.
    """

    older_than: int | None = None
    newer_than: int | None = None


async def search(
    tx: Transaction, bucket: Bucket, wanted: ConsumerSearch, *, place: Place, limit: int
) -> tuple[list[Consumer], int]:
    """A page of what is looked for, newest first, and how many there are in all."""
    conditions = [consumers.c.bucket_number == bucket.number, *_wanted(bucket, wanted)]
    number = consumers.c.number
    page = SHOWN.where(*conditions).limit(limit)
    if place.newer_than is not None:
        rows = (await tx.all(page.where(number > place.newer_than).order_by(number)))[::-1]
    else:
        older = page if place.older_than is None else page.where(number < place.older_than)
        rows = await tx.all(older.order_by(number.desc()))
    total = await tx.scalar(sa.select(sa.func.count()).select_from(consumers).where(*conditions))
    return await complete(tx, rows), total


_CHANGING = (
    "description", "metadata", "enabled", "scopes", "allowed_ips", "plan_number", "rate_limits", "quotas", "updated_at",
)  # fmt: skip


async def update(tx: Transaction, consumer: Consumer, changed: Consumer) -> Consumer:
    """Writes what of a consumer may change, as it is in `changed`."""
    values = {name: getattr(changed, name) for name in _CHANGING}
    await bucket_rows.require_features(tx, consumer.bucket_number, features_of(_powers_of(changed)))
    await tx.execute(sa.update(consumers).where(consumers.c.number == consumer.number).values(**values))
    if dict(changed.tags) != dict(consumer.tags):
        await tx.execute(sa.delete(consumer_tags).where(consumer_tags.c.consumer_number == consumer.number))
        await _insert_tags(tx, consumer.number, changed.tags)
    before, after = put(consumer), put(changed)
    tx.concerns(before)
    if after != before:
        has_lost_powers = before.powers is not None and after.powers is None
        tx.record(replace(after, has_lost_powers=has_lost_powers))
    return changed


async def delete(tx: Transaction, consumer: Consumer) -> None:
    """Deletes the consumer with its keys and managers; for the edges that is one change."""
    await tx.execute(sa.delete(consumers).where(consumers.c.number == consumer.number))
    tx.concerns(put(consumer))
    tx.record(ConsumerDelete(consumer.number))


async def insert_manager(
    tx: Transaction,
    *,
    id: str,
    consumer: Consumer,
    email: str,
    sub: str | None,
    issuer: str | None,
    now: datetime,
) -> Manager:
    """Raises UniqueViolation when the consumer has a manager of that e-mail address."""
    values = {"id": id, "consumer_number": consumer.number, "email": email, "sub": sub, "issuer": issuer}
    number = await tx.insert(managers, **values, created_at=now)
    return Manager(number, id, consumer.number, email, sub, issuer, now)


async def set_manager_sub(tx: Transaction, manager: Manager, sub: str, issuer: str | None) -> Manager:
    """An invite becomes a manager."""
    await tx.execute(sa.update(managers).where(managers.c.number == manager.number).values(sub=sub, issuer=issuer))
    return replace(manager, sub=sub, issuer=issuer)


async def find_manager(tx: Transaction, consumer: Consumer, *, email: str) -> Manager | None:
    own = managers.c.consumer_number == consumer.number
    row = await tx.first(sa.select(managers).where(own, managers.c.email == email))
    return Manager(**row._mapping) if row else None


async def list_managers(
    tx: Transaction, consumer: Consumer, *, with_invites: bool, limit: int, offset: int
) -> tuple[list[Manager], int]:
    conditions = [managers.c.consumer_number == consumer.number]
    if not with_invites:
        conditions.append(managers.c.sub.is_not(None))
    newest = sa.select(managers).where(*conditions).order_by(managers.c.number.desc())
    rows = await tx.all(newest.limit(limit).offset(offset))
    total = await tx.scalar(sa.select(sa.func.count()).select_from(managers).where(*conditions))
    return [Manager(**row._mapping) for row in rows], total


async def list_managers_of_all(tx: Transaction, consumer_numbers: Sequence[int]) -> dict[int, list[Manager]]:
    """The managers and invites of each of these consumers, newest first."""
    found: dict[int, list[Manager]] = {number: [] for number in consumer_numbers}
    newest = sa.select(managers).where(managers.c.consumer_number.in_(found)).order_by(managers.c.number.desc())
    for row in await tx.all(newest):
        found[row.consumer_number].append(Manager(**row._mapping))
    return found


async def delete_manager(tx: Transaction, consumer: Consumer, manager_id: str) -> Manager | None:
    """Deletes a manager or an invite; None when the consumer has none of that id."""
    own = managers.c.consumer_number == consumer.number
    row = await tx.first(sa.delete(managers).where(own, managers.c.id == manager_id).returning(*managers.c))
    return Manager(**row._mapping) if row else None


def _wanted(bucket: Bucket, wanted: ConsumerSearch) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = []
    if wanted.name is not None:
        found.append(consumers.c.name.contains(wanted.name, autoescape=True))
    if wanted.tag is not None:
        name, value = wanted.tag
        tagged = sa.select(consumer_tags.c.consumer_number).where(consumer_tags.c.name == name)
        found.append(consumers.c.number.in_(tagged if value is None else tagged.where(consumer_tags.c.value == value)))
    if wanted.manager is not None:
        managed = sa.select(managers.c.consumer_number).where(managers.c.email == wanted.manager)
        found.append(consumers.c.number.in_(managed))
    if wanted.hint is not None:
        is_whole = len(wanted.hint) == HINT_LENGTH
        ends = keys.c.hint == wanted.hint if is_whole else keys.c.hint.endswith(wanted.hint, autoescape=True)
        held = sa.select(keys.c.consumer_number).where(keys.c.bucket_number == bucket.number, ends)
        found.append(consumers.c.number.in_(held))
    return found


def _matching(tags: Tags) -> list[sa.ColumnElement[bool]]:
    return [
        sa.exists().where(
            consumer_tags.c.consumer_number == consumers.c.number,
            consumer_tags.c.name == name,
            consumer_tags.c.value == value,
        )
        for name, value in tags.items()
    ]


async def _insert_tags(tx: Transaction, consumer_number: int, tags: Tags) -> None:
    if tags:
        rows = [
            {"consumer_number": consumer_number, "name": name, "value": value, "position": position}
            for position, (name, value) in enumerate(tags.items())
        ]
        await tx.execute(sa.insert(consumer_tags), rows)


async def complete(tx: Transaction, rows: Sequence[Any]) -> list[Consumer]:
    """Consumers of these rows, with their tags and their plans."""
    tags: dict[int, dict[str, str]] = {row.number: {} for row in rows}
    for row in await tx.all(_TAGS_OF, numbers=list(tags)):
        tags[row.consumer_number][row.name] = row.value
    plans = await plan_rows.find_all(tx, {row.plan_number for row in rows if row.plan_number is not None})
    found = []
    for row in rows:
        values = dict(row._mapping)
        plan = plans.get(values.pop("plan_number"))
        found.append(Consumer(**values, tags=tags[row.number], plan=plan))
    return found
