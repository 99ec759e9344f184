"""Owns what an edge can promise of itself: after how long without a report that was taken it answers for no key."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import lmdb

from keywright.edge.replica.replica import ReplicaBroken

if TYPE_CHECKING:
    from keywright.edge.replica.replica import Replica

LOOK_SECONDS = 1.0
UNHEARD_SECONDS = 6.0
"""A report, and the one after it, may be lost before an edge in step refuses because it is not heard."""


class Promises:
    """The promise of one edge. What its buckets say is looked up now and then only: the edge keeps what it told."""

    def __init__(self) -> None:
        self._looked_at = -math.inf
        self._limit: float | None = None

    def __call__(self, replica: Replica, seconds: float | None, *, now: float) -> float | None:
        """In seconds; None if it goes on answering. `seconds` is its own setting."""
        if now - self._looked_at >= LOOK_SECONDS:
            self._looked_at, self._limit = now, _greatest_limit(replica)
        of_buckets = None if self._limit is None else self._limit + UNHEARD_SECONDS
        promised = [one for one in (seconds, of_buckets) if one is not None]
        return min(promised, default=None)


def _greatest_limit(replica: Replica) -> float | None:
    """The greatest limit of the buckets here, None if one of them has none, or there are none."""
    try:
        limits = [put.refuse_after for put in replica.buckets() if not put.name.startswith("_")]
    except (lmdb.Error, ReplicaBroken, ValueError):
        return None
    known = [limit for limit in limits if limit is not None]
    return max(known) if known and len(known) == len(limits) else None
