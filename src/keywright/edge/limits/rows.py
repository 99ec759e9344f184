"""Owns how the table's files are laid out: the head of a file, its journal, and its rows.

A row is 64 bytes, at a multiple of that. They stand in buckets of eight, in segments of which each is twice as large as
the one before. A row's id says in which bucket of each segment it may be; it is never moved.

    head       magic, machine's start, closed, segments, fallback share, last change, its beginning, changes inherited
    journal    the change that is being written, 0 for none; how many rows; where each stands, and what becomes of it
    segments   from HEAD_BYTES on
"""

from __future__ import annotations

import struct
from mmap import mmap
from typing import NamedTuple

from keywright.edge.limits.gcra import SHARE_BITS, TICKS_PER_SECOND, WHOLE, Counted, debt_left

MAGIC = b"KWLIMIT1"
HEAD_BYTES = 4096
ID_BYTES = 16
ROW_BYTES = 64
ROWS_OF_BUCKET = 8
BUCKET_BYTES = ROW_BYTES * ROWS_OF_BUCKET
FIRST_BUCKETS = 1024
"""In the first segment: some 500 KB."""
MOST_SEGMENTS = 8
"""Two million rows a file; more limits in use at once are not counted, and so not answered for."""
MOST_ROWS_OF_CHANGE = 12

BOOT, CLOSED, SEGMENTS, FALLBACK, LAST, BEGUN, INHERITED = 8, 24, 32, 40, 48, 56, 64
INHERITED_KEPT = 16
JOURNAL = INHERITED + 8 * INHERITED_KEPT
JOURNAL_ROWS = JOURNAL + 16
IS_GLOBAL = 1
SHARED_AHEAD_SECONDS = 1
"""The window of a row whose limit was not asked for here yet: there is a share of it already."""

HEAD_STATE = struct.Struct("@QQ")
"""Whether it is closed, and how many segments it has; from CLOSED on."""
# Native, so that a word is written in one piece, whoever is killed meanwhile.
WORD = struct.Struct("@Q")
HEAD = struct.Struct("@8s16sQQQQQ")
ENTRY = struct.Struct(f"@Q{ROW_BYTES}s")
SHARE = struct.Struct("@II")
SHARE_AT = 56
_ROW = struct.Struct(f"@{ID_BYTES}sQqQIIQII")
SHARE_STEPS_PER_SECOND = 10
"""Until when a share holds is kept in tenths of a second."""
TICKS_OF_SHARE_STEP = TICKS_PER_SECOND // SHARE_STEPS_PER_SECOND


class Row(NamedTuple):
    """A limit as it is kept. `share_until` is in tenths of a second since the machine started, 0 for no share.

    `flags` are the limit itself, above the bit that says whether it is of all edges.
    """

    id: bytes
    debt: int
    at: int
    rate: int
    window_seconds: int
    flags: int
    admitted: int
    share: int = WHOLE
    share_until: int = 0

    @property
    def counted(self) -> Counted | None:
        """None for what nobody can have counted."""
        return _new(Counted, self[1:5]) if self[4] else None

    @property
    def limit(self) -> int:
        """0 where it was not asked for here yet."""
        return self.flags >> 1

    def is_full(self, now: int) -> bool:
        """Whether not one more fits at `now` (ticks)."""
        ticks = self.window_seconds * TICKS_PER_SECOND
        return debt_left(self.debt, self.at, self.rate, now) + ticks > self.rate * ticks >> SHARE_BITS


_new = tuple.__new__
pack_row = _ROW.pack


def read_row(table: bytes | mmap, place: int = 0) -> Row:
    return _new(Row, _ROW.unpack_from(table, place))


def unpack_rows(segment: bytes) -> list[Row]:
    """Those that there are."""
    return [Row._make(row) for row in _ROW.iter_unpack(segment) if row[4]]


def segment_places(count: int) -> list[tuple[int, int]]:
    """Of each of so many segments: where it begins, and of how many buckets it is."""
    places, start, buckets = [], HEAD_BYTES, FIRST_BUCKETS
    for _ in range(count):
        places.append((start, buckets))
        start, buckets = start + buckets * BUCKET_BYTES, buckets * 2
    return places


def file_bytes(segments: int) -> int:
    return HEAD_BYTES + FIRST_BUCKETS * BUCKET_BYTES * ((1 << segments) - 1)
