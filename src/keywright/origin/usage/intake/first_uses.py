"""Owns knowing which uses in a batch are the first of their key in the hour, as far as one process has seen.

Small batches are folded within seconds, but large ones wait for the end of their hour, and the first uses with them. So
those are picked out when a large batch comes in, and noted at once. It is a guess that errs rarely (a Bloom filter of
2 MiB an hour), and to one side: a use that is passed over is seen when its hour is folded.
"""

from __future__ import annotations

from collections.abc import Iterable

from keywright.origin.usage.counts import VALID
from keywright.protocol.usage import UsageRow

BITS = 24
"""Of an hour 2^24: with a million keys one in 300 is passed over, with four million one in eight."""
_MASK = (1 << BITS) - 1
HOURS = 2
"""The hour that it is, and the one before, of which edges tell a little later."""


class FirstUses:
    """One for each process. Texts are told apart by Python's own hash, which nobody outside can foresee."""

    def __init__(self) -> None:
        self._seen: dict[int, bytearray] = {}

    def take(self, rows: Iterable[UsageRow]) -> list[UsageRow]:
        """The rows that are the first good use of their key in their hour; from then on they are not."""
        return [row for row in rows if row.verdict == VALID and row.key_id is not None and self._is_first(row)]

    def _is_first(self, row: UsageRow) -> bool:
        seen = self._seen.get(row.hour)
        if seen is None:
            if self._seen and row.hour <= max(self._seen) - HOURS:
                return False
            seen = self._seen[row.hour] = bytearray(1 << (BITS - 3))
            for hour in sorted(self._seen)[:-HOURS]:
                del self._seen[hour]
        drawn = hash(row.key_id)
        is_first = False
        for at in (drawn & _MASK, drawn >> 20 & _MASK, drawn >> 40 & _MASK):
            if not seen[at >> 3] & 1 << (at & 7):
                seen[at >> 3] |= 1 << (at & 7)
                is_first = True
        return is_first
