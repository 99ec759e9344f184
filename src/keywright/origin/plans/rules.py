"""Rules of plans: what a bucket's consumers may be given by one name, and that none is deleted that somebody has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from keywright.domain.limits import NAME, Quota, RateLimit
from keywright.domain.models import Bucket, IdKind, Plan, new_id
from keywright.domain.paging import Page
from keywright.domain.permissions import Access
from keywright.domain.problems import BadRequest, Conflict, NotFound
from keywright.domain.text import is_whole
from keywright.domain.unset import UNSET, Unset, updated
from keywright.origin.buckets.access import get_bucket
from keywright.origin.db.engine import MissingReference, UniqueViolation
from keywright.origin.keys import powers
from keywright.origin.pipeline.unit_of_work import UnitOfWork
from keywright.origin.plans import store as rows

MAX_PLANS = 100
"""Of one bucket."""


@dataclass(frozen=True, slots=True)
class PlanDraft:
    """What a caller says of a new plan; None is nothing said, an empty list none at all."""

    name: str
    description: str | None = None
    scopes: Sequence[str] | None = None
    rate_limits: Sequence[RateLimit] | None = None
    quotas: Sequence[Quota] | None = None


@dataclass(frozen=True, slots=True)
class PlanView:
    """A plan, and how many consumers have it."""

    plan: Plan
    consumers: int


async def create(work: UnitOfWork, account_name: str, bucket_name: str, draft: PlanDraft) -> PlanView:
    """A new plan, which nobody has yet. Raises Conflict where the name is taken, and for more than 100."""
    # Held, so that two of these at once are counted one after the other.
    _, bucket = await get_bucket(work, account_name, bucket_name, Access.WRITE, is_for_update=True)
    _check_limits(work, draft.scopes)
    if await rows.count(work.tx, bucket) >= MAX_PLANS:
        raise Conflict(f"A bucket may have at most {MAX_PLANS} plans; delete one first.")
    try:
        plan = await rows.insert(
            work.tx,
            id=new_id(IdKind.PLAN, work.dependencies.random_bytes),
            bucket=bucket,
            name=draft.name,
            description=draft.description,
            scopes=draft.scopes,
            rate_limits=draft.rate_limits,
            quotas=draft.quotas,
            now=work.now,
        )
    except UniqueViolation:
        raise Conflict(f"The bucket has a plan named {draft.name!r} already.") from None
    except MissingReference:
        raise NotFound("The account has no such bucket.") from None
    _note(work, bucket, plan)
    powers.tell_of_new(work, plan)
    return PlanView(plan, 0)


async def list_of(work: UnitOfWork, account_name: str, bucket_name: str, page: Page) -> tuple[list[PlanView], int]:
    """The plans of a bucket, newest first, and how many there are."""
    _, bucket = await get_bucket(work, account_name, bucket_name, Access.READ)
    found, total = await rows.list_of(work.tx, bucket, limit=page.limit, offset=page.offset)
    counts = await rows.count_consumers(work.tx, found)
    return [PlanView(plan, counts[plan.number]) for plan in found], total


async def get(work: UnitOfWork, account_name: str, bucket_name: str, name: str) -> PlanView:
    _, bucket = await get_bucket(work, account_name, bucket_name, Access.READ)
    return await _view(work, await _get(work, bucket, name))


async def update(
    work: UnitOfWork,
    account_name: str,
    bucket_name: str,
    name: str,
    *,
    description: str | Unset | None = UNSET,
    scopes: Sequence[str] | Unset | None = UNSET,
    rate_limits: Sequence[RateLimit] | Unset | None = UNSET,
    quotas: Sequence[Quota] | Unset | None = UNSET,
) -> PlanView:
    """Replaces what is given as a whole; None takes it back to nothing said. It holds for all who have the plan."""
    _, bucket = await get_bucket(work, account_name, bucket_name, Access.WRITE)
    plan = await _get(work, bucket, name, is_for_update=True)
    changed = replace(
        plan,
        description=updated(description, plan.description),
        scopes=updated(scopes, plan.scopes),
        rate_limits=updated(rate_limits, plan.rate_limits),
        quotas=updated(quotas, plan.quotas),
        updated_at=work.now,
    )
    _check_limits(work, changed.scopes)
    powers.tell_of_change(work, plan, changed)
    return await _view(work, await rows.update(work.tx, plan, changed))


async def delete(work: UnitOfWork, account_name: str, bucket_name: str, name: str) -> None:
    """Deletes a plan. Raises Conflict for one that a consumer has."""
    _, bucket = await get_bucket(work, account_name, bucket_name, Access.WRITE)
    plan = await _get(work, bucket, name, is_for_update=True)
    held = (await _view(work, plan)).consumers
    if held:
        whose = "1 consumer has" if held == 1 else f"{held:,} consumers have"
        raise Conflict(f"The plan can't be deleted: {whose} it. Give them another one, or none, first.")
    await rows.delete(work.tx, plan)


async def find_to_give(work: UnitOfWork, bucket: Bucket, name: str, field: str = "body.plan") -> Plan:
    """The plan that a consumer is to have. Raises BadRequest where the bucket has none of that name."""
    plan = await rows.find_to_give(work.tx, bucket, name)
    if plan is None:
        raise BadRequest(
            "The bucket has no such plan.", errors=[{"field": field, "message": "is no plan of the bucket"}]
        )
    return plan


async def _get(work: UnitOfWork, bucket: Bucket, name: str, *, is_for_update: bool = False) -> Plan:
    plan = None
    # What no plan can be called is not looked for.
    if is_whole(NAME, name):
        plan = await rows.find(work.tx, bucket, name, is_for_update=is_for_update)
    if plan is None:
        raise NotFound("The bucket has no such plan.")
    _note(work, bucket, plan)
    return plan


async def _view(work: UnitOfWork, plan: Plan) -> PlanView:
    return PlanView(plan, (await rows.count_consumers(work.tx, [plan]))[plan.number])


def _note(work: UnitOfWork, bucket: Bucket, plan: Plan) -> None:
    work.audit_draft.concerns("plan", plan.id, name=plan.name, bucket=bucket.name)


def _check_limits(work: UnitOfWork, scopes: Sequence[str] | None) -> None:
    """Raises BadRequest for scopes of which no gateway could tell an API, whoever has them."""
    problems: list[dict[str, str]] = []
    work.dependencies.limits.check_identity({}, {}, scopes or (), problems, field="body.scopes")
    if problems:
        raise BadRequest("The plan exceeds a limit.", errors=problems)
