"""Rows of plans, and which consumers have them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from keywright.domain.limits import Quota, RateLimit
from keywright.domain.models import Bucket, Plan
from keywright.domain.powers import encode_powers, features_of
from keywright.origin.buckets import store as bucket_rows
from keywright.origin.db.tables import consumers, plans
from keywright.origin.db.transaction import Transaction
from keywright.protocol.changes import PlanDelete, PlanPut


async def insert(
    tx: Transaction,
    *,
    id: str,
    bucket: Bucket,
    name: str,
    description: str | None,
    scopes: Sequence[str] | None = None,
    rate_limits: Sequence[RateLimit] | None = None,
    quotas: Sequence[Quota] | None = None,
    now: datetime,
) -> Plan:
    """Raises UniqueViolation when the bucket has a plan of that name, MissingReference when the bucket is gone."""
    values: dict[str, Any] = {"id": id, "bucket_number": bucket.number, "name": name, "description": description}
    values |= {"scopes": scopes, "rate_limits": rate_limits, "quotas": quotas, "created_at": now, "updated_at": now}
    await _require_features(tx, bucket.number, encode_powers(scopes=scopes, rate_limits=rate_limits, quotas=quotas))
    plan = Plan(await tx.insert(plans, **values), **values)
    tx.record(put(plan))
    return plan


def put(plan: Plan) -> PlanPut:
    """The change that brings a replica's record of this plan up to date, and so all consumers that have it."""
    powers = encode_powers(scopes=plan.scopes, rate_limits=plan.rate_limits, quotas=plan.quotas)
    return PlanPut(plan.number, plan.id, plan.bucket_number, plan.name, powers)


async def find(tx: Transaction, bucket: Bucket, name: str, *, is_for_update: bool = False) -> Plan | None:
    """The plan of that name, held against other writers with `is_for_update`."""
    statement = sa.select(plans).where(plans.c.bucket_number == bucket.number, plans.c.name == name)
    if is_for_update:
        statement = statement.with_for_update()
    row = await tx.first(statement)
    return Plan(**row._mapping) if row else None


async def find_to_give(tx: Transaction, bucket: Bucket, name: str) -> Plan | None:
    """The plan of that name, which nobody deletes until the transaction ends; others may give it as well."""
    statement = sa.select(plans).where(plans.c.bucket_number == bucket.number, plans.c.name == name)
    row = await tx.first(statement.with_for_update(read=True, key_share=True))
    return Plan(**row._mapping) if row else None


async def find_all(tx: Transaction, numbers: Collection[int]) -> dict[int, Plan]:
    """The plans with these numbers."""
    if not numbers:
        return {}
    rows = await tx.all(sa.select(plans).where(plans.c.number.in_(numbers)))
    return {row.number: Plan(**row._mapping) for row in rows}


async def list_of(tx: Transaction, bucket: Bucket, *, limit: int, offset: int) -> tuple[list[Plan], int]:
    """Newest first, and how many there are in all."""
    newest = sa.select(plans).where(plans.c.bucket_number == bucket.number).order_by(plans.c.number.desc())
    rows = await tx.all(newest.limit(limit).offset(offset))
    return [Plan(**row._mapping) for row in rows], await count(tx, bucket)


async def count(tx: Transaction, bucket: Bucket) -> int:
    statement = sa.select(sa.func.count()).select_from(plans).where(plans.c.bucket_number == bucket.number)
    found: int = await tx.scalar(statement)
    return found


async def count_consumers(tx: Transaction, found: Sequence[Plan]) -> dict[int, int]:
    """How many consumers have each of these plans, by its number."""
    counts = {plan.number: 0 for plan in found}
    statement = sa.select(consumers.c.plan_number, sa.func.count()).where(consumers.c.plan_number.in_(counts))
    for number, held in await tx.all(statement.group_by(consumers.c.plan_number)):
        counts[number] = held
    return counts


_CHANGING = ("description", "scopes", "rate_limits", "quotas", "updated_at")


async def update(tx: Transaction, plan: Plan, changed: Plan) -> Plan:
    """Writes what of a plan may change, as it is in `changed`: for the edges one change, whoever has it."""
    values = {name: getattr(changed, name) for name in _CHANGING}
    before, after = put(plan), put(changed)
    await _require_features(tx, plan.bucket_number, after.powers)
    await tx.execute(sa.update(plans).where(plans.c.number == plan.number).values(**values))
    tx.concerns(before)
    if after != before:
        tx.record(after)
    return changed


async def delete(tx: Transaction, plan: Plan) -> None:
    """Deletes a plan that no consumer has; the database refuses any other."""
    await tx.execute(sa.delete(plans).where(plans.c.number == plan.number))
    tx.record(PlanDelete(plan.number, plan.bucket_number))


async def _require_features(tx: Transaction, bucket_number: int, powers: str | None) -> None:
    await bucket_rows.require_features(tx, bucket_number, {"plan", *features_of(powers)})
