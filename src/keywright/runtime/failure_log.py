"""Owns logging what fails again and again: the first failure of each kind, and not those that only say it again."""

from __future__ import annotations

import logging


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
