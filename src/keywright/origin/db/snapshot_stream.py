"""Owns the record as an edge is to know it, as puts that lead from nothing to the present."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any

import sqlalchemy as sa

from keywright.domain.models import refuse_after
from keywright.domain.permissions import SYSTEM_BUCKET, Access
from keywright.domain.powers import encode_powers
from keywright.origin.db.tables import (
    accounts,
    buckets,
    consumers,
    grants,
    keys,
    parse_quotas,
    parse_rate_limits,
    plans,
)
from keywright.origin.db.transaction import Transaction
from keywright.protocol.changes import BucketPut, Change, ConsumerPut, KeyPut, PlanPut

SNAPSHOT_PAGE = 10_000

_OF_CONSUMERS = (
    consumers.c.number,
    consumers.c.id,
    consumers.c.bucket_number,
    consumers.c.name,
    # As text, which is what `to_json` has written.
    sa.type_coerce(consumers.c.metadata, sa.Text),
    consumers.c.enabled,
    sa.type_coerce(consumers.c.scopes, sa.Text),
    sa.type_coerce(consumers.c.allowed_ips, sa.Text),
    consumers.c.plan_number,
    sa.type_coerce(consumers.c.rate_limits, sa.Text),
    sa.type_coerce(consumers.c.quotas, sa.Text),
)


async def list_bucket_puts(tx: Transaction, numbers: Collection[int] | None = None) -> list[BucketPut]:
    """Every bucket as a replica knows it, or those with these numbers, in order of number."""
    if numbers is not None and not numbers:
        return []
    wanted = sa.true() if numbers is None else buckets.c.number.in_(numbers)
    held: dict[int, dict[str, Access]] = {}
    granted = sa.select(grants.c.bucket_number, accounts.c.id, grants.c.access).join(accounts)
    if numbers is not None:
        granted = granted.where(grants.c.bucket_number.in_(numbers))
    for bucket_number, account_id, access in await tx.all(granted):
        held.setdefault(bucket_number, {})[account_id] = Access(access)
    said = (buckets.c.max_staleness_seconds, buckets.c.when_stale, buckets.c.default_scopes, buckets.c.features)
    owned = sa.select(buckets.c.number, buckets.c.id, buckets.c.name, accounts.c.id.label("account_id"), *said)
    owned = owned.select_from(buckets.outerjoin(accounts, accounts.c.number == buckets.c.account_number))
    rows = await tx.all(owned.where(wanted).order_by(buckets.c.number))
    return [
        BucketPut(row[0], row[1], row[2], row[3], held.get(row[0], {}), refuse_after(row[4], row[5]), row[6], row[7])
        for row in rows
    ]


async def list_plan_puts(tx: Transaction, after: int) -> list[PlanPut]:
    """A page of plans as a replica knows them, from behind a number on, in order of number."""
    rows = await tx.all(_page(sa.select(plans), plans.c.number > after, plans.c.number))
    return [
        PlanPut(
            row.number,
            row.id,
            row.bucket_number,
            row.name,
            encode_powers(scopes=row.scopes, rate_limits=row.rate_limits, quotas=row.quotas),
        )
        for row in rows
    ]


async def list_system_consumers(tx: Transaction) -> list[ConsumerPut]:
    """Whom the management keys belong to, as a replica knows them."""
    joined = sa.select(*_OF_CONSUMERS).join(buckets, buckets.c.number == consumers.c.bucket_number)
    rows = await tx.all(joined.where(buckets.c.name == SYSTEM_BUCKET))
    return [_consumer_put(*row) for row in rows]


async def stream_snapshot(tx: Transaction) -> AsyncIterator[Sequence[Change]]:
    """Pages of puts that lead from nothing to the present: buckets, then plans, consumers and keys, in order of their
    numbers, keys in that of a replica's. The transaction must be one that sees a single moment.
    """
    yield await list_bucket_puts(tx)

    last = 0
    while puts := await list_plan_puts(tx, last):
        yield puts
        last = puts[-1].number

    last = 0
    while rows := await tx.all(_page(sa.select(*_OF_CONSUMERS), consumers.c.number > last, consumers.c.number)):
        yield [_consumer_put(*row) for row in rows]
        last = rows[-1].number

    place = sa.tuple_(keys.c.bucket_number, keys.c.digest)
    selected = sa.select(
        keys.c.digest,
        keys.c.bucket_number,
        keys.c.consumer_number,
        keys.c.id,
        sa.cast(keys.c.expires_at, sa.BigInteger),
        keys.c.enabled,
        sa.type_coerce(keys.c.scopes, sa.Text),
        sa.type_coerce(keys.c.allowed_ips, sa.Text),
        sa.type_coerce(keys.c.rate_limits, sa.Text),
        sa.type_coerce(keys.c.metadata, sa.Text),
    )
    position = (0, b"")
    while rows := await tx.all(_page(selected, place > position, keys.c.bucket_number, keys.c.digest)):
        yield [_key_put(*row) for row in rows]
        position = (rows[-1].bucket_number, rows[-1].digest)


def _key_put(
    digest: bytes,
    bucket: int,
    consumer: int,
    key_id: str,
    expires_at: int | None,
    enabled: bool,
    *said: str | None,
) -> KeyPut:
    if enabled and not any(said):
        # As nearly every row: nothing is said.
        return KeyPut(digest, bucket, consumer, key_id, expires_at)
    scopes, allowed_ips, rate_limits, metadata = said
    powers = encode_powers(
        enabled=enabled,
        scopes=_texts(scopes),
        allowed_ips=_texts(allowed_ips),
        metadata=metadata,
        rate_limits=None if rate_limits is None else parse_rate_limits(rate_limits),
    )
    return KeyPut(digest, bucket, consumer, key_id, expires_at, powers)


def _consumer_put(
    number: int,
    consumer_id: str,
    bucket: int,
    name: str,
    metadata: str,
    enabled: bool,
    scopes: str | None,
    allowed_ips: str | None,
    plan: int | None,
    rate_limits: str | None,
    quotas: str | None,
) -> ConsumerPut:
    powers = None
    if not enabled or scopes or allowed_ips or plan is not None or rate_limits or quotas:
        powers = encode_powers(
            enabled=enabled,
            scopes=_texts(scopes),
            allowed_ips=_texts(allowed_ips),
            plan=plan,
            rate_limits=None if rate_limits is None else parse_rate_limits(rate_limits),
            quotas=None if quotas is None else parse_quotas(quotas),
        )
    return ConsumerPut(number, consumer_id, bucket, name, metadata, powers)


def _texts(column: str | None) -> list[str] | None:
    """Texts of a column as it is stored."""
    return None if column is None else json.loads(column)


def _page(selected: sa.Select[Any], after: sa.ColumnElement[bool], *order: sa.Column[Any]) -> sa.Select[Any]:
    return selected.where(after).order_by(*order).limit(SNAPSHOT_PAGE)
