"""Owns adding up what all workers of one start have counted: a small file of each, in a directory of theirs.

The process that runs the workers makes the directory and names it to them in their environment. A worker takes the
first slot that is free, which it knows by a lock that the system lets go of when the worker dies; whoever takes the
slot after it goes on from its counts. So there are never more slots than there were workers at once, and what a dead
worker has written stays in the sum.

A worker writes its own slot before it tells the sum of all. So a number that anybody was told is in the files, and no
later sum is less, whichever worker tells it and whichever has died.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from keywright.runtime import atomic_file

_log = logging.getLogger(__name__)

VARIABLE = "_KEYWRIGHT_WORKER_COUNTS"
"""Names the directory to the workers. No setting: it begins otherwise."""
Counts = dict[tuple[str, ...], int]
"""How often, by the key of what is counted (families.py)."""
_decode = msgspec.json.Decoder(list[tuple[list[str], int]]).decode


@contextlib.contextmanager
def shared_by_workers(data_dir: Path) -> Iterator[None]:
    """Have a directory for the counts of those workers that are started within, named in this process's environment.

    It goes with them, and what starts that were killed have left goes, too. Where none can be made, the metrics are
    those of one worker, and the log says so.
    """
    parent = data_dir / "worker-counts"
    try:
        parent.mkdir(mode=0o700, exist_ok=True)
        directory, lock = _make_directory(parent)
    except OSError as error:
        _log.warning("the metrics are those of one worker each: can't use %s: %s", parent, error.strerror)
        yield
        return
    os.environ[VARIABLE] = str(directory)
    try:
        yield
    finally:
        os.environ.pop(VARIABLE, None)
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


class WorkerCounts:
    """One worker's slot, and the way to the others'. May be used from any thread, once it was made in the worker.

    When the files fail the worker goes on with its own counts, and says so once.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._lock = threading.Lock()
        self._slot: _Slot | None = None
        self._has_failed = False

    @classmethod
    def of_environment(cls) -> WorkerCounts | None:
        """None in a process that nobody started as a worker."""
        directory = os.environ.get(VARIABLE)
        return None if directory is None else cls(Path(directory))

    def write(self, count: Callable[[], Counts]) -> None:
        """Let the others know what this worker has counted."""
        with self._lock, self._one_warning():
            self._take_slot().write(count())

    def add_up(self, count: Callable[[], Counts]) -> Counts:
        """The sum of all workers' counts, this one's being `count`'s, which are written first."""
        # Counted under the lock: else an older count could be written after a newer one.
        with self._lock:
            total = own = count()
            with self._one_warning():
                slot = self._take_slot()
                total = slot.total_with(own)
                for path in self.directory.glob("*.json"):
                    if path != slot.path:
                        _add(total, _read(path))
                slot.write(own)
            return total

    def _take_slot(self) -> _Slot:
        if self._slot is None:
            self._slot = _Slot.take(self.directory)
        return self._slot

    @contextlib.contextmanager
    def _one_warning(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self._has_failed:
                self._has_failed = True
                _log.warning("the metrics may lack workers: can't use %s: %s", self.directory, error.strerror)


class _Slot:
    """A file that one worker at a time writes, and goes on from what the one before it wrote."""

    def __init__(self, path: Path, lock: int) -> None:
        """Use `take`."""
        self.path = path
        self._lock = lock
        self._before = _read(path)
        self._written: Counts = {}

    @classmethod
    def take(cls, directory: Path) -> _Slot:
        """The first slot that no living worker has. Raises OSError."""
        number = 0
        while (lock := _try_lock(directory / f"{number}.lock")) is None:
            number += 1
        return cls(directory / f"{number}.json", lock)

    def total_with(self, own: Counts) -> Counts:
        """What the workers before this one counted, and this one's own."""
        total = dict(self._before)
        _add(total, own)
        return total

    def write(self, own: Counts) -> None:
        if own == self._written:
            return
        rows = list(self.total_with(own).items())
        atomic_file.write(self.path, msgspec.json.encode(rows), is_durable=False)
        self._written = own


def _read(path: Path) -> Counts:
    with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
        return {tuple(key): count for key, count in _decode(path.read_bytes())}
    return {}


def _add(total: Counts, more: Counts) -> None:
    for key, count in more.items():
        total[key] = total.get(key, 0) + count


def _make_directory(parent: Path) -> tuple[Path, int]:
    """A new directory, and the lock that says it is in use. Takes away those that are not."""
    start_lock = _open_lock(parent / "start.lock")
    try:
        # Alone: one that was just made is not locked yet.
        fcntl.flock(start_lock, fcntl.LOCK_EX)
        for left in parent.iterdir():
            if left.is_dir() and (lock := _try_lock(left / "in-use.lock")) is not None:
                shutil.rmtree(left, ignore_errors=True)
                os.close(lock)
        directory = parent / secrets.token_hex(8)
        directory.mkdir(mode=0o700)
        lock = _open_lock(directory / "in-use.lock")
        fcntl.flock(lock, fcntl.LOCK_EX)
    finally:
        os.close(start_lock)
    return directory, lock


def _try_lock(path: Path) -> int | None:
    """The open lock, or None when somebody else has it."""
    lock = _open_lock(path)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
