"""Owns how plans and rate limits are typed: the fields of a form for them, read and shown first.

A rate limit is a row of four fields that have the same names in each row, and there are as many rows as may be limits;
the style sheet shows one empty row behind those that are filled, and one that is emptied is gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keywright.domain.limits import (
    LEAST_GLOBAL_WINDOW_SECONDS,
    MAX_LIMITS,
    MAX_RATE,
    MAX_WINDOW_SECONDS,
    NAME,
    LimitScope,
    RateLimit,
)
from keywright.domain.models import Consumer, Plan
from keywright.domain.text import is_whole
from keywright.domain.unset import UNSET, Unset
from keywright.origin.web.forms import INHERITED, OWN, Form

NAME_WORDS = "1 to 40 characters: a-z, 0-9, - and _, with a letter or digit first and last"
LIMIT_SCOPES = {LimitScope.GLOBAL.value: "at all edges", LimitScope.EDGE.value: "at each edge"}
ROWS = range(MAX_LIMITS)
_COLUMNS = ("limit_name", "limit_count", "limit_seconds", "limit_scope")


def rate_limit_fields(said: Sequence[RateLimit] | None) -> dict[str, Any]:
    """The rows as they are shown first, for `read_rate_limits`."""
    rows = [(one.name, str(one.limit), str(one.window_seconds), one.scope.value) for one in said or ()]
    rows += [("", "", "", LimitScope.GLOBAL.value)] * (MAX_LIMITS - len(rows))
    return {name: list(column) for name, column in zip(_COLUMNS, zip(*rows, strict=True), strict=True)}


def consumer_limit_fields(consumer: Consumer | None) -> dict[str, Any]:
    """The same of a consumer, beside its plan, for `read_plan` and `read_own_rate_limits`."""
    said = None if consumer is None else consumer.rate_limits
    plan = "" if consumer is None or consumer.plan is None else consumer.plan.name
    return {"plan": plan, "limits_from": INHERITED if said is None else OWN, **rate_limit_fields(said)}


def plan_choices(plans: Sequence[Plan]) -> list[tuple[str, str]]:
    """What `read_plan` reads, to choose from."""
    return [("", "None"), *((plan.name, plan.name) for plan in sorted(plans, key=lambda plan: plan.name))]


def read_plan(form: Form) -> str | Unset | None:
    """The name of a plan; None for no plan, UNSET if the form does not ask."""
    return (form.get("plan") or None) if form.asks("plan") else UNSET


def read_own_rate_limits(form: Form) -> tuple[RateLimit, ...] | Unset | None:
    """Those of a consumer; None if it has its plan's, UNSET if the form does not ask."""
    if not form.asks("limits_from"):
        return UNSET
    return read_rate_limits(form) if form.choice("limits_from", (INHERITED, OWN)) == OWN else None


def read_rate_limits(form: Form) -> tuple[RateLimit, ...] | Unset:
    """The rows that hold something; UNSET if the form does not ask. What is wrong is said beside all of them."""
    if not form.asks("limit_name"):
        return UNSET
    rows = zip(*(form.all(name) for name in _COLUMNS), strict=False)
    found = []
    for name, count, seconds, scope in ([part.strip() for part in row] for row in rows):
        if name or count or seconds:
            limit = _read_row(form, name, count, seconds, scope)
            if limit is not None:
                found.append(limit)
    names = [limit.name for limit in found]
    for name in names:
        if names.count(name) > 1:
            form.fail("limits", f"“{name}” is repeated")
    if len(found) > MAX_LIMITS:
        form.fail("limits", f"must be at most {MAX_LIMITS}")
    return tuple(found)


def _read_row(form: Form, name: str, count: str, seconds: str, scope: str) -> RateLimit | None:
    if not is_whole(NAME, name):
        form.fail("limits", f"a name must be {NAME_WORDS}" if name else "each limit needs a name")
        return None
    limit, window = _whole(count, MAX_RATE), _whole(seconds, MAX_WINDOW_SECONDS)
    if limit is None:
        form.fail("limits", f"the requests of “{name}” must be a whole number from 1 to {MAX_RATE:,}")
    elif window is None:
        form.fail("limits", f"the seconds of “{name}” must be a whole number from 1 to {MAX_WINDOW_SECONDS:,}")
    elif scope not in LIMIT_SCOPES:
        form.fail("limits", f"“{name}” must be counted in one of the ways that are offered")
    elif window < LEAST_GLOBAL_WINDOW_SECONDS and scope == LimitScope.GLOBAL:
        least = LEAST_GLOBAL_WINDOW_SECONDS
        form.fail("limits", f"“{name}” must have at least {least} seconds, or be counted at each edge")
    else:
        return RateLimit(name, limit, window, LimitScope(scope))
    return None


def _whole(typed: str, most: int) -> int | None:
    is_number = typed.isascii() and typed.isdecimal() and len(typed) < 18
    return int(typed) if is_number and 1 <= int(typed) <= most else None
