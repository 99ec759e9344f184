"""Owns how quotas are typed: rows of a form, as of rate limits (web/limit_fields.py), read and shown first.

What is left empty behind a name and a limit is as the API has it: UTC, the first day, one unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keywright.domain.limits import MAX_COST, MAX_LIMITS, MAX_UNITS, NAME, Period, Quota
from keywright.domain.models import Consumer
from keywright.domain.text import is_whole
from keywright.domain.unset import UNSET, Unset
from keywright.origin.openapi.limits import is_time_zone
from keywright.origin.web.forms import INHERITED, OWN, Form
from keywright.origin.web.limit_fields import NAME_WORDS

PERIODS = {
    Period.DAY.value: "a day",
    Period.WEEK.value: "a week",
    Period.MONTH.value: "a month",
    Period.NONE.value: "for ever",
}
ROWS = range(MAX_LIMITS)
_COLUMNS = ("quota_name", "quota_limit", "quota_period", "quota_zone", "quota_day", "quota_cost")


def quota_fields(said: Sequence[Quota] | None) -> dict[str, Any]:
    """The rows as they are shown first, for `read_quotas`."""
    rows = [
        (one.name, str(one.limit), one.period.value, one.time_zone, str(one.anchor), str(one.default_cost))
        for one in said or ()
    ]
    rows += [("", "", Period.MONTH.value, "", "", "")] * (MAX_LIMITS - len(rows))
    return {name: list(column) for name, column in zip(_COLUMNS, zip(*rows, strict=True), strict=True)}


def consumer_quota_fields(consumer: Consumer | None) -> dict[str, Any]:
    """The same of a consumer, for `read_own_quotas`."""
    said = None if consumer is None else consumer.quotas
    return {"quotas_from": INHERITED if said is None else OWN, **quota_fields(said)}


def read_own_quotas(form: Form) -> tuple[Quota, ...] | Unset | None:
    """Those of a consumer; None if it has its plan's, UNSET if the form does not ask."""
    if not form.asks("quotas_from"):
        return UNSET
    return read_quotas(form) if form.choice("quotas_from", (INHERITED, OWN)) == OWN else None


def read_quotas(form: Form) -> tuple[Quota, ...] | Unset:
    """The rows that hold something; UNSET if the form does not ask. What is wrong is said beside all of them."""
    if not form.asks("quota_name"):
        return UNSET
    rows = zip(*(form.all(name) for name in _COLUMNS), strict=False)
    found = []
    for name, limit, period, zone, day, cost in ([part.strip() for part in row] for row in rows):
        if name or limit or zone or day or cost:
            quota = _read_row(form, name, limit, period, zone, day, cost)
            if quota is not None:
                found.append(quota)
    names = [quota.name for quota in found]
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            form.fail("quotas", f"“{name}” is repeated")
    if len(found) > MAX_LIMITS:
        form.fail("quotas", f"must be at most {MAX_LIMITS}")
    return tuple(found)


def read_units(form: Form, field: str, *, least: int = 1, most: int = MAX_UNITS) -> int:
    """How many units; what is wrong is said beside the field."""
    units = _whole(form.get(field).strip(), least, most)
    if units is None:
        form.fail(field, f"must be a whole number from {least:,} to {most:,}")
    return units or 0


def _read_row(form: Form, name: str, limit: str, period: str, zone: str, day: str, cost: str) -> Quota | None:
    if not is_whole(NAME, name):
        form.fail("quotas", f"a name must be {NAME_WORDS}" if name else "each quota needs a name")
        return None
    units, anchor = _whole(limit, 0, MAX_UNITS), _whole(day or "1", 1, 31)
    default_cost = _whole(cost or "1", 1, MAX_COST)
    if units is None:
        form.fail("quotas", f"the units of “{name}” must be a whole number from 0 to {MAX_UNITS:,}")
    elif period not in PERIODS:
        form.fail("quotas", f"“{name}” must have one of the periods that are offered")
    elif not is_time_zone(zone or "UTC"):
        form.fail("quotas", f"“{name}” must have a time zone such as Europe/Berlin")
    elif anchor is None:
        form.fail("quotas", f"the day on which a month of “{name}” begins must be from 1 to 31")
    elif default_cost is None:
        form.fail("quotas", f"what a request takes of “{name}” must be a whole number from 1 to {MAX_COST:,}")
    else:
        return Quota(name, units, Period(period), zone or "UTC", anchor, default_cost)
    return None


def _whole(typed: str, least: int, most: int) -> int | None:
    is_number = typed.isascii() and typed.isdecimal() and len(typed) < 18
    return int(typed) if is_number and least <= int(typed) <= most else None
