"""Owns what the shapes of the API have in common: how names, times, tags and texts look."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema
from pydantic.alias_generators import to_camel

from keywright.domain import limits, networks, scopes, text
from keywright.domain.keyformat import (
    MAX_LENGTH,
    MAX_PREFIX_LENGTH,
    MIN_LENGTH,
    PREFIX_PATTERN,
    Secret,
    is_valid_custom,
)
from keywright.domain.models import to_iso
from keywright.domain.names import ACCOUNT_NAME, BUCKET_NAME, CONSUMER_NAME, PROJECT_NAME
from keywright.domain.paging import Page
from keywright.domain.text import is_whole
from keywright.domain.unset import UNSET
from keywright.origin.pipeline.publish import MAX_COUNT, MAX_MILLIS
from keywright.origin.pipeline.query import MAX_OFFSET, MAX_TAGS

Item = TypeVar("Item")

# RFC 3339 (section 5.6), which takes t and z as well; a date alone or a time without zone could mean two moments.
MOMENT = (
    r"^(?!0000)[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r"[Tt]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$"
)
_DATE, _MINUTES, _SECONDS = "[0-9]{4}-[0-9]{2}-[0-9]{2}", "[0-9]{2}:[0-9]{2}", r":[0-9]{2}(\.[0-9]{1,9})?"
_NEARLY_MOMENTS = [
    (re.compile(pattern), rule)
    for pattern, rule in (
        (_DATE, "be a time with its zone, not a date alone"),
        (f"{_DATE} {_MINUTES}.*", "have a T between date and time"),
        (f"{_DATE}[Tt]{_MINUTES}([Zz]|[+-].*)?", "have seconds"),
        (f"{_DATE}[Tt]{_MINUTES}{_SECONDS}", "have its zone (Z, or an offset like +01:00)"),
        (f"{_DATE}[Tt]{_MINUTES}{_SECONDS}[+-][0-9]{{2,4}}", "have an offset with hours, a colon and minutes (+00:00)"),
        (f"{_DATE}[Tt]{_MINUTES}{_SECONDS} [0-9:]+", "have its offset's + written as %2B in an address"),
    )
]
"""What is said of what is nearly a time."""
_FLAGS = {"true": True, "false": False, "1": True, "0": False}
BUCKET_OR_ALL = r"^(\*|[a-z0-9-]{5,128})$"
WAIT_COUNT = r"^(all|[1-9][0-9]{0,2}|1000)$"
NETWORK_FORMAT = "ip-network"
"""Of our own, since a pattern can't say it: an IP address, or a network in CIDR notation without bits behind it."""
CUSTOM_KEY = r"^[!-~]{8,512}$"
LIMIT = "x-limit"
"""Marks, until the document is made, a schema whose limit is a setting: see document.py."""
ABSENT: Any = None
"""What a member has inside that was not sent, and that can't be null."""


def parse_moment(value: Any) -> datetime:
    if not isinstance(value, str) or not is_whole(MOMENT, value):
        raise ValueError(f"must {_moment_rule(value)}, such as 2027-01-31T12:00:00.000Z")
    try:
        return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("is not a moment of the calendar from year 1 to 9999") from None


def _moment_rule(value: Any) -> str:
    """Which rule a text breaks that is nearly a time."""
    text = value if isinstance(value, str) else ""
    return next(
        (rule for pattern, rule in _NEARLY_MOMENTS if pattern.fullmatch(text)), "be an ISO 8601 time with its zone"
    )


def _custom_key(value: Any) -> Secret:
    if not isinstance(value, str) or not is_valid_custom(value):
        raise ValueError(f"must be {MIN_LENGTH} to {MAX_LENGTH} printable ASCII characters without spaces")
    return Secret(value)


def _email(address: str) -> str:
    if not text.is_email(address):
        raise ValueError("must be an e-mail address")
    return address


def _scope(value: str) -> str:
    fault = scopes.find_fault([value])
    if fault is not None:
        raise ValueError(fault)
    return value


def _network(value: str) -> str:
    return str(networks.parse_network(value))


def _distinct(values: list[str]) -> list[str]:
    twice = [value for index, value in enumerate(values) if value in values[:index]]
    if twice:
        raise ValueError(f"must not name one twice: {twice[0]}")
    return values


def _not_empty(values: list[str]) -> list[str]:
    if not values:
        raise ValueError("must have an item; null is for none said, and enabled false shuts everybody out")
    return values


def _matching(pattern: str) -> AfterValidator:
    def check(value: str) -> str:
        if not is_whole(pattern, value):
            raise ValueError(f"must match {pattern}")
        return value

    return AfterValidator(check)


def _whole_number(value: Any) -> Any:
    # The framework would take 1_000, 10.0 and surrounding spaces, too.
    if isinstance(value, str) and not is_whole("^-?[0-9]{1,400}$", value):
        raise ValueError("must be a whole number")
    return value


def _without_fraction(value: Any) -> Any:
    # In JSON, 300.0 is the whole number 300; a fraction is left for the refusal.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _wait_count(value: Any) -> Any:
    if not isinstance(value, str) or not is_whole(WAIT_COUNT, value):
        raise ValueError(f"must be all, or a whole number from 1 to {MAX_COUNT}")
    return value


def _flag(value: Any) -> Any:
    # `True` is what Python clients send, and 1 what those in PHP and others do.
    if not isinstance(value, str) or value.lower() not in _FLAGS:
        raise ValueError("must be true or false")
    return _FLAGS[value.lower()]


_MOMENT_SCHEMA = {"type": "string", "format": "date-time", "examples": ["2027-01-31T12:00:00.000Z"]}

Moment = Annotated[datetime, PlainSerializer(to_iso, return_type=str), WithJsonSchema(_MOMENT_SCHEMA)]
MomentInput = Annotated[
    datetime, BeforeValidator(parse_moment), WithJsonSchema({**_MOMENT_SCHEMA, "pattern": MOMENT, "maxLength": 64})
]
Scope = Annotated[
    str,
    AfterValidator(_scope),
    Field(examples=["orders:read"], json_schema_extra={"pattern": scopes.SCOPE, "maxLength": scopes.MAX_LENGTH}),
]
ScopesInput = Annotated[
    list[Scope],
    AfterValidator(_distinct),
    Field(max_length=scopes.MAX_SCOPES, examples=[["orders:read"]], json_schema_extra={"uniqueItems": True}),
]
NetworkInput = Annotated[
    str, AfterValidator(_network), Field(examples=["192.0.2.0/24"], json_schema_extra={"format": NETWORK_FORMAT})
]
AllowedIpsInput = Annotated[
    list[NetworkInput],
    AfterValidator(_distinct),
    AfterValidator(_not_empty),
    Field(
        max_length=networks.MAX_NETWORKS,
        examples=[["192.0.2.0/24", "2001:db8::/32"]],
        json_schema_extra={"uniqueItems": True, "minItems": 1},
    ),
]
Scopes = Annotated[list[str], Field(examples=[["orders:read"]])]
AllowedIps = Annotated[list[str], Field(examples=[["192.0.2.0/24", "2001:db8::/32"]])]
WITHOUT_FRACTION = BeforeValidator(_without_fraction)
Limit = Annotated[int, Field(ge=1), BeforeValidator(_whole_number)]
AuditLimit = Annotated[int, Field(ge=1, le=100), BeforeValidator(_whole_number)]
Offset = Annotated[int, Field(ge=0, le=MAX_OFFSET), BeforeValidator(_whole_number)]
WaitCount = Annotated[str, BeforeValidator(_wait_count), Field(json_schema_extra={"pattern": WAIT_COUNT})]
WaitMillis = Annotated[int, Field(ge=1, le=MAX_MILLIS), BeforeValidator(_whole_number)]
Flag = Annotated[bool, BeforeValidator(_flag)]
AccountName = Annotated[str, _matching(ACCOUNT_NAME), Field(json_schema_extra={"pattern": ACCOUNT_NAME})]
ProjectName = Annotated[str, _matching(PROJECT_NAME), Field(json_schema_extra={"pattern": PROJECT_NAME})]
BucketName = Annotated[str, _matching(BUCKET_NAME), Field(json_schema_extra={"pattern": BUCKET_NAME})]
ConsumerName = Annotated[str, _matching(CONSUMER_NAME), Field(json_schema_extra={"pattern": CONSUMER_NAME})]
BucketNameOrAll = Annotated[str, _matching(BUCKET_OR_ALL), Field(json_schema_extra={"pattern": BUCKET_OR_ALL})]
LimitName = Annotated[str, _matching(limits.NAME), Field(json_schema_extra={"pattern": limits.NAME})]
"""Of a rate limit or a quota, and of a plan."""
KeyPrefix = Annotated[
    str,
    Field(max_length=MAX_PREFIX_LENGTH, json_schema_extra={"pattern": PREFIX_PATTERN}),
    _matching(PREFIX_PATTERN),
]
Description = Annotated[str, Field(max_length=text.DESCRIPTION)]
TagName = Annotated[str, Field(min_length=1, max_length=text.TAG_NAME)]
TagValue = Annotated[str, Field(max_length=text.TAG_VALUE)]
TagsInput = Annotated[
    dict[TagName, TagValue],
    Field(max_length=MAX_TAGS, examples=[{"plan": "gold"}], json_schema_extra={LIMIT: "tags"}),
]
Tags = Annotated[dict[str, str], Field(examples=[{"plan": "gold"}])]
MetadataInput = Annotated[
    dict[str, Any], Field(examples=[{"plan": "gold", "orgId": "org_123"}], json_schema_extra={LIMIT: "metadata"})
]
Metadata = Annotated[dict[str, Any], Field(examples=[{"plan": "gold", "orgId": "org_123"}])]
Email = Annotated[
    str,
    AfterValidator(_email),
    Field(max_length=text.EMAIL_LENGTH, examples=["ada@example.com"], json_schema_extra={"pattern": text.EMAIL}),
]
Subject = Annotated[str, Field(min_length=1, max_length=text.SUBJECT, examples=["auth0|5f7c8ec7c33c6c004bbafe82"])]
Issuer = Annotated[
    str,
    _matching(text.WEB_ADDRESS),
    Field(max_length=text.SUBJECT, json_schema_extra={"pattern": text.WEB_ADDRESS}),
]
CustomKey = Annotated[
    Secret,
    BeforeValidator(_custom_key),
    WithJsonSchema({"type": "string", "minLength": MIN_LENGTH, "maxLength": MAX_LENGTH, "pattern": CUSTOM_KEY}),
]


class Shape(BaseModel):
    """A JSON object of the API: camelCase outside, snake_case inside, no coercion.

    Those that callers send are a `Body` (openapi/bodies.py), which says what of them is refused.
    """

    model_config = ConfigDict(
        strict=True,
        extra="ignore",
        alias_generator=to_camel,
        populate_by_name=True,
        arbitrary_types_allowed=True,
    )


class ListOf(Shape, Generic[Item]):
    """A part of a list, newest first."""

    data: list[Item]
    limit: int = Field(description="The most items that this part may have, at most 1000.", examples=[1000])
    offset: int = Field(description="How many items were passed over.", examples=[0])
    total: int = Field(description="How many items there are in all.", examples=[1])

    @classmethod
    def of(cls, data: list[Item], page: Page, total: int) -> ListOf[Item]:
        return cls(data=data, limit=page.limit, offset=page.offset, total=total)


def without_default(schema: dict[str, Any]) -> None:
    """For the schema of a field that is left out of an answer rather than sent with the value that it has inside."""
    schema.pop("default", None)


def value_or_unset(model: BaseModel, name: str) -> Any:
    """A field of an update: its value, None included, or UNSET where the caller did not send it."""
    return getattr(model, name) if name in model.model_fields_set else UNSET
