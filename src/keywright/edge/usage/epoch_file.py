"""Owns the file by which the processes of an edge know which of them count, and up to when what each counted is sealed.

The process that has drawn an epoch holds a lock on its file, which the system lets go of when the process dies. So who
finds such a file without a lock knows that its process was killed, and since when its counts are lost.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Iterator

_FILE = re.compile(r"([0-9a-f]{32})\.epoch")
_MOMENT = struct.Struct(">QI")


class EpochFile:
    """This process's own, until it is closed. Raises OSError everywhere."""

    def __init__(self, directory: Path, epoch: str, until: int) -> None:
        """`until` is the moment, in milliseconds since the epoch, from which on the process counts."""
        self.epoch = epoch
        self._path = directory / f"{epoch}.epoch"
        # Locked before it has its name: without a lock it would be taken for a killed process's.
        part = directory / f".{epoch}.epoch.part"
        self._descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        self.until = until
        self.write(until)
        part.rename(self._path)

    def write(self, until: int) -> None:
        """What was counted before that is in the spool."""
        packed = until.to_bytes(8, "big")
        os.pwrite(self._descriptor, _MOMENT.pack(until, crc32(packed)), 0)
        self.until = until

    def close(self) -> None:
        """Nothing is counted any more, and all that was is in the spool."""
        self._path.unlink(missing_ok=True)
        _given_up(self._path).unlink(missing_ok=True)
        os.close(self._descriptor)

    @property
    def is_given_up(self) -> bool:
        """Whether somebody has found that there is another process of this epoch: see `give_up`."""
        return _given_up(self._path).exists()


@dataclass(frozen=True, slots=True)
class LivingEpoch:
    """The epoch of a process that counts. `until` is None where that can't be read."""

    epoch: str
    until: int | None


def list_living(directory: Path) -> list[LivingEpoch]:
    """The epochs of all processes that count, and of those that were killed and nobody has told of. Raises OSError."""
    found = []
    for path in _list_files(directory):
        with contextlib.suppress(FileNotFoundError):
            found.append(LivingEpoch(path.stem, _parse(path.read_bytes())))
    return found


@contextlib.contextmanager
def take_killed(directory: Path) -> Iterator[list[LivingEpoch]]:
    """The epochs whose processes were killed, which nobody else takes meanwhile. They are forgotten when the block ends
    without a failure. Raises OSError.
    """
    taken: list[tuple[Path, int]] = []
    try:
        killed = []
        for path in _list_files(directory):
            lock = _try_lock(path)
            if lock is not None:
                taken.append((path, lock))
                killed.append(LivingEpoch(path.stem, _parse(os.pread(lock, _MOMENT.size, 0))))
        yield killed
        for path, _ in taken:
            path.unlink(missing_ok=True)
            _given_up(path).unlink(missing_ok=True)
    finally:
        for _, lock in taken:
            os.close(lock)


def give_up(directory: Path, epoch: str) -> None:
    """Have the process of this epoch, if it is one of this directory, draw another. Raises OSError."""
    path = directory / f"{epoch}.epoch"
    if path.exists():
        os.close(os.open(_given_up(path), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _given_up(path: Path) -> Path:
    return path.with_suffix(".given-up")


def _list_files(directory: Path) -> list[Path]:
    return sorted(directory / name for name in os.listdir(directory) if _FILE.fullmatch(name))


def _parse(data: bytes) -> int | None:
    if len(data) != _MOMENT.size:
        return None
    until, check = _MOMENT.unpack(data)
    return int(until) if crc32(data[:8]) == check else None


def _try_lock(path: Path) -> int | None:
    """The open lock; None when somebody has it, or the file is gone."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Between the look and the lock its process may have closed it.
        if os.path.exists(path):
            return lock
    except BlockingIOError:
        pass
    os.close(lock)
    return None
