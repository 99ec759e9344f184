"""Owns the arithmetic of a rate limit (GCRA): what is owed, what is given back meanwhile, and whether one more fits.

A limit of N in W seconds lets N through at once and gives back N/W a second. What was let through and is not given back
yet is the debt, in units of 1/W': one request owes W' ticks (W in ticks), each tick gives back N. So all of it is whole
numbers, and exact: N requests at one moment fill the limit, and one more fits W/N later and no tick earlier.

An edge may have a share of a limit only: of its rate, and of what it lets through at once.
"""

from __future__ import annotations

from typing import NamedTuple

TICKS_PER_SECOND = 100_000
"""So that the debt of the largest limit over a day fits in 64 bits."""
SHARE_BITS = 31
WHOLE = 1 << SHARE_BITS
"""A share is so many parts of this many."""
GROWS_SECONDS = 5
"""Who has too small a share for what comes has more after that, where others have some to give."""


_new = tuple.__new__


class Counted(NamedTuple):
    """What is kept of a limit: `debt` as it was at `at` (ticks), and the rate and window (seconds) that it is of then.

    `rate` is what a tick gives back, times WHOLE.
    """

    debt: int
    at: int
    rate: int
    window_seconds: int


class Standing(NamedTuple):
    """How a limit stands at a moment: the debt that is left, out of `capacity`; both in parts of 1/`ticks`."""

    debt: int
    capacity: int
    rate: int
    ticks: int

    @property
    def remaining(self) -> int:
        """How many more requests fit at once."""
        return max(self.capacity - self.debt, 0) // self.ticks

    def fits(self, units: int = 1) -> bool:
        return self.debt + units * self.ticks <= self.capacity

    def seconds_until(self, units: int) -> int:
        """Rounded up, when so many would fit; 0 if they do. A share too small for them may grow soon."""
        missing = self.debt + units * self.ticks - self.capacity
        if missing <= 0:
            return 0
        if units * self.ticks > self.capacity or not self.rate:
            return min(-(-self.ticks // TICKS_PER_SECOND), GROWS_SECONDS)
        return -(-(missing << SHARE_BITS) // (self.rate * TICKS_PER_SECOND))

    @property
    def reset_seconds(self) -> int:
        """Until one more fits than now; 0 where no more ever do."""
        remaining = self.remaining
        if remaining and (not self.debt or (remaining + 1) * self.ticks > self.capacity):
            return 0
        return self.seconds_until(remaining + 1)

    def taken(self) -> Standing:
        """After one more."""
        debt, capacity, rate, ticks = self
        return _new(Standing, (debt + ticks, capacity, rate, ticks))


def standing(counted: Counted | None, limit: int, window_seconds: int, share: int, now: int) -> Standing:
    """How a limit stands at `now` (ticks), of which this edge has `share` parts of WHOLE.

    Another limit than was counted by goes on with as many requests as were not given back, at most all of it.
    """
    # In few steps, with named tuples as their constructors make them, in half of the time.
    ticks = window_seconds * TICKS_PER_SECOND
    whole = limit * ticks
    debt = 0
    if counted is not None:
        debt, at, rate_before, window_before = counted
        if debt and now > at:
            debt = max(debt - ((now - at) * rate_before >> SHARE_BITS), 0)
        if window_before != window_seconds:
            debt = -(-debt * window_seconds // window_before)
        debt = min(debt, whole)
    rate = limit * share
    if share == WHOLE:
        return _new(Standing, (debt, whole, rate, ticks))
    # A tenth is a little less than that in parts of WHOLE: one that lacks a millionth fits.
    capacity = min((rate * ticks >> SHARE_BITS) + (ticks >> 20) + 1, whole) if rate else 0
    return _new(Standing, (debt, capacity, rate, ticks))


def debt_left(debt: int, at: int, rate: int, now: int) -> int:
    return max(debt - (max(now - at, 0) * rate >> SHARE_BITS), 0)
