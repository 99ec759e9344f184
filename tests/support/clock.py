"""A clock that a test sets."""

from __future__ import annotations

from datetime import UTC, datetime

from keywright.runtime.clock import Clock


class FakeClock(Clock):
    """Stands still until `advance`, or until `wall` or `count` are set. `wall` and `count` are seconds."""

    def __init__(self, *, wall: float = 1_800_000_000.0, count: float = 1000.0) -> None:
        self.wall = wall
        self.count = count

    def advance(self, seconds: float) -> None:
        self.wall += seconds
        self.count += seconds

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.wall, UTC)

    def millis(self) -> int:
        return round(self.wall * 1000)

    def elapsed(self) -> float:
        return self.count
