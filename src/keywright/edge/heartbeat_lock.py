"""Owns locks among the processes on a replica that a process which has stopped moving does not keep for ever.

The kernel lets go of a lock for whoever dies, but not for whoever is stopped (SIGSTOP, a frozen container) or can't run
because one long call holds the interpreter. So the holder writes its heartbeat into the file, by a clock that nobody
can set, and who has waited for LEASE_SECONDS without seeing one may put a new file in the place of the old. The holder
that was overtaken finds out by the file's inode (`Held.is_current`); until it has, both may be at it, and what the
lock is for has to be right all the same.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import threading
import time
from typing import TYPE_CHECKING

from keywright.runtime.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BEAT_SECONDS = 0.5
LEASE_SECONDS = 3.0
LONGEST_LOOK_SECONDS = 1.0
"""Who has not looked for longer was itself stopped, as on a machine that slept: it begins to watch anew."""
SHORTEST_PAUSE_SECONDS = 0.0002
LONGEST_PAUSE_SECONDS = 0.005
_BEAT = struct.Struct(">dQ")


class HolderStill(Exception):
    """Whoever holds the lock has not moved for the whole lease."""

    def __init__(self, holder: int | None) -> None:
        super().__init__(holder)
        self.holder = holder


class Held:
    """A lock that this process has got. Beats and the release may come from different threads."""

    def __init__(self, path: Path, file: int, elapsed: Callable[[], float]) -> None:
        """Use `HeartbeatLock`."""
        self._path = path
        self._file = file
        self._elapsed = elapsed
        self._using = threading.Lock()

    def beat(self) -> None:
        """Raises OSError where the disk takes no more; without effect after `release`."""
        # Held, so that the number isn't another file's by now.
        with self._using:
            if self._file >= 0:
                # In place: on a full disk, too.
                os.pwrite(self._file, _BEAT.pack(self._elapsed(), os.getpid()), 0)

    @property
    def is_current(self) -> bool:
        """Whether no other process has taken the lock over."""
        with self._using:
            return self._file >= 0 and is_at(self._path, self._file)

    def release(self) -> None:
        with self._using:
            file, self._file = self._file, -1
        if file >= 0:
            # By itself, as a child that was forked meanwhile would keep it open.
            fcntl.flock(file, fcntl.LOCK_UN)
            os.close(file)


class HeartbeatLock:
    """The lock of that name, as one process sees it; it watches the holder each time that it asks."""

    def __init__(
        self, path: Path, *, elapsed: Callable[[], float] | None = None, lease_seconds: float | None = None
    ) -> None:
        """`elapsed` counts seconds as `Clock.elapsed` does."""
        self._path = path
        self._elapsed = elapsed or Clock().elapsed
        self._lease_seconds = lease_seconds
        self._seen: tuple[int, bytes] | None = None
        self._seen_since = self._looked_at = -float("inf")

    def try_acquire(self) -> Held | None:
        """The lock if it is free. Raises OSError where there can be none."""
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not try_lock(file) or not is_at(self._path, file):
                os.close(file)
                return None
            return self._begin(file)
        except BaseException:
            with contextlib.suppress(OSError):
                os.close(file)
            raise

    def wait(self) -> Held:
        """The lock, as soon as it is free. Raises HolderStill when its holder does not move."""
        pause = SHORTEST_PAUSE_SECONDS
        while (held := self.try_acquire()) is None:
            if self.is_still:
                raise HolderStill(self.holder)
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE_SECONDS)
        return held

    @property
    def is_still(self) -> bool:
        """Whether whoever holds it has not moved for the whole lease, as far as this process has watched."""
        now, seen = self._elapsed(), self._look()
        if seen != self._seen or now - self._looked_at > LONGEST_LOOK_SECONDS:
            self._seen, self._seen_since = seen, now
        self._looked_at = now
        lease_seconds = LEASE_SECONDS if self._lease_seconds is None else self._lease_seconds
        return seen is not None and now - self._seen_since >= lease_seconds

    @property
    def holder(self) -> int | None:
        """The process that holds it, as it says itself."""
        seen = self._look()
        return None if seen is None or len(seen[1]) < _BEAT.size else int(_BEAT.unpack(seen[1])[1])

    def take_over(self) -> Held | None:
        """The lock, from a holder that is still. None if it has moved, or another process was faster.

        Of several that take it over at once the last one has it: the others see that it is not current soon after.
        """
        waiting = self._path.with_name(f".{self._path.name}.{os.getpid()}.{threading.get_native_id()}.part")
        waiting.unlink(missing_ok=True)
        file = os.open(waiting, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            held = self._begin(file) if try_lock(file) else None
            if held is None or self._look() != self._seen:
                os.close(file)
                return None
            waiting.replace(self._path)
        except BaseException:
            os.close(file)
            raise
        finally:
            waiting.unlink(missing_ok=True)
        return held

    def _begin(self, file: int) -> Held:
        held = Held(self._path, file, self._elapsed)
        held.beat()
        return held

    def _look(self) -> tuple[int, bytes] | None:
        try:
            with self._path.open("rb") as file:
                return os.fstat(file.fileno()).st_ino, file.read(_BEAT.size)
        except OSError:
            return None


def try_lock(file: int) -> bool:
    """Have the open file for this process alone, if nobody else uses it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_at(path: Path, file: int) -> bool:
    """Whether the open file is the one that has this name."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
