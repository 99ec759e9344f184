"""Owns when a quota's period begins and ends: days, weeks and months of a time zone as times that need no zone.

Times are milliseconds since the epoch, UTC, of the years 1970 to 9990. Which rules a zone has is the caller's: it hands
in the zone. Periods follow each other without a gap and without overlapping, whatever clocks do there:

- A day begins with the first moment that has its date, or a later one, and lasts until the next begins: 23 or 25 hours
  where clocks change. Where there is no midnight it begins with the change; where there are two, with the first of
  them, and what of the day before is told once more behind it belongs to the new day. A date that a zone left out has
  no day.
- A week begins with its Monday, a month with its anchor: that day of the month, or the last where it has fewer days.
"""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import NamedTuple, assert_never

from keywright.domain.limits import Period

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_DAY = timedelta(days=1)


class PeriodTimes(NamedTuple):
    """From `begins_at` to before `ends_at`; None: it never ends."""

    begins_at: int
    ends_at: int | None


FOREVER = PeriodTimes(0, None)
"""The only period of a quota that is never given back."""


def running_period(period: Period, zone: tzinfo, anchor: int, at: int) -> PeriodTimes:
    """The period that runs `at` a time. `anchor` is 1 to 31, and of months only."""
    if period is Period.NONE:
        return FOREVER
    day = _running_day(zone, at)
    match period:
        case Period.DAY:
            first, following = day, day + _DAY
        case Period.WEEK:
            first = day - day.weekday() * _DAY
            following = first + 7 * _DAY
        case Period.MONTH:
            first = _anchor_in(day.year, day.month, anchor)
            if first > day:
                first = _anchor_in(*_month_before(day.year, day.month), anchor)
            following = _anchor_in(*_month_after(first.year, first.month), anchor)
        case _:
            assert_never(period)
    return PeriodTimes(day_begins_at(first, zone), day_begins_at(following, zone))


def day_begins_at(day: date, zone: tzinfo) -> int:
    """The first moment whose date there is `day`, or a later one where the zone left that date out."""
    midnight = datetime(day.year, day.month, day.day)  # noqa: DTZ001
    # Of two midnights that is the first (PEP 495). Of one that does not exist it is what the clock of before would have
    # shown, and with `fold` what the clock of afterwards would: the change is between.
    begins_at = _to_millis(midnight.replace(tzinfo=zone))
    if _local(begins_at, zone) == midnight:
        return begins_at
    too_early = _to_millis(midnight.replace(tzinfo=zone, fold=1))
    while begins_at - too_early > 1:
        middle = (begins_at + too_early) // 2
        if _local(middle, zone) >= midnight:
            begins_at = middle
        else:
            too_early = middle
    return begins_at


def _running_day(zone: tzinfo, at: int) -> date:
    """Not always the date that the clock there shows: it may have been put back over midnight."""
    day = _local(at, zone).date()
    while day_begins_at(day + _DAY, zone) <= at:
        day += _DAY
    return day


def _local(at: int, zone: tzinfo) -> datetime:
    """What the clock there shows."""
    return (_EPOCH + at * _MILLISECOND).astimezone(zone).replace(tzinfo=None, fold=0)


def _to_millis(moment: datetime) -> int:
    # In UTC: the difference of two times of one zone counts what its clock shows, and not what has passed.
    return (moment.astimezone(UTC) - _EPOCH) // _MILLISECOND


def _anchor_in(year: int, month: int, anchor: int) -> date:
    return date(year, month, min(anchor, monthrange(year, month)[1]))


def _month_before(year: int, month: int) -> tuple[int, int]:
    return (year, month - 1) if month > 1 else (year - 1, 12)


def _month_after(year: int, month: int) -> tuple[int, int]:
    return (year, month + 1) if month < 12 else (year + 1, 1)
