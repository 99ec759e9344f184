"""Owns time: the one clock of a process. Whoever needs the time is handed it; nothing reads a clock of its own.

Two counts, which must not be mixed. The time of day is for what people and other machines are told; anybody may set it.
Elapsed time is for how long something takes or has been so, on this machine only; nobody can set it.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime


class Clock:
    """The machine's clock. A test hands in one of its own instead (tests/support/clock.py)."""

    def now(self) -> datetime:
        """The time of day, aware, in UTC."""
        return datetime.now(UTC)

    def millis(self) -> int:
        """The time of day, in milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def elapsed(self) -> float:
        """Seconds since this machine started, its sleep included.

        CLOCK_BOOTTIME, which unlike the monotonic clock goes on while the machine sleeps: what is as old as that must
        not look recent. All processes of a machine have the same count, until it starts anew. Where there is no such
        clock it is the monotonic one.
        """
        boot_time = getattr(time, "CLOCK_BOOTTIME", None)
        return time.monotonic() if boot_time is None else time.clock_gettime(boot_time)
