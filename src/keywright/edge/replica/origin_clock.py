"""Owns what time it is by the origin's clock, by which every edge judges: this machine's own may be wrong.

The origin's time comes with its answer to a report, so it is known to within half of the time that the answer took.
From one answer to the next it goes on by this machine's elapsed time, which nobody can set. So neither does it matter
here that somebody sets this machine's clock, nor that the origin can't be reached.

An origin's clock that is set, too, must not end every key at once: what differs by more than a minute from what was
known is believed after ten minutes in which it stayed so, and is told of meanwhile (docs/decisions/0039).

What is known is kept beside the replica, for every process on it and for the next start. Over a start of the machine
only this remains: the origin's time is no earlier than the latest that it told.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from keywright.edge.note_file import NoteFile
from keywright.edge.replica.freshness import find_boot_id
from keywright.edge.state_page import StatePage
from keywright.runtime.clock import Clock

if TYPE_CHECKING:
    from pathlib import Path

_log = logging.getLogger(__name__)

WARN_SECONDS = 2.0
"""From so large an offset on somebody is told to set a clock right."""
JUMP_SECONDS = 60.0
HOLD_SECONDS = 600.0
"""For so long a jump of the origin's clock is not believed."""
ANSWERS = 3
"""So many answers in a row must agree before a lesser difference is believed."""
WARN_AGAIN_SECONDS = 3600.0
READ_SECONDS = 1.0
WRITE_SECONDS = 1.0
FILE = "origin-clock.json"
_AGREEMENT_MILLIS = 500.0
_DRIFT_MILLIS = 1.0
"""What two clocks may come to differ between two answers."""
_SLOWEST_ANSWER_SECONDS = 10.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Known:
    """The origin's time at the elapsed time 0 of this machine, in milliseconds, known to within `error`."""

    start: float
    error: float


class OriginClock(Clock):
    """The origin's clock, as far as it is known; until then this machine's. May be asked from any thread.

    The process that follows calls `hear`, the others read what it noted. Without a path it is kept in memory only.
    """

    def __init__(self, path: Path | None, machine: Clock, *, boot_id: str | None = None) -> None:
        self._file = None if path is None else NoteFile(path, _log)
        self._machine = machine
        self._boot_id = boot_id or find_boot_id()
        self._page = None if path is None else StatePage.beside(path, self._boot_id)
        self._known: Known | None = None
        self._least = -math.inf
        """The origin's time is no earlier than that, at the elapsed time 0; in milliseconds."""
        self._recent: deque[Known] = deque(maxlen=ANSWERS)
        self._differs_since: float | None = None
        self._jump_seconds: float | None = None
        self._read_due = self._written_at = self._warned_at = -math.inf

    def millis(self) -> int:
        now = self._machine.elapsed()
        if now >= self._read_due:
            self._refresh(now)
        known = self._known
        if known is not None:
            return int(known.start + now * 1000)
        own = self._machine.millis()
        least = self._least + now * 1000
        return own if own >= least else int(least)

    def now(self) -> datetime:
        return _EPOCH + timedelta(milliseconds=self.millis())

    def elapsed(self) -> float:
        return self._machine.elapsed()

    @property
    def offset_seconds(self) -> float | None:
        """How far this machine's clock is ahead of the origin's, negative if it is behind; None while not known."""
        judged = self.millis()
        own = self._machine.millis()
        return None if self._known is None and judged == own else (own - judged) / 1000

    @property
    def error_seconds(self) -> float | None:
        """The offset is known to within that; None for one that is known to be no smaller only."""
        return None if self._known is None else self._known.error / 1000

    def hear(self, origin_millis: int, asked_at: float, answered_at: float) -> None:
        """Take note of the time that the origin told between these two moments of `elapsed`."""
        took = answered_at - asked_at
        if not 0 <= took <= _SLOWEST_ANSWER_SECONDS:
            return
        told = Known(origin_millis - (asked_at + answered_at) / 2 * 1000, took / 2 * 1000)
        self._refresh_once(answered_at)
        self._recent.append(told)
        known = self._known
        if known is None:
            self._known = told
        elif abs(told.start - known.start) <= WARN_SECONDS * 1000 + told.error:
            # What was known stays, as far as this answer allows: answers that took long do not move it.
            start = min(max(known.start, told.start - told.error), told.start + told.error)
            self._known = Known(start, min(told.error + abs(start - told.start), known.error + _DRIFT_MILLIS))
            self._differs_since = self._jump_seconds = None
        else:
            self._differ(known, told, answered_at)
        self._read_due = answered_at + _SLOWEST_ANSWER_SECONDS
        self._write(answered_at)
        self._tell(answered_at)

    def hear_least(self, origin_millis: int) -> None:
        """Take note that the origin's clock has been at that time already."""
        now = self._machine.elapsed()
        self._refresh_once(now)
        self._least = max(self._least, origin_millis - now * 1000)
        self._write(now)
        self._tell(now)

    def publish(self) -> None:
        """Have what is known in the replica's page, for readers that are no Python; by the process that follows."""
        self._refresh_once(self._machine.elapsed())
        if self._page is not None:
            with contextlib.suppress(OSError):
                self._page.put_clock(None if self._known is None else self._known.start, self._least)

    def list_warnings(self) -> list[str]:
        """What an operator should know of the clocks now, in sentences."""
        found = []
        offset, error = self.offset_seconds, self.error_seconds
        if offset is not None and abs(offset) >= WARN_SECONDS:
            side = "behind" if offset < 0 else "ahead of"
            bound = "or more" if error is None else f"give or take {error:.2f} s"
            found.append(
                f"this machine's clock is {abs(offset):.1f} s ({bound}) {side} the origin's, by which keys are judged: "
                "set the wrong one right, with NTP"
            )
        jump = self._jump_seconds
        if jump is not None:
            ends = "" if abs(jump) < JUMP_SECONDS else f", which is believed if it stays so for {HOLD_SECONDS:.0f} s"
            found.append(f"the origin's clock has jumped by {jump:+.1f} s, or the origins' clocks differ{ends}")
        return found

    def _differ(self, known: Known, told: Known, now: float) -> None:
        if self._differs_since is None:
            self._differs_since = now
        self._jump_seconds = jump = (told.start - known.start) / 1000
        starts = [one.start for one in self._recent]
        spread = max(starts) - min(starts)
        is_steady = len(starts) == ANSWERS and spread <= _AGREEMENT_MILLIS + max(one.error for one in self._recent) * 2
        if not is_steady:
            # Some of the answers agree with what was known: the time is counted from where all differ.
            self._differs_since = now
            return
        if abs(jump) >= JUMP_SECONDS and now - self._differs_since < HOLD_SECONDS:
            return
        _log.error("the origin's clock was set by %+.1f s: keys are judged by what it says now", jump)
        self._known = told
        self._differs_since = self._jump_seconds = None

    def _tell(self, now: float) -> None:
        warnings = self.list_warnings()
        if not warnings:
            self._warned_at = -math.inf
        elif now - self._warned_at >= WARN_AGAIN_SECONDS:
            self._warned_at = now
            for warning in warnings:
                _log.warning("%s", warning)

    def _refresh_once(self, now: float) -> None:
        """Who begins to follow goes on from what the one before knew."""
        if math.isinf(self._read_due):
            self._refresh(now)

    def _refresh(self, now: float) -> None:
        self._read_due = now + READ_SECONDS
        if self._file is None:
            self._read_due = math.inf
            return
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            self._take(self._file.read(), now)

    def _take(self, noted: dict[str, object], now: float) -> None:
        told, elapsed = _number(noted["origin"]), _number(noted["elapsed"])
        is_this_start = noted["boot"] is not None and noted["boot"] == self._boot_id and elapsed <= now
        # Of an earlier start of the machine: that long ago at the least.
        self._least = max(self._least, told - (elapsed if is_this_start else now) * 1000)
        if is_this_start and noted["error"] is not None:
            self._known = Known(told - elapsed * 1000, _number(noted["error"]))
            jump = noted["jump"]
            self._jump_seconds = None if jump is None else _number(jump)

    def _write(self, now: float) -> None:
        if self._file is None or now - self._written_at < WRITE_SECONDS:
            return
        self._written_at = now
        known = self._known
        start = self._least if known is None else known.start
        noted = {
            "boot": self._boot_id, "elapsed": now, "origin": start + now * 1000,
            "error": None if known is None else known.error, "jump": self._jump_seconds,
        }  # fmt: skip
        self._file.write(noted)
        self.publish()


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("not a time")
    return float(value)
