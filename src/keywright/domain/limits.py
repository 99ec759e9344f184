"""Owns what limits how often a key is good: rate limits and quotas, what they are made of, and their form in JSON.

A rate limit is so many requests in so many seconds, given back bit by bit; a quota is so many units in a period, given
back when the next one begins. Which limits hold for a key follows from its plan, its consumer and itself (powers.py).
How they are counted is the edge's business. Whoever reads a form that is not known here can't judge: ValueError.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

NAME = r"^[a-z0-9](?:[a-z0-9_-]{0,38}[a-z0-9])?$"
"""Of a rate limit or a quota, and of a plan: it stands in header fields as it is."""
MAX_LIMITS = 5
"""Rate limits of one plan, consumer or key; and quotas of one plan or consumer."""
MAX_RATE = 1_000_000_000
MAX_WINDOW_SECONDS = 86_400
LEAST_GLOBAL_WINDOW_SECONDS = 10
"""Edges tell each other once a second what they admitted: a shorter window is each edge's own."""
MAX_UNITS = 1_000_000_000_000_000
MAX_COST = 1_000_000
_NAME = re.compile(NAME[1:-1])


class LimitScope(StrEnum):
    """For whom a rate limit counts together."""

    GLOBAL = "global"
    """All edges: each has a share of it."""
    EDGE = "edge"
    """Each edge for itself."""


class Period(StrEnum):
    """When a quota begins anew, by the calendar of its time zone; NONE: never."""

    DAY = "day"
    WEEK = "week"
    """On Monday."""
    MONTH = "month"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `limit` requests at once, and as many again in each `window_seconds`, evenly."""

    name: str
    limit: int
    window_seconds: int
    scope: LimitScope = LimitScope.GLOBAL

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "limit": self.limit,
            "windowSeconds": self.window_seconds,
            "scope": self.scope.value,
        }

    @classmethod
    def from_json(cls, said: object) -> RateLimit:
        """Raises ValueError."""
        match said:
            case {"name": str(name), "limit": int(limit), "windowSeconds": int(seconds), "scope": str(scope)} if (
                _is_whole(said, 4) and is_name(name) and 1 <= limit <= MAX_RATE and 1 <= seconds <= MAX_WINDOW_SECONDS
            ):
                return cls(name, limit, seconds, LimitScope(scope))
        raise ValueError("not a rate limit")


@dataclass(frozen=True, slots=True)
class Quota:
    """At most `limit` units in each period. A request that names no cost costs `default_cost` units.

    `time_zone` is an IANA name. `anchor` is the day of the month, 1 to 31, on which a month's period begins; where a
    month has no such day, on its last.
    """

    name: str
    limit: int
    period: Period
    time_zone: str = "UTC"
    anchor: int = 1
    default_cost: int = 1

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "limit": self.limit,
            "period": self.period.value,
            "timeZone": self.time_zone,
            "anchor": self.anchor,
            "defaultCost": self.default_cost,
        }

    @classmethod
    def from_json(cls, said: object) -> Quota:
        """Raises ValueError."""
        match said:
            case {
                "name": str(name),
                "limit": int(limit),
                "period": str(period),
                "timeZone": str(time_zone),
                "anchor": int(anchor),
                "defaultCost": int(cost),
            } if (
                _is_whole(said, 6)
                and is_name(name)
                and 0 <= limit <= MAX_UNITS
                and 1 <= anchor <= 31
                and 1 <= cost <= MAX_COST
            ):
                return cls(name, limit, Period(period), time_zone, anchor, cost)
        raise ValueError("not a quota")


def is_name(text: str) -> bool:
    """Whether a rate limit, a quota or a plan can have this name."""
    return _NAME.fullmatch(text) is not None


def _is_whole(said: object, size: int) -> bool:
    """To Python a bool is an int; here it is no number."""
    return (
        isinstance(said, Mapping) and len(said) == size and not any(isinstance(value, bool) for value in said.values())
    )
