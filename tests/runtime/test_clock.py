"""The one clock: its two counts, of which only that of elapsed time goes on whatever is set or sleeps."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from keywright.runtime.clock import Clock


def test_the_time_of_day_is_aware_and_the_same_in_both_forms() -> None:
    clock = Clock()
    before = clock.millis()
    now = clock.now()
    assert now.utcoffset() == timedelta(0)
    assert before <= now.timestamp() * 1000 + 1 <= clock.millis() + 2
    assert abs(now - datetime.now(UTC)) < timedelta(seconds=5)


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="a system without such a clock")
def test_elapsed_time_counts_the_sleep_of_the_machine() -> None:
    first = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert first <= Clock().elapsed() <= time.clock_gettime(time.CLOCK_BOOTTIME)


def test_elapsed_time_never_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Clock().elapsed()
    assert Clock().elapsed() >= first
    monkeypatch.delattr("time.CLOCK_BOOTTIME", raising=False)
    assert Clock().elapsed() > 0
