"""Owns the replica's files: the LMDB environment, its databases, who may use them, and whether they can be trusted.

A process that has the environment open holds a shared lock on `in-use.lock` for as long. Only a process that gets that
lock alone may judge the files and replace them, so they are never taken from under another process's feet, and two
workers that start at once don't both replace them. A process that meets broken pages while it runs writes `condemned`;
every process that sees it lets go of the files, and the first that is alone with them replaces them.

A process that only reads another one's replica (policy/shared.py) keeps to the same rules but never judges, makes or
replaces files.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import logging
import os
from typing import TYPE_CHECKING, Any

import lmdb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_log = logging.getLogger(__name__)

MAP_SIZE = 64 * 1024**3
"""Address space, not disk or memory: LMDB's file grows as it is filled. It is doubled when it is full."""
FORMAT = b"2"
BROKEN = (
    lmdb.InvalidError, lmdb.VersionMismatchError, lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.PanicError,
    lmdb.IncompatibleError, lmdb.NotFoundError, lmdb.BadTxnError, lmdb.BadDbiError, lmdb.CursorFullError,
    lmdb.BadValsizeError, ValueError, LookupError, TypeError,
)  # fmt: skip
"""What LMDB, or the decoding of a record, raises on bytes that neither of them wrote."""
_DATABASES = (b"meta", b"buckets", b"bucket_names", b"consumers", b"keys")
_LATER_DATABASES = (b"endings",)
"""What earlier versions of this format did without: made where it is missing."""


class ReplicaBroken(Exception):
    """The files are not a replica of this format, or no longer: they must be replaced, and filled from the record."""


class ReplicaFull(OSError):
    """There is no room on the disk for what was to be written; nothing was."""

    def __init__(self, path: Path) -> None:
        super().__init__(errno.ENOSPC, f"the disk of {path} is full")

    def __str__(self) -> str:
        return str(self.strerror)


class OtherFormat(ReplicaBroken):
    """The files are a replica, but of another version of Keywright."""


class Files:
    """The open environment. `begin(db)` starts a read transaction; dropping or leaving that ends it."""

    def __init__(
        self, path: Path, map_size: int, lock: int, *, is_alone: bool = False, is_reader: bool = False
    ) -> None:
        """Use `Files.open` or `Files.open_to_read`."""
        self.path = path
        self.map_size = map_size
        self._lock = lock
        self._inode = 0
        self._env = lmdb.open(
            str(path), map_size=map_size, max_dbs=len(_DATABASES) + len(_LATER_DATABASES), max_readers=512,
            max_spare_txns=1, mode=0o600, readonly=is_reader, create=not is_reader,
        )  # fmt: skip
        try:
            self._inode = (path / "data.mdb").stat().st_ino
            if is_alone or is_reader:
                self._check_length()
            self._open_databases(is_reader=is_reader)
            if not is_reader:
                self._env.reader_check()
        except BaseException:
            self._env.close()
            raise
        self.begin = self._env.begin

    @classmethod
    def open(cls, path: Path, map_size: int, probe: Callable[[Files], object], *, replace: bool = False) -> Files:
        """Open or make the files in a directory; `probe` raises one of BROKEN if they don't hold what they should.

        Raises ReplicaBroken; with `replace`, only while another process uses the broken files.
        """
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(path / "in-use.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            is_alone = _try_lock(lock)
            if not is_alone:
                # Waits for a process that is judging the files, not for those that use them.
                fcntl.flock(lock, fcntl.LOCK_SH)
            try:
                files = cls._open_sound(lambda: cls(path, map_size, lock, is_alone=is_alone), probe)
            except ReplicaBroken as error:
                if not (replace and is_alone):
                    if replace and not isinstance(error, OtherFormat):
                        # For those who use these files: they let go, and the next attempt finds itself alone.
                        (path / "condemned").touch(mode=0o600)
                    raise
                _log.warning("the replica in %s is broken (%s): it is replaced, and filled again", path, error)
                for name in ("data.mdb", "lock.mdb", "condemned"):
                    (path / name).unlink(missing_ok=True)
                files = cls._open_sound(lambda: cls(path, map_size, lock, is_alone=is_alone), probe)
            fcntl.flock(lock, fcntl.LOCK_SH)
        except BaseException:
            os.close(lock)
            raise
        return files

    @classmethod
    def open_to_read(cls, path: Path, probe: Callable[[Files], object]) -> Files:
        """Open another process's files. Raises ReplicaBroken or, when they are not there or not for us, OSError."""
        (path / "data.mdb").stat()
        if (path / "condemned").exists():
            # Not even the lock is touched: the process that is to replace the files must get it alone.
            raise ReplicaBroken("broken pages were met")
        # Made by whoever keeps the replica, before its other files.
        lock = os.open(path / "in-use.lock", os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH)
            return cls._open_sound(lambda: cls(path, MAP_SIZE, lock, is_reader=True), probe)
        except BaseException:
            os.close(lock)
            raise

    def close(self) -> None:
        self._env.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    @property
    def is_open(self) -> bool:
        return self._lock >= 0

    @contextlib.contextmanager
    def read(self) -> Iterator[Any]:
        """A read transaction for anything but the hot path."""
        try:
            with self._begin(write=False) as tx:
                yield tx
        except BROKEN as error:
            raise ReplicaBroken(str(error)) from error

    @contextlib.contextmanager
    def write(self) -> Iterator[Any]:
        """The write transaction; commits when left. When the map is full it is doubled, and MapFullError raised.

        Raises ReplicaFull, ReplicaBroken.
        """
        try:
            with self._begin(write=True) as tx:
                yield tx
        except lmdb.MapFullError:
            self._env.set_mapsize(self._env.info()["map_size"] * 2)
            raise
        except lmdb.DiskError as error:
            raise ReplicaFull(self.path) from error
        except (lmdb.InvalidError, lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.PanicError) as error:
            raise ReplicaBroken(str(error)) from error

    def rows_from(self, tx: Any, db: Any, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Up to `limit` rows of a database, and the one after them, which tells where to go on."""
        with tx.cursor(db) as cursor:
            return list(itertools.islice(cursor, limit + 1)) if cursor.set_range(start) else []

    def refresh_map_size(self) -> None:
        """Take over the map size that another process has set: the answer to MapResizedError."""
        self._env.set_mapsize(0)

    def mark_corrupt(self) -> None:
        """Let every process that uses these files know that they are broken, if this one may write there."""
        with contextlib.suppress(OSError):
            (self.path / "condemned").touch(mode=0o600)

    @property
    def is_marked_corrupt(self) -> bool:
        return (self.path / "condemned").exists()

    @property
    def is_replaced(self) -> bool:
        """Whether the directory holds other files by now, or none."""
        try:
            return (self.path / "data.mdb").stat().st_ino != self._inode
        except FileNotFoundError:
            return True

    @contextlib.contextmanager
    def try_lock(self, name: str) -> Iterator[bool]:
        """Hold a lock among all processes on this replica, or yield False at once."""
        lock = os.open(self.path / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield _try_lock(lock)
        finally:
            os.close(lock)

    @property
    def used_bytes(self) -> int:
        return int((self._env.info()["last_pgno"] + 1) * self._env.stat()["psize"])

    def walk(self) -> None:
        """Go over every page there is, those for reuse too, in one read transaction. Raises lmdb.Error for damage.

        LMDB's own compacting copy does so, and compares the pages it met with those that there should be.
        """
        with open(os.devnull, "wb") as nowhere:
            self._env.copyfd(nowhere.fileno(), compact=True)

    def reader_check(self) -> int:
        """Free the places of readers that died; they keep old pages from reuse. Returns how many there were."""
        return int(self._env.reader_check())

    @classmethod
    def _open_sound(cls, new: Callable[[], Files], probe: Callable[[Files], object]) -> Files:
        try:
            files = new()
        except BROKEN as error:
            raise ReplicaBroken(str(error)) from error
        try:
            if files.is_marked_corrupt:
                raise ReplicaBroken("broken pages were met")
            probe(files)
        except BaseException as error:
            files._env.close()
            if isinstance(error, BROKEN):
                raise ReplicaBroken(str(error)) from error
            raise
        return files

    def _begin(self, *, write: bool) -> Any:
        try:
            return self._env.begin(write=write)
        except lmdb.MapResizedError:
            self.refresh_map_size()
            return self._env.begin(write=write)

    def _check_length(self) -> None:
        """A file that is shorter than its own first page says would kill this process with SIGBUS when it is read."""
        # In this order: the file only grows, and what its first page says was written before that page.
        used, length = self.used_bytes, (self.path / "data.mdb").stat().st_size
        if length < used:
            raise ReplicaBroken(f"data.mdb has {length} bytes of {used}")

    def _open_databases(self, *, is_reader: bool) -> None:
        if self._env.stat()["entries"] == 0:
            if is_reader:
                raise ReplicaBroken("it is being made")
            # Two processes may get here together; each step is the same the second time.
            with self._begin(write=True) as tx:
                for name in _DATABASES:
                    db = self._env.open_db(name, txn=tx)
                    if name == b"meta":
                        tx.put(b"format", FORMAT, db=db, overwrite=False)
        opened = [self._env.open_db(name, create=False) for name in _DATABASES]
        self.meta, self.buckets, self.bucket_names, self.consumers, self.keys = opened
        with self._begin(write=False) as tx:
            if tx.get(b"format", db=self.meta) != FORMAT:
                raise OtherFormat("another format")
        self.endings = self._open_later(*_LATER_DATABASES, is_reader=is_reader)

    def _open_later(self, name: bytes, *, is_reader: bool) -> Any:
        """None for a mere reader of files that an earlier version keeps."""
        try:
            return self._env.open_db(name, create=not is_reader)
        except (lmdb.NotFoundError, lmdb.ReadonlyError):
            return None


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
