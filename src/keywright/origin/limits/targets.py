"""Owns how a limit would best be divided, by who uses it: targets, which the ledger moves to as parts become free.

Max-min fair: who admits less than there is for it gets that and some room; those who refuse divide the rest evenly;
what nobody demands is divided as the demands are. A small part of each limit is divided among all connected edges,
where that lets each admit something, so that one where it is used next does so at once. Pure; shares are parts of
WHOLE, and what is divided is what connected edges may have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keywright.protocol.shares import WHOLE, Use

FLOOR = 0.05
"""This much of a limit is divided evenly among all connected edges, if each can admit a unit by that."""
MOST_FLOOR = 0.10
"""So much at most is kept back so that each edge can admit a single unit."""
ROOM = 1.5
"""Who refuses nothing has so many times what it admits."""


@dataclass(slots=True)
class Division:
    """How one limit is divided. `part_of_rate` are the parts that give back one unit a second."""

    part_of_rate: float = 0.0
    unit: float = 0.0
    """The parts that admit one unit at once."""
    floor: int = 0
    level: float = 0.0
    bonus: float = 0.0
    """What is left over, for each part that is demanded."""

    @property
    def is_made(self) -> bool:
        return self.part_of_rate > 0

    def target(self, use: Use | None) -> int:
        """The share of an edge that uses it so; None: that does not."""
        if use is None:
            return self.floor
        wanted = self.level if use.is_short else min(self.demand(use), self.level)
        return self.floor + int(wanted * (1 + self.bonus))

    def demand(self, use: Use) -> float:
        return max(use.rate * ROOM * self.part_of_rate, self.unit)

    def divide(self, available: int, connected: int, users: Sequence[Use]) -> None:
        """Divide what is `available` among so many connected edges, of which `users`, at least one, use it."""
        # Replicas may be of different revisions for a moment.
        limit, window_seconds = max((use.limit, use.window_seconds) for use in users)
        self.part_of_rate = WHOLE * window_seconds / limit
        self.unit = -(-WHOLE // limit) + 1
        self.floor = _floor(available, connected, self.unit)
        rest = float(available - self.floor * connected)
        demands = sorted(self.demand(use) for use in users if not use.is_short)
        self.level, left = _fill(rest, demands, len(users))
        self.bonus = left / sum(demands) if left else 0.0


def _floor(available: int, connected: int, unit: float) -> int:
    """What every connected edge has, whoever uses the limit. A part by which nobody could admit a thing is wasted."""
    even = int(available * FLOOR) // connected
    if even >= unit:
        return even
    return int(unit) if unit * connected <= available * MOST_FLOOR else 0


def _fill(rest: float, demands: Sequence[float], users: int) -> tuple[float, float]:
    """Up to which level `users` get what they demand, if only these have a limit to that; and what is left over."""
    waiting = users
    for demand in demands:
        if demand * waiting >= rest:
            return rest / waiting, 0.0
        rest -= demand
        waiting -= 1
    if waiting:
        return rest / waiting, 0.0
    return demands[-1], rest
