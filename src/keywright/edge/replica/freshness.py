"""Owns since when a replica is out of step, over restarts and for every process on it: the moment in step, on disk.

Elapsed time is told by the machine's own count since it started (CLOCK_BOOTTIME: it goes on while the machine sleeps),
which nobody can set. The moment is written down with that count, at most every second, so a process that starts, or
that does not follow, knows it too. Over a start of the machine the count is lost. Then the wall clock is all there is:
it is taken to be up to an hour slow, so the lag is counted an hour longer until the replica has been in step again.
What can't be read is not known, and a lag that is not known is endless.
"""

from __future__ import annotations

import contextlib
import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING

from keywright.edge.note_file import NoteFile
from keywright.edge.state_page import StatePage

if TYPE_CHECKING:
    from keywright.runtime.clock import Clock

_log = logging.getLogger(__name__)

WRITE_SECONDS = 1.0
READ_SECONDS = 0.1
SLOW_CLOCK_SECONDS = 3600.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def find_boot_id() -> str | None:
    """Which start of this machine it is; None where the system does not tell."""
    with contextlib.suppress(OSError):
        return _BOOT_ID.read_text().strip() or None
    return None


class SyncClock:
    """The last moment of which it is known that everything committed by then is in the replica.

    Without a path it is kept in memory only.
    """

    def __init__(self, path: Path | None, clock: Clock, *, boot_id: str | None = None) -> None:
        self._file = None if path is None else NoteFile(path, _log)
        self._clock = clock
        self._boot_id = boot_id or find_boot_id()
        self._page = None if path is None else StatePage.beside(path, self._boot_id)
        self._at = -math.inf
        self._written_at = self._read_at = -math.inf

    @property
    def at(self) -> float:
        """The moment, in seconds of `Clock.elapsed`; -inf when it is not known."""
        now = self._clock.elapsed()
        # What this process learnt itself is newer than the file; if it is older, another process may follow.
        is_old = now - self._at > WRITE_SECONDS and now - self._read_at >= READ_SECONDS
        if self._file is not None and is_old:
            self._read_at = now
            noted = self._read(self._file, now)
            # Only then: another thread may take note of a moment while this one reads the file.
            self._at = max(self._at, noted)
        return self._at

    def lag_seconds(self) -> float:
        """How long the replica may have been out of step; inf when that is not known."""
        return max(0.0, self._clock.elapsed() - self.at)

    def advance(self, at: float) -> None:
        """Take note that the replica was in step at this moment."""
        if at <= self._at:
            return
        self._at = at
        now = self._clock.elapsed()
        if self._file is not None and now - self._written_at >= WRITE_SECONDS:
            self._written_at = now
            self._write(self._file, now)

    def advance_to_wall(self, wall: float) -> None:
        """Take note that it was in step at this time of day, by a clock that may be an hour off."""
        self.advance(max(self.at, self._at_wall(wall, self._clock.elapsed())))

    def _write(self, file: NoteFile, now: float) -> None:
        noted = {"boot": self._boot_id, "elapsed": self._at, "wall": self._clock.millis() / 1000 - (now - self._at)}
        # No fsync: what a power cut leaves of it is older, or unreadable, and so errs towards a longer lag.
        if file.write(noted) and self._page is not None:
            with contextlib.suppress(OSError):
                # What stands there instead is older.
                self._page.put_in_step(self._at)

    def _read(self, file: NoteFile, now: float) -> float:
        try:
            noted = file.read()
            boot, at, wall = noted["boot"], float(noted["elapsed"]), float(noted["wall"])
        except (OSError, ValueError, LookupError, TypeError):
            return -math.inf
        if boot is not None and boot == self._boot_id:
            return at if at <= now else -math.inf
        return self._at_wall(wall, now)

    def _at_wall(self, wall: float, now: float) -> float:
        lag = self._clock.millis() / 1000 - wall
        # Before that moment the clock has certainly been set back, nobody knows how far.
        return now - lag - SLOW_CLOCK_SECONDS if 0 <= lag < math.inf else -math.inf
