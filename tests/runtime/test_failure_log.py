"""What fails over and over is said once for each kind of failure, and again after a success."""

from __future__ import annotations

import logging

import pytest

from keywright.runtime.failure_log import FailureLog


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
