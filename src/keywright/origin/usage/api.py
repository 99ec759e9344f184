"""Usage of a bucket, a consumer and a key; and the keys of a bucket, with those that nobody uses."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from enum import StrEnum
from typing import Annotated, Any

from fastapi import Depends, Query, Request, Response
from pydantic import Field

from keywright.domain.models import to_iso
from keywright.domain.paging import Page
from keywright.origin.consumers.parameters import CONSUMER, AskedConsumer
from keywright.origin.keys import rules as key_rules
from keywright.origin.keys.shapes import KeyFormat, KeyShape, show
from keywright.origin.openapi.fields import Limit, ListOf, Moment, MomentInput, Offset, Shape
from keywright.origin.openapi.parameters import AskedPage, PathAccount, PathBucket, PathKey, new_router
from keywright.origin.openapi.problem_responses import problems
from keywright.origin.pipeline.query import page_of
from keywright.origin.pipeline.request import CurrentUnitOfWork
from keywright.origin.usage import rules
from keywright.origin.usage.parameters import KNOWN_UNTIL, UnusedSince
from keywright.origin.usage.rules import Asked, By, Group, Interval, Usage

BUCKET = "/accounts/{accountName}/key-buckets/{bucketName}"

router = new_router("Usage")


class UsageFormat(StrEnum):
    """How usage is written."""

    JSON = "json"
    CSV = "csv"


class UsageStepShape(Shape):
    """An hour or a day of a range."""

    start: Moment = Field(alias="from")
    verdicts: dict[str, int] = Field(description="How often each verdict was given.", examples=[{"VALID": 120}])


class UsageGroupShape(Shape):
    """What was counted of one key, consumer or edge, or of one verdict."""

    id: str = Field(
        description="Of the key or consumer; the verdict; the edge's number; or a network, `other` for more of them "
        "than an edge tells apart.",
        examples=["VALID"],
    )
    name: str | None = Field(
        description="Of the consumer, edge or plan; null for what is gone, and where there is none.", examples=[None]
    )
    region: str | None = Field(description="Of the edge.", examples=[None])
    consumer: str | None = Field(description="The id of the key's consumer.", examples=[None])
    total: int = Field(examples=[1234])
    first_on: Moment | None = Field(description="Of a network: when the first of these was.", examples=[None])
    last_on: Moment | None = Field(description="Of a network: when the last of these was.", examples=[None])
    verdicts: dict[str, int] = Field(description="How often each verdict was given.", examples=[{"VALID": 1234}])
    steps: list[UsageStepShape] = Field(
        description="Hours or days in which there was any, where `interval` asked for them.", examples=[[]]
    )


class UsageLossShape(Shape):
    """Counts that are known to be lost."""

    edge: str = Field(description="The name of the edge.", examples=["edge-eu-1"])
    since: Moment
    until: Moment
    lost: int | None = Field(description="How many; null where nobody knows.", examples=[None])
    reason: str = Field(examples=["killed"])


class UsageShape(Shape):
    """What was counted in a range, most first."""

    data: list[UsageGroupShape]
    limit: int = Field(description="The most groups that this part may have.", examples=[100])
    offset: int = Field(description="How many groups were passed over.", examples=[0])
    total: int = Field(description="How many groups there are in all.", examples=[1])
    start: Moment = Field(alias="from", description="The range, in whole hours or days (UTC).")
    end: Moment = Field(alias="to")
    by: By
    interval: Interval | None = Field(examples=[None])
    known_until: Moment | None = Field(
        description="All that was before this moment is counted here, but for `losses`: every edge that isn't retired "
        "has told. Null while one of them has not said how far it is."
    )
    losses: list[UsageLossShape] = Field(description="What is known to be lost of the range.", examples=[[]])
    distinct: int | None = Field(
        description="By address: about how many different networks there were (standard error 2.3 %), also of those "
        "that are not told.",
        examples=[None],
    )


class BucketKeyShape(KeyShape):
    """A key with whose it is."""

    consumer_id: str = Field(examples=["csmr_brw0leTAVw478VFKD4F6OqVI"])
    consumer_name: str = Field(examples=["my-consumer"])


class BucketKeysShape(ListOf[BucketKeyShape]):
    """Keys of a bucket, newest first."""

    known_until: Moment | None = Field(description="What lies after this moment, an edge may have to tell still.")


class ByOfBucket(StrEnum):
    """What is told apart of a bucket."""

    VERDICT = "verdict"
    KEY = "key"
    CONSUMER = "consumer"
    EDGE = "edge"
    PLAN = "plan"
    SCOPE = "scope"
    ROUTE = "route"


class ByOfConsumer(StrEnum):
    """What is told apart of a consumer; addresses where the bucket records them."""

    VERDICT = "verdict"
    KEY = "key"
    EDGE = "edge"
    ADDRESS = "address"


class ByOfKey(StrEnum):
    """What is told apart of a key; addresses where the bucket records them."""

    VERDICT = "verdict"
    EDGE = "edge"
    ADDRESS = "address"


class ByOfManaged(StrEnum):
    """What is told apart for who manages a consumer."""

    VERDICT = "verdict"
    KEY = "key"


async def _range(
    start: Annotated[
        MomentInput | None,
        Query(alias="from", description="The beginning; 30 days before the end, if left out, 7 with `interval=hour`."),
    ] = None,
    end: Annotated[MomentInput | None, Query(alias="to", description="The end; now, if left out.")] = None,
    interval: Annotated[Interval | None, Query(description="Also tells of each hour, or each day (UTC).")] = None,
    limit: Annotated[Limit, Query(description="The most groups to return; a larger number is cut to 1000.")] = 100,
    offset: Annotated[Offset, Query(description="How many groups to pass over.")] = 0,
) -> Asked:
    return Asked(start, end, By.VERDICT, interval, page_of(limit, offset))


AskedRange = Annotated[Asked, Depends(_range)]
_APART = "What is told apart."


async def _of_bucket(
    asked: AskedRange, by: Annotated[ByOfBucket, Query(description=_APART)] = ByOfBucket.VERDICT
) -> Asked:
    return replace(asked, by=By(by))


async def _of_consumer(
    asked: AskedRange, by: Annotated[ByOfConsumer, Query(description=_APART)] = ByOfConsumer.VERDICT
) -> Asked:
    return replace(asked, by=By(by))


async def _of_key(asked: AskedRange, by: Annotated[ByOfKey, Query(description=_APART)] = ByOfKey.VERDICT) -> Asked:
    return replace(asked, by=By(by))


async def _of_managed(
    asked: AskedRange, by: Annotated[ByOfManaged, Query(description=_APART)] = ByOfManaged.VERDICT
) -> Asked:
    return replace(asked, by=By(by))


AskedOfManaged = Annotated[Asked, Depends(_of_managed)]
AskedOfConsumer = Annotated[Asked, Depends(_of_consumer)]
AskedFormat = Annotated[
    UsageFormat | None,
    Query(alias="format", description="`csv` for a table, as `Accept: text/csv` asks for it; else JSON."),
]
CSV: dict[int | str, dict[str, Any]] = {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}}


@router.get(
    BUCKET + "/usage", name="bucket.usage", summary="Usage of a bucket", responses={**CSV, **problems(403, 404)},
    response_model=UsageShape,
)  # fmt: skip
async def get_bucket_usage(
    work: CurrentUnitOfWork,
    request: Request,
    account: PathAccount,
    bucket: PathBucket,
    asked: Annotated[Asked, Depends(_of_bucket)],
    format: AskedFormat = None,
) -> Response | UsageShape:
    """How often keys of the bucket were validated, and what was not a known key. One that was deleted is found by its
    id.
    """
    return answer(request, asked, format, await rules.of_bucket(work, account, bucket, asked))


@router.get(
    CONSUMER + "/usage", name="consumer.usage", summary="Usage of a consumer",
    responses={**CSV, **problems(403, 404, 409)},
    response_model=UsageShape,
)  # fmt: skip
async def get_consumer_usage(
    work: CurrentUnitOfWork,
    request: Request,
    path: AskedConsumer,
    asked: AskedOfConsumer,
    format: AskedFormat = None,
) -> Response | UsageShape:
    """How often keys of the consumer were validated, by `verdict`, `key`, `edge` or `address`. One that was deleted
    is found by its id.
    """
    return answer(request, asked, format, await rules.of_consumer(work, path, asked))


@router.get(
    CONSUMER + "/keys/{keyId:key_id}/usage", name="key.usage", summary="Usage of a key",
    responses={**CSV, **problems(403, 404, 409)}, response_model=UsageShape,
)  # fmt: skip
async def get_key_usage(
    work: CurrentUnitOfWork,
    request: Request,
    path: AskedConsumer,
    key_id: PathKey,
    asked: Annotated[Asked, Depends(_of_key)],
    format: AskedFormat = None,
) -> Response | UsageShape:
    """How often the key was validated, by `verdict`, `edge` or `address`; also of one that was revoked."""
    return answer(request, asked, format, await rules.of_key(work, path, key_id, asked))


@router.get(
    BUCKET + "/keys",
    name="bucket.keys",
    summary="List the keys of a bucket",
    responses=problems(403, 404),
    response_model_exclude_unset=True,
)
async def list_bucket_keys(
    work: CurrentUnitOfWork,
    account: PathAccount,
    bucket: PathBucket,
    page: AskedPage,
    unused_since: UnusedSince = None,
) -> BucketKeysShape:
    """The keys of all consumers of a bucket, masked, newest first: with `unused-since` those that nobody misses."""
    found, keys, total = await key_rules.list_of_bucket(work, account, bucket, page, unused_since=unused_since)
    shapes = []
    for key, consumer_id, consumer_name in keys:
        shown = show(key, KeyFormat.MASKED, {})
        of_consumer = {"consumer_id": consumer_id, "consumer_name": consumer_name}
        shapes.append(BucketKeyShape.model_construct(**{**dict(shown), **of_consumer}))
    known_until = await rules.known_until_of(work, found)
    return BucketKeysShape(data=shapes, limit=page.limit, offset=page.offset, total=total, known_until=known_until)


def answer(request: Request, asked: Asked, format: UsageFormat | None, usage: Usage) -> Response | UsageShape:
    """Usage as it was asked for."""
    wants_csv = format is UsageFormat.CSV or (format is None and _prefers_csv(request))
    return _to_csv(usage) if wants_csv else to_shape(usage, asked.page)


def to_shape(usage: Usage, page: Page) -> UsageShape:
    losses = [
        {"edge": one.edge, "since": one.since, "until": one.until, "lost": one.lost, "reason": one.reason}
        for one in usage.losses
    ]
    return UsageShape.model_validate(
        {
            "data": [_group(one) for one in usage.groups],
            "limit": page.limit,
            "offset": page.offset,
            "total": usage.total,
            "from": usage.start,
            "to": usage.end,
            "by": usage.by,
            "interval": usage.interval,
            "knownUntil": usage.known_until,
            "losses": losses,
            "distinct": usage.distinct,
        }
    )


def _group(group: Group) -> UsageGroupShape:
    steps = [
        UsageStepShape.model_validate({"from": step.start, "verdicts": dict(step.verdicts)}) for step in group.steps
    ]
    return UsageGroupShape(
        id=group.id,
        name=group.name,
        region=group.region,
        consumer=group.owner,
        total=group.total,
        first_on=group.first,
        last_on=group.last,
        verdicts=dict(group.verdicts),
        steps=steps,
    )


def _to_csv(usage: Usage) -> Response:
    """A row for each group, step and verdict (RFC 4180)."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\r\n")
    rows.writerow(["from", usage.by.value, "name", "verdict", "total"])
    for group in usage.groups:
        steps = [(step.start, step.verdicts) for step in group.steps] or [(usage.start, group.verdicts)]
        for start, verdicts in steps:
            rows.writerows([to_iso(start), group.id, group.name or "", name, n] for name, n in verdicts.items())
    headers = {"Content-Disposition": 'attachment; filename="usage.csv"'}
    if usage.known_until is not None:
        headers[KNOWN_UNTIL] = to_iso(usage.known_until)
    return Response(text.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)


def _prefers_csv(request: Request) -> bool:
    """Whether the caller accepts a table and no JSON."""
    accepted = {part.split(";")[0].strip().lower() for part in request.headers.get("accept", "").split(",")}
    return "text/csv" in accepted and not accepted & {"application/json", "application/*", "*/*"}
