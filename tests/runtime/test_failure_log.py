"""What fails over and over is said once for each kind of failure, and again after a success."""

from __future__ import annotations

import logging

import pytest

from keywright.runtime.failure_log import REPEAT_SECONDS, FailureLog, ReminderLog
from support.clock import FakeClock


def test_each_kind_is_said_once_until_it_went_well(caplog: pytest.LogCaptureFixture) -> None:
    failures = FailureLog(logging.getLogger("keywright.test"), "can't do it")
    for _ in range(2):
        failures.note(OSError("no route"), logging.WARNING)
        failures.note(OSError("another text"), logging.WARNING)
        failures.note(ValueError("refused"), logging.ERROR)
    assert caplog.messages == ["can't do it: OSError: no route", "can't do it: ValueError: refused"]
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR"]
    failures.clear()
    failures.note(OSError("no route"), logging.WARNING)
    assert len(caplog.messages) == 3


def test_a_state_that_lasts_is_said_at_once_when_it_is_news_and_then_once_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = FakeClock()
    reminder = ReminderLog(logging.getLogger("keywright.test"), clock.elapsed)
    for reason in ("no file", "no file", "no snapshot", "no snapshot"):
        reminder.note(reason)
    assert caplog.messages == ["no file", "no snapshot"]
    for _ in range(4):
        clock.advance(REPEAT_SECONDS / 2)
        reminder.note("no snapshot")
    assert caplog.messages[2:] == ["no snapshot"] * 2
    reminder.clear()
    reminder.note("no snapshot")
    assert len(caplog.messages) == 5
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
