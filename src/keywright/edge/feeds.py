"""Owns what an edge asks of the record: the Feed. How a feed gets there (in process, HTTP, NATS) is its own business.

The embedded feed is in serve.py, the one place that sees both planes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from keywright.core.changes import Batch, Change


class SnapshotNeeded(Exception):
    """The record can't lead on from that revision: it is older than the kept changes, or newer than the record."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole record at one revision.

    `changes` gives pages of puts: buckets, then consumers in order of number, then keys in order of bucket number and
    digest. It may be empty. It is read once, by one reader, and closed (`aclose`) if it has that method.
    """

    deployment_id: str
    pepper_check: str
    revision: int
    changes: AsyncIterator[Sequence[Change]]


class Feed(Protocol):
    """The record, as an edge sees it. Any exception but SnapshotNeeded means: not reachable now, ask again later."""

    @property
    def batch_size(self) -> int:
        """How many changes a batch has at most. A shorter one ends with the newest change there was."""
        ...

    async def deployment_id(self) -> str:
        """Whose record it is. Asked at the start and after each failure: replicas of others are replaced."""
        ...

    async def snapshot(self) -> Snapshot: ...

    async def changes(self, after: int) -> Batch:
        """The changes after a revision, in order; an empty batch when there are none. Raises SnapshotNeeded.

        It holds every change that was committed before the call, up to `batch_size` of them.
        """
        ...
