"""Owns spending of quotas where a key is judged: what a question costs, whether that is lent, and how the quotas stand.

What is not lent yet is rung for, and not waited for here: who can wait does so (waiting.py).
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING

from keywright.domain.limit_states import LimitState
from keywright.domain.powers import NO_POWERS
from keywright.domain.reservations import Reservation
from keywright.domain.verdict import Lack, Verdict
from keywright.edge.limits.table import held_id, reservation_id
from keywright.edge.limits.takers import HOLDERS_KEPT, Taken
from keywright.edge.quotas.bell import Bell, Ring
from keywright.edge.quotas.reservation_rows import RESERVATION_SECONDS
from keywright.edge.quotas.reserving import Hold, Lacks
from keywright.edge.quotas.table import Cost, Fit, QuotaTable, quota_id

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from keywright.domain.limits import Quota
    from keywright.domain.powers import Demand
    from keywright.domain.reservations import Settlement
    from keywright.domain.verdict import ConsumerRecord, KeyRecord
    from keywright.edge.quotas.rows import QuotaRow

_new = tuple.__new__


class Quotas:
    """May be shared by threads. Everything here may raise OSError."""

    def __init__(self, table: QuotaTable, millis: Callable[[], int]) -> None:
        """`millis` is the time of day by the origin's clock."""
        self.table = table
        self._bell = Bell(table.directory)
        self._millis = millis
        self.spent = self.overspent = 0
        """Units that were taken by this process: of what was lent, and without that."""

    def take(self, key: KeyRecord, consumer: ConsumerRecord, demand: Demand, *, overspends: bool = False) -> Taken:
        quotas = (consumer.powers or NO_POWERS).quotas or ()
        costs = _costs_of(key.consumer_number, quotas, demand.cost)
        reservation = self._reserve(key.consumer_number, quotas, demand.cost or 0) if demand.is_reserve else None
        hold = None if reservation is None else hold_of(reservation)
        fits, rows = self.table.spend(costs, is_peek=demand.is_peek, overspends=overspends, hold=hold)
        if Fit.EXCEEDED in fits:
            return Taken(Verdict.QUOTA_EXCEEDED, self._states(quotas, rows, fits))
        if overspends or all(fit is Fit.FITS for fit in fits):
            if not demand.is_peek:
                for cost, fit in zip(costs, fits, strict=True):
                    if fit is Fit.FITS:
                        self.spent += cost.units
                    else:
                        self.overspent += cost.units
            return Taken(Verdict.VALID, self._states(quotas, rows, fits), reservation=reservation)
        lacks = []
        for quota, cost, row, fit in zip(quotas, costs, rows, fits, strict=True):
            if fit is Fit.LACKS:
                ring = Ring(key.consumer_number, quota.name, 0 if demand.is_peek else cost.units)
                lacks.append(Lack(cost.id, (row.asked, row.may_spend, row.lease), self._bell.ring(ring)))
        return Taken(Verdict.UNAVAILABLE, (), tuple(lacks), is_in_vain=Fit.UNSAID in fits)

    def settle(self, reservation: Reservation, cost: int, *, is_last: bool) -> Settlement | list[Lack] | None:
        """What becomes of it, None if it is not known here. Unless `is_last`, what must be lent first,
        which is rung for.
        """
        ids = [quota_id(reservation.consumer_number, name) for name in reservation.quotas]
        found = self.table.settle(hold_of(reservation), ids, cost, is_last=is_last)
        if not isinstance(found, Lacks):
            return found
        lacks = []
        for number, row in found.rows:
            ring = Ring(reservation.consumer_number, reservation.quotas[number], found.units)
            lacks.append(Lack(row.id, (row.asked, row.may_spend, row.lease), self._bell.ring(ring)))
        return lacks

    def has_changed(self, lack: Lack) -> bool:
        """Whether the origin, or what was noted, has said more since."""
        row = self.table.read(lack.id)
        return row is not None and (row.asked, row.may_spend, row.lease) != lack.seen

    def close(self) -> None:
        """Let go of the files. Whoever asks again opens them again."""
        self._bell.close()
        self.table.close()

    def _reserve(self, consumer_number: int, quotas: Sequence[Quota], units: int) -> Reservation:
        id = reservation_id(consumer_number, os.urandom(16))
        names = tuple(quota.name for quota in quotas)
        return Reservation(id, consumer_number, names, units, self._millis() + RESERVATION_SECONDS * 1000)

    def _states(self, quotas: Sequence[Quota], rows: Sequence[QuotaRow], fits: Sequence[Fit]) -> tuple[LimitState, ...]:
        now = self.table.now()
        states = []
        for quota, row, fit in zip(quotas, rows, fits, strict=True):
            remaining = row.left(now) + (row.free if row.is_known else 0)
            reset = max(row.ends_at - self._millis() // 1000, 1) if row.ends_at else 0
            is_violated = fit is Fit.EXCEEDED
            retry = (reset or None) if is_violated else 0
            told = (quota.name, quota.limit, None, remaining, reset, is_violated, retry)
            states.append(_new(LimitState, told))
        return tuple(states)


def hold_of(reservation: Reservation) -> Hold:
    return Hold(reservation.id, tuple(held_id(reservation.consumer_number, name) for name in reservation.quotas))


# What holds follows from the arguments alone; of the same quotas there is one tuple.
@lru_cache(maxsize=HOLDERS_KEPT)
def _costs_of(consumer_number: int, quotas: tuple[Quota, ...], cost: int | None) -> tuple[Cost, ...]:
    return tuple(
        Cost(quota_id(consumer_number, quota.name), quota.default_cost if cost is None else cost) for quota in quotas
    )
