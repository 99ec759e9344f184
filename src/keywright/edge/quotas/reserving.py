"""Owns what a reservation does to rows of the table: units are taken, and when they are settled some of them come back.

What is reserved is spent, as far as the table and the disk know: whatever dies, nobody else spends it. It is told to
the origin as spent only when it is settled, or its time is over, since what was told can't be taken back. What of a
lease that has ended since can't be given back any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from keywright.domain.reservations import Outcome, Settlement
from keywright.edge.quotas import rows
from keywright.edge.quotas.reservation_rows import RESERVATION_STEPS, HeldRow, ReservationRow
from keywright.edge.quotas.rows import Fit, QuotaRow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from keywright.edge.limits.table_file import TableFile

SETTLED_MINUTES_LESS = 55
"""What is settled is forgotten sooner by so much than what was never asked for again."""
Images = list[tuple[int, bytes]]


class Hold(NamedTuple):
    """A reservation that is to be made: its id, and those under which the quotas' rows of what is reserved are."""

    id: bytes
    held_ids: tuple[bytes, ...]


class Lacks(NamedTuple):
    """More must be lent first, of the quotas at these places of the question: so many units, as each row stands."""

    units: int
    rows: tuple[tuple[int, QuotaRow], ...]


def hold_images(
    file: TableFile,
    hold: Hold,
    units: int,
    leases: Sequence[QuotaRow | None],
    now: int,
    free_place: Callable[[bytes], int],
) -> Images:
    """The rows of a reservation of `units` of each of these, as they are then; None for one that has no lease."""
    images = []
    for id, row in zip(hold.held_ids, leases, strict=True):
        if row is not None:
            place = file.find(id)
            held = HeldRow(id) if place is None else HeldRow.of(rows.read_row(file.map, place))
            after = held.at(row.lease, now).reserved(units, now)
            images.append((free_place(id) if place is None else place, after.pack()))
    marks = tuple(0 if row is None else row.lease for row in leases)
    made = ReservationRow(hold.id, units, now + RESERVATION_STEPS, marks, used=rows.minute_of(now))
    images.append((free_place(hold.id), made.pack()))
    return images


def settle(
    file: TableFile, hold: Hold, quota_ids: Sequence[bytes], cost: int, now: int, *, is_last: bool
) -> tuple[Settlement | Lacks | None, Images]:
    """What comes of it, and the rows that say so; None for a reservation that is not known here.

    What it costs beyond what was reserved is taken as far as all its quotas have it; unless `is_last`, it is asked for
    first what they may be lent.
    """
    place = file.find(hold.id)
    if place is None:
        return None, []
    kept = ReservationRow.read(file.map, place)
    if kept.taken:
        return Settlement(Outcome.LAPSED if kept.has_lapsed else Outcome.SETTLED, kept.taken - 1, kept.units), []
    if not 0 <= kept.ends - now <= RESERVATION_STEPS:
        return Settlement(Outcome.LAPSED, kept.units, kept.units), []
    found = [file.find(id) for id in quota_ids]
    quotas = [None if at is None else rows.read_row(file.map, at) for at in found]
    beyond = max(cost - kept.units, 0)
    if beyond:
        left = [0 if row is None else row.left(now) for row in quotas]
        lacking = tuple(
            (number, row or QuotaRow(quota_ids[number]))
            for number, row in enumerate(quotas)
            if row is None or _is_worth_asking(row, beyond, now)
        )
        if lacking and not is_last:
            return Lacks(beyond, lacking), []
        beyond = min([beyond, *left])
    back = max(kept.units - cost, 0)
    images: Images = []
    is_whole = True
    for at, row, mark, id in zip(found, quotas, kept.marks, hold.held_ids, strict=False):
        # Without a life it is closed: what was spent of it was told.
        is_same = row is not None and row.lease == mark != 0 and row.life > 0
        is_whole &= is_same or not back
        if at is None or row is None:
            continue
        spent = row.spent + beyond - (back if is_same else 0)
        images.append((at, rows.pack_row(*row._replace(spent=spent, used=rows.minute_of(now)))))
        held_at = file.find(id) if is_same else None
        if held_at is not None:
            held = HeldRow.of(rows.read_row(file.map, held_at)).at(mark, now)
            images.append((held_at, held.settled(kept.units, kept.ends - RESERVATION_STEPS).pack()))
    taken = kept.units - back + beyond if is_whole else kept.units
    used = (rows.minute_of(now) - SETTLED_MINUTES_LESS) % rows.USED_MODULUS
    settled = kept._replace(taken=taken + 1, has_lapsed=int(not is_whole), used=used)
    images.append((place, settled.pack()))
    return Settlement(Outcome.SETTLED if is_whole else Outcome.LAPSED, taken, kept.units), images


def _is_worth_asking(row: QuotaRow, units: int, now: int) -> bool:
    fit = row.fit(units, now)
    # All that there is will do, if it is less.
    return fit is Fit.LACKS or (fit is Fit.EXCEEDED and row.free > 0)
