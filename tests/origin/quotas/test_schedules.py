"""When a quota's next period is opened, and which edition of the time zones says so."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from keywright.domain.limits import Period, Quota
from keywright.domain.periods import FOREVER, PeriodTimes
from keywright.origin.quotas import schedules
from keywright.origin.quotas.schedules import edition, find_times, schedule_of

HOUR = 3_600_000
QUOTA = Quota("calls", 100, Period.DAY, "Europe/Berlin")
NOON = int(datetime(2026, 11, 29, 12, tzinfo=UTC).timestamp() * 1000)
TODAY = PeriodTimes(NOON - 13 * HOUR, NOON + 11 * HOUR)


def test_first_period_is_the_one_that_runs() -> None:
    assert find_times(QUOTA, None, NOON) == TODAY
    assert find_times(replace(QUOTA, period=Period.NONE), None, NOON) == FOREVER


@pytest.mark.parametrize("now", [NOON, NOON - 20 * HOUR], ids=["now", "the clock was set back"])
def test_no_period_is_opened_while_one_runs(now: int) -> None:
    assert find_times(QUOTA, TODAY, now) is None


def test_period_does_not_begin_before_the_one_before_it_has_ended() -> None:
    # So another edition of the zones had it, when it was opened.
    longer = PeriodTimes(TODAY.begins_at - 24 * HOUR, TODAY.begins_at + HOUR)

    assert find_times(QUOTA, longer, longer.ends_at or 0) == PeriodTimes(TODAY.begins_at + HOUR, TODAY.ends_at)


def test_calendar_tells_periods_apart_and_the_limit_does_not() -> None:
    month = replace(QUOTA, period=Period.MONTH, anchor=31)

    assert schedule_of(month) == schedule_of(replace(month, limit=7, default_cost=3)) == "month/Europe/Berlin/31"
    assert schedule_of(QUOTA) == "day/Europe/Berlin"
    assert schedule_of(replace(QUOTA, period=Period.NONE)) == "none"


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "/etc/passwd", "../UTC", "Europe", "a\0b"])
def test_zone_that_there_is_not_opens_nothing(zone: str, caplog: pytest.LogCaptureFixture) -> None:
    assert find_times(replace(QUOTA, time_zone=zone), None, NOON) is None
    assert "the time zones here" in caplog.text


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        pytest.param("tzdata.zi", "# version 2026f\n# more", "2026f", id="first line of the source"),
        pytest.param("+VERSION", "2026f\n", "2026f", id="a file of its own"),
        pytest.param("UTC", "TZif", "unknown", id="zones that do not say"),
    ],
)
def test_edition_is_that_of_the_zones_that_python_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, expected: str
) -> None:
    (tmp_path / name).write_text(text)
    monkeypatch.setattr(schedules, "TZPATH", (str(tmp_path / "none"), str(tmp_path)))

    assert edition() == expected


def test_edition_is_that_of_the_package_where_the_system_has_no_zones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedules, "TZPATH", ())
    monkeypatch.setattr(schedules.importlib.metadata, "version", lambda name: {"tzdata": "2026.6"}[name])

    assert edition() == "2026f"
