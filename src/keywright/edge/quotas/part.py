"""Owns one part of the table of quotas: spending what is lent, and putting there what an answer of the origin lends.

Who spends looks at all quotas of a question first; then all are spent, or none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from keywright.domain.reservations import Settlement
from keywright.edge.limits import rows as files
from keywright.edge.limits.shared_file import SharedFile
from keywright.edge.quotas import rows
from keywright.edge.quotas.reserving import Hold, Lacks, hold_images, settle
from keywright.edge.quotas.rows import FRESH_STEPS, MOST, Fit, QuotaRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keywright.edge.limits.table_file import TableFile

KEPT_MINUTES = 60
"""A row without a lease that nobody asked for in so long makes way for another."""
_NO_ID = bytes(files.ID_BYTES)


class Overtaken(Exception):
    """Another process borrows for this edge by now."""


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
        self, costs: Sequence[Cost], now: int, *, is_peek: bool, overspends: bool, hold: Hold | None = None
    ) -> tuple[list[Fit], list[QuotaRow]]:
        """How each fits, and its row: after it was spent, if all fit and it is no peek.

        With `overspends` what lacks or is not said is served all the same, and counted as that. With `hold` the units,
        which are the same for each, are reserved.
        """

        def work(file: TableFile) -> tuple[tuple[list[Fit], list[QuotaRow]], list[tuple[int, bytes]]]:
            found = [file.find(cost.id) for cost in costs]
            kept = [
                QuotaRow(cost.id, asked=_long_ago(now)) if place is None else rows.read_row(file.map, place)
                for cost, place in zip(costs, found, strict=True)
            ]
            fits = [row.fit(cost.units, now, is_peek=is_peek) for cost, row in zip(costs, kept, strict=True)]
            if is_peek or Fit.EXCEEDED in fits or not (overspends or all(fit is Fit.FITS for fit in fits)):
                return (fits, kept), []
            places = [place for place in found if place is not None]

            def free_place(id: bytes) -> int:
                places.append(_free_place(file, id, now, places))
                return places[-1]

            images = []
            for number, (cost, fit, row) in enumerate(zip(costs, fits, kept, strict=True)):
                place = found[number]
                if place is None:
                    place = free_place(cost.id)
                if fit is Fit.FITS:
                    after = row._replace(spent=row.spent + cost.units, used=rows.minute_of(now))
                else:
                    overspent = min(row.overspent + cost.units, MOST)
                    after = row._replace(overspent=overspent, used=rows.minute_of(now))
                kept[number] = after
                images.append((place, rows.pack_row(*after)))
            if hold is not None:
                leases = [row if fit is Fit.FITS else None for row, fit in zip(kept, fits, strict=True)]
                images += hold_images(file, hold, costs[0].units, leases, now, free_place)
            return (fits, kept), images

        return self.change(work)

    def settle(
        self, hold: Hold, quota_ids: Sequence[bytes], cost: int, now: int, *, is_last: bool
    ) -> Settlement | Lacks | None:
        """See reserving.py."""

        def work(file: TableFile) -> tuple[Settlement | Lacks | None, list[tuple[int, bytes]]]:
            return settle(file, hold, quota_ids, cost, now, is_last=is_last)

        return self.change(work)

    def read_some(self, ids: Sequence[bytes]) -> list[QuotaRow]:
        """Those of these rows that there are, as they are at one moment."""
        with self._changing() as file:
            places = [file.find(id) for id in ids]
            return [rows.read_row(file.map, place) for place in places if place is not None]

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
