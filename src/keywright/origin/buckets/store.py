"""Rows of buckets, their data keys and their grants to other accounts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from keywright.domain.models import DEFAULT_SELF_SERVE, Account, Bucket, Environment, SelfServe, WhenStale, refuse_after
from keywright.domain.permissions import Access
from keywright.origin.db.engine import MissingReference
from keywright.origin.db.prepared import prepared
from keywright.origin.db.tables import (
    accounts,
    buckets,
    consumers,
    environments,
    grants,
    projects,
    retired_bucket_names,
)
from keywright.origin.db.transaction import Transaction
from keywright.protocol.changes import BucketDelete, BucketPut

_COLUMNS = (
    buckets.c.number, buckets.c.id, accounts.c.id.label("account_id"), buckets.c.name, buckets.c.description,
    buckets.c.tags, buckets.c.is_retrievable, buckets.c.key_prefix, buckets.c.created_at, buckets.c.updated_at,
    buckets.c.max_staleness_seconds, buckets.c.when_stale, buckets.c.self_serve, buckets.c.default_scopes,
    buckets.c.features, buckets.c.record_addresses, buckets.c.former_key_prefixes,
)  # fmt: skip
_SELECT = sa.select(*_COLUMNS).select_from(buckets.outerjoin(accounts, accounts.c.number == buckets.c.account_number))
_BY_NAME = prepared(_SELECT.where(buckets.c.name == sa.bindparam("name")))
_BY_NAME_HELD = prepared(_BY_NAME.with_for_update(of=buckets))
_GRANTS_OF = prepared(
    sa.select(grants.c.bucket_number, accounts.c.id, grants.c.access, grants.c.expires_at)
    .join(accounts, accounts.c.number == grants.c.account_number)
    .where(grants.c.bucket_number.in_(sa.bindparam("numbers", expanding=True)))
)
_DATA_KEY = prepared(
    sa.select(buckets.c.master_key_id, buckets.c.sealed_data_key).where(buckets.c.number == sa.bindparam("number"))
)
_FEATURES = prepared(sa.select(buckets.c.features).where(buckets.c.number == sa.bindparam("number")))


async def insert(
    tx: Transaction,
    *,
    id: str,
    account: Account | None,
    name: str,
    description: str | None,
    tags: Mapping[str, str],
    is_retrievable: bool,
    key_prefix: str,
    max_staleness_seconds: int | None = None,
    when_stale: WhenStale = WhenStale.SERVE,
    self_serve: SelfServe = DEFAULT_SELF_SERVE,
    default_scopes: Sequence[str] = (),
    record_addresses: bool = False,
    now: datetime,
) -> Bucket:
    """Raises UniqueViolation when the name is taken. `account` is None for the system bucket alone."""
    values: dict[str, Any] = {
        "id": id,
        "name": name,
        "description": description,
        "tags": tags,
        "is_retrievable": is_retrievable,
        "key_prefix": key_prefix,
        "created_at": now,
        "updated_at": now,
        "max_staleness_seconds": max_staleness_seconds,
        "when_stale": when_stale,
        "default_scopes": tuple(default_scopes),
        "record_addresses": record_addresses,
    }
    account_number = account.number if account else None
    number = await tx.insert(buckets, **values, account_number=account_number, self_serve=asdict(self_serve))
    account_id = account.id if account else None
    bucket = Bucket(**values, number=number, account_id=account_id, self_serve=self_serve)
    tx.record(put(bucket))
    return bucket


def put(bucket: Bucket) -> BucketPut:
    """The change that brings a replica's record of this bucket up to date."""
    limit = refuse_after(bucket.max_staleness_seconds, bucket.when_stale)
    place = (bucket.number, bucket.id, bucket.name, bucket.account_id)
    return BucketPut(*place, bucket.grants, limit, tuple(bucket.default_scopes), tuple(bucket.features))


async def find(tx: Transaction, name: str, *, is_for_update: bool = False) -> Bucket | None:
    """With `is_for_update` the row is held against other writers until the transaction ends."""
    row = await tx.first(_BY_NAME_HELD if is_for_update else _BY_NAME, name=name)
    return (await _with_grants(tx, [row]))[0] if row else None


async def find_all(tx: Transaction, numbers: Collection[int] | None = None) -> dict[int, Bucket]:
    """The buckets with these numbers, or all that there are, the system bucket among them."""
    wanted = _SELECT if numbers is None else _SELECT.where(buckets.c.number.in_(numbers))
    return {bucket.number: bucket for bucket in await _with_grants(tx, await tx.all(wanted))}


@dataclass(frozen=True, slots=True)
class BucketSearch:
    """Which of an account's buckets to list; None leaves a field out."""

    project: str | None = None
    environment: Environment | None = None
    names: Collection[str] | None = None
    id: str | None = None


async def search(
    tx: Transaction, account: Account, wanted: BucketSearch, *, now: datetime, limit: int, offset: int
) -> tuple[list[Bucket], int]:
    """The account's own buckets and those shared with it that are wanted, newest first, and how many there are."""
    shared = sa.select(grants.c.bucket_number).where(grants.c.account_number == account.number, _has_not_ended(now))
    conditions = [sa.or_(buckets.c.account_number == account.number, buckets.c.number.in_(shared))]
    if wanted.project is not None or wanted.environment is not None:
        placed = sa.select(environments.c.bucket_number).join(projects)
        placed = placed.where(projects.c.account_number == account.number)
        if wanted.project is not None:
            placed = placed.where(projects.c.name == wanted.project)
        if wanted.environment is not None:
            placed = placed.where(environments.c.environment == wanted.environment.value)
        conditions.append(buckets.c.number.in_(placed))
    if wanted.names is not None:
        conditions.append(buckets.c.name.in_(wanted.names))
    if wanted.id is not None:
        conditions.append(buckets.c.id == wanted.id)
    rows = await tx.all(_SELECT.where(*conditions).order_by(buckets.c.number.desc()).limit(limit).offset(offset))
    total = await tx.scalar(sa.select(sa.func.count()).select_from(buckets).where(*conditions))
    return await _with_grants(tx, rows), total


async def list_places(
    tx: Transaction, account: Account, found: Sequence[Bucket]
) -> dict[int, list[tuple[str, Environment]]]:
    """The projects of the account that use each of these buckets, and as what."""
    places: dict[int, list[tuple[str, Environment]]] = {bucket.number: [] for bucket in found}
    statement = sa.select(environments.c.bucket_number, projects.c.name, environments.c.environment).join(projects)
    statement = statement.where(projects.c.account_number == account.number, environments.c.bucket_number.in_(places))
    for number, name, environment in await tx.all(statement.order_by(projects.c.name)):
        places[number].append((name, Environment(environment)))
    return places


async def update(
    tx: Transaction,
    bucket: Bucket,
    *,
    description: str | None,
    tags: Mapping[str, str],
    max_staleness_seconds: int | None,
    when_stale: WhenStale,
    self_serve: SelfServe,
    default_scopes: Sequence[str],
    record_addresses: bool,
    key_prefix: str,
    former_key_prefixes: Sequence[str],
    now: datetime,
) -> Bucket:
    values: dict[str, Any] = {
        "description": description,
        "tags": tags,
        "max_staleness_seconds": max_staleness_seconds,
        "when_stale": when_stale,
        "default_scopes": tuple(default_scopes),
        "record_addresses": record_addresses,
        "key_prefix": key_prefix,
        "former_key_prefixes": tuple(former_key_prefixes),
        "updated_at": now,
    }
    statement = sa.update(buckets).where(buckets.c.number == bucket.number)
    await tx.execute(statement.values(**values, self_serve=asdict(self_serve)))
    changed = replace(bucket, **values, self_serve=self_serve)
    tx.concerns(put(bucket))
    # Description, tags, prefixes and self-serve are for management only: no edge needs to hear of them.
    if put(changed) != put(bucket):
        tx.record(put(changed))
    return changed


async def require_features(tx: Transaction, bucket_number: int, features: Collection[str]) -> None:
    """Has the bucket's record name these powers, before one of a key or a consumer that has them is written.

    They are never taken away again: a reader that is behind may have a key of then.
    """
    if not features:
        return
    if set(features) <= set(await tx.scalar(_FEATURES, number=bucket_number) or ()):
        return
    # Held, and read then: what is recorded must not bring back grants that somebody ends meanwhile. Not against those
    # who insert keys (KEY SHARE), or two who do both at once would wait for each other.
    row = await tx.first(_SELECT.where(buckets.c.number == bucket_number).with_for_update(key_share=True, of=buckets))
    if row is None:
        raise MissingReference
    (bucket,) = await _with_grants(tx, [row])
    named = tuple(sorted({*bucket.features, *features}))
    if named != tuple(bucket.features):
        await tx.execute(sa.update(buckets).where(buckets.c.number == bucket_number).values(features=named))
        tx.record(put(replace(bucket, features=named)))


async def delete(tx: Transaction, bucket: Bucket) -> None:
    """Deletes the bucket with its consumers, keys and managers; for the edges that is one change.

    Its name stays with its account.
    """
    await tx.execute(sa.delete(buckets).where(buckets.c.number == bucket.number))
    if await find_account_of_retired(tx, bucket.name) is None:
        values = {"name": bucket.name, "account_id": bucket.account_id}
        await tx.execute(sa.insert(retired_bucket_names).values(**values))
    tx.concerns(put(bucket))
    tx.record(BucketDelete(bucket.number))


async def find_account_of_retired(tx: Transaction, name: str) -> str | None:
    """The id of the account whose deleted bucket had this name."""
    statement = sa.select(retired_bucket_names.c.account_id).where(retired_bucket_names.c.name == name)
    account_id: str | None = await tx.scalar(statement)
    return account_id


async def count_consumers(tx: Transaction, bucket: Bucket) -> int:
    statement = sa.select(sa.func.count()).select_from(consumers).where(consumers.c.bucket_number == bucket.number)
    count: int = await tx.scalar(statement)
    return count


async def set_data_key(tx: Transaction, bucket_number: int, *, master_key_id: str, sealed: bytes) -> None:
    values = {"master_key_id": master_key_id, "sealed_data_key": sealed}
    await tx.execute(sa.update(buckets).where(buckets.c.number == bucket_number).values(**values))


async def get_data_key(tx: Transaction, bucket_number: int) -> tuple[str, bytes]:
    """The id of the master key and the data key sealed by it. Only retrievable buckets have one.

    Raises MissingReference when the bucket is gone.
    """
    row = await tx.first(_DATA_KEY, number=bucket_number)
    if row is None:
        raise MissingReference
    return row.master_key_id, row.sealed_data_key


async def list_data_keys_not_under(tx: Transaction, master_key_id: str, *, limit: int) -> list[Any]:
    """Rows (number, id, master_key_id, sealed_data_key) that another master key sealed, held against other writers."""
    statement = (
        sa.select(buckets.c.number, buckets.c.id, buckets.c.master_key_id, buckets.c.sealed_data_key)
        .where(buckets.c.master_key_id != master_key_id)
        .order_by(buckets.c.number)
        .limit(limit)
        .with_for_update()
    )
    return await tx.all(statement)


async def list_master_key_ids(tx: Transaction) -> set[str]:
    """The ids of all master keys that some data key needs."""
    statement = sa.select(buckets.c.master_key_id).distinct().where(buckets.c.master_key_id.is_not(None))
    return {row.master_key_id for row in await tx.all(statement)}


async def lock_all(tx: Transaction) -> None:
    """Keeps every other writer from the buckets until the transaction ends."""
    if tx.is_postgresql:
        await tx.execute(sa.text("LOCK TABLE buckets IN EXCLUSIVE MODE"))


async def put_grant(
    tx: Transaction, bucket: Bucket, account: Account, access: Access, *, expires_at: datetime | None, now: datetime
) -> Bucket:
    await tx.execute(_delete_grant(bucket, account))
    values = {"bucket_number": bucket.number, "account_number": account.number, "access": int(access)}
    await tx.execute(sa.insert(grants).values(**values, created_at=now, expires_at=expires_at))
    changed = replace(bucket, grants={**bucket.grants, account.id: access})
    tx.concerns(put(bucket))
    tx.record(put(changed))
    return changed


async def delete_grant(tx: Transaction, bucket: Bucket, account: Account) -> None:
    await tx.execute(_delete_grant(bucket, account))
    _record_grants_without(tx, bucket, {account.id})


async def list_ended_grants(tx: Transaction, now: datetime) -> list[str]:
    """The names of buckets that have a grant whose time is over."""
    joined = sa.select(buckets.c.name).join(grants).where(sa.not_(_has_not_ended(now))).distinct()
    return [row.name for row in await tx.all(joined.order_by(buckets.c.name))]


async def delete_ended_grants(tx: Transaction, bucket: Bucket, now: datetime) -> dict[str, str]:
    """Deletes the grants of a bucket whose time is over; the accounts that had them, names by id."""
    ended = grants.c.bucket_number == bucket.number, sa.not_(_has_not_ended(now))
    rows = await tx.all(sa.select(accounts.c.id, accounts.c.name).join(grants).where(*ended))
    if rows:
        await tx.execute(sa.delete(grants).where(*ended))
        _record_grants_without(tx, bucket, {row.id for row in rows})
    return {row.id: row.name for row in rows}


def _record_grants_without(tx: Transaction, bucket: Bucket, gone: Collection[str]) -> None:
    remaining = {account_id: access for account_id, access in bucket.grants.items() if account_id not in gone}
    tx.concerns(put(bucket))
    tx.record(put(replace(bucket, grants=remaining)))


async def list_grants(
    tx: Transaction, bucket: Bucket, *, now: datetime, limit: int, offset: int
) -> tuple[list[Any], int]:
    """Rows (name of the account, access, created_at, expires_at), newest first, and how many there are."""
    own = grants.c.bucket_number == bucket.number, _has_not_ended(now)
    rows = await tx.all(
        sa.select(accounts.c.name, grants.c.access, grants.c.created_at, grants.c.expires_at)
        .join(accounts, accounts.c.number == grants.c.account_number)
        .where(*own)
        .order_by(grants.c.created_at.desc(), accounts.c.number.desc())
        .limit(limit)
        .offset(offset)
    )
    total = await tx.scalar(sa.select(sa.func.count()).select_from(grants).where(*own))
    return rows, total


def _has_not_ended(now: datetime) -> sa.ColumnElement[bool]:
    return sa.or_(grants.c.expires_at.is_(None), grants.c.expires_at > now)


def _delete_grant(bucket: Bucket, account: Account) -> sa.Delete:
    return sa.delete(grants).where(grants.c.bucket_number == bucket.number, grants.c.account_number == account.number)


async def _with_grants(tx: Transaction, rows: Sequence[Any]) -> list[Bucket]:
    held: dict[int, dict[str, Access]] = {row.number: {} for row in rows}
    ends: dict[int, dict[str, datetime]] = {row.number: {} for row in rows}
    for bucket_number, account_id, access, expires_at in await tx.all(_GRANTS_OF, numbers=list(held)):
        held[bucket_number][account_id] = Access(access)
        if expires_at is not None:
            ends[bucket_number][account_id] = expires_at
    found = []
    for row in rows:
        typed = {"when_stale": WhenStale(row.when_stale), "self_serve": SelfServe(**row.self_serve)}
        shared = {"grants": held[row.number], "grant_ends": ends[row.number]}
        found.append(Bucket(**{**row._mapping, **typed, **shared}))
    return found
