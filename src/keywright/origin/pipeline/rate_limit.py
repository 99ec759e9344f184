"""Owns counting requests: how many may pass in a second, what a large one weighs, and the refusal of too many."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from keywright.domain.problems import TooManyRequests

MAX_NAMES = 10_000
WEIGHED_BYTES = 64 * 1024
"""A body counts as one request for each piece of this size."""


@dataclass(slots=True)
class RateLimiter:
    """A token bucket for each name: `rate` a second, and `burst` (or as many) at once. At rate 0 everything passes.

    Counted in this process: with several workers, each of them has its own. Names that anybody may invent, such as
    addresses, can't fill the memory: of too many, the first to come are forgotten.
    """

    rate: float
    burst: float = 0
    _levels: dict[str, tuple[float, float]] = field(default_factory=dict)

    def take(self, name: str, now: float) -> float:
        """Seconds until the next request may come; 0 if this one may pass. `now` is a monotonic time in seconds."""
        if self.rate <= 0:
            return 0.0
        # Slower than one a second, too, there is room for one.
        most = max(self.burst or self.rate, 1.0)
        if name not in self._levels and len(self._levels) >= MAX_NAMES:
            del self._levels[next(iter(self._levels))]
        level, then = self._levels.get(name, (most, now))
        level = min(most, level + (now - then) * self.rate)
        if level < 1:
            self._levels[name] = (level, now)
            return (1 - level) / self.rate
        self._levels[name] = (level - 1, now)
        return 0.0

    def charge(self, name: str, cost: float) -> None:
        """Count more for a request that has passed: those that follow wait until it is made up for."""
        if name in self._levels:
            level, then = self._levels[name]
            self._levels[name] = (level - cost, then)

    def give_back(self, name: str, cost: float = 1) -> None:
        """Have the last request of that name, or so much of it, not counted."""
        if name in self._levels:
            level, then = self._levels[name]
            self._levels[name] = (min(max(self.burst or self.rate, 1.0), level + cost), then)


@dataclass(frozen=True, slots=True)
class Meter:
    """Where the requests of one caller are counted, and what they are told when there are too many."""

    limiter: RateLimiter
    name: str
    detail: str

    def check(self) -> None:
        """Counts a request. Raises TooManyRequests."""
        check_rate(self.limiter, self.name, self.detail)

    def charge_body(self, size: int) -> None:
        """Counts what a body of so many bytes weighs beyond the request itself."""
        self.limiter.charge(self.name, _weight(size))

    def correct_body(self, expected: int, size: int) -> None:
        """Counts a body as what it was, which had been counted as what it could have been."""
        self.limiter.give_back(self.name, _weight(expected) - _weight(size))


def _weight(size: int) -> int:
    return max(0, math.ceil(size / WEIGHED_BYTES) - 1)


def detail_of(message: str) -> str:
    """What somebody is told who is over a limit, for `check_rate`: a sentence, and when to try again."""
    return f"{message} Try again in {{seconds}} s."


def check_rate(limiter: RateLimiter, name: str, detail: str) -> None:
    """Raises TooManyRequests when `name` asks for too much at once; `{seconds}` in the detail is when it may again."""
    seconds = math.ceil(limiter.take(name, time.monotonic()))
    if seconds > 0:
        raise TooManyRequests(detail.replace("{seconds}", str(seconds)), headers={"Retry-After": str(seconds)})
