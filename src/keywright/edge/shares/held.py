"""Owns which share of each global rate limit this edge goes by at a moment: what it was told, and when that ends.

What an answer told holds for HELD_SECONDS since it was asked for. Behind that each limit has the fallback share, one of
n edges; where it had less before, it has that little until RISE_SECONDS, when nobody can have any more what the others
may have been given instead. An edge that was never told anything has nothing: others may hold all there is. Pure:
times are in seconds since this machine started (`Clock.elapsed`), which nobody can set.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from keywright.protocol.shares import HELD_SECONDS, NO_SHARE, RISE_SECONDS, ShareAnswer


class HeldShares:
    """What one process knows.

    `started_at` is when it began to ask. `fallback` is what one before it noted: it holds on where the machine has
    gone on meanwhile and the table `is_kept`, else from RISE_SECONDS after the start.
    """

    def __init__(self, started_at: float, *, fallback: int = 0, is_kept: bool = False) -> None:
        self.shares: dict[bytes, int] = {}
        self.fallback = fallback
        self.unused: dict[bytes, int] = {}
        """Of shares that have grown: how much of that is had at once. Whoever sets the shares takes it from here."""
        self.asked_at = -math.inf
        """When the latest answer was asked for by this process."""
        self._number = 0
        # What an earlier process was told is not known here. It holds, where a table has kept it, and ends by itself.
        self._rises_at = started_at if is_kept else started_at + RISE_SECONDS

    def taken(self, now: float) -> int:
        """The number of the answer that this edge goes by; 0: none."""
        return self._number if now < self.held_until else 0

    @property
    def held_until(self) -> float:
        return self.asked_at + HELD_SECONDS

    @property
    def rises_at(self) -> float:
        """From then on the fallback share holds for all."""
        return self._rises_at

    def take(self, answer: ShareAnswer, asked_at: float) -> None:
        if answer.is_whole:
            self.shares = {}
        for id, share in answer.shares.items():
            if share == NO_SHARE:
                self.shares.pop(id, None)
            else:
                self.shares[id] = share
        for id, parts in answer.unused.items():
            self.unused[id] = self.unused.get(id, 0) + parts
        self.fallback = answer.fallback
        self._number, self.asked_at = answer.number, asked_at
        self._rises_at = asked_at + RISE_SECONDS

    def fallback_at(self, now: float) -> int:
        """The share of all limits of which no other was told."""
        return self.fallback if self._number or now >= self._rises_at else 0

    def shares_at(self, now: float) -> Mapping[bytes, int]:
        """The shares that were told, as they hold now; where they hold no more, there are none."""
        if now < self.held_until:
            return self.shares
        if now >= self._rises_at:
            return {}
        return {id: min(share, self.fallback) for id, share in self.shares.items()}

    def share_of(self, id: bytes, now: float) -> int:
        return self.shares_at(now).get(id, self.fallback_at(now))
