"""Owns the replica's files: the LMDB environment, its databases, and whether they can be trusted.

Who may use and replace them is in in_use.py. A process that meets broken pages while it runs marks the files; every
process that sees that lets go of them, and the first that is alone with them replaces them.

LMDB's own writer lock is let go of by whoever dies, but not by whoever is stopped in the middle of a write. So a lock
stands before it that can be waited for without end in sight: `write` gives up, with WriterStopped, on a holder that
doesn't move, and the files go the way of broken ones.

A process that only reads another one's replica (policy/shared.py) keeps to the same rules but never judges, makes or
replaces files.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import time
from typing import TYPE_CHECKING, Any

import lmdb

from keywright.edge.heartbeat_lock import HeartbeatLock, Held, HolderStill
from keywright.edge.replica import in_use
from keywright.edge.replica.in_use import InUse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_log = logging.getLogger(__name__)

MAP_SIZE = 64 * 1024**3
"""Address space, not disk or memory: LMDB's file grows as it is filled. It is doubled when it is full."""
STOPPED_WRITER_SECONDS = 5.0
"""Longer than the leader's lease: whoever follows is replaced first."""
REPLACE_TRY_SECONDS = 0.1
FORMAT = b"2"
"""What an empty replica has, so that the version before can be gone back to for as long as nothing needs more."""
FORMAT_WITH_POWERS = b"3"
BROKEN = (
    lmdb.InvalidError, lmdb.VersionMismatchError, lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.PanicError,
    lmdb.IncompatibleError, lmdb.NotFoundError, lmdb.BadTxnError, lmdb.BadDbiError, lmdb.CursorFullError,
    lmdb.BadValsizeError, ValueError, LookupError, TypeError,
)  # fmt: skip
"""What LMDB, or the decoding of a record, raises on bytes that neither of them wrote."""
_DATABASES = (b"meta", b"buckets", b"bucket_names", b"consumers", b"keys")
_LATER_DATABASES = (b"endings", b"buckets3", b"consumers3", b"keys3", b"plans3")
"""What earlier versions did without: made where it is missing. What readers of format 2 would misjudge stands in those
with a 3, where they do not look.
"""


class ReplicaBroken(Exception):
    """The files are not a replica of this format, or no longer: they must be replaced, and filled from the record."""


class ReplicaFull(OSError):
    """There is no room on the disk for what was to be written; nothing was."""

    def __init__(self, path: Path) -> None:
        super().__init__(errno.ENOSPC, f"the disk of {path} is full")

    def __str__(self) -> str:
        return str(self.strerror)


class WriterStopped(ReplicaBroken):
    """A process holds the replica's writer lock and doesn't move: nothing can be written into these files any more."""


class FilesReplaced(ReplicaBroken):
    """Other files have taken the place of these, in which nothing is wrong for all that is known."""


class OtherFormat(ReplicaBroken):
    """The files are a replica, but of another version of Keywright."""


class Files:
    """The open environment. `begin(db)` starts a read transaction; dropping or leaving that ends it."""

    def __init__(self, path: Path, map_size: int, use: InUse, *, is_reader: bool = False) -> None:
        """Use `Files.open` or `Files.open_to_read`."""
        self.path = path
        self.map_size = map_size
        self._use = use
        self._inode = 0
        self._writing = path / in_use.WRITING
        self._held: Held | None = None
        self._env = lmdb.open(
            str(path), map_size=map_size, max_dbs=len(_DATABASES) + len(_LATER_DATABASES), max_readers=512,
            max_spare_txns=1, mode=0o600, readonly=is_reader, create=not is_reader,
        )  # fmt: skip
        try:
            self._inode = (path / "data.mdb").stat().st_ino
            if not use.is_current:
                raise FilesReplaced("the files were replaced")
            if use.is_alone or is_reader:
                self._check_length()
            self._open_databases(is_reader=is_reader)
            if not is_reader:
                self._env.reader_check()
        except BaseException:
            self._env.close()
            raise
        self.begin = self._env.begin

    @classmethod
    def open(
        cls,
        path: Path,
        map_size: int,
        probe: Callable[[Files], object],
        *,
        replace: bool = False,
        abandon_seconds: float | None = None,
    ) -> Files:
        """Open or make the files in a directory; `probe` raises one of BROKEN if they don't hold what they should.

        Raises ReplicaBroken; with `replace`, only while another process uses the broken files. With `abandon_seconds`
        it waits so long for that one, and then for none that has been asked to let go and has not.
        """
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        deadline = time.monotonic() + (abandon_seconds or 0.0)
        while True:
            try:
                return cls._open(path, map_size, probe, replace=replace)
            except ReplicaBroken as error:
                if not replace or abandon_seconds is None or isinstance(error, OtherFormat):
                    raise
                with in_use.abandoning(path) as use:
                    if use is not None:
                        _log.warning("processes that don't let go of the replica in %s are left with it", path)
                        return cls._replace(path, map_size, probe, use, error, are_abandoned=True)
                if time.monotonic() >= deadline:
                    raise
                time.sleep(REPLACE_TRY_SECONDS)

    @classmethod
    def open_to_read(cls, path: Path, probe: Callable[[Files], object]) -> Files:
        """Open another process's files. Raises ReplicaBroken or, when they are not there or not for us, OSError."""
        (path / "data.mdb").stat()
        if in_use.is_marked_corrupt(path):
            # Not even the lock is touched: the process that is to replace the files must get it alone.
            raise ReplicaBroken("broken pages were met")
        use = InUse.enter_to_read(path)
        try:
            return cls._open_sound(lambda: cls(path, MAP_SIZE, use, is_reader=True), probe)
        except BaseException:
            use.leave()
            raise

    def close(self) -> None:
        self._env.close()
        self._use.leave()

    @property
    def is_open(self) -> bool:
        return not self._use.is_over

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

        Raises ReplicaFull, ReplicaBroken: WriterStopped, too. A transaction of more than a second or two is kept alive
        by calls of `beat`.
        """
        try:
            with self._turn_to_write(), self._begin(write=True) as tx:
                yield tx
        except lmdb.MapFullError:
            self._env.set_mapsize(self._env.info()["map_size"] * 2)
            raise
        except lmdb.DiskError as error:
            raise ReplicaFull(self.path) from error
        except (lmdb.InvalidError, lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.PanicError) as error:
            raise ReplicaBroken(str(error)) from error

    def beat(self) -> None:
        """Say that this process still moves, if it is the one that writes. From any thread."""
        held = self._held
        if held is not None:
            with contextlib.suppress(OSError):
                held.beat()

    def rows_from(self, tx: Any, db: Any, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Up to `limit` rows of a database, and the one after them, which tells where to go on."""
        with tx.cursor(db) as cursor:
            return list(itertools.islice(cursor, limit + 1)) if cursor.set_range(start) else []

    def refresh_map_size(self) -> None:
        """Take over the map size that another process has set: the answer to MapResizedError."""
        self._env.set_mapsize(0)

    def mark_corrupt(self) -> None:
        """Let every process that uses these files know that they are broken, if this one may write there."""
        in_use.mark_corrupt(self.path)

    @property
    def is_marked_corrupt(self) -> bool:
        return in_use.is_marked_corrupt(self.path)

    @property
    def is_replaced(self) -> bool:
        """Whether the directory holds other files by now, or none."""
        try:
            return (self.path / "data.mdb").stat().st_ino != self._inode
        except FileNotFoundError:
            return True

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
    def _open(cls, path: Path, map_size: int, probe: Callable[[Files], object], *, replace: bool) -> Files:
        use = InUse.enter(path)
        try:
            try:
                if in_use.is_marked_corrupt(path):
                    raise ReplicaBroken("broken pages were met")
                files = cls._open_sound(lambda: cls(path, map_size, use), probe)
            except ReplicaBroken as error:
                if isinstance(error, FilesReplaced):
                    raise
                if replace and use.is_alone:
                    return cls._replace(path, map_size, probe, use, error)
                if replace and not isinstance(error, OtherFormat):
                    # For those who use these files: they let go, and the next attempt finds itself alone.
                    in_use.mark_corrupt(path)
                raise
            use.share()
        except BaseException:
            use.leave()
            raise
        return files

    @classmethod
    def _replace(
        cls,
        path: Path,
        map_size: int,
        probe: Callable[[Files], object],
        use: InUse,
        error: ReplicaBroken,
        *,
        are_abandoned: bool = False,
    ) -> Files:
        _log.warning("the replica in %s is broken (%s): it is replaced, and filled again", path, error)
        in_use.remove_files(path, are_abandoned=are_abandoned)
        files = cls._open_sound(lambda: cls(path, map_size, use), probe)
        use.share()
        return files

    @contextlib.contextmanager
    def _turn_to_write(self) -> Iterator[None]:
        """LMDB's own lock is entered by nobody but who holds this one, so that nobody is ever stuck in it."""
        try:
            held = HeartbeatLock(self._writing, lease_seconds=STOPPED_WRITER_SECONDS).wait()
        except HolderStill as error:
            raise WriterStopped(f"process {error.holder} holds its writer lock and doesn't move") from None
        self._held = held
        try:
            if self.is_replaced:
                raise FilesReplaced("the files were replaced")
            yield
        finally:
            self._held = None
            held.release()

    @classmethod
    def _open_sound(cls, new: Callable[[], Files], probe: Callable[[Files], object]) -> Files:
        try:
            files = new()
        except FileNotFoundError as error:
            raise FilesReplaced("the files were replaced") from error
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
            with self.write() as tx:
                for name in _DATABASES:
                    db = self._env.open_db(name, txn=tx)
                    if name == b"meta":
                        tx.put(b"format", FORMAT, db=db, overwrite=False)
        # py-lmdb opens a database in a transaction that writes, and holds the interpreter while it waits for it.
        with contextlib.nullcontext() if is_reader else self._turn_to_write():
            opened = [self._env.open_db(name, create=False) for name in _DATABASES]
            self.meta, self.buckets, self.bucket_names, self.consumers, self.keys = opened
            with self._begin(write=False) as tx:
                if tx.get(b"format", db=self.meta) not in (FORMAT, FORMAT_WITH_POWERS):
                    raise OtherFormat("another format")
            later = [self._open_later(name, is_reader=is_reader) for name in _LATER_DATABASES]
            self.endings, self.buckets3, self.consumers3, self.keys3, self.plans3 = later

    @property
    def records(self) -> tuple[Any, ...]:
        """The databases of what a snapshot replaces."""
        plain = (self.buckets, self.bucket_names, self.consumers, self.keys)
        return *plain, self.buckets3, self.consumers3, self.keys3, self.plans3

    @property
    def has_powers(self) -> bool:
        """Whether records may have powers here; not in files that an earlier version keeps, and this one reads."""
        return self.keys3 is not None

    def _open_later(self, name: bytes, *, is_reader: bool) -> Any:
        """None for a mere reader of files that an earlier version keeps."""
        try:
            return self._env.open_db(name, create=not is_reader)
        except (lmdb.NotFoundError, lmdb.ReadonlyError):
            return None
