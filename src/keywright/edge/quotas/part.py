"""Owns one part of the table of quotas: spending what is lent, and putting there what an answer of the origin lends.

Who spends looks at all quotas of a question first; then all are spent, or none.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from keywright.edge.limits import rows as files
from keywright.edge.limits.shared_file import SharedFile
from keywright.edge.quotas import rows
from keywright.edge.quotas.rows import MOST, STEPS_PER_SECOND, QuotaRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keywright.edge.limits.table_file import TableFile

FRESH_STEPS = STEPS_PER_SECOND
"""So long it is believed that nothing more can be had."""
KEPT_MINUTES = 60
"""A row without a lease that nobody asked for in so long makes way for another."""
_NO_ID = bytes(files.ID_BYTES)


class Overtaken(Exception):
    """Another process borrows for this edge by now."""


class Fit(Enum):
    """Whether the cost of a question fits into what is lent of a quota."""

    FITS = 0
    LACKS = 1
    """More may be had: it must be asked for."""
    UNSAID = 2
    """The origin was asked a moment ago, and did not say."""
    EXCEEDED = 3
    """It said that there is no more."""


class Cost(NamedTuple):
    """Units of a quota that a question costs. `id` is the quota's and its consumer's (limits/table.py)."""

    id: bytes
    units: int


class Put(NamedTuple):
    """What a row is to become: as QuotaRow has it. Less than is spent already can't be said in `may_spend`.

    With another lease than the row has that row begins anew; what is `overspent` there beyond `told` goes along.
    """

    id: bytes
    lease: int
    may_spend: int
    free: int
    asked: int
    ends_at: int
    life: int
    told: int = 0


class QuotaPart(SharedFile):
    """From any thread. Everything here may raise OSError."""

    def spend(
        self, costs: Sequence[Cost], now: int, *, is_peek: bool, overspends: bool
    ) -> tuple[list[Fit], list[QuotaRow]]:
        """How each fits, and its row: after it was spent, if all fit and it is no peek.

        With `overspends` what lacks or is not said is served all the same, and counted as that.
        """

        def work(file: TableFile) -> tuple[tuple[list[Fit], list[QuotaRow]], list[tuple[int, bytes]]]:
            found = [file.find(cost.id) for cost in costs]
            kept = [
                QuotaRow(cost.id, asked=_long_ago(now)) if place is None else rows.read_row(file.map, place)
                for cost, place in zip(costs, found, strict=True)
            ]
            fits = [_fit(cost.units, row, now, is_peek=is_peek) for cost, row in zip(costs, kept, strict=True)]
            if is_peek or Fit.EXCEEDED in fits or not (overspends or all(fit is Fit.FITS for fit in fits)):
                return (fits, kept), []
            places: list[int] = []
            images = []
            for number, (cost, fit, row) in enumerate(zip(costs, fits, kept, strict=True)):
                place = found[number]
                if place is None:
                    place = _free_place(file, cost.id, now, places)
                places.append(place)
                if fit is Fit.FITS:
                    after = row._replace(spent=row.spent + cost.units, used=rows.minute_of(now))
                else:
                    overspent = min(row.overspent + cost.units, MOST)
                    after = row._replace(overspent=overspent, used=rows.minute_of(now))
                kept[number] = after
                images.append((place, rows.pack_row(*after)))
            return (fits, kept), images

        return self.change(work)

    def read(self, id: bytes) -> QuotaRow | None:
        with self._changing() as file:
            place = file.find(id)
            return None if place is None else rows.read_row(file.map, place)

    def rows(self) -> list[QuotaRow]:
        with self._changing() as file:
            kept = file.map[files.HEAD_BYTES : files.file_bytes(len(file.segments))]
        return rows.unpack_rows(kept)

    @property
    def generation(self) -> int:
        with self._changing() as file:
            found: int = files.WORD.unpack_from(file.map, rows.GENERATION)[0]
        return found

    # -- the borrower's -----------------------------------------------------------------------------------------------

    def begin(self, generation: int) -> list[QuotaRow]:
        """From now on only this generation lends here. Nothing is spent any more of what was lent before; what was
        spent of it by then, is returned. Raises Overtaken where a later generation has begun.
        """
        while True:
            with self._changing() as file:
                if files.WORD.unpack_from(file.map, rows.GENERATION)[0] > generation:
                    raise Overtaken
                files.WORD.pack_into(file.map, rows.GENERATION, generation)
                found = []
                for start, buckets in file.segments:
                    for place in range(start, start + buckets * files.BUCKET_BYTES, files.ROW_BYTES):
                        row = rows.read_row(file.map, place)
                        if row.lease:
                            rows.LIFE_WORD.pack_into(file.map, place + rows.LIFE, 0)
                            found.append(row._replace(life=0))
                # Else all that was written where nobody looks any more, and read, too.
                if not file.is_closed:
                    return found

    def put(self, generation: int, puts: Sequence[Put], now: int) -> list[QuotaRow]:
        """Each row as it was, empty where there was none. At most MOST_ROWS_OF_CHANGE at once. Raises Overtaken."""

        def work(file: TableFile) -> tuple[list[QuotaRow], list[tuple[int, bytes]]]:
            if files.WORD.unpack_from(file.map, rows.GENERATION)[0] != generation:
                raise Overtaken
            before, images = [], []
            places: list[int] = []
            for put in puts:
                place = file.find(put.id)
                row = QuotaRow(put.id, used=rows.minute_of(now)) if place is None else rows.read_row(file.map, place)
                before.append(row)
                if place is None:
                    place = _free_place(file, put.id, now, places)
                places.append(place)
                images.append((place, rows.pack_row(*_after(row, put))))
            return before, images

        return self.change(work)


def _long_ago(now: int) -> int:
    return max(now - 2 * FRESH_STEPS, 0)


def _fit(units: int, row: QuotaRow, now: int, *, is_peek: bool) -> Fit:
    left = row.left(now)
    if units <= left:
        return Fit.FITS
    if not 0 <= now - row.asked < FRESH_STEPS or not row.asked:
        return Fit.LACKS
    if not row.is_known:
        return Fit.UNSAID
    if left + row.free < units:
        return Fit.EXCEEDED
    return Fit.FITS if is_peek else Fit.LACKS


def _after(row: QuotaRow, put: Put) -> QuotaRow:
    _, lease, may_spend, free, asked, ends_at, life, told = put
    if lease == row.lease:
        return row._replace(may_spend=max(row.spent, may_spend), free=free, asked=asked, ends_at=ends_at, life=life)
    overspent = max(row.overspent - told, 0)
    return QuotaRow(row.id, 0, may_spend, overspent, free, lease, asked, ends_at, life, row.used)


def _free_place(file: TableFile, id: bytes, now: int, taken: Sequence[int]) -> int:
    """Where a new row can stand. Raises OSError where there is no room."""
    while (place := _find_free(file, id, now, taken)) is None:
        file.grow()
    return place


def _find_free(file: TableFile, id: bytes, now: int, taken: Sequence[int]) -> int | None:
    places = file.places_for(id)
    for place in places:
        if file.map[place : place + files.ID_BYTES] == _NO_ID and place not in taken:
            return place
    for place in places:
        row = rows.read_row(file.map, place)
        is_dead = not row.lease and not row.overspent and row.minutes_unused(now) > KEPT_MINUTES
        if is_dead and place not in taken:
            return place
    return None
