"""Plans of a bucket."""

from __future__ import annotations

from pydantic import Field

from keywright.origin.buckets.access import may_write_bucket
from keywright.origin.openapi.bodies import Body, RepeatedMember, check_repeated
from keywright.origin.openapi.fields import (
    ABSENT,
    Description,
    LimitName,
    ListOf,
    Moment,
    Scopes,
    ScopesInput,
    Shape,
    value_or_unset,
)
from keywright.origin.openapi.limits import (
    QuotaShape,
    QuotasInput,
    RateLimitShape,
    RateLimitsInput,
    quotas_of,
    rate_limits_of,
    show_quotas,
    show_rate_limits,
)
from keywright.origin.openapi.parameters import AskedPage, PathAccount, PathBucket, PathPlan, new_router
from keywright.origin.openapi.problem_responses import problems
from keywright.origin.pipeline.body import admits
from keywright.origin.pipeline.request import CurrentUnitOfWork
from keywright.origin.plans import rules
from keywright.origin.plans.rules import PlanDraft, PlanView

router = new_router("Plans")
PLANS = "/accounts/{accountName}/key-buckets/{bucketName}/plans"
PLAN = PLANS + "/{planName}"
EXAMPLE = [{"name": "per-minute", "limit": 600, "windowSeconds": 60, "scope": "global"}]
QUOTAS = [
    {"name": "monthly", "limit": 100_000, "period": "month", "timeZone": "UTC", "anchor": 1, "defaultCost": 1},
]
READ_ONLY = (*Body.read_only, "consumers")


class PlanShape(Shape):
    """A name for scopes and limits: they hold for each consumer that has it and of which none are said."""

    id: str = Field(examples=["plan_Q2wPZuZRmpK1dQsgNNZ7GBvZ"])
    name: str = Field(examples=["gold"])
    created_on: Moment
    updated_on: Moment
    description: str | None
    scopes: Scopes | None = Field(
        description="What keys are good for; null is the bucket's `defaultScopes`, `[]` nothing."
    )
    rate_limits: list[RateLimitShape] | None = Field(
        description="How often the keys of a consumer may be used, all together; null and `[]` are any number.",
        examples=[EXAMPLE],
    )
    quotas: list[QuotaShape] | None = Field(
        description="How much the keys of a consumer may use in a period, all together; null and `[]` are any amount.",
        examples=[QUOTAS],
    )
    consumers: int = Field(description="How many consumers have it.", examples=[12])


class PlanCreate(Body):
    """A new plan."""

    read_only = READ_ONLY

    name: LimitName = Field(description="Unique in the bucket; can't be changed.", examples=["gold"])
    description: Description | None = Field(default=None, examples=["For paying customers"])
    scopes: ScopesInput | None = Field(
        default=None,
        description="What keys are good for; left out or null, the bucket's `defaultScopes`; `[]` is nothing.",
    )
    rate_limits: RateLimitsInput | None = Field(
        default=None,
        description="How often the keys of a consumer may be used, all together.",
        examples=[EXAMPLE],
    )
    quotas: QuotasInput | None = Field(
        default=None,
        description="How much the keys of a consumer may use in a period, all together.",
        examples=[QUOTAS],
    )


class PlanUpdate(Body):
    """What is to change, each member as a whole; what is left out stays."""

    read_only = READ_ONLY

    description: Description | None = Field(default=None, examples=["For paying customers"])
    scopes: ScopesInput | None = Field(
        default=None, description="What keys are good for; null is the bucket's `defaultScopes`, `[]` nothing."
    )
    rate_limits: RateLimitsInput | None = Field(
        default=None,
        description="How often the keys of a consumer may be used, all together; null and `[]` are any number.",
        examples=[EXAMPLE],
    )
    quotas: QuotasInput | None = Field(
        default=None,
        description="How much the keys of a consumer may use in a period, all together; null and `[]` are any amount.",
        examples=[QUOTAS],
    )
    name: RepeatedMember = ABSENT


@router.get(PLANS, name="plan.list", summary="List plans", responses=problems(403, 404))
async def list_plans(
    work: CurrentUnitOfWork, account: PathAccount, bucket: PathBucket, page: AskedPage
) -> ListOf[PlanShape]:
    """The plans of a bucket, newest first, each with how many consumers have it."""
    views, total = await rules.list_of(work, account, bucket, page)
    return ListOf.of([_show(view) for view in views], page, total)


@router.post(PLANS, name="plan.create", summary="Create a plan", responses=problems(403, 404, 409, 413, 415))
@admits(may_write_bucket)
async def create_plan(work: CurrentUnitOfWork, account: PathAccount, bucket: PathBucket, body: PlanCreate) -> PlanShape:
    """A new plan, to be given to consumers by its name. A bucket may have 100."""
    draft = PlanDraft(
        body.name, body.description, body.scopes, rate_limits_of(body.rate_limits), quotas_of(body.quotas)
    )
    return _show(await rules.create(work, account, bucket, draft))


@router.get(PLAN, name="plan.read", summary="Get a plan", responses=problems(403, 404))
async def get_plan(work: CurrentUnitOfWork, account: PathAccount, bucket: PathBucket, plan: PathPlan) -> PlanShape:
    """A plan of the bucket, with how many consumers have it."""
    return _show(await rules.get(work, account, bucket, plan))


@router.patch(PLAN, name="plan.update", summary="Update a plan", responses=problems(403, 404, 413, 415))
@admits(may_write_bucket)
async def update_plan(
    work: CurrentUnitOfWork, account: PathAccount, bucket: PathBucket, plan: PathPlan, body: PlanUpdate
) -> PlanShape:
    """Replaces what is sent, each member as a whole. What is left out stays.

    It is one change, and holds for all consumers that have the plan, from the answer on.
    """
    check_repeated(body, name=body.name == plan)
    changed = await rules.update(
        work,
        account,
        bucket,
        plan,
        description=value_or_unset(body, "description"),
        scopes=value_or_unset(body, "scopes"),
        rate_limits=rate_limits_of(value_or_unset(body, "rate_limits")),
        quotas=quotas_of(value_or_unset(body, "quotas")),
    )
    return _show(changed)


@router.delete(PLAN, name="plan.delete", summary="Delete a plan", status_code=204, responses=problems(403, 404, 409))
async def delete_plan(work: CurrentUnitOfWork, account: PathAccount, bucket: PathBucket, plan: PathPlan) -> None:
    """Deletes a plan that no consumer has. 409 for any other: it says how many consumers have it."""
    await rules.delete(work, account, bucket, plan)


def _show(view: PlanView) -> PlanShape:
    plan = view.plan
    return PlanShape(
        id=plan.id,
        name=plan.name,
        created_on=plan.created_at,
        updated_on=plan.updated_at,
        description=plan.description,
        scopes=None if plan.scopes is None else list(plan.scopes),
        rate_limits=show_rate_limits(plan.rate_limits),
        quotas=show_quotas(plan.quotas),
        consumers=view.consumers,
    )
