"""Owns who may use a replica's files, and who may replace them.

A process that has them open holds a shared lock on `in-use.lock` for as long. Only a process that gets that lock alone
may judge the files and replace them, so they are never taken from under another process's feet, and two workers that
start at once don't both replace them. The file `condemned` asks every process to let go of them.

One that is stopped can't. Once all others have had time to, whoever wants to fill new files abandons the old ones to
it: it puts a new `in-use.lock` in the place of the old, and is alone. Readers look at least every LOOK_SECONDS whether
the files that they have are still those of the directory (reader.py), so a process that wakes up answers from none that
were abandoned.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from typing import TYPE_CHECKING

from keywright.edge.heartbeat_lock import is_at, try_lock
from keywright.runtime.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOOK_SECONDS = 1.0
LET_GO_SECONDS = 2.0
WRITING = "writing.lock"
"""Of the one that writes, into the files that are there now."""
_LOCK, _MARK, _ABANDONING = "in-use.lock", "condemned", "abandoning.lock"


class NoReaderLocks(OSError):
    """LMDB would read these files without entering this process among their readers, and without saying so."""


class InUse:
    """This process's part in the use of the files; `is_alone` when nobody else has any."""

    def __init__(self, path: Path, lock: int, *, is_alone: bool) -> None:
        """Use `InUse.enter` or `InUse.enter_to_read`."""
        self._path = path
        self._lock = lock
        self.is_alone = is_alone

    @classmethod
    def enter(cls, path: Path) -> InUse:
        while True:
            lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                is_alone = try_lock(lock)
                if not is_alone:
                    # Waits for a process that is judging the files, not for those that use them.
                    fcntl.flock(lock, fcntl.LOCK_SH)
                if is_at(path / _LOCK, lock):
                    return cls(path, lock, is_alone=is_alone)
            except BaseException:
                os.close(lock)
                raise
            os.close(lock)

    @classmethod
    def enter_to_read(cls, path: Path) -> InUse:
        """Raises OSError where nobody keeps files, or they are not for us: NoReaderLocks, PermissionError."""
        _check_reader_locks(path)
        # Made by whoever keeps the replica, before its other files.
        lock = os.open(path / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH)
        except BaseException:
            os.close(lock)
            raise
        return cls(path, lock, is_alone=False)

    def share(self) -> None:
        """Let others in."""
        fcntl.flock(self._lock, fcntl.LOCK_SH)

    def leave(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    @property
    def is_current(self) -> bool:
        """Whether the files have not been abandoned to this process, as they may be while it is stopped."""
        return self._lock >= 0 and is_at(self._path / _LOCK, self._lock)

    @property
    def is_over(self) -> bool:
        return self._lock < 0


@contextlib.contextmanager
def alone_at(path: Path, name: str) -> Iterator[bool]:
    """Hold a lock of this name among all processes on these files, or yield False at once."""
    lock = os.open(path / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield try_lock(lock)
    finally:
        os.close(lock)


def mark_corrupt(path: Path) -> None:
    """Ask every process to let go of the files, if this one may write there."""
    with contextlib.suppress(OSError), open(path / _MARK, "ab", opener=_private) as file:
        # Since when is what the first one says.
        if not file.tell():
            file.write(b"%d" % int(Clock().elapsed() * 1000))


def is_marked_corrupt(path: Path) -> bool:
    return (path / _MARK).exists()


@contextlib.contextmanager
def abandoning(path: Path) -> Iterator[InUse | None]:
    """Leave files that are marked so to those who still have not let go of them; None while they may yet do so.

    Within the block nobody else does the same, and whoever opens the files waits.
    """
    guard = os.open(path / _ABANDONING, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # Of two that find themselves alone with the same names each would take away what the other makes.
        if not try_lock(guard) or not _has_had_time(path):
            yield None
            return
        waiting = path / f".{_LOCK}.part"
        waiting.unlink(missing_ok=True)
        lock = os.open(waiting, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            waiting.replace(path / _LOCK)
            yield InUse(path, lock, is_alone=True)
        except BaseException:
            os.close(lock)
            raise
    finally:
        os.close(guard)


def remove_files(path: Path, *, are_abandoned: bool) -> None:
    """Take the files away; by whoever is alone with them."""
    # In this order: who holds the new lock of writers finds that the files are not those that it has.
    for name in ("data.mdb", "lock.mdb", WRITING):
        (path / name).unlink(missing_ok=True)
    if are_abandoned:
        # Whoever is not stopped has looked by then, and answers nothing from what was here.
        time.sleep(LOOK_SECONDS)
    (path / _MARK).unlink(missing_ok=True)


def _has_had_time(path: Path) -> bool:
    if not is_marked_corrupt(path):
        return False
    # Somebody's empty file counts from now on.
    mark_corrupt(path)
    try:
        marked_at = int((path / _MARK).read_bytes()) / 1000
    except (OSError, ValueError):
        return False
    passed = Clock().elapsed() - marked_at
    # A time to come is of an earlier start of the machine, which no process outlived.
    return passed < 0 or passed >= LET_GO_SECONDS


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)


def _check_reader_locks(path: Path) -> None:
    """LMDB leaves its locks out where the file system is read-only. Raises NoReaderLocks, PermissionError.

    By asking, not by opening: whoever closes `lock.mdb` gives up the locks that its process may have there already.
    """
    lock = path / "lock.mdb"
    place = lock if lock.exists() else path
    if os.statvfs(place).f_flag & os.ST_RDONLY:
        raise NoReaderLocks(
            "it is on a read-only mount. Whoever reads a replica enters itself in its lock.mdb; unseen, it would have "
            "pages overwritten that it is reading. Mount the directory read-write (the files are only read), or ask "
            "the edge over HTTP (RemoteEdge)"
        )
    if not os.access(place, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise PermissionError(
            f"this user may not write {place.name}, where readers of a replica enter themselves: the application runs "
            "as the user that the edge runs as"
        )
