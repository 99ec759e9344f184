"""Owns how rate limits look in the API: what a caller says of one, and how it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, ValidationInfo, field_validator
from pydantic.config import JsonDict

from keywright.domain import limits
from keywright.domain.limits import LimitScope, RateLimit
from keywright.origin.openapi.bodies import Body
from keywright.origin.openapi.fields import WITHOUT_FRACTION, LimitName, Shape

_LEAST_GLOBAL = limits.LEAST_GLOBAL_WINDOW_SECONDS
_SHORT_IS_EDGE: JsonDict = {
    "if": {"properties": {"scope": {"const": LimitScope.EDGE.value}}, "required": ["scope"]},
    "else": {"properties": {"windowSeconds": {"minimum": _LEAST_GLOBAL}}},
}
_SCOPE = "`global`: counted together at all edges. `edge`: by each edge for itself."


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


def _named_apart(values: list[RateLimitInput]) -> list[RateLimitInput]:
    names = [one.name for one in values]
    twice = [name for index, name in enumerate(names) if name in names[:index]]
    if twice:
        raise ValueError(f"must not have one name twice: {twice[0]}")
    return values


RateLimitsInput = Annotated[list[RateLimitInput], AfterValidator(_named_apart), Field(max_length=limits.MAX_LIMITS)]


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
