"""Owns what the shapes of the API have in common: how names, times, tags and pages look, and the problem documents."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Depends, Path, Query
from fastapi.routing import APIRouter
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema
from pydantic.alias_generators import to_camel

from keywright.core.keyformat import PREFIX_PATTERN, Secret, is_valid_custom
from keywright.core.models import to_iso
from keywright.core.problems import BY_STATUS, CONTENT_TYPE
from keywright.origin.http import MAX_LIMIT, MAX_OFFSET, OriginRoute, page_of
from keywright.origin.service.actor import ACCOUNT_NAME, BUCKET_NAME, CONSUMER_NAME, PROJECT_NAME, UNSET, Page, Unset

Item = TypeVar("Item")

# RFC 3339 with upper-case T and Z as ISO 8601 has them; a date alone or a time without zone could mean two moments.
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)")


def parse_moment(value: Any) -> datetime:
    if not isinstance(value, str) or _MOMENT.fullmatch(value) is None:
        raise ValueError("must be an ISO 8601 time with its zone, such as 2027-01-31T12:00:00.000Z")
    try:
        return datetime.fromisoformat(value).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("is not a moment of the calendar from year 1 to 9999") from None


def _custom_key(text: str) -> Secret:
    if not is_valid_custom(text):
        raise ValueError("must be 8 to 512 printable ASCII characters without spaces")
    return Secret(text)


def _email(text: str) -> str:
    # One @ with something on both sides: whether mail arrives is for the invite to show, not for a pattern.
    if re.fullmatch(r"[^@\s\x00-\x1f]{1,64}@[^@\s\x00-\x1f]{1,255}", text) is None:
        raise ValueError("must be an e-mail address")
    return text


Moment = Annotated[
    datetime, PlainSerializer(to_iso, return_type=str), WithJsonSchema({"type": "string", "format": "date-time"})
]
GivenMoment = Annotated[
    datetime, BeforeValidator(parse_moment), WithJsonSchema({"type": "string", "format": "date-time"})
]
AccountName = Annotated[str, Field(pattern=ACCOUNT_NAME)]
ProjectName = Annotated[str, Field(pattern=PROJECT_NAME)]
BucketName = Annotated[str, Field(pattern=BUCKET_NAME)]
ConsumerName = Annotated[str, Field(pattern=CONSUMER_NAME)]
KeyPrefix = Annotated[str, Field(pattern=PREFIX_PATTERN)]
Description = Annotated[str, Field(max_length=1000)]
TagText = Annotated[str, Field(min_length=1, max_length=128)]
Tags = Annotated[dict[TagText, Annotated[str, Field(max_length=256)]], Field(examples=[{"plan": "gold"}])]
Metadata = Annotated[dict[str, Any], Field(examples=[{"plan": "gold", "orgId": "org_123"}])]
Email = Annotated[str, AfterValidator(_email), Field(min_length=3, max_length=320, examples=["ada@example.com"])]
Subject = Annotated[str, Field(min_length=1, max_length=255, examples=["auth0|5f7c8ec7c33c6c004bbafe82"])]
CustomKey = Annotated[
    Secret,
    BeforeValidator(lambda value: _custom_key(value) if isinstance(value, str) else _refuse_non_string()),
    WithJsonSchema({"type": "string", "minLength": 8, "maxLength": 512, "pattern": "^[!-~]{8,512}$"}),
]


def _refuse_non_string() -> Any:
    raise ValueError("input should be a valid string")


class Shape(BaseModel):
    """A JSON object of the API: camelCase outside, snake_case inside, no coercion, unknown fields ignored."""

    model_config = ConfigDict(
        strict=True,
        extra="ignore",
        alias_generator=to_camel,
        populate_by_name=True,
        arbitrary_types_allowed=True,
        regex_engine="python-re",
    )


class ListOf(Shape, Generic[Item]):
    """A part of a list, newest first."""

    data: list[Item]
    limit: int = Field(description="How many items were asked for, at most 1000.", examples=[1000])
    offset: int = Field(description="How many items were passed over.", examples=[0])
    total: int = Field(description="How many items there are in all.", examples=[1])

    @classmethod
    def of(cls, data: list[Item], page: Page, total: int) -> ListOf[Item]:
        return cls(data=data, limit=page.limit, offset=page.offset, total=total)


class FieldProblem(BaseModel):
    field: str = Field(examples=["body.name"])
    message: str = Field(examples=["string should match pattern '^[a-z0-9_-]{1,128}$'"])


class ProblemDocument(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = Field(examples=["https://httpproblems.com/http-status/400"])
    title: str = Field(examples=["Bad Request"])
    status: int = Field(examples=[400])
    detail: str | None = Field(default=None, examples=["The request is not valid."])
    instance: str | None = None
    request_id: str | None = Field(
        default=None, alias="requestId", description="Also in the `x-request-id` header and the audit log."
    )
    errors: list[FieldProblem] | None = None


def given(model: BaseModel, name: str) -> Any:
    """A field of an update: its value, None included, or UNSET where the caller did not send it."""
    return getattr(model, name) if name in model.model_fields_set else UNSET


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI responses of the refusals that an operation knows, besides those that all of them share."""
    reasons = {
        400: "The request is not valid; `errors` names the fields.",
        401: "No management key was sent, or it is not valid.",
        403: "The management key may not do this.",
        404: "There is no such thing, or the management key may not know of it.",
        409: "The name or the key is taken, or the thing is in use.",
        413: "The body is larger than 4 MiB.",
        415: "The body is not announced as JSON.",
        429: "Too many requests in this second.",
        503: "The database can't be reached; nothing was changed.",
    }
    found: dict[int | str, dict[str, Any]] = {}
    for status in sorted({400, 401, 429, 503, *statuses}):
        schema = {"$ref": "#/components/schemas/ProblemDocument"}
        found[status] = {
            "description": f"{BY_STATUS[status].title}. {reasons[status]}",
            "content": {CONTENT_TYPE: {"schema": schema}},
        }
        if status in {429, 503}:
            seconds = {"description": "Seconds until another try may succeed.", "schema": {"type": "string"}}
            found[status]["headers"] = {"Retry-After": seconds}
    return found


def new_router(tag: str) -> APIRouter:
    return APIRouter(prefix="/v1", tags=[tag], route_class=OriginRoute, redirect_slashes=False)


def _page(
    limit: Annotated[
        int, Query(ge=1, description="The most items to return; a larger number is cut to 1000.")
    ] = MAX_LIMIT,
    offset: Annotated[int, Query(ge=0, le=MAX_OFFSET, description="How many items to pass over.")] = 0,
) -> Page:
    return page_of(limit, offset)


AskedPage = Annotated[Page, Depends(_page)]
PathAccount = Annotated[str, Path(alias="accountName", description="The name of the account.", examples=["my-account"])]
PathBucket = Annotated[
    str, Path(alias="bucketName", description="The name of the bucket.", examples=["my-project-production"])
]
PathConsumer = Annotated[
    str, Path(alias="consumerName", description="The name of the consumer.", examples=["my-consumer"])
]
TagQuery = Annotated[
    str | None,
    Query(
        alias="tag",
        description="Written as `tag.<name>=<value>`, once or more: only a consumer that has all these tags counts. "
        "Reads pass over the others; writes answer 404 and change nothing.",
    ),
]

__all__ = [
    "UNSET", "AccountName", "AskedPage", "BucketName", "ConsumerName", "CustomKey", "Description", "Email",
    "GivenMoment", "KeyPrefix", "ListOf", "Mapping", "Metadata", "Moment", "PathAccount", "PathBucket", "PathConsumer",
    "ProblemDocument", "ProjectName", "Shape", "Subject", "TagQuery", "Tags", "Unset", "given", "new_router",
    "parse_moment", "problems",
]  # fmt: skip
