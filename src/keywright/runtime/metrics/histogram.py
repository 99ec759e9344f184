"""Owns counting how long something took, by how long: for an addition and a search in a short list, without a lock."""

from __future__ import annotations

from bisect import bisect_left
from time import perf_counter_ns as now_ns
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DISK_SECONDS", "REQUEST_SECONDS", "Histogram", "now_ns"]

REQUEST_SECONDS = (
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
)  # fmt: skip
"""For what is answered from memory. A validation takes some 0.00003."""
DISK_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""For what waits for a disk, or for a database."""


class Histogram:
    """How many took up to each of `bounds` (seconds, ascending) and no less than the one before; the last is for more.

    From one thread at a time.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self._bounds_ns = [round(bound * 1e9) for bound in bounds]
        self.counts = [0] * (len(self.bounds) + 1)
        self.total_ns = 0

    def observe_since(self, began_ns: int) -> None:
        """Count what began then, by `now_ns`, and is over now."""
        self.observe(now_ns() - began_ns)

    def observe(self, took_ns: int) -> None:
        """Count what took so many nanoseconds."""
        self.counts[bisect_left(self._bounds_ns, took_ns)] += 1
        self.total_ns += took_ns
