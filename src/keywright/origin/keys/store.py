"""Rows of keys. A row holds a digest, a hint and at most a sealed secret; never the secret itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from keywright.domain.limits import RateLimit
from keywright.domain.models import Consumer, DisabledBy, Key, to_millis
from keywright.domain.permissions import SYSTEM_BUCKET
from keywright.domain.powers import encode_powers, features_of
from keywright.origin.buckets import store as bucket_rows
from keywright.origin.db.prepared import prepared
from keywright.origin.db.tables import (
    UtcTime,
    accounts,
    buckets,
    consumers,
    keys,
    last_used,
    to_json,
    usage_sources,
)
from keywright.origin.db.transaction import Transaction
from keywright.protocol.changes import KeyDelete, KeyPut


@dataclass(frozen=True, slots=True)
class NewKey:
    """What `insert_all` needs of each key; `sealed` is None where secrets are not kept."""

    id: str
    digest: bytes
    hint: str
    description: str | None
    expires_at: datetime | None
    sealed: bytes | None = field(repr=False)
    enabled: bool = True
    disabled_by: DisabledBy | None = None
    scopes: Sequence[str] | None = None
    allowed_ips: Sequence[str] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    rate_limits: Sequence[RateLimit] | None = None


_KEYS = sa.select(*(column.label(column.key) for column in keys.c))
# By id: to return the numbers in the order of the rows, SQLAlchemy would insert into SQLite one by one.
_INSERT = prepared(sa.insert(keys).returning(keys.c.id, keys.c.number))
_USED_AT = sa.select(last_used.c.used_at).where(last_used.c.key_id == keys.c.id).scalar_subquery()
_USED_REGION = (
    sa.select(usage_sources.c.region)
    .join(last_used, last_used.c.used_source == usage_sources.c.number)
    .where(last_used.c.key_id == keys.c.id)
    .scalar_subquery()
)
# Of the last use itself, and only as long as the bucket wishes it.
_USED_NETWORK = (
    sa.select(last_used.c.used_network)
    .join(buckets, buckets.c.number == last_used.c.bucket_number)
    .where(last_used.c.key_id == keys.c.id, buckets.c.record_addresses)
    .where(last_used.c.used_network_at >= last_used.c.used_at)
    .scalar_subquery()
)
# What is looked up of a row is no part of it: a join could not be held against other writers.
_SHOWN = _KEYS.add_columns(
    sa.type_coerce(_USED_AT, UtcTime).label("last_used_at"),
    _USED_REGION.label("last_used_region"),
    _USED_NETWORK.label("last_used_network"),
)
_NEW = tuple(column.name for column in fields(NewKey))


async def insert_all(tx: Transaction, consumer: Consumer, new: Sequence[NewKey], *, now: datetime) -> list[Key]:
    """All or none. Raises UniqueViolation when a digest stands in the bucket already, MissingReference when the
    consumer is gone.
    """
    shared: dict[str, Any] = {"bucket_number": consumer.bucket_number, "consumer_number": consumer.number}
    shared |= {"created_at": now, "updated_at": now}
    rows = [{**{name: getattr(key, name) for name in _NEW}, **shared} for key in new]
    features = frozenset().union(*(features_of(_powers_of(key)) for key in new))
    await bucket_rows.require_features(tx, consumer.bucket_number, features)
    inserted = await tx.execute(_INSERT, rows)
    numbers = {row.id: row.number for row in inserted}
    made = [Key(number=numbers[row["id"]], **row) for row in rows]
    tx.record(*(put(key) for key in made))
    return made


def put(key: Key) -> KeyPut:
    """The change that brings a replica's record of this key up to date."""
    expires_at = None if key.expires_at is None else to_millis(key.expires_at)
    return KeyPut(key.digest, key.bucket_number, key.consumer_number, key.id, expires_at, _powers_of(key))


def _powers_of(key: Key | NewKey) -> str | None:
    metadata = to_json(key.metadata) if key.metadata else None
    return encode_powers(
        enabled=key.enabled,
        scopes=key.scopes,
        allowed_ips=key.allowed_ips,
        metadata=metadata,
        rate_limits=key.rate_limits,
    )


async def find(tx: Transaction, consumer: Consumer, key_id: str, *, is_for_update: bool = False) -> Key | None:
    statement = _SHOWN.where(keys.c.consumer_number == consumer.number, keys.c.id == key_id)
    if is_for_update:
        statement = statement.with_for_update()
    row = await tx.first(statement)
    return _key(row._mapping) if row else None


async def list_of(
    tx: Transaction,
    consumer: Consumer,
    *,
    tags: Mapping[str, str],
    unused_since: datetime | None = None,
    limit: int,
    offset: int,
) -> tuple[list[Key], int]:
    """Those whose tags match all of `tags`, newest first, and how many there are in all.

    `unused_since` passes over keys that were used since, or made.
    """
    own = (keys.c.consumer_number == consumer.number, *_matching(tx, tags), *_unused(unused_since))
    rows = await tx.all(_SHOWN.where(*own).order_by(keys.c.number.desc()).limit(limit).offset(offset))
    total = await tx.scalar(sa.select(sa.func.count()).select_from(keys).where(*own))
    return [_key(row._mapping) for row in rows], total


async def list_of_all(tx: Transaction, consumer_numbers: Sequence[int]) -> dict[int, list[Key]]:
    """The keys of each of these consumers, newest first."""
    found: dict[int, list[Key]] = {number: [] for number in consumer_numbers}
    newest = _SHOWN.where(keys.c.consumer_number.in_(found)).order_by(keys.c.number.desc())
    for row in await tx.all(newest):
        found[row.consumer_number].append(_key(row._mapping))
    return found


async def list_of_bucket(
    tx: Transaction, bucket_number: int, *, unused_since: datetime | None, limit: int, offset: int
) -> tuple[list[tuple[Key, str, str]], int]:
    """The keys of all consumers of a bucket, each with its consumer's id and name; as `list_of`."""
    own = (keys.c.bucket_number == bucket_number, *_unused(unused_since))
    named = _SHOWN.add_columns(consumers.c.id.label("consumer_id"), consumers.c.name.label("consumer_name"))
    named = named.join(consumers, consumers.c.number == keys.c.consumer_number).where(*own)
    found = []
    for row in await tx.all(named.order_by(keys.c.number.desc()).limit(limit).offset(offset)):
        values = dict(row._mapping)
        id, name = values.pop("consumer_id"), values.pop("consumer_name")
        found.append((_key(values), id, name))
    total = await tx.scalar(sa.select(sa.func.count()).select_from(keys).where(*own))
    return found, total


async def list_told(tx: Transaction, consumer: Consumer) -> list[tuple[Mapping[str, Any], Sequence[str] | None]]:
    """Metadata and scopes of the consumer's keys that have any, without repeats."""
    has_any = sa.or_(keys.c.metadata.is_not(None), keys.c.scopes.is_not(None))
    statement = sa.select(keys.c.metadata, keys.c.scopes).where(keys.c.consumer_number == consumer.number, has_any)
    return [(row.metadata, row.scopes) for row in await tx.all(statement.distinct())]


async def list_outliving(tx: Transaction, consumer: Consumer, moment: datetime) -> list[Key]:
    """The consumer's keys that have not ended at `moment`, those that are switched off as well, held against other
    writers.
    """
    outliving = sa.or_(keys.c.expires_at.is_(None), keys.c.expires_at > moment)
    statement = _KEYS.where(keys.c.consumer_number == consumer.number, outliving)
    rows = await tx.all(statement.order_by(keys.c.number).with_for_update())
    return [_key(row._mapping) for row in rows]


_CHANGING = (
    "description", "expires_at", "enabled", "disabled_by", "scopes", "allowed_ips", "metadata", "tags", "rate_limits",
    "updated_at",
)  # fmt: skip


async def update(tx: Transaction, key: Key, changed: Key) -> Key:
    """Writes what of a key may change, as it is in `changed`."""
    values = {name: getattr(changed, name) for name in _CHANGING}
    await bucket_rows.require_features(tx, key.bucket_number, features_of(_powers_of(changed)))
    await tx.execute(sa.update(keys).where(keys.c.number == key.number).values(**values))
    tx.concerns(put(key))
    if put(changed) != put(key):
        tx.record(put(changed))
    return changed


async def delete(tx: Transaction, key: Key) -> None:
    await tx.execute(sa.delete(keys).where(keys.c.number == key.number))
    tx.record(KeyDelete(key.digest, key.bucket_number))


async def find_digests(tx: Transaction, account_id: str, digests: Sequence[bytes]) -> set[bytes]:
    """Which of these are of keys in the account's buckets, of which the first thousand are looked through."""
    within = sa.select(buckets.c.number).join(accounts).where(accounts.c.id == account_id).limit(1000)
    known = sa.select(keys.c.digest).where(keys.c.bucket_number.in_(within), keys.c.digest.in_(digests))
    return {bytes(digest) for (digest,) in await tx.all(known)}


@dataclass(frozen=True, slots=True)
class ManagementKeyRow:
    """A key of the system bucket, with the name and the metadata of its consumer."""

    key: Key
    consumer_name: str
    consumer_metadata: Any


async def find_management_key_by_digest(
    tx: Transaction, digest: bytes, *, is_held: bool = False
) -> ManagementKeyRow | None:
    """With `is_held` nobody can delete it until the transaction ends."""
    row = await tx.first(_MANAGEMENT_KEY_BY_DIGEST_HELD if is_held else _MANAGEMENT_KEY_BY_DIGEST, digest=digest)
    return _management_key(row) if row else None


async def find_management_key_by_number(
    tx: Transaction, number: int, *, is_held: bool = False
) -> ManagementKeyRow | None:
    """With `is_held` nobody can delete it until the transaction ends."""
    return await _find_management_key(tx, keys.c.number == number, is_held=is_held)


async def find_management_key_by_id(tx: Transaction, key_id: str) -> ManagementKeyRow | None:
    return await _find_management_key(tx, keys.c.id == key_id, is_held=False)


async def find_management_metadata(tx: Transaction, key_id: str) -> Any | None:
    """What the management key with this id may do: the metadata of its consumer."""
    found = sa.select(consumers.c.metadata).select_from(
        keys.join(consumers, consumers.c.number == keys.c.consumer_number).join(
            buckets, buckets.c.number == keys.c.bucket_number
        )
    )
    return await tx.scalar(found.where(buckets.c.name == SYSTEM_BUCKET, keys.c.id == key_id))


async def list_root_keys(tx: Transaction) -> list[ManagementKeyRow]:
    """Every management key whose rights are root's, newest first."""
    is_root = sa.type_coerce(consumers.c.metadata, sa.Text).contains('"root":true', autoescape=True)
    rows = await tx.all(_MANAGEMENT_KEYS.where(is_root).order_by(keys.c.number.desc()))
    return [_management_key(row) for row in rows]


async def _find_management_key(
    tx: Transaction, is_wanted: sa.ColumnElement[bool], *, is_held: bool
) -> ManagementKeyRow | None:
    statement = _MANAGEMENT_KEYS.where(is_wanted)
    row = await tx.first(_held(statement) if is_held else statement)
    return _management_key(row) if row else None


def _held(statement: sa.Select[Any]) -> sa.Select[Any]:
    return statement.with_for_update(read=True, key_share=True, of=[keys, consumers])


def _management_key(row: Any) -> ManagementKeyRow:
    values = dict(row._mapping)
    name, metadata = values.pop("consumer_name"), values.pop("consumer_metadata")
    return ManagementKeyRow(_key(values), name, metadata)


def _key(values: Mapping[str, Any]) -> Key:
    disabled_by = values["disabled_by"]
    return Key(**{**values, "disabled_by": None if disabled_by is None else DisabledBy(disabled_by)})


def _unused(since: datetime | None) -> list[sa.ColumnElement[bool]]:
    if since is None:
        return []
    was_used = sa.exists().where(last_used.c.key_id == keys.c.id, last_used.c.used_at >= to_millis(since))
    return [keys.c.created_at < since, ~was_used]


def _matching(tx: Transaction, tags: Mapping[str, str]) -> list[sa.ColumnElement[bool]]:
    # Written as JSON by us; only those of one consumer are looked into.
    if tx.is_postgresql:
        held: sa.ColumnElement[Any] = sa.cast(sa.type_coerce(keys.c.tags, sa.Text), sa.JSON)
        return [held[name].as_string() == value for name, value in tags.items()]
    # A path of SQLite's has no way to write a quotation mark in a name.
    pairs = sa.func.json_each(keys.c.tags).table_valued("key", "value")
    return [
        sa.exists().select_from(pairs).where(pairs.c.key == name, pairs.c.value == value)
        for name, value in tags.items()
    ]


_MANAGEMENT_KEYS = (
    _KEYS.add_columns(consumers.c.name.label("consumer_name"), consumers.c.metadata.label("consumer_metadata"))
    .join(buckets, buckets.c.number == keys.c.bucket_number)
    .join(consumers, consumers.c.number == keys.c.consumer_number)
    .where(buckets.c.name == SYSTEM_BUCKET)
)
_MANAGEMENT_KEY_BY_DIGEST = prepared(_MANAGEMENT_KEYS.where(keys.c.digest == sa.bindparam("digest")))
_MANAGEMENT_KEY_BY_DIGEST_HELD = prepared(_held(_MANAGEMENT_KEY_BY_DIGEST))
