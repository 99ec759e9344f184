"""Owns how reservations stand in the table of quotas, beside the quotas' rows and as long as these.

A reservation has a row of its own, for all quotas that it is of. How much of a quota is reserved in all has another, so
that the borrower need not add up. Both have zeros where a quota's row has its lease, and so are none of these.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from keywright.domain.limits import MAX_LIMITS
from keywright.edge.limits.rows import ID_BYTES
from keywright.edge.quotas.rows import STEPS_PER_SECOND, minute_of, pack_row

if TYPE_CHECKING:
    from mmap import mmap

    from keywright.edge.quotas.rows import QuotaRow

RESERVATION_SECONDS = 900
"""So long after it was made a reservation can be settled; then all of it is spent."""
RESERVATION_STEPS = RESERVATION_SECONDS * STEPS_PER_SECOND
_RESERVATION = struct.Struct(f"@{ID_BYTES}sIIIIQIIIIIHH")


def epoch_of(now: int) -> int:
    return now // RESERVATION_STEPS


class HeldRow(NamedTuple):
    """How much of a lease is in reservations that are open: of those that were made in `epoch`, and in the one before.

    An epoch is as long as a reservation lives, so those of older ones are over. `mark` is the lease's.
    """

    id: bytes
    current: int = 0
    earlier: int = 0
    mark: int = 0
    epoch: int = 0
    used: int = 0

    @classmethod
    def of(cls, row: QuotaRow) -> HeldRow:
        """What stands there as if it were a quota's."""
        return cls(row.id, row.spent, row.may_spend, row.free, row.asked, row.used)

    def at(self, mark: int, now: int) -> HeldRow:
        """The same at `now` (steps), for the lease that there is then."""
        epoch = epoch_of(now)
        if mark != self.mark or not 0 <= epoch - self.epoch <= 1:
            return HeldRow(self.id, 0, 0, mark, epoch, minute_of(now))
        if epoch == self.epoch:
            return self
        return self._replace(current=0, earlier=self.current, epoch=epoch)

    def open(self, mark: int, now: int) -> int:
        found = self.at(mark, now)
        return found.current + found.earlier

    def reserved(self, units: int, now: int) -> HeldRow:
        return self._replace(current=self.current + units, used=minute_of(now))

    def settled(self, units: int, made: int) -> HeldRow:
        """Without a reservation of so many, that was made then."""
        if epoch_of(made) == self.epoch:
            return self._replace(current=max(self.current - units, 0))
        return self._replace(earlier=max(self.earlier - units, 0))

    def pack(self) -> bytes:
        id, current, earlier, mark, epoch, used = self
        return pack_row(id, current, earlier, 0, mark, 0, epoch, 0, 0, used)


class ReservationRow(NamedTuple):
    """So many units of each of five quotas at most, by the marks of the leases that they were taken of: 0 where it was
    of none. `taken` is what was settled, plus 1; 0 while it is open. `has_lapsed`: 1 where it could not be
    given back. `ends` is in steps.
    """

    id: bytes
    units: int
    ends: int
    marks: tuple[int, ...]
    taken: int = 0
    has_lapsed: int = 0
    used: int = 0

    @classmethod
    def read(cls, table: bytes | mmap, place: int) -> ReservationRow:
        id, units, first, taken, ends, _, second, third, _, fourth, fifth, has_lapsed, used = _RESERVATION.unpack_from(
            table, place
        )
        return cls(id, units, ends, (first, second, third, fourth, fifth), taken, has_lapsed, used)

    def pack(self) -> bytes:
        first, second, third, fourth, fifth = (*self.marks, 0, 0, 0, 0, 0)[:MAX_LIMITS]
        return _RESERVATION.pack(
            self.id, self.units, first, self.taken, self.ends, 0, second, third, 0, fourth, fifth, self.has_lapsed,
            self.used,
        )  # fmt: skip
