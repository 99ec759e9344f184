"""Owns logging what any client may cause, as often as it likes."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

REPEAT_SECONDS = 60.0


class SparingLog:
    """One for each thing that is told: at most one line a minute, whatever it says."""

    def __init__(self, log: logging.Logger, elapsed: Callable[[], float]) -> None:
        """`elapsed` counts seconds."""
        self._log = log
        self._elapsed = elapsed
        self._told_at = -math.inf

    def note(self, what: str, level: int = logging.WARNING) -> None:
        now = self._elapsed()
        if now - self._told_at >= REPEAT_SECONDS:
            self._told_at = now
            self._log.log(level, "%s (said once a minute)", what)
