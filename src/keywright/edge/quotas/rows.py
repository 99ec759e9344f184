"""Owns how what is lent of one quota of one consumer stands in the table: 64 bytes, as all rows of tables have.

The file is that of edge/limits (table_file.py), of which one word of the head is another here: whose answers of the
origin go into it.
"""

from __future__ import annotations

import struct
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from keywright.edge.limits import rows

if TYPE_CHECKING:
    from mmap import mmap

GENERATION = rows.FALLBACK
"""Of the head: the start of the borrower, as it counts them (notes.py)."""
STEPS_PER_SECOND = 20
"""Times are kept in steps since the machine started."""
FRESH_STEPS = STEPS_PER_SECOND
"""So long it is believed that nothing more can be had."""
NOBODY_SAYS = 2**63
"""In the place of `free`: the origin can't be asked, or lends nothing, and nobody knows what there is."""
MOST = NOBODY_SAYS - 1
USED_MODULUS = 1 << 16
LIFE = 60
"""Where in a row its life is, which is written alone where a lease is stopped."""
LIFE_WORD = struct.Struct("@H")
_ROW = struct.Struct(f"@{rows.ID_BYTES}sQQQQIIIHH")


class Fit(Enum):
    """Whether the cost of a question fits into what is lent of a quota."""

    FITS = 0
    LACKS = 1
    """More may be had: it must be asked for."""
    UNSAID = 2
    """The origin was asked a moment ago, and did not say."""
    EXCEEDED = 3
    """It said that there is no more."""


class QuotaRow(NamedTuple):
    """What is lent of a quota. `spent` and `may_spend` are units since the lease began: more may not be spent yet.

    `lease` is 0 for none, and else a number of this edge's own for the lease. `overspent` are units that were served
    without one. `free` is what can be had beyond `may_spend`, as the origin said at `asked` (steps), when it was asked;
    for `life` steps from then on the lease may be spent. `ends_at` is when the period ends, in seconds since the epoch
    by the origin's clock, 0 for never. `used` is the minute in which it was asked for last, modulo USED_MODULUS.
    """

    id: bytes
    spent: int = 0
    may_spend: int = 0
    overspent: int = 0
    free: int = 0
    lease: int = 0
    asked: int = 0
    ends_at: int = 0
    life: int = 0
    used: int = 0

    def left(self, now: int) -> int:
        """How much may be spent at `now` (steps)."""
        # Of a time before it was asked for nothing is known: it is of another count.
        return self.may_spend - self.spent if self.lease and 0 <= now - self.asked < self.life else 0

    def fit(self, units: int, now: int, *, is_peek: bool = False) -> Fit:
        left = self.left(now)
        if units <= left:
            return Fit.FITS
        if not 0 <= now - self.asked < FRESH_STEPS or not self.asked:
            return Fit.LACKS
        if not self.is_known:
            return Fit.UNSAID
        if left + self.free < units:
            return Fit.EXCEEDED
        return Fit.FITS if is_peek else Fit.LACKS

    @property
    def is_known(self) -> bool:
        return self.free < NOBODY_SAYS

    def minutes_unused(self, now: int) -> int:
        return (minute_of(now) - self.used) % USED_MODULUS


_new = tuple.__new__
pack_row = _ROW.pack


def read_row(table: bytes | mmap, place: int) -> QuotaRow:
    return _new(QuotaRow, _ROW.unpack_from(table, place))


def unpack_rows(segment: bytes) -> list[QuotaRow]:
    """Those that there are."""
    return [QuotaRow._make(row) for row in _ROW.iter_unpack(segment) if any(row[0])]


def steps(seconds: float) -> int:
    return int(seconds * STEPS_PER_SECOND)


def minute_of(now: int) -> int:
    """The minute of a time in steps, as rows have it."""
    return now // (60 * STEPS_PER_SECOND) % USED_MODULUS
