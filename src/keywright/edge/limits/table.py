"""Owns the table of rate limits of one machine: counted by all processes that answer from one replica, without a call.

It stands in files of a directory beside the replica, in parts (shard.py), and is mapped into memory by each process.
Time is CLOCK_BOOTTIME, which nobody sets. What was counted is gone when the machine starts anew: all of a limit is had
again then.

A limit of all edges together is counted by this edge's share of it. Who knows of the other edges says what that is
(`set_shares`, `set_fallback_share`); until then it is the whole.
"""

from __future__ import annotations

import functools
import os
import threading
import time
import weakref
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

from keywright.edge.limits import rows
from keywright.edge.limits.gcra import TICKS_PER_SECOND, WHOLE, Standing
from keywright.edge.limits.rows import IS_GLOBAL
from keywright.edge.limits.shard import Asked, Shard
from keywright.edge.replica.freshness import find_boot_id
from keywright.protocol.shares import CONSUMER_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

__all__ = [
    "LIMITS_DIRECTORY",
    "Asked",
    "LimitTable",
    "TableUse",
    "consumer_limit_id",
    "held_id",
    "key_limit_id",
    "quota_id",
    "reservation_id",
]

LIMITS_DIRECTORY = "limits"
"""In a replica's directory: all who answer from one replica count in one table."""
SHARDS = 8
PART_SECONDS = 60.0
"""A file that was being made is taken away so long after whoever made it was killed."""


def consumer_limit_id(consumer_number: int, name: str) -> bytes:
    """Of a limit that all keys of a consumer share: 16 bytes, the same at all edges."""
    return _limit_id(consumer_number, b"c", name.encode())


def key_limit_id(consumer_number: int, key_id: str, name: str) -> bytes:
    """Of a limit of one key, of this consumer's."""
    return _limit_id(consumer_number, b"k", key_id.encode(), name.encode())


def quota_id(consumer_number: int, name: str) -> bytes:
    """Of a quota of a consumer, in the table of edge/quotas."""
    return _limit_id(consumer_number, b"q", name.encode())


def held_id(consumer_number: int, name: str) -> bytes:
    """Of what is reserved of a quota, there."""
    return _limit_id(consumer_number, b"h", name.encode())


def reservation_id(consumer_number: int, nonce: bytes) -> bytes:
    """Of one reservation of a consumer's, there."""
    return _limit_id(consumer_number, b"r", nonce)


class TableUse(NamedTuple):
    """A limit of all edges as it is used here. `admitted` only grows, but for one that nobody used in an hour."""

    id: bytes
    limit: int
    window_seconds: int
    admitted: int
    given_back: float
    """Units a second, of this edge's share."""
    is_full: bool
    """Whether not one more would be let in."""
    age_seconds: float
    """Since it was asked for, to within a second."""


class LimitTable:
    """From any thread, and in any process: after a fork it is opened anew. Every method may raise OSError."""

    def __init__(
        self,
        directory: Path,
        elapsed: Callable[[], float],
        *,
        boot_id: str | None = None,
        first_share: float = 1.0,
    ) -> None:
        """Nothing is opened or made before it is needed. `elapsed` counts seconds as `Clock.elapsed` does.

        `first_share` is the fallback share until another is set: 0.0 where somebody will say what this edge has.
        """
        self._directory = directory
        self._elapsed = elapsed
        self._boot = blake2b((boot_id or find_boot_id() or "").encode(), digest_size=16).digest()
        self._beginning = threading.Lock()
        self._shards: list[Shard] = []
        self._first_share = _parts_of(first_share)
        os.register_at_fork(after_in_child=functools.partial(_forget, weakref.ref(self)))

    def take(
        self, asked: Sequence[Asked], *, is_peek: bool = False, agree: Callable[[], bool] = lambda: True
    ) -> tuple[bool, list[Standing]]:
        """Whether one more fits into all of these limits, which are of one consumer (and its key), and how each stands
        then: after it was taken, unless `is_peek`. `agree` is asked when all fit; nothing is taken if it says no.
        """
        shards = self._shards or self._begin()
        shard = shards[asked[0].id[0] % SHARDS]
        return shard.take(asked, int(self._elapsed() * TICKS_PER_SECOND), is_peek=is_peek, agree=agree)

    def list_uses(self, since_seconds: float) -> list[TableUse]:
        """The limits of all edges that were asked for in these last seconds, each as it stands now."""
        shards = self._shards or self._begin()
        now = int(self._elapsed() * TICKS_PER_SECOND)
        since = now - int(since_seconds * TICKS_PER_SECOND)
        return [
            TableUse(
                row.id,
                row.limit,
                row.window_seconds,
                row.admitted,
                given_back=row.rate / (WHOLE * row.window_seconds),
                is_full=row.is_full(now),
                age_seconds=(now - row.at) / TICKS_PER_SECOND,
            )
            for shard in shards
            for row in shard.rows()
            if row.flags & IS_GLOBAL and row.at >= since
        ]

    def set_shares(
        self, shares: Mapping[bytes, float], *, until: float, unused: Mapping[bytes, float] | None = None
    ) -> dict[bytes, float]:
        """What part of each limit is this edge's, of its rate and of what it lets through at once: 0.0 to 1.0.

        Behind `until` (seconds of `Clock.elapsed`) it is the fallback share. What a share grows by comes as used up,
        but for that part of the limit which is `unused`. Returns of those that became smaller which part was not used.
        """
        shards = self._shards or self._begin()
        parts: list[dict[bytes, tuple[int, int]]] = [{} for _ in shards]
        freed: dict[bytes, float] = {}
        for id, share in shares.items():
            parts[id[0] % SHARDS][id] = (_parts_of(share), _parts_of((unused or {}).get(id, 0.0)))
        for shard, part in zip(shards, parts, strict=True):
            if part:
                now = int(self._elapsed() * TICKS_PER_SECOND)
                given_up = shard.set_shares(part, max(int(until * rows.SHARE_STEPS_PER_SECOND), 0), now)
                freed |= {id: parts_ / WHOLE for id, parts_ in given_up.items()}
        return freed

    def set_fallback_share(self, share: float) -> None:
        """What part is this edge's of each limit of which no share is set, or not any more."""
        shards = self._shards or self._begin()
        for shard in shards:
            shard.set_fallback_share(_parts_of(share))

    def close(self) -> None:
        """Let go of the files. Whoever asks again opens them again."""
        shards, self._shards = self._shards, []
        for shard in shards:
            shard.close()

    def _begin(self) -> list[Shard]:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._sweep_parts()
        with self._beginning:
            if not self._shards:
                self._shards = [
                    Shard(self._directory, number, self._boot, self._first_share) for number in range(SHARDS)
                ]
            return self._shards

    def _sweep_parts(self) -> None:
        for part in self._directory.glob(".*.part"):
            try:
                if time.time() - part.stat().st_mtime > PART_SECONDS:
                    part.unlink()
            except FileNotFoundError:
                continue


def _forget(table: weakref.ref[LimitTable]) -> None:
    """In a child: what is open is the parent's, whose locks must not be given up here."""
    forked = table()
    if forked is not None:
        forked._beginning, forked._shards = threading.Lock(), []


def _limit_id(consumer_number: int, *parts: bytes) -> bytes:
    """The first byte says in which part of the table it is: all limits of one question are in one.

    The consumer's number is all there, so that the origin can tell whose limit an edge speaks of.
    """
    number = consumer_number.to_bytes(CONSUMER_BYTES, "little")
    return number + blake2b(b"\0".join((number, *parts)), digest_size=rows.ID_BYTES - CONSUMER_BYTES).digest()


def _parts_of(share: float) -> int:
    return min(max(int(share * WHOLE), 0), WHOLE)
