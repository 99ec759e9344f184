"""Owns counting requests: how many may pass in a second, and the refusal of those that are too many."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from keywright.domain.problems import TooManyRequests

MAX_NAMES = 10_000


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

    def give_back(self, name: str) -> None:
        """Have the last request of that name not counted."""
        if name in self._levels:
            level, then = self._levels[name]
            self._levels[name] = (min(max(self.burst or self.rate, 1.0), level + 1), then)


def check_rate(limiter: RateLimiter, name: str, detail: str) -> None:
    """Raises TooManyRequests when `name` asks for too much at once; `{seconds}` in the detail is when it may again."""
    seconds = math.ceil(limiter.take(name, time.monotonic()))
    if seconds > 0:
        raise TooManyRequests(detail.replace("{seconds}", str(seconds)), headers={"Retry-After": str(seconds)})
