"""Owns measuring how this edge uses each global limit, by what the table counts: how fast, and whether that is enough.

What comes seldom must be looked at for longer: a share that follows each single request would never stand still. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keywright.protocol.shares import Use

if TYPE_CHECKING:
    from keywright.edge.limits.table import TableUse

ASKED_SECONDS = 1.5
"""One that was asked for within that is asked for still;"""
SELDOM = 4.0
"""or within so many times as long as it mostly takes."""
SHORT_SECONDS = 5.0
"""Who was short within that is so still."""
NEARLY_ALL = 0.8
"""Who admits so much of what its share gives back has use for more."""
MANY = 10
"""So many admitted at once tell how fast it goes; fewer of them count for less beside what was before."""


@dataclass(slots=True)
class Metered:
    """What was seen of one limit. `age` is how long ago it was asked for, as a rule, when it was looked at."""

    admitted: int
    rate: float = 0.0
    age: float = 0.0
    short_until: float = 0.0


class UseMeter:
    """To be asked about once a second."""

    def __init__(self, now: float) -> None:
        self._seen: dict[bytes, Metered] = {}
        self._seen_at = now

    def measure(self, found: Iterable[TableUse], now: float) -> dict[bytes, Use]:
        """How each of these limits is used. What is not among them is forgotten."""
        seconds, self._seen_at = max(now - self._seen_at, 0.001), now
        before, self._seen = self._seen, {}
        uses = {}
        for use in found:
            one = self._seen[use.id] = before.get(use.id) or Metered(use.admitted, age=use.age_seconds)
            is_asked = use.age_seconds < max(ASKED_SECONDS, SELDOM * one.age)
            if is_asked:
                one.age += (use.age_seconds - one.age) / 4
            admitted = max(use.admitted - one.admitted, 0)
            weight = min(max(admitted, one.rate * seconds) / MANY, 1.0) / 2 if is_asked else 0.5
            one.rate += (admitted / seconds - one.rate) * max(weight, 0.1)
            one.admitted = use.admitted
            if is_asked and (use.is_full or one.rate >= use.given_back * NEARLY_ALL):
                one.short_until = now + SHORT_SECONDS
            uses[use.id] = Use(one.rate, is_asked and now < one.short_until, use.limit, use.window_seconds)
        return uses
