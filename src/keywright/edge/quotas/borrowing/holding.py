"""Owns the rules of borrowing: when an edge asks, how much it would like, what it notes, and what it gives back.

Pure. Times are seconds since the machine started.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keywright.edge.quotas import rows
from keywright.edge.quotas.borrowing.notes import Noted
from keywright.edge.quotas.part import Put
from keywright.edge.quotas.reservation_rows import HeldRow
from keywright.protocol.leases import Ask, Outcome

if TYPE_CHECKING:
    from keywright.edge.quotas.rows import QuotaRow
    from keywright.protocol.leases import Loan

MARGIN_SECONDS = 1.0
"""So long before a lease's end nothing is spent of it any more."""
WANTED_SECONDS = 40.0
"""An edge would like to hold what it spends in so long,"""
FIRST_REQUESTS = 10
"""and enough for so many requests at least."""
STEP_SECONDS = 2.0
"""It notes ahead what it spends in so long, at most that is hidden when the machine dies,"""
STEP_REQUESTS = 4
"""or in so many requests."""
RENEWS_AFTER = 0.55
"""Of a lease's life."""
AGAIN_SECONDS = 1.0
TELL_SECONDS = 5.0
"""What was spent is told after so long, also if nothing is to be asked for."""
USUAL_SECONDS = 3.0
"""Over how long the rate is measured."""


@dataclass(slots=True, eq=False)
class Holding:
    """One quota of one consumer, with the lease of it that this start of the edge has; `lease` 0 for none.

    `mark` is what the table has in the place of `lease`. Sums are since the lease began. `free` is what nobody holds,
    None if the origin lends nothing or did not answer. `need` is what questions wait for, `unit` what one costs;
    `is_peeked`: one waits to hear what there is. `said` is what was told to be spent and overspent, `told` what of the
    row's `overspent` is told by a lease that is closed. `reserved` of what is spent is in reservations that are open:
    some of it may come back, and what was told to be spent can't.
    """

    consumer_number: int
    quota: str
    id: bytes
    lease: int = 0
    mark: int = 0
    granted: int = 0
    returned: int = 0
    may_spend: int = 0
    spent: int = 0
    overspent: int = 0
    reserved: int = 0
    told: int = 0
    free: int | None = 0
    period_ends_at: int = 0
    asked_at: float = 0.0
    ends_at: float = 0.0
    renews_at: float = math.inf
    need: int = 0
    is_peeked: bool = False
    unit: int = 1
    said: tuple[int, int] = (0, 0)
    rate: float = 0.0
    seen_at: float = 0.0
    minutes_unused: int = 0

    @property
    def grant(self) -> int:
        """What may be spent of the lease in all."""
        return self.granted - self.returned

    @property
    def left(self) -> int:
        return self.grant - self.spent

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits for it now."""
        return self.need > 0 or self.is_peeked

    @property
    def step(self) -> int:
        return max(self.unit * STEP_REQUESTS, math.ceil(self.rate * STEP_SECONDS))

    @property
    def want(self) -> int:
        return max(self.need, self.unit * FIRST_REQUESTS, math.ceil(self.rate * WANTED_SECONDS))

    @property
    def spent_for_good(self) -> int:
        return self.spent - self.reserved

    def see(self, row: QuotaRow, held: QuotaRow | None, now: float, steps: int) -> None:
        """What the table has of it, and of what is reserved of it."""
        self.minutes_unused = 0 if self.is_wanted else row.minutes_unused(steps)
        if row.lease != self.mark or not self.mark:
            return
        seconds = max(now - self.seen_at, 0.001)
        weight = 1 - math.exp(-seconds / USUAL_SECONDS)
        self.rate += (max(row.spent - self.spent, 0) / seconds - self.rate) * weight
        self.spent, self.overspent, self.seen_at = row.spent, row.overspent, now
        self.reserved = 0 if held is None else min(HeldRow.of(held).open(self.mark, steps), row.spent)

    def is_noted_too_little(self) -> bool:
        """Whether it was lent more than it has noted, and that will be needed soon."""
        return (
            self.lease != 0
            and self.may_spend < self.grant
            and self.noted_next() > self.may_spend
            and (self.may_spend - self.spent < max(self.need, (self.step + 1) // 2))
        )

    def noted_next(self) -> int:
        return max(self.may_spend, min(self.grant, self.spent + self.need + self.step))

    def lacks(self, now: float) -> bool:
        """Whether questions wait that only the origin can help."""
        if self.is_peeked:
            return True
        return self.need > 0 and (self.left < self.need or not self.lease or now >= self.ends_at)

    def is_due(self, now: float) -> bool:
        """Whether the origin is to be asked by and by: so that nobody has to wait for it."""
        if now - self.asked_at < AGAIN_SECONDS:
            return False
        if not self.lease:
            return now >= self.renews_at
        is_low = bool(self.free) and self.left < self.want / 2
        is_telling = now - self.asked_at >= TELL_SECONDS and self.said != (self.spent_for_good, self.overspent)
        return now >= self.renews_at or is_low or is_telling or self.excess() > 0

    def excess(self) -> int:
        """What others may need more. Where nothing is free any more an edge keeps no more than it spends soon."""
        kept = self.want if self.free != 0 else max(self.need, self.unit) + math.ceil(self.rate * STEP_SECONDS)
        return self.left - kept if self.left > 2 * kept + self.unit else 0

    def ask(self) -> Ask:
        lease = self.lease
        told = (self.spent_for_good, self.returned, self.overspent) if lease else (0, 0, 0)
        return Ask(self.consumer_number, self.quota, lease, *told, self.want, self.need)

    def take(self, loan: Loan, asked_at: float) -> bool:
        """What the origin answered to a question that was asked then. False where that is of another lease than it was:
        the one before is to be closed, if there was one.
        """
        self.need, self.is_peeked, self.asked_at = 0, False, asked_at
        self.said = self.spent_for_good, self.overspent
        self.free = loan.free if loan.outcome is Outcome.LENT else 0 if loan.outcome is Outcome.RECALLED else None
        self.period_ends_at = 0 if loan.ends_at is None else loan.ends_at // 1000
        if not loan.lease:
            self.renews_at = math.inf
        if loan.outcome in {Outcome.RECALLED, Outcome.UNKNOWN} or loan.lease != self.lease:
            return False
        if not self.lease:
            return True
        self._renew(loan)
        return True

    def begin(self, loan: Loan, mark: int) -> None:
        """A new lease."""
        self.lease, self.mark = loan.lease, mark
        self.returned = self.may_spend = self.spent = self.overspent = self.reserved = 0
        self.said = (0, 0)
        self._renew(loan)

    def end(self) -> None:
        """It has no lease any more."""
        self.lease = self.granted = self.returned = self.may_spend = self.spent = self.overspent = 0
        self.reserved = 0
        self.ends_at, self.renews_at, self.said = 0.0, math.inf, (0, 0)

    def fail(self, now: float) -> None:
        """Nobody has answered."""
        self.need, self.is_peeked, self.free, self.asked_at = 0, False, None, now
        if self.renews_at < math.inf:
            self.renews_at = max(self.renews_at, now + AGAIN_SECONDS)

    def put(self) -> Put:
        """What the table is to have of it."""
        asked = rows.steps(self.asked_at)
        life = max(0, min(rows.steps(self.ends_at) - asked, rows.USED_MODULUS - 1)) if self.lease else 0
        if self.free is None:
            free = rows.NOBODY_SAYS
        else:
            free = min(self.free + max(self.grant - self.may_spend, 0), rows.MOST)
        return Put(self.id, self.mark, self.may_spend, free, asked, self.period_ends_at, life, self.told)

    def noted(self, may_spend: int) -> Noted:
        return Noted(self.lease, self.mark, self.consumer_number, self.quota, self.returned, may_spend, self.overspent)

    def _renew(self, loan: Loan) -> None:
        life = loan.life_millis / 1000
        # Less than before is told by a record that went back.
        self.granted = loan.granted
        self.may_spend = min(self.may_spend, max(self.grant, self.spent))
        self.ends_at = self.asked_at + life - MARGIN_SECONDS
        self.renews_at = self.asked_at + max(life * RENEWS_AFTER, AGAIN_SECONDS) if self.left else math.inf
