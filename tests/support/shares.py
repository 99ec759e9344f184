"""Edges that share global limits through a ledger, without a network: what each goes by, and what it would admit."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from keywright.edge.limits.gcra import TICKS_PER_SECOND, Counted, debt_left, standing
from keywright.edge.limits.table import TableUse
from keywright.edge.shares.held import HeldShares
from keywright.origin.limits.ledger import Ledger, MemberKey
from keywright.protocol.shares import WHOLE, ShareAnswer, Use, UseReport


def limit_id(consumer_number: int, name: str = "x") -> bytes:
    return consumer_number.to_bytes(5, "little") + name.encode().ljust(11, b".")


@dataclass
class Asked:
    """A question that is under way, or whose answer is."""

    asked_at: float
    report: UseReport
    answer: ShareAnswer | None = None


@dataclass
class SharingEdge:
    """One edge: what it goes by, and what it tells."""

    key: MemberKey
    held: HeldShares
    buckets: frozenset[int] | None = None
    start: str = "0" * 16
    number: int = 0
    fallbacks: list[int] = field(default_factory=list)

    @classmethod
    def new(cls, name: str, now: float, buckets: frozenset[int] | None = None) -> SharingEdge:
        return cls(("" if buckets is None else "acct", f"{name:->16}"), HeldShares(now), buckets)

    def restart(self, now: float) -> None:
        """Begin anew on a machine that has kept nothing but the note."""
        self.held = HeldShares(now, fallback=self.held.fallback)
        self.start, self.number = f"{int(self.start, 16) + 1:0>16x}", 0

    def ask(self, uses: dict[bytes, Use], now: float, freed: dict[bytes, int] | None = None) -> Asked:
        self.number += 1
        taken = self.held.taken(now)
        report = UseReport("dply", self.key[1], self.start, self.number, taken, uses, freed=freed or {})
        return Asked(now, report)


def tell(ledger: Ledger, asked: list[tuple[SharingEdge, Asked]], now: float) -> None:
    """Have the ledger answer these together."""
    for edge, _ in asked:
        ledger.admit(edge.key, edge.buckets, now)
    for edge, one in asked:
        ledger.hear(edge.key, one.report, now)
    ledger.balance(now)
    for edge, one in asked:
        one.answer = ledger.answer(edge.key)


@dataclass
class Bucket:
    """One limit at one edge, as the table counts it: what is owed moves with the share."""

    limit: int
    window_seconds: int
    share: int = 0
    counted: Counted | None = None
    admitted: int = 0
    asked_at: float = -math.inf

    def go_by(self, share: int, unused: int, now: float, *, is_told: bool = True) -> int:
        """From now on. `unused` is what of its growth is had at once; returns what it gives up unused.

        While it was neither used nor told of a share of its own it just has the fallback share.
        """
        if share == self.share:
            return 0
        if self.counted is None and not is_told:
            self.share = share
            return 0
        ticks, part = int(now * TICKS_PER_SECOND), self.window_seconds * TICKS_PER_SECOND * self.limit / WHOLE
        counted = self.counted or Counted(0, ticks, 0, self.window_seconds)
        before = debt_left(counted.debt, counted.at, counted.rate, ticks)
        debt = max(before + int((share - self.share - min(unused, max(share - self.share, 0))) * part), 0)
        freed = max(int(self.share - before / part - max(share - debt / part, 0)), 0) if share < self.share else 0
        self.counted = Counted(debt, ticks, self.limit * share, self.window_seconds)
        self.share = share
        return freed

    def take(self, now: float) -> bool:
        ticks = int(now * TICKS_PER_SECOND)
        stand = standing(self.counted, self.limit, self.window_seconds, self.share, ticks)
        fits = stand.fits()
        if fits:
            stand, self.admitted = stand.taken(), self.admitted + 1
        self.counted = Counted(stand.debt, ticks, stand.rate, self.window_seconds)
        self.asked_at = now
        return fits

    def list_uses(self, id: bytes, since_seconds: float, now: float) -> list[TableUse]:
        age = now - self.asked_at
        if age > since_seconds:
            return []
        ticks = int(now * TICKS_PER_SECOND)
        is_full = not standing(self.counted, self.limit, self.window_seconds, self.share, ticks).fits()
        given_back = self.limit * self.share / WHOLE / self.window_seconds
        return [TableUse(id, self.limit, self.window_seconds, self.admitted, given_back, is_full, age)]
