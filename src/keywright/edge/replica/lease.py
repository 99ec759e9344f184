"""Owns until when a replica may answer at all: what this edge told the origin of itself, and its own setting.

An edge may promise that it answers for no key after a time in which no report of it was taken; then no write waits for
it any longer. So the promise binds it whatever its buckets say by now: from before a shorter one is sent, and until a
longer one was taken. Counted is from when the report that was taken was sent, which no origin counts from any earlier.

The moment is kept in a file beside the replica, for every process on it and over restarts; over a start of the machine
as freshness.py does. What can't be read is over.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

from keywright.edge.note_file import NoteFile
from keywright.edge.replica.freshness import SLOW_CLOCK_SECONDS, find_boot_id
from keywright.edge.state_page import StatePage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from keywright.runtime.clock import Clock

_log = logging.getLogger(__name__)

READ_SECONDS = 1.0
WRITE_SECONDS = 1.0
IN_STEP_SECONDS = 5.0
"""A replica in step is up to 3 s old."""


class Lease:
    """One for each process; the process that reports writes the file. `is_over` may be asked from any thread."""

    def __init__(
        self,
        path: Path,
        clock: Clock,
        lag_seconds: Callable[[], float],
        *,
        seconds: float | None = None,
        boot_id: str | None = None,
    ) -> None:
        """`seconds` is the edge's own setting: so long it may be out of step, for `lag_seconds`, or unheard."""
        self.seconds = seconds
        self._path = path
        self._file = NoteFile(path, _log, so="writes wait for this edge")
        self._clock = clock
        self._lag_seconds = lag_seconds
        self._boot_id = boot_id or find_boot_id()
        self._page = StatePage.beside(path, self._boot_id)
        self._until = math.inf
        self._seconds_noted: float | None = None
        """The setting of whoever wrote the file: who merely reads this replica has none."""
        self._read_at = self._written_at = -math.inf

    def is_over(self) -> bool:
        """Whether no key may be answered for."""
        now = self._clock.elapsed()
        if now - self._read_at >= READ_SECONDS:
            self._refresh(now)
        if now > self._until:
            return True
        seconds = self._seconds_noted if self.seconds is None else self.seconds
        return seconds is not None and self._lag_seconds() > seconds

    def offer(self, seconds: float | None) -> float | None:
        """About to tell an origin that the edge refuses after so long (None: never); what may be told."""
        if seconds is None:
            return None
        now = self._clock.elapsed()
        # It may be another process that told so far.
        self._refresh(now)
        if now + seconds >= self._until:
            return seconds
        self._until = now + seconds
        # What the other processes don't know must not be promised.
        return seconds if self._write(now, is_durable=True) else None

    def taken(self, seconds: float | None, sent_at: float) -> None:
        """An origin has taken a report that told so, and that was sent at this moment (`Clock.elapsed`).

        What is over begins anew only when the replica has been in step since.
        """
        now = self._clock.elapsed()
        if math.isinf(self._read_at):
            self._refresh(now)
        if now > self._until:
            # Others may have been told meanwhile that all have a change which is not here yet.
            lag = self._lag_seconds()
            if lag > IN_STEP_SECONDS or now - lag <= self._until:
                return
        is_same = math.isinf(self._until) and seconds is None
        self._until = math.inf if seconds is None else sent_at + seconds
        self._read_at = now
        if not is_same and (seconds is None or now - self._written_at >= WRITE_SECONDS):
            self._write(now)

    def end(self) -> float | None:
        """Answer for no key from here on, also after a restart, until in step again; until when it was. None if that
        can't be kept.
        """
        now = self._clock.elapsed()
        self._refresh(now)
        earlier, self._until = self._until, now
        return earlier if self._write(now, is_durable=True) else None

    def restore(self, until: float) -> None:
        """Nobody was told of the end."""
        self._until = until
        self._write(self._clock.elapsed(), is_durable=True)

    def publish(self) -> bool:
        """Have what holds in the replica's page, for readers that are no Python; by the process that follows."""
        if math.isinf(self._read_at):
            self._refresh(self._clock.elapsed())
        return self._publish()

    def _refresh(self, now: float) -> None:
        self._until = self._read(now)
        self._read_at = now

    def _write(self, now: float, *, is_durable: bool = False) -> bool:
        until = None if math.isinf(self._until) else self._until
        wall = self._clock.millis() / 1000
        noted = {"boot": self._boot_id, "until": until, "elapsed": now, "wall": wall, "lease": self.seconds}
        is_written = self._file.write(noted, is_durable=is_durable) and self._publish()
        if is_written:
            self._written_at = now
        return is_written

    def _publish(self) -> bool:
        try:
            # Without end that is: endless times in the past are those of a note that can't be read.
            until = None if self._until == math.inf else max(self._until, 0.0)
            self._page.put_lease(until, self.seconds, self._path)
        except OSError as error:
            _log.warning("can't write the page of state beside %s: %s", self._path, error.strerror)
            return False
        return True

    def _read(self, now: float) -> float:
        """Until when, in seconds of `Clock.elapsed`."""
        try:
            noted = self._file.read()
            self._seconds_noted = None if noted["lease"] is None else float(noted["lease"])
            if noted["until"] is None:
                return math.inf
            boot, until, elapsed, wall = noted["boot"], *(float(noted[name]) for name in ("until", "elapsed", "wall"))
        except FileNotFoundError:
            # Nothing was ever promised.
            return math.inf
        except (OSError, ValueError, LookupError, TypeError):
            return -math.inf
        if boot is not None and boot == self._boot_id:
            return until if elapsed <= now else -math.inf
        passed = self._clock.millis() / 1000 - wall
        # Before that moment the clock has certainly been set back, nobody knows how far.
        return now + (until - elapsed) - passed - SLOW_CLOCK_SECONDS if passed >= 0 else -math.inf
