"""Owns one file of the table: made, mapped into memory, locked, grown, and written so that a change is whole or not.

A change goes into the journal first, then one word says that it holds, then the rows are written. Who is killed before
that word has changed nothing; after it, whoever has the lock next writes the rows. The kernel lets go of the lock of
whoever dies. Nothing waits for the disk: a file is good until the machine starts anew, and memory outlives a process.

What is mapped was written first, so that a full disk is an OSError here and not a signal later.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import threading
import time
from typing import TYPE_CHECKING

from keywright.edge.heartbeat_lock import try_lock
from keywright.edge.limits import rows
from keywright.edge.limits.gcra import WHOLE
from keywright.edge.limits.rows import WORD

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LEASE_SECONDS = 0.3
"""A change takes some microseconds. Whoever overtakes a holder that was only slow does no harm (shard.py)."""
LONGEST_LOOK_SECONDS = 0.1
"""Who has not looked for longer was itself stopped, and begins to watch anew."""
SHORTEST_PAUSE_SECONDS = 0.000_02
LONGEST_PAUSE_SECONDS = 0.002


class ForeignFile(Exception):
    """The file is none of the table's, or not of this start of the machine."""


class TableFile:
    """One file, open and mapped. For one thread at a time."""

    def __init__(self, path: Path, file: int, boot: bytes) -> None:
        """Use `open`."""
        self.path = path
        self._file = file
        self._boot = boot
        self.map = self._mapped()
        self.segments = self._read_head()

    @classmethod
    def open(cls, path: Path, boot: bytes) -> TableFile:
        """Raises ForeignFile, OSError: FileNotFoundError where another has taken its place."""
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            return cls(path, file, boot)
        except BaseException:
            os.close(file)
            raise

    def close(self) -> None:
        """Without giving up the lock, which after a fork is another process's."""
        self.map.close()
        os.close(self._file)

    # -- the lock -----------------------------------------------------------------------------------------------------

    def lock(self) -> bool:
        """Wait for it; False when the file is closed, or its holder does not move."""
        if try_lock(self._file):
            return True
        seen, since, looked_at = b"", 0.0, 0.0
        pause = SHORTEST_PAUSE_SECONDS
        while not try_lock(self._file):
            now = time.monotonic()
            if self.is_closed:
                return False
            beat = self.map[rows.LAST : rows.INHERITED]
            if beat != seen or now - looked_at > LONGEST_LOOK_SECONDS:
                seen, since = beat, now
            elif now - since >= LEASE_SECONDS:
                return False
            looked_at = now
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE_SECONDS)
        return True

    def unlock(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_UN)

    @property
    def is_closed(self) -> bool:
        """Whether another file has taken its place, or is about to."""
        return bool(WORD.unpack_from(self.map, rows.CLOSED)[0])

    def close_for_all(self) -> None:
        WORD.pack_into(self.map, rows.CLOSED, 1)

    # -- what stands in it --------------------------------------------------------------------------------------------

    def begin(self, change: int) -> bool:
        """Take over what others have done meanwhile, and say that this process moves; by who has just got the lock.

        False where the file is closed. Raises ForeignFile.
        """
        closed, segments = rows.HEAD_STATE.unpack_from(self.map, rows.CLOSED)
        if closed:
            return False
        if segments != len(self.segments):
            self.refresh()
        if WORD.unpack_from(self.map, rows.JOURNAL)[0]:
            redo(self.map)
        WORD.pack_into(self.map, rows.BEGUN, change)
        return True

    def write(self, change: int, images: Sequence[tuple[int, bytes]]) -> None:
        """These rows, all or none."""
        entries = self.map
        place = rows.JOURNAL_ROWS
        for offset, image in images:
            rows.ENTRY.pack_into(entries, place, offset, image)
            place += rows.ENTRY.size
        WORD.pack_into(entries, rows.JOURNAL + WORD.size, len(images))
        WORD.pack_into(entries, rows.JOURNAL, change)
        for offset, image in images:
            entries[offset : offset + rows.ROW_BYTES] = image
        WORD.pack_into(entries, rows.LAST, change)
        WORD.pack_into(entries, rows.JOURNAL, 0)

    def find(self, id: bytes) -> int | None:
        """Where the row stands."""
        hashed = int.from_bytes(id[8:], "big")
        table = self.map
        for start, buckets in self.segments:
            place = start + (hashed & (buckets - 1)) * rows.BUCKET_BYTES
            bucket = table[place : place + rows.BUCKET_BYTES]
            found = bucket.find(id)
            while found > 0 and found % rows.ROW_BYTES:
                found = bucket.find(id, found + 1)
            if found >= 0:
                return place + found
        return None

    def places_for(self, id: bytes) -> list[int]:
        """Each place where the row of this id may stand."""
        hashed = int.from_bytes(id[8:], "big")
        places: list[int] = []
        for start, buckets in self.segments:
            place = start + (hashed & (buckets - 1)) * rows.BUCKET_BYTES
            places += range(place, place + rows.BUCKET_BYTES, rows.ROW_BYTES)
        return places

    def grow(self) -> None:
        """By a segment. Raises OSError where there is no room for one."""
        count = len(self.segments)
        if count >= rows.MOST_SEGMENTS:
            raise OSError(f"{self.path} has as many limits in use as there is room for")
        length = rows.file_bytes(count)
        _write_zeros(self._file, length, rows.file_bytes(count + 1) - length)
        WORD.pack_into(self.map, rows.SEGMENTS, count + 1)
        self.refresh()

    def refresh(self) -> None:
        """Map what the file has become. Raises ForeignFile."""
        before, self.map = self.map, self._mapped()
        before.close()
        self.segments = self._read_head()

    def _mapped(self) -> mmap.mmap:
        # What is mapped beyond the end of a file stops a process that reads it.
        if os.fstat(self._file).st_size < rows.HEAD_BYTES:
            raise ForeignFile("it is too short")
        return mmap.mmap(self._file, 0)

    def _read_head(self) -> list[tuple[int, int]]:
        magic, made_in, _, segments, *_ = rows.HEAD.unpack_from(self.map)
        if magic != rows.MAGIC:
            raise ForeignFile("it begins otherwise")
        if made_in != self._boot:
            raise OtherStart
        if not 1 <= segments <= rows.MOST_SEGMENTS or rows.file_bytes(segments) > len(self.map):
            raise ForeignFile("it has not the length that it says")
        return rows.segment_places(segments)


class OtherStart(ForeignFile):
    """It is from before the machine started: what it counts is long given back."""


def redo(table: mmap.mmap | bytearray) -> None:
    """Write the change that the journal has, if whoever began it has not come to an end."""
    change = WORD.unpack_from(table, rows.JOURNAL)[0]
    if not change:
        return
    count = min(WORD.unpack_from(table, rows.JOURNAL + WORD.size)[0], rows.MOST_ROWS_OF_CHANGE)
    for number in range(count):
        offset, image = rows.ENTRY.unpack_from(table, rows.JOURNAL_ROWS + number * rows.ENTRY.size)
        # Else it is nothing that was written here.
        if rows.HEAD_BYTES <= offset <= len(table) - rows.ROW_BYTES and not offset % rows.ROW_BYTES:
            table[offset : offset + rows.ROW_BYTES] = image
    WORD.pack_into(table, rows.LAST, change)
    WORD.pack_into(table, rows.JOURNAL, 0)


def make(path: Path, boot: bytes, content: bytes | bytearray | None = None, *, first_share: int = WHOLE) -> bool:
    """A file with this content, else an empty one with this fallback share; False if there is one already.

    Raises OSError.
    """
    waiting = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_native_id()}.part")
    waiting.unlink(missing_ok=True)
    file = os.open(waiting, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        if content is None:
            head = rows.HEAD.pack(rows.MAGIC, boot, 0, 1, first_share, 0, 0)
            _write_zeros(file, 0, rows.file_bytes(1))
            os.pwrite(file, head, 0)
        else:
            _write(file, content)
        # Whoever is first: what has a name is never written over.
        with contextlib.suppress(FileExistsError):
            os.link(waiting, path)
            return True
        return False
    finally:
        os.close(file)
        waiting.unlink(missing_ok=True)


def _write_zeros(file: int, start: int, count: int) -> None:
    os.lseek(file, start, os.SEEK_SET)
    _write(file, bytes(count))


def _write(file: int, content: bytes | bytearray) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(file, view) :]
