"""Owns what one edge may hold of each limit, as far as anybody at the origin can know: a member of the ledger.

An edge that was told another share may have taken it or not, until it says which answer it goes by: the larger one
counts. An edge that is not heard of goes by what it was told for HELD_SECONDS, then by its fallback share. It does that
by its own clock, since it asked; here it is counted from when it was heard, which is later. Pure: `now` is in seconds
of a clock that nobody can set, shares are whole parts of WHOLE.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from keywright.protocol.shares import HELD_SECONDS, Use, UseReport

SILENT_SECONDS = 4.5
"""Not heard for so long, an edge is given nothing any more, and what it will fall back to is kept free for it."""

MemberKey = tuple[str, str]
"""The id of an account, "" for the deployment, and an edge's instance: no account's edge speaks for another's."""


@dataclass(slots=True)
class Holding:
    """One edge's share of one limit: what it is known to go by, what it was `told` since, the largest of all that."""

    held: int
    ceiling: int
    told: int | None = None
    is_sent: bool = False
    """Whether the latest answer told it."""


@dataclass(slots=True)
class Member:
    """One edge. `buckets` are the numbers of those that it sees; None: all there are."""

    heard_at: float
    sure_at: float
    """When the report was heard whose answer it is known to go by: it is cut off where it hears nothing, too."""
    buckets: frozenset[int] | None = None
    start: str = ""
    number: int = 0
    answer: int = 0
    fallback: Holding = field(default_factory=lambda: Holding(0, 0))
    """Its share of each limit that it was told none of."""
    holdings: dict[bytes, Holding] = field(default_factory=dict)
    uses: dict[bytes, Use] = field(default_factory=dict)
    gone: set[bytes] = field(default_factory=set)
    """Limits that are not shared out any more, of which it is yet to be told that."""
    is_fresh: bool = True
    """Whether it was heard of since this process knows it."""
    is_whole: bool = True
    """Whether it may go by anything, or nothing, that it was told, and is to be told everything."""
    has_grown: bool = True
    """Whether it may hold more than others at the origin know."""

    def sees(self, bucket: int | None) -> bool:
        """Whether it sees the bucket with this number; None: one that nobody knows."""
        return self.buckets is None or bucket in self.buckets

    def overlaps(self, other: Member) -> bool:
        """Whether both see some bucket."""
        if self.buckets is None or other.buckets is None:
            return True
        return not self.buckets.isdisjoint(other.buckets)

    def is_connected(self, now: float) -> bool:
        return self.is_fresh and now - self.sure_at <= SILENT_SECONDS

    def is_expired(self, now: float) -> bool:
        """Whether it certainly goes by its fallback share by now."""
        return now - self.heard_at > HELD_SECONDS

    def goes_by(self, id: bytes) -> int:
        """The share that it is known to have of a limit, now that it was heard."""
        holding = self.holdings.get(id)
        return self.fallback.held if holding is None else holding.held

    def count(self, id: bytes, now: float) -> int:
        """The most that it may hold of a limit in a bucket that it sees, now or, if it stays silent, soon."""
        fallback = self.fallback.ceiling
        holding = self.holdings.get(id)
        if holding is None:
            return fallback
        if now - self.heard_at > HELD_SECONDS:
            return fallback
        if now - self.sure_at > SILENT_SECONDS or not self.is_fresh:
            return max(holding.ceiling, fallback)
        return holding.ceiling

    def hear(self, report: UseReport, now: float) -> None:
        """Take down a report."""
        if self.is_expired(now):
            self.holdings.clear()
            self.is_whole = True
        else:
            self.is_whole = self.start != report.start or report.taken == 0 or report.taken != self.answer
        if not self.is_whole:
            self._confirm()
            self.sure_at = self.heard_at
        self.start, self.number = report.start, report.number
        self.heard_at, self.is_fresh = now, True
        self.uses = dict(report.uses) if report.part == 0 else {**self.uses, **report.uses}

    def tell(self, id: bytes, share: int) -> Holding:
        """Note that the next answer tells this share. What the edge had without being told is its fallback."""
        holding = self.holdings.get(id)
        if holding is None:
            fallback = self.fallback.ceiling
            holding = self.holdings[id] = Holding(fallback, fallback)
        holding.told = share
        if share > holding.ceiling:
            holding.ceiling, self.has_grown = share, True
        return holding

    def tell_fallback(self, share: int) -> None:
        self.fallback.told = share
        if share > self.fallback.ceiling:
            self.fallback.ceiling, self.has_grown = share, True

    def forget(self, id: bytes) -> None:
        """The limit is not shared out any more."""
        if self.holdings.pop(id, None) is not None:
            self.gone.add(id)
        self.uses.pop(id, None)

    def _confirm(self) -> None:
        """It goes by the latest answer, and so by nothing that it was told before."""
        for holding in (*self.holdings.values(), self.fallback):
            if holding.is_sent and holding.told is not None:
                holding.held = holding.ceiling = holding.told
                holding.told, holding.is_sent = None, False


def count_neighbours(members: Mapping[MemberKey, Member]) -> dict[MemberKey, int]:
    """How many edges, with itself, see some bucket that each sees."""
    everybody = sum(member.buckets is None for member in members.values())
    if everybody == len(members):
        return dict.fromkeys(members, everybody)
    return {
        key: sum(other is member or member.overlaps(other) for other in members.values())
        for key, member in members.items()
    }
