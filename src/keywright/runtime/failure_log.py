"""Owns logging what fails again and again: the first failure of each kind, and not those that only say it again; or,
where nobody would look for the first one any more, what is wrong now, once a minute.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

REPEAT_SECONDS = 60.0


class FailureLog:
    """One for each thing that is tried over and over. `what` says what can't be done, as in "can't do it"."""

    def __init__(self, log: logging.Logger, what: str) -> None:
        self._log = log
        self._what = what
        self._kinds: set[str] = set()

    def note(self, error: Exception, level: int) -> None:
        """Log the failure if none of its kind was logged since `clear`. A kind is the exception's class."""
        kind = type(error).__name__
        if kind not in self._kinds:
            self._kinds.add(kind)
            self._log.log(level, "%s: %s: %s", self._what, kind, error)

    def clear(self) -> None:
        """Say that it went well: the next failure of any kind is news."""
        self._kinds.clear()


class ReminderLog:
    """One for each state that should not last. `elapsed` counts seconds (`Clock.elapsed`)."""

    def __init__(self, log: logging.Logger, elapsed: Callable[[], float]) -> None:
        self._log = log
        self._elapsed = elapsed
        self._reason: str | None = None
        self._told_at = 0.0

    def note(self, reason: str) -> None:
        """Log why it is so, at once when that is news, else when it was last said a minute ago."""
        now = self._elapsed()
        if reason != self._reason or now - self._told_at >= REPEAT_SECONDS:
            self._reason, self._told_at = reason, now
            self._log.warning(reason)

    def clear(self) -> None:
        """It is over: the same reason is news again."""
        self._reason = None
