"""Owns the table of what is lent to one machine of quotas: spent by all processes that answer from one replica.

It stands in files of a directory beside the replica, as the table of rate limits does, in parts of which a question
needs one: a consumer's quotas are in one. What was spent outlives every process, but not a start of the machine; for
that there are notes (notes.py). Time is CLOCK_BOOTTIME, which nobody sets.
"""

from __future__ import annotations

import functools
import os
import threading
import weakref
from hashlib import blake2b
from typing import TYPE_CHECKING

from keywright.edge.limits import rows as files
from keywright.edge.limits.table import SHARDS, quota_id
from keywright.edge.quotas import rows
from keywright.edge.quotas.part import Cost, Overtaken, Put, QuotaPart
from keywright.edge.quotas.rows import Fit
from keywright.edge.replica.freshness import find_boot_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from keywright.domain.reservations import Settlement
    from keywright.edge.quotas.reserving import Hold, Lacks
    from keywright.edge.quotas.rows import QuotaRow

__all__ = ["QUOTAS_DIRECTORY", "Cost", "Fit", "Overtaken", "Put", "QuotaTable", "quota_id"]

QUOTAS_DIRECTORY = "quotas"
"""In a replica's directory: all who answer from one replica spend from one table."""

MANY = 4_000
"""So many rows are read sooner with all others."""
READ_AT_ONCE = 50
"""An even number: two that stand behind each other are read at one moment. Who spends waits for some 100 us."""


class QuotaTable:
    """From any thread, and in any process: after a fork it is opened anew. Every method may raise OSError."""

    def __init__(self, directory: Path, elapsed: Callable[[], float], *, boot_id: str | None = None) -> None:
        """Nothing is opened or made before it is needed. `elapsed` counts seconds as `Clock.elapsed` does."""
        self.directory = directory
        self._elapsed = elapsed
        self._boot = blake2b((boot_id or find_boot_id() or "").encode(), digest_size=16).digest()
        self._beginning = threading.Lock()
        self._parts: list[QuotaPart] = []
        os.register_at_fork(after_in_child=functools.partial(_forget, weakref.ref(self)))

    def spend(
        self, costs: Sequence[Cost], *, is_peek: bool = False, overspends: bool = False, hold: Hold | None = None
    ) -> tuple[list[Fit], list[QuotaRow]]:
        """How the cost of each of these quotas, which are of one consumer, fits into what is lent, and how it stands:
        after it was spent, if all fit. Nothing is spent by a peek. With `overspends` what lacks is served all the same.
        With `hold` it is reserved.
        """
        part, now = self._part(costs[0].id), self.now()
        return part.spend(costs, now, is_peek=is_peek, overspends=overspends, hold=hold)

    def settle(self, hold: Hold, quota_ids: Sequence[bytes], cost: int, *, is_last: bool) -> Settlement | Lacks | None:
        """What becomes of a reservation of these quotas, which is settled unless more must be lent first."""
        return self._part(hold.id).settle(hold, quota_ids, cost, self.now(), is_last=is_last)

    def read(self, id: bytes) -> QuotaRow | None:
        return self._part(id).read(id)

    def rows(self) -> list[QuotaRow]:
        """What is kept, each row as it is at some moment."""
        return [row for part in self._all() for row in part.rows()]

    def read_all(self, ids: Sequence[bytes]) -> dict[bytes, QuotaRow]:
        """The rows of these ids that there are; of a pair of one consumer, if all are pairs, at one moment."""
        if len(ids) > MANY:
            wanted = set(ids)
            return {row.id: row for row in self.rows() if row.id in wanted}
        by_part: dict[int, list[bytes]] = {}
        for id in ids:
            by_part.setdefault(id[0] % SHARDS, []).append(id)
        found = {}
        for number, some in by_part.items():
            for start in range(0, len(some), READ_AT_ONCE):
                for row in self._all()[number].read_some(some[start : start + READ_AT_ONCE]):
                    found[row.id] = row
        return found

    def exists(self) -> bool:
        """Whether anything was ever asked for here."""
        return any(self.directory.glob("[0-9].[0-9]*"))

    @property
    def generation(self) -> int:
        """The latest that has begun."""
        return max(part.generation for part in self._all())

    def now(self) -> int:
        """In steps."""
        return rows.steps(self._elapsed())

    def begin(self, generation: int) -> list[QuotaRow]:
        """From now on only this generation puts anything here. What was lent before is spent no more: how far it was,
        is returned. Raises Overtaken.
        """
        return [row for part in self._all() for row in part.begin(generation)]

    def put(self, generation: int, puts: Iterable[Put]) -> dict[bytes, QuotaRow]:
        """Have these rows be so. Returns each as it was. Raises Overtaken where another generation has begun."""
        by_part: dict[int, list[Put]] = {}
        for put in puts:
            by_part.setdefault(put.id[0] % SHARDS, []).append(put)
        before = {}
        for number, some in by_part.items():
            part = self._all()[number]
            for start in range(0, len(some), files.MOST_ROWS_OF_CHANGE):
                for row in part.put(generation, some[start : start + files.MOST_ROWS_OF_CHANGE], self.now()):
                    before[row.id] = row
        return before

    def close(self) -> None:
        """Let go of the files. Whoever asks again opens them again."""
        parts, self._parts = self._parts, []
        for part in parts:
            part.close()

    def _part(self, id: bytes) -> QuotaPart:
        return self._all()[id[0] % SHARDS]

    def _all(self) -> list[QuotaPart]:
        return self._parts or self._begin()

    def _begin(self) -> list[QuotaPart]:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._beginning:
            if not self._parts:
                self._parts = [QuotaPart(self.directory, number, self._boot, 0) for number in range(SHARDS)]
            return self._parts


def _forget(table: weakref.ref[QuotaTable]) -> None:
    """In a child: what is open is the parent's, whose locks must not be given up here."""
    forked = table()
    if forked is not None:
        forked._beginning, forked._parts = threading.Lock(), []
