"""What is left of the quotas of what one manages, by both ways to name it. Where edges hold it, is the provider's."""

from __future__ import annotations

from pydantic import Field

from keywright.domain.limits import Period
from keywright.domain.models import from_millis
from keywright.origin.openapi.fields import Moment, Shape
from keywright.origin.openapi.parameters import PathBucket, PathConsumer
from keywright.origin.pipeline.request import CurrentUnitOfWork
from keywright.origin.pipeline.unit_of_work import UnitOfWork
from keywright.origin.quotas import rules as quotas
from keywright.origin.quotas.rules import QuotaView
from keywright.origin.self_serve import rules
from keywright.origin.self_serve.api import BY_ID, BY_NAME, NOTE, PathConsumerId, new_router, problems_of_users
from keywright.origin.self_serve.rules import ConsumerRef

router = new_router()


class MyQuotaState(Shape):
    """A quota that holds for a consumer, by itself or by its plan, and what is left of it in the running period."""

    name: str = Field(examples=["calls"])
    limit: int = Field(description="How many units in each period.", examples=[10000])
    period: Period
    time_zone: str = Field(description="By whose calendar the periods begin.", examples=["Europe/Berlin"])
    anchor: int = Field(description="On which day a month begins; the last one, where it has none of that number.")
    default_cost: int = Field(description="What a request costs that does not say.")
    begins_on: Moment = Field(description="When the running period began.")
    ends_on: Moment | None = Field(description="When it ends, and the next begins; null is never.")
    remaining: int = Field(description="What can be spent in it yet.", examples=[9320])
    spent: int = Field(description="What was spent, as far as edges have told.", examples=[680])
    added: int = Field(description="What was added to this period beside the limit.", examples=[0])


class MyQuotas(Shape):
    """The quotas that hold for a consumer, its own or its plan's, and what is left of each."""

    data: list[MyQuotaState]


@router.get(
    BY_NAME + "/{consumerName}/quotas",
    name="self-serve.consumer.quotas",
    summary="List what is left of a consumer's quotas",
    responses=problems_of_users(403, 404),
    openapi_extra=NOTE,
)
async def list_my_quotas(work: CurrentUnitOfWork, bucket: PathBucket, consumer: PathConsumer) -> MyQuotas:
    """Of the running periods; what edges hold already is in `remaining`, too."""
    return await _list(work, ConsumerRef(bucket, name=consumer))


@router.get(
    BY_ID + "/{consumerId}/quotas",
    name="self-serve.consumer.quotas",
    summary="List what is left of a consumer's quotas, by id",
    responses=problems_of_users(403, 404),
    openapi_extra=NOTE,
)
async def list_client_quotas(work: CurrentUnitOfWork, bucket: PathBucket, consumer: PathConsumerId) -> MyQuotas:
    """Of the running periods; what edges hold already is in `remaining`, too."""
    return await _list(work, ConsumerRef(bucket, id=consumer))


async def _list(work: UnitOfWork, ref: ConsumerRef) -> MyQuotas:
    _, view = await rules.get_consumer(work, ref)
    return MyQuotas(data=[_show(one) for one in await quotas.list_for(work.tx, view.consumer)])


def _show(view: QuotaView) -> MyQuotaState:
    quota, times = view.quota, view.times
    return MyQuotaState(
        name=quota.name,
        limit=quota.limit,
        period=quota.period,
        time_zone=quota.time_zone,
        anchor=quota.anchor,
        default_cost=quota.default_cost,
        begins_on=from_millis(times.begins_at),
        ends_on=view.ends_at,
        remaining=view.remaining,
        spent=view.spent,
        added=view.added,
    )
