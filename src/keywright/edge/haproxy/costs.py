"""Owns which way is the quicker one: to write what the backlog holds, or to make all maps anew. Measured as it goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keywright.edge.haproxy.backlog import Backlog
    from keywright.edge.haproxy.socket import Written

GUARD_SECONDS = 0.1
"""What takes away is simply written where that takes less; nobody needs to be blocked meanwhile."""
FILL_SECONDS = 0.1
"""What a fill takes in any case."""
_WEIGHT = 0.3


@dataclass(slots=True)
class Costs:
    """In seconds; at first as HAProxy 2.6 was measured with some thousand entries, and a slow machine."""

    change: float = 0.001
    """To change an entry that is there, or to take it out."""
    entry: float = 1 / 20_000
    """One entry in a fill."""
    is_measured: bool = False
    """Whether `change` is more than a guess: what takes away is written a little while before anything is made anew."""
    changed_share: float = 0.0
    """How many of the entries that were given lately had been there."""

    def note_written(self, written: Written) -> None:
        if written.changes:
            weight = _WEIGHT if self.is_measured else 1.0
            self.change += weight * (written.seconds / written.changes - self.change)
            self.is_measured = True

    def note_given(self, written: Written) -> None:
        share = written.changes / len(written.writes) if written.writes else 0.0
        self.changed_share += _WEIGHT * (share - self.changed_share)

    def note_filled(self, count: int, seconds: float) -> None:
        if count >= 1000:
            self.entry = seconds / count

    def is_guard_needed(self, backlog: Backlog) -> bool:
        return backlog.takes * self.change > GUARD_SECONDS

    def is_fill_quicker(self, backlog: Backlog, count: int) -> bool:
        """Whether all `count` entries are written sooner than the backlog."""
        if not self.is_measured:
            return False
        changes = backlog.takes + backlog.garbage + backlog.gives * self.changed_share
        return changes * self.change > count * self.entry + FILL_SECONDS
