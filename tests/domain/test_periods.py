"""When a quota's period begins and ends, over every kind of change that clocks have made."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keywright.domain.limits import Period
from keywright.domain.periods import FOREVER, PeriodTimes, day_begins_at, running_period

HOUR = 3_600_000
MINUTE = 60_000
ZONES = (
    "UTC", "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "America/Havana", "America/St_Johns",
    "Pacific/Apia", "Pacific/Kwajalein", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Casablanca", "Asia/Tehran",
    "America/Toronto", "Antarctica/Troll", "Asia/Manila", "Atlantic/Azores",
)  # fmt: skip


def millis(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 1000


def times(begins: str, ends: str) -> PeriodTimes:
    return PeriodTimes(millis(begins), millis(ends))


@pytest.mark.parametrize(
    ("period", "zone", "anchor", "at", "expected"),
    [
        pytest.param(
            Period.DAY, "UTC", 1, "2026-11-29T23:59:59Z", times("2026-11-29T00:00Z", "2026-11-30T00:00Z"), id="day"
        ),
        pytest.param(
            Period.DAY, "UTC", 1, "2026-11-30T00:00:00Z", times("2026-11-30T00:00Z", "2026-12-01T00:00Z"),
            id="the end of a period belongs to the next",
        ),
        pytest.param(
            Period.DAY, "Europe/Berlin", 1, "2026-03-29T12:00Z",
            times("2026-03-29T00:00+01:00", "2026-03-30T00:00+02:00"), id="a day of 23 hours",
        ),
        pytest.param(
            Period.DAY, "Europe/Berlin", 1, "2026-10-25T01:30Z",
            times("2026-10-25T00:00+02:00", "2026-10-26T00:00+01:00"), id="a day of 25 hours",
        ),
        pytest.param(
            Period.DAY, "America/Sao_Paulo", 1, "2018-11-04T12:00Z",
            times("2018-11-04T01:00-02:00", "2018-11-05T00:00-02:00"), id="no midnight",
        ),
        pytest.param(
            Period.DAY, "America/Toronto", 1, "1919-03-31T12:00Z",
            times("1919-03-31T00:30-04:00", "1919-04-01T00:00-04:00"), id="no midnight from half past eleven on",
        ),
        pytest.param(
            Period.DAY, "America/Havana", 1, "2026-11-01T12:00Z",
            times("2026-11-01T00:00-04:00", "2026-11-02T00:00-05:00"), id="two midnights",
        ),
        pytest.param(
            Period.DAY, "America/St_Johns", 1, "2010-11-07T03:00Z",
            times("2010-11-07T00:00-02:30", "2010-11-08T00:00-03:30"), id="two midnights, between them the day before",
        ),
        pytest.param(
            Period.DAY, "Pacific/Apia", 1, "2011-12-30T11:00Z",
            times("2011-12-31T00:00+14:00", "2012-01-01T00:00+14:00"), id="behind a date that was left out",
        ),
        pytest.param(
            Period.DAY, "Pacific/Apia", 1, "2011-12-30T09:59Z",
            times("2011-12-29T00:00-10:00", "2011-12-31T00:00+14:00"), id="before a date that was left out",
        ),
        pytest.param(
            Period.WEEK, "Europe/Berlin", 1, "2026-03-29T21:00Z",
            times("2026-03-23T00:00+01:00", "2026-03-30T00:00+02:00"), id="week, on its Sunday",
        ),
        pytest.param(
            Period.WEEK, "Asia/Tokyo", 1, "2026-11-29T15:00Z",
            times("2026-11-30T00:00+09:00", "2026-12-07T00:00+09:00"), id="week, Monday there and Sunday elsewhere",
        ),
        pytest.param(
            Period.MONTH, "UTC", 1, "2026-12-31T23:59Z", times("2026-12-01T00:00Z", "2027-01-01T00:00Z"), id="month"
        ),
        pytest.param(
            Period.MONTH, "UTC", 15, "2026-01-14T23:59Z", times("2025-12-15T00:00Z", "2026-01-15T00:00Z"),
            id="before its anchor it is the month of last year",
        ),
        pytest.param(
            Period.MONTH, "UTC", 31, "2027-02-28T00:00Z", times("2027-02-28T00:00Z", "2027-03-31T00:00Z"),
            id="the 31st is the last day of February",
        ),
        pytest.param(
            Period.MONTH, "UTC", 31, "2028-02-28T12:00Z", times("2028-01-31T00:00Z", "2028-02-29T00:00Z"),
            id="the 31st in a leap year",
        ),
        pytest.param(
            Period.MONTH, "UTC", 30, "2027-03-29T12:00Z", times("2027-02-28T00:00Z", "2027-03-30T00:00Z"),
            id="the 30th comes back behind February",
        ),
        pytest.param(Period.NONE, "Europe/Berlin", 1, "2026-11-29T00:00Z", FOREVER, id="none"),
    ],
)  # fmt: skip
def test_running_period_is_the_one_that_a_calendar_there_has(
    period: Period, zone: str, anchor: int, at: str, expected: PeriodTimes
) -> None:
    assert running_period(period, ZoneInfo(zone), anchor, millis(at)) == expected


moments = st.integers(0, millis("2037-12-01T00:00Z"))
zones = st.sampled_from(ZONES).map(ZoneInfo)


@given(st.sampled_from([Period.DAY, Period.WEEK, Period.MONTH]), zones, st.integers(1, 31), moments)
@example(Period.DAY, ZoneInfo("America/St_Johns"), 1, millis("2010-11-07T02:45Z"))
@example(Period.DAY, ZoneInfo("Pacific/Apia"), 1, millis("2011-12-30T10:00Z") - 1)
@example(Period.DAY, ZoneInfo("Pacific/Kwajalein"), 1, millis("1993-08-21T12:00Z"))
def test_periods_hold_their_moments_and_follow_each_other_without_a_gap(
    period: Period, zone: ZoneInfo, anchor: int, at: int
) -> None:
    running = running_period(period, zone, anchor, at)
    assert running.ends_at is not None
    assert running.begins_at <= at < running.ends_at

    assert running_period(period, zone, anchor, running.begins_at) == running
    assert running_period(period, zone, anchor, running.ends_at - 1) == running
    assert running_period(period, zone, anchor, running.ends_at).begins_at == running.ends_at


@given(zones, st.dates(date(1970, 1, 3), date(2037, 12, 1)))
@example(ZoneInfo("America/Sao_Paulo"), date(2018, 11, 4))
@example(ZoneInfo("America/Havana"), date(2026, 11, 1))
@example(ZoneInfo("America/St_Johns"), date(2010, 11, 7))
@example(ZoneInfo("Pacific/Apia"), date(2011, 12, 30))
@example(ZoneInfo("Pacific/Kwajalein"), date(1993, 8, 21))
def test_day_begins_at_the_first_minute_that_a_clock_there_shows_it(zone: ZoneInfo, day: date) -> None:
    minute = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(hours=36)
    while minute.astimezone(zone).date() < day:
        minute += timedelta(minutes=30)
    # Changes are at whole minutes since 1972; Liberia's alone of before is not among the zones.
    minute -= timedelta(minutes=30)
    while minute.astimezone(zone).date() < day:
        minute += timedelta(minutes=1)

    assert day_begins_at(day, zone) == int(minute.timestamp()) * 1000
