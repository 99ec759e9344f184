"""Owns how a limit would best be divided, by who uses it: targets, which the ledger moves to as parts become free.

While nobody is short nothing moves: each move costs what was not used of a share. Else who uses it and is not short
keeps what it needs, with some room, of what it has, and those who are short divide the rest evenly. A small part of
each limit is divided among all connected edges, where that lets each admit something, so that one where it is used next
does so at once. Pure; shares are parts of WHOLE, and what is divided is what connected edges may have.
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
"""Who is not short keeps so many times what it admits,"""
UNITS = 3
"""and what lets through so many at once."""


@dataclass(slots=True)
class Division:
    """How one limit is divided. `part_of_rate` are the parts that give back one unit a second."""

    part_of_rate: float = 0.0
    unit: float = 0.0
    """The parts that admit one unit at once."""
    floor: int = 0
    level: int | None = None
    """What each has that is short; None: nobody is."""

    def target(self, use: Use | None, held: int) -> int:
        """The share of an edge that uses it so, and has so much; None: that does not."""
        if self.level is None:
            return held
        if use is None:
            return min(self.floor, held) if held else self.floor
        return max(self.level if use.is_short else min(self.keep(use, held), self.level), self.floor)

    def keep(self, use: Use, held: int) -> int:
        """What an edge that is not short needs of what it has, or to begin with."""
        least = UNITS * self.unit
        return int(max(min(use.rate * ROOM * self.part_of_rate + least, held), least))

    def divide(self, available: int, connected: int, users: Sequence[tuple[Use, int]]) -> None:
        """Divide what is `available` among so many connected edges, of which `users`, at least one, use it and hold so
        much.
        """
        # Replicas may be of different revisions for a moment.
        limit, window_seconds = max((use.limit, use.window_seconds) for use, _ in users)
        self.part_of_rate = WHOLE * window_seconds / limit
        self.unit = -(-WHOLE // limit) + 1
        self.floor = _floor(available, connected, self.unit)
        kept = [self.keep(use, held) for use, held in users if not use.is_short]
        short = len(users) - len(kept)
        self.level = _level(available - self.floor * (connected - len(users)), kept, short) if short else None


def _floor(available: int, connected: int, unit: float) -> int:
    """What every connected edge has, whoever uses the limit. A part by which nobody could admit a thing is wasted."""
    even = int(available * FLOOR) // connected
    if even >= unit:
        return even
    return int(unit) if unit * connected <= available * MOST_FLOOR else 0


def _level(rest: int, kept: Sequence[int], short: int) -> int:
    """What each has that is short, if the others keep that much, but no more than those."""
    waiting = short + len(kept)
    for need in sorted(kept):
        if need * waiting >= rest:
            break
        rest -= need
        waiting -= 1
    return max(rest // waiting, 0)
