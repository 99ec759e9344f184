"""Owns one part of the table: taking limits, all that are asked for or none, among all processes that count in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from keywright.edge.limits import rows
from keywright.edge.limits.gcra import SHARE_BITS, TICKS_PER_SECOND, WHOLE, Counted, Standing, debt_left, standing
from keywright.edge.limits.rows import IS_GLOBAL, WORD, Row
from keywright.edge.limits.shared_file import SharedFile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from keywright.edge.limits.table_file import TableFile

KEPT_TICKS = 3600 * 100_000
"""A limit that nobody asked for so long, and of which all is given back, makes way for another."""
NOTED_TICKS = 100_000
"""How old a note may become that a limit is asked for, while nothing is taken of it."""
_MOST_ADMITTED = 2**64 - 1
_NO_ID = bytes(rows.ID_BYTES)


class Asked(NamedTuple):
    """A limit that holds for a question. `id` is `rows.ID_BYTES` long, the same at all edges."""

    id: bytes
    limit: int
    window_seconds: int
    is_global: bool


class Shard(SharedFile):
    """From any thread. Everything here may raise OSError."""

    def take(
        self, asked: Sequence[Asked], now: int, *, is_peek: bool, agree: Callable[[], bool]
    ) -> tuple[bool, list[Standing]]:
        """Whether one more fits into all of them, and how each stands then: after it was taken, unless `is_peek`.

        `now` is in ticks. `agree` is asked, once, when all fit: nothing is taken if it says no.
        """
        has_agreed = False
        with self._using:
            while True:
                file = self._enter()
                change = self._change
                try:
                    places, kept, stands = self._look(file, asked, now)
                    fits = True
                    for debt, capacity, _, ticks in stands:
                        if debt + ticks > capacity:
                            fits = False
                    if fits and not has_agreed:
                        has_agreed = fits = agree()
                    if is_peek:
                        return fits, stands
                    if fits:
                        stands = [stand.taken() for stand in stands]
                    images = [
                        (place, _image(one, row, stand, now, is_taken=fits and row[6] < _MOST_ADMITTED))
                        for one, place, row, stand in zip(asked, places, kept, stands, strict=True)
                        if fits or now - row[2] >= NOTED_TICKS
                    ]
                    # Asked again here: who was stopped up to this moment writes where nobody looks any more.
                    if images and not file.is_closed:
                        file.write(change, images)
                finally:
                    file.unlock()
                # It was closed meanwhile? What is written in the copy, too, is done.
                if not file.is_closed or self._is_inherited(change):
                    return fits, stands

    def rows(self) -> list[Row]:
        """What is kept, each row as it is at some moment."""
        with self._using:
            file = self._enter()
            file.unlock()
            kept = file.map[rows.HEAD_BYTES : rows.file_bytes(len(file.segments))]
        if kept == bytes(len(kept)):
            return []
        return rows.unpack_rows(kept)

    def set_shares(self, shares: Mapping[bytes, tuple[int, int]], until: int, now: int) -> dict[bytes, int]:
        """Each with what of its growth is not used. `until` is in tenths of a second since the machine started, `now`
        in ticks. Returns of those that became smaller what was not used, in parts.
        """
        freed: dict[bytes, int] = {}
        with self._changing() as file:
            fallback = WORD.unpack_from(file.map, rows.FALLBACK)[0]
            for id, (share, unused) in shares.items():
                place = file.find(id)
                if place is None:
                    place, row = _free_place(file, id, now), _ahead(id, fallback, now)
                    had = fallback
                else:
                    row = rows.read_row(file.map, place)
                    had = row.share if _has_share(row, now) else fallback
                    if share == had:
                        rows.SHARE.pack_into(file.map, place + rows.SHARE_AT, share, until)
                        continue
                row, left = _with_share(row, share, min(unused, max(share - had, 0)), now)
                # What ended by itself is not given up now.
                if left and share < had:
                    freed[id] = min(left, had - share)
                self._put(file, place, row._replace(share=share, share_until=until))
        return freed

    def set_fallback_share(self, share: int) -> None:
        with self._changing() as file:
            WORD.pack_into(file.map, rows.FALLBACK, share)

    def _put(self, file: TableFile, place: int, row: Row) -> None:
        file.write(self._change, [(place, rows.pack_row(*row))])

    def _look(self, file: TableFile, asked: Sequence[Asked], now: int) -> tuple[list[int], list[Row], list[Standing]]:
        """Each limit's place, the row there, or a new one, and how it stands. OSError where there is no place."""
        places: list[int] = []
        kept: list[Row] = []
        stands: list[Standing] = []
        for id, limit, window_seconds, is_global in asked:
            place = file.find(id)
            if place is not None:
                row = rows.read_row(file.map, place)
            else:
                place = _free_place(file, id, now, places)
                row = Row(id, 0, now - NOTED_TICKS, 0, 0, 0, 0)
            share = WHOLE
            if is_global:
                share = row[7] if _has_share(row, now) else WORD.unpack_from(file.map, rows.FALLBACK)[0]
            places.append(place)
            kept.append(row)
            counted = _shared(row, limit, window_seconds, share, now) if is_global else row.counted
            stands.append(standing(counted, limit, window_seconds, share, now))
        return places, kept, stands


def _has_share(row: Row, now: int) -> bool:
    return row[8] * rows.TICKS_OF_SHARE_STEP > now


def _ahead(id: bytes, share: int, now: int) -> Row:
    """A row of a limit that nobody has asked for here, and of which there is a share already.

    Its rate is what of that is had at once: the least that it was since, and what it grew by unused.
    """
    return Row(id, 0, now, share, rows.SHARED_AHEAD_SECONDS, 0, 0)


def _with_share(row: Row, share: int, unused: int, now: int) -> tuple[Row, int]:
    """The row with another share from now on, and how many parts it gives up that were not used."""
    if not row.limit:
        had = min(row.rate + unused, share)
        return row._replace(at=now, rate=had), max(row.rate - share, 0)
    limit, ticks = row.limit, row.window_seconds * TICKS_PER_SECOND
    rate, whole = limit * share, limit * ticks
    before = debt_left(row.debt, row.at, row.rate, now)
    room = max((row.rate * ticks >> SHARE_BITS) - before, 0)
    counted = _shared(row, limit, row.window_seconds, share, now)
    debt = 0 if counted is None else debt_left(counted.debt, counted.at, counted.rate, now)
    debt = max(debt - (limit * unused * ticks >> SHARE_BITS), 0)
    freed = max(room - max((rate * ticks >> SHARE_BITS) - debt, 0), 0) if rate < row.rate else 0
    # `at` stays, which says when the limit was asked for: so the debt is what by this rate comes to what is left now.
    debt += max(now - row.at, 0) * rate >> SHARE_BITS
    return row._replace(debt=debt, rate=rate), (freed << SHARE_BITS) // whole


def _shared(row: Row, limit: int, window_seconds: int, share: int, now: int) -> Counted | None:
    """What is counted of a limit, of which this edge has that share now. What is owed moves with the share: what that
    grows by comes as used up, and what it loses takes along what was used of it.

    Else a share that moves from edge to edge would let its requests through at once again at each.
    """
    counted, before, rate = row.counted, row.limit, limit * share
    if counted is None or (before and (before != limit or rate == row.rate)):
        return counted
    # Since when it is so. A share that has ended did so at its end.
    since = now if _has_share(row, now) else min(max(row.at, row.share_until * rows.TICKS_OF_SHARE_STEP), now)
    if before:
        since = since if row.share_until else now
        debt, ticks = debt_left(row.debt, row.at, row.rate, since), row.window_seconds * TICKS_PER_SECOND
        grown = rate - row.rate
    else:
        # There was a share of it, and nobody used it here: the least of all that it was is had at once.
        since, debt, ticks = (row.at if since == now else since), 0, window_seconds * TICKS_PER_SECOND
        grown = rate - limit * row.rate
    debt = max(debt + (grown * ticks >> SHARE_BITS), 0)
    return Counted(debt_left(debt, since, rate, now), now, rate, row.window_seconds if before else window_seconds)


def _free_place(file: TableFile, id: bytes, now: int, taken: Sequence[int] = ()) -> int:
    """Where a new row can stand. Raises OSError where there is no room."""
    while (place := _find_free(file, id, now, taken)) is None:
        file.grow()
    return place


def _find_free(file: TableFile, id: bytes, now: int, taken: Sequence[int]) -> int | None:
    places = file.places_for(id)
    for place in places:
        if file.map[place : place + rows.ID_BYTES] == _NO_ID and place not in taken:
            return place
    for place in places:
        row = rows.read_row(file.map, place)
        is_dead = now - row.at >= KEPT_TICKS and not debt_left(row.debt, row.at, row.rate, now)
        if is_dead and place not in taken:
            return place
    return None


def _image(asked: Asked, row: Row, stand: Standing, now: int, *, is_taken: bool) -> bytes:
    id, limit, window_seconds, is_global = asked
    debt, _, rate, _ = stand
    _, _, _, _, _, _, admitted, share, share_until = row
    flags = limit << 1 | (IS_GLOBAL if is_global else 0)
    return rows.pack_row(id, debt, now, rate, window_seconds, flags, admitted + is_taken, share, share_until)
