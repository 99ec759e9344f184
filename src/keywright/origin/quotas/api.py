"""What is left of a consumer's quotas; adding to them, and giving back what is lost."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header, Path
from pydantic import AfterValidator, Field

from keywright.domain import limits
from keywright.domain.limits import Period
from keywright.domain.models import from_millis
from keywright.origin.buckets.access import may_write_bucket
from keywright.origin.consumers.parameters import CONSUMER, AskedConsumer
from keywright.origin.openapi.bodies import Body
from keywright.origin.openapi.fields import WITHOUT_FRACTION, ListOf, Moment, Shape
from keywright.origin.openapi.parameters import AskedPage, new_router
from keywright.origin.openapi.problem_responses import problems
from keywright.origin.pipeline.body import admits
from keywright.origin.pipeline.request import CurrentUnitOfWork
from keywright.origin.quotas import rules
from keywright.origin.quotas.rules import QuotaView

router = new_router("Quotas")
QUOTAS = CONSUMER + "/quotas"
QUOTA = QUOTAS + "/{quotaName}"
_CHARACTERS = r"[!#-\[\]-~]{1,200}"

PathQuota = Annotated[
    str,
    Path(
        alias="quotaName",
        description="The name of the quota.",
        examples=["calls"],
        json_schema_extra={"pattern": limits.NAME},
    ),
]
IdempotencyKey = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        description="What is sent again with the same one is done once: 1 to 200 printable characters without spaces "
        "and quotes, or these in quotes, which is the same key. It is remembered as long as the period, and two days.",
        examples=["order-2027-0042"],
        pattern=f'^(?:{_CHARACTERS}|"{_CHARACTERS}")$',
    ),
    # draft-ietf-httpapi-idempotency-key-header: a quoted string, which most clients send bare.
    AfterValidator(lambda sent: sent.strip('"')),
]


class QuotaStateShape(Shape):
    """A quota that holds for a consumer, by itself or by its plan, and what is left of it in the running period."""

    name: str = Field(examples=["calls"])
    limit: int = Field(description="How many units in each period.", examples=[10000])
    period: Period
    time_zone: str = Field(description="By whose calendar the periods begin.", examples=["Europe/Berlin"])
    anchor: int = Field(description="On which day a month begins; the last one, where it has none of that number.")
    default_cost: int = Field(description="What a request costs that does not say.")
    begins_on: Moment = Field(description="When the running period began.")
    ends_on: Moment | None = Field(description="When it ends, and the next begins; null is never.")
    remaining: int = Field(description="What can be spent in it yet; edges may hold it already.", examples=[9320])
    spent: int = Field(description="What edges have accounted for.", examples=[530])
    lent: int = Field(description="What edges hold, or held and have not accounted for.", examples=[150])
    unaccounted: int = Field(
        description="How much of that is in leases that have ended: it counts as spent until its edge is back, the "
        "period ends, or it is given back here.",
        examples=[0],
    )
    added: int = Field(description="What was added to this period.", examples=[0])
    overspent: int = Field(
        description="How much of what is spent edges served beyond it, where they serve while the origin is away.",
        examples=[0],
    )
    lending: bool = Field(
        description="Whether edges are lent more. False where the record went back to an earlier state, until the "
        "period ends or `keywright quotas reopen` is said."
    )
    limit_in_force_on: Moment | None = Field(
        description="When a limit that was lowered holds for the last edge that was lent more; null if it does."
    )


class TopUp(Body):
    """Units for the running period, beside its limit."""

    read_only = ()

    units: Annotated[int, Field(ge=1, le=limits.MAX_UNITS), WITHOUT_FRACTION] = Field(examples=[5000])


@router.get(QUOTAS, name="quota.list", summary="List what is left of quotas", responses=problems(403, 404))
async def list_quotas(work: CurrentUnitOfWork, path: AskedConsumer, page: AskedPage) -> ListOf[QuotaStateShape]:
    """The quotas that hold for a consumer, its own or its plan's, and what is left of each."""
    views = await rules.list_of(work, path)
    shown = [_show(view) for view in views[page.offset : page.offset + page.limit]]
    return ListOf.of(shown, page, len(views))


@router.post(
    QUOTA + "/top-ups", name="quota.top-up", summary="Add to a quota", responses=problems(403, 404, 409, 413, 415)
)
@admits(may_write_bucket)
async def top_up(
    work: CurrentUnitOfWork, path: AskedConsumer, quota: PathQuota, body: TopUp, idempotency_key: IdempotencyKey
) -> QuotaStateShape:
    """Adds units to the running period, for good: edges may be lent them from the answer on.

    409 where the key added something else to this consumer's quotas before.
    """
    return _show(await rules.top_up(work, path, quota, units=body.units, idempotency_key=idempotency_key))


@router.post(
    QUOTA + "/give-back", name="quota.give-back", summary="Give back what is unaccounted", responses=problems(403, 404)
)
async def give_back(work: CurrentUnitOfWork, path: AskedConsumer, quota: PathQuota) -> QuotaStateShape:
    """Takes what edges held in leases that ended more than a minute ago for not spent. What such an edge has spent of
    them all the same is not counted, also when it is back.
    """
    return _show(await rules.give_back(work, path, quota))


def _show(view: QuotaView) -> QuotaStateShape:
    quota, times = view.quota, view.times
    return QuotaStateShape(
        name=quota.name,
        limit=quota.limit,
        period=quota.period,
        time_zone=quota.time_zone,
        anchor=quota.anchor,
        default_cost=quota.default_cost,
        begins_on=from_millis(times.begins_at),
        ends_on=None if times.ends_at is None else from_millis(times.ends_at),
        remaining=view.remaining,
        spent=view.spent,
        lent=view.lent,
        unaccounted=view.unaccounted,
        added=view.added,
        overspent=view.overspent,
        lending=not view.is_away,
        limit_in_force_on=None if view.in_force_at is None else from_millis(view.in_force_at),
    )
