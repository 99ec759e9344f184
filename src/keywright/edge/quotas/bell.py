"""Owns how a process that lacks units tells the one that borrows for all: a named pipe in the table's directory.

A ring is one short message, written in one piece or not at all. Nothing is answered on it: who has rung looks at the
table. Where nobody listens, or too much is unheard, a ring is lost, and its sender knows.
"""

from __future__ import annotations

import contextlib
import functools
import os
import stat
import struct
import threading
import weakref
from typing import TYPE_CHECKING, NamedTuple

from keywright.domain.limits import is_name

if TYPE_CHECKING:
    from pathlib import Path

BELL = "bell"
_MESSAGE = struct.Struct("@QQ48s")
_MOST_AT_ONCE = 1024


class Ring(NamedTuple):
    """That a question lacks so many units of a consumer's quota; 0 where it only wants to know what there is."""

    consumer_number: int
    quota: str
    units: int


class Rung(NamedTuple):
    """What was rung of one quota since it was looked at: units in all, the most of one question, and if one peeks."""

    consumer_number: int
    quota: str
    units: int = 0
    unit: int = 0
    is_peeked: bool = False

    def and_also(self, ring: Ring) -> Rung:
        unit, is_peeked = max(self.unit, ring.units), self.is_peeked or not ring.units
        return self._replace(units=self.units + ring.units, unit=unit, is_peeked=is_peeked)


class Bell:
    """Of whoever spends; from any thread, and in any process."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / BELL
        self._lock = threading.Lock()
        self._file = -1
        self._process = 0
        os.register_at_fork(after_in_child=functools.partial(_forget, weakref.ref(self)))

    def ring(self, ring: Ring) -> bool:
        """Whether somebody hears it."""
        message = _MESSAGE.pack(ring.consumer_number, ring.units, ring.quota.encode())
        with self._lock:
            if self._file >= 0 and (self._process != os.getpid() or not self._write(message)):
                self._close()
            elif self._file >= 0:
                return True
            with contextlib.suppress(OSError):
                self._file = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                self._process = os.getpid()
            if self._file >= 0 and self._write(message):
                return True
            self._close()
            return False

    def close(self) -> None:
        with self._lock:
            self._close()

    def _write(self, message: bytes) -> bool:
        try:
            return os.write(self._file, message) == len(message)
        except OSError:
            # Nobody has it open (EPIPE), or it is full (EAGAIN).
            return False

    def _close(self) -> None:
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)


def _forget(bell: weakref.ref[Bell]) -> None:
    """In a child: somebody may have had the lock in the parent."""
    forked = bell()
    if forked is not None:
        forked._lock = threading.Lock()


class HeardBell:
    """Of the process that borrows. `close` it."""

    def __init__(self, directory: Path) -> None:
        """Raises OSError."""
        path = directory / BELL
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkfifo(path, 0o600)
        # To read and to write, so that it never ends when nobody else has it open.
        self.file = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        if not stat.S_ISFIFO(os.fstat(self.file).st_mode):
            os.close(self.file)
            path.unlink()
            raise OSError(f"{path} was no pipe")

    def hear(self) -> list[Ring]:
        """What was rung since the last time, a thousand at most."""
        try:
            data = os.read(self.file, _MESSAGE.size * _MOST_AT_ONCE)
        except BlockingIOError:
            return []
        rings = []
        for place in range(0, len(data) - _MESSAGE.size + 1, _MESSAGE.size):
            consumer_number, units, name = _MESSAGE.unpack_from(data, place)
            quota = name.rstrip(b"\0").decode("ascii", "replace")
            if is_name(quota):
                rings.append(Ring(consumer_number, quota, units))
        return rings

    def close(self) -> None:
        os.close(self.file)
