"""Owns telling that nobody wrote to SQLite's files: a look at them costs a hundredth of a question to the database."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple, Self

SETTLED_NANOS = 1_000_000_000
"""A file that was written to later than that may be written to again at what is the same moment to a file system."""


class FileState(NamedTuple):
    """Two that are known and alike: nothing was committed between them. Each commit writes to the log (WAL)."""

    files: tuple[tuple[int, int, int], ...] = ()
    """Of the database and its log: which file it is, how large, and when it was written to."""

    @property
    def is_known(self) -> bool:
        return bool(self.files)

    @classmethod
    def of(cls, file: Path | None) -> Self:
        """Of the database in this file; UNKNOWN for none, and for one that was written to just now."""
        if file is None:
            return cls()
        try:
            found = [os.stat(path) for path in (file, f"{file}-wal")]
        except OSError:
            return cls()
        if time.time_ns() - max(one.st_mtime_ns for one in found) <= SETTLED_NANOS:
            return cls()
        return cls(tuple((one.st_ino, one.st_size, one.st_mtime_ns) for one in found))


UNKNOWN = FileState()
