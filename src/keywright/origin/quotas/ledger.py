"""Owns the arithmetic of a quota: what is spent, what is lent, what is free, and how much an ask is given. Pure.

Units of a period are free, lent or spent. An edge that asks is lent free ones; what it spent of them, it tells with its
next question, and what it does not need it gives back. What it never tells of stays lent: so nobody spends it again,
whatever happened to it. Hence spent + lent <= limit + what was added, whenever a unit is lent.

Numbers of a lease only grow. A question that is late, or of a copy of an edge, takes nothing back.
"""

from __future__ import annotations

from dataclasses import dataclass

from keywright.domain.limits import Quota
from keywright.domain.periods import PeriodTimes
from keywright.protocol.leases import LEASE_MILLIS, Ask, Loan, Outcome

BLOCKS_OF_FREE = 4
"""No lease takes more at once than what is free would give to four times as many edges as hold one: so blocks get
smaller as a quota is used up, down to one unit."""


@dataclass(slots=True)
class Period:
    """A period of one quota of one consumer. `lent` is what leases hold, and what they hid by ending untold.

    `overspent` is what of `spent` edges served without a lease, where their bucket says so.
    """

    number: int
    consumer_number: int
    quota: str
    times: PeriodTimes
    spent: int = 0
    lent: int = 0
    added: int = 0
    overspent: int = 0
    holders: int = 0
    """How many leases of it live."""

    def free(self, limit: int) -> int:
        """Less than nothing where the limit was lowered below what is spent and lent."""
        return limit + self.added - self.spent - self.lent


@dataclass(slots=True)
class Lease:
    """What one start of one edge was lent in a period: sums since it began. `number` 0: it is not in the record yet."""

    number: int
    period_number: int
    granted: int = 0
    spent: int = 0
    returned: int = 0
    overspent: int = 0
    ends_at: int = 0

    @property
    def held(self) -> int:
        """What the edge may still spend, or has spent and not told."""
        return self.granted - self.spent - self.returned


def account(period: Period, lease: Lease, ask: Ask) -> bool:
    """Take down what an edge says of its lease. False where it says more than the record knows to have been lent: then
    the record went back, and what is said is believed.
    """
    lacking = max(0, ask.spent + ask.returned - lease.granted)
    lease.granted += lacking
    period.lent += lacking
    spent = max(lease.spent, ask.spent)
    returned = min(max(lease.returned, ask.returned), lease.granted - spent)
    if ask.is_last:
        returned = lease.granted - spent
    overspent = max(lease.overspent, ask.overspent)
    before = lease.held
    period.spent += spent - lease.spent + overspent - lease.overspent
    period.overspent += overspent - lease.overspent
    lease.spent, lease.returned, lease.overspent = spent, max(returned, lease.returned), overspent
    period.lent -= before - lease.held
    return not lacking


def lend(period: Period, lease: Lease, ask: Ask, quota: Quota, now: int, *, is_away: bool) -> Outcome:
    """Renew a lease that is accounted for, and lend what it lacks as far as there is any.

    `is_away`: nothing more is lent, as nobody knows what was. A lease that holds nothing then does not begin to live.
    """
    free = period.free(quota.limit)
    if free < 0 and lease.held > 0:
        return Outcome.RECALLED
    if is_away:
        if lease.held > 0:
            lease.ends_at = _end_of(period, now)
        return Outcome.AWAY
    needed, wanted = ask.need - lease.held, ask.want - lease.held
    holders = max(1, period.holders + (lease.ends_at <= now))
    block = max(1, free // (BLOCKS_OF_FREE * holders))
    given = max(0, min(free, max(needed, min(wanted, block))))
    lease.granted += given
    period.lent += given
    if lease.held > 0:
        lease.ends_at = _end_of(period, now)
    return Outcome.LENT


def loan_of(outcome: Outcome, period: Period, lease: Lease, quota: Quota, now: int) -> Loan:
    """What the edge is told."""
    return Loan(
        outcome,
        lease.number,
        lease.granted,
        max(0, lease.ends_at - now),
        period.times.begins_at,
        period.times.ends_at,
        quota.limit + period.added,
        max(0, period.free(quota.limit)),
    )


def _end_of(period: Period, now: int) -> int:
    ends_at = period.times.ends_at
    return now + LEASE_MILLIS if ends_at is None else min(now + LEASE_MILLIS, ends_at)
