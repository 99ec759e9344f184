"""Owns what this process has committed of late: its own edge need not read from the disk what was written a moment ago.

Only a chain is kept, each change the one after that before it, so what follows a cursor here is what follows it in the
record. What other processes have committed since is not here: that, only the record knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from keywright.protocol.changes import Cursor

MOST = 1000
"""Changes. Whoever lags by more reads them from the record."""


class Committed(NamedTuple):
    """A change as the log has it, and the cursor that it leads to."""

    cursor: Cursor
    body: str


class RecentCommits:
    """Noted by the one thread that commits; asked by any."""

    def __init__(self) -> None:
        # Replaced whole, never changed.
        self._chain: tuple[Committed, ...] = ()

    def note(self, committed: Sequence[Committed]) -> None:
        """After a commit, in the order of commits."""
        if not committed:
            return
        chain = self._chain
        if chain and committed[0].cursor.revision != chain[-1].cursor.revision + 1:
            chain = ()
        self._chain = (*chain, *committed)[-MOST:]

    def after(self, cursor: Cursor) -> Sequence[Committed]:
        """What follows a cursor of this very chain; nothing where it is not known, or nothing follows."""
        chain = self._chain
        if not chain:
            return ()
        place = cursor.revision - chain[0].cursor.revision
        if not 0 <= place < len(chain) or chain[place].cursor != cursor:
            return ()
        return chain[place + 1 :]
