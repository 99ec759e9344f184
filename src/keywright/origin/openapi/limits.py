"""Owns how rate limits and quotas look in the API: what a caller says of one, and how it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any, TypeVar
from zoneinfo import available_timezones

from pydantic import AfterValidator, ConfigDict, Field, ValidationInfo, field_validator
from pydantic.config import JsonDict

from keywright.domain import limits
from keywright.domain.limits import LimitScope, Period, Quota, RateLimit
from keywright.origin.openapi.bodies import Body
from keywright.origin.openapi.fields import WITHOUT_FRACTION, LimitName, Shape

_LEAST_GLOBAL = limits.LEAST_GLOBAL_WINDOW_SECONDS
_SHORT_IS_EDGE: JsonDict = {
    "if": {"properties": {"scope": {"const": LimitScope.EDGE.value}}, "required": ["scope"]},
    "else": {"properties": {"windowSeconds": {"minimum": _LEAST_GLOBAL}}},
}
_ANCHOR_IS_OF_MONTHS: JsonDict = {
    "if": {"properties": {"period": {"const": Period.MONTH.value}}, "required": ["period"]},
    "else": {"properties": {"anchor": {"const": 1}}},
}
TIME_ZONE_FORMAT = "iana-time-zone"
"""Of our own, since a pattern can't say it: the name of a zone in the IANA time zone database."""
_PERIOD = "When it begins anew: each `day`, `week` (on Monday) or `month`; `none` is never."
_SCOPE = "`global`: counted together at all edges. `edge`: by each edge for itself."


@cache
def _time_zones() -> frozenset[str]:
    """Read once: it looks into every file of the database."""
    return frozenset(available_timezones())


def is_time_zone(name: str) -> bool:
    """Whether the IANA time zone database has a zone of this name, in these letters."""
    return name in _time_zones()


def _time_zone(name: str) -> str:
    if not is_time_zone(name):
        raise ValueError("must be a name of the IANA time zone database, such as Europe/Berlin")
    return name


TimeZone = Annotated[
    str,
    AfterValidator(_time_zone),
    Field(max_length=64, examples=["UTC"], json_schema_extra={"format": TIME_ZONE_FORMAT}),
]


class RateLimitShape(Shape):
    """At most so many requests at once, and as many again in each window, evenly."""

    name: str = Field(examples=["per-minute"])
    limit: int = Field(description="How many requests.", examples=[600])
    window_seconds: int = Field(description="In so many seconds.", examples=[60])
    scope: LimitScope = Field(description=_SCOPE)


class RateLimitInput(Body):
    """At most so many requests at once, and as many again in each window, evenly."""

    read_only = ()
    model_config = ConfigDict(json_schema_extra=_SHORT_IS_EDGE)

    name: LimitName = Field(description="Unique in its list.", examples=["per-minute"])
    limit: Annotated[int, Field(ge=1, le=limits.MAX_RATE), WITHOUT_FRACTION] = Field(
        description="How many requests.", examples=[600]
    )
    scope: Annotated[LimitScope, Field(strict=False)] = Field(default=LimitScope.GLOBAL, description=_SCOPE)
    # Behind the scope, by which it is judged.
    window_seconds: Annotated[int, Field(ge=1, le=limits.MAX_WINDOW_SECONDS), WITHOUT_FRACTION] = Field(
        description=f"In so many seconds; less than {_LEAST_GLOBAL} only where `scope` is `edge`.", examples=[60]
    )

    @field_validator("window_seconds")
    @classmethod
    def _long_enough(cls, seconds: int, info: ValidationInfo) -> int:
        if seconds < _LEAST_GLOBAL and info.data.get("scope") is LimitScope.GLOBAL:
            raise ValueError(f"must be at least {_LEAST_GLOBAL} where scope is global")
        return seconds

    def to_limit(self) -> RateLimit:
        return RateLimit(self.name, self.limit, self.window_seconds, self.scope)


class QuotaShape(Shape):
    """At most so many units in each period."""

    name: str = Field(examples=["monthly"])
    limit: int = Field(description="How many units.", examples=[100_000])
    period: Period = Field(description=_PERIOD)
    time_zone: str = Field(description="By whose calendar a period begins.", examples=["UTC"])
    anchor: int = Field(description="On which day of the month a month's period begins.", examples=[1])
    default_cost: int = Field(description="How many units a request costs that names no cost.", examples=[1])


class QuotaInput(Body):
    """At most so many units in each period."""

    read_only = ()
    model_config = ConfigDict(json_schema_extra=_ANCHOR_IS_OF_MONTHS)

    name: LimitName = Field(description="Unique in its list.", examples=["monthly"])
    limit: Annotated[int, Field(ge=0, le=limits.MAX_UNITS), WITHOUT_FRACTION] = Field(
        description="How many units; 0 is none.", examples=[100_000]
    )
    period: Annotated[Period, Field(strict=False)] = Field(description=_PERIOD, examples=["month"])
    time_zone: TimeZone = Field(
        default="UTC", description="By whose calendar a period begins: a name of the IANA time zone database."
    )
    # Behind the period, by which it is judged.
    anchor: Annotated[int, Field(ge=1, le=31), WITHOUT_FRACTION] = Field(
        default=1,
        description="On which day of the month a month's period begins; where there is none, on its last. With other "
        "periods only 1.",
    )
    default_cost: Annotated[int, Field(ge=1, le=limits.MAX_COST), WITHOUT_FRACTION] = Field(
        default=1, description="How many units a request costs that names no cost."
    )

    @field_validator("anchor")
    @classmethod
    def _of_months(cls, anchor: int, info: ValidationInfo) -> int:
        if anchor != 1 and info.data.get("period", Period.MONTH) is not Period.MONTH:
            raise ValueError("must be left out where period is not month")
        return anchor

    def to_quota(self) -> Quota:
        return Quota(self.name, self.limit, self.period, self.time_zone, self.anchor, self.default_cost)


def _named_apart(values: list[_Named]) -> list[_Named]:
    names = [one.name for one in values]
    twice = [name for index, name in enumerate(names) if name in names[:index]]
    if twice:
        raise ValueError(f"must not have one name twice: {twice[0]}")
    return values


_Named = TypeVar("_Named", RateLimitInput, QuotaInput)
RateLimitsInput = Annotated[list[RateLimitInput], AfterValidator(_named_apart), Field(max_length=limits.MAX_LIMITS)]
QuotasInput = Annotated[list[QuotaInput], AfterValidator(_named_apart), Field(max_length=limits.MAX_LIMITS)]


def show_rate_limits(said: Sequence[RateLimit] | None) -> list[RateLimitShape] | None:
    if said is None:
        return None
    return [
        RateLimitShape(name=one.name, limit=one.limit, window_seconds=one.window_seconds, scope=one.scope)
        for one in said
    ]


def rate_limits_of(sent: Any) -> Any:
    """What was sent, as the rules take it; null and what is unset as they are."""
    return tuple(one.to_limit() for one in sent) if isinstance(sent, list) else sent


def show_quotas(said: Sequence[Quota] | None) -> list[QuotaShape] | None:
    if said is None:
        return None
    return [
        QuotaShape(
            name=one.name,
            limit=one.limit,
            period=one.period,
            time_zone=one.time_zone,
            anchor=one.anchor,
            default_cost=one.default_cost,
        )
        for one in said
    ]


def quotas_of(sent: Any) -> Any:
    """What was sent, as the rules take it; null and what is unset as they are."""
    return tuple(one.to_quota() for one in sent) if isinstance(sent, list) else sent
