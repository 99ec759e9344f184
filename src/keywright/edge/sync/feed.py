"""Owns what an edge asks of the record: the Feed. How a feed gets there (in process, HTTP, NATS) is its own business.

The embedded feed is in serve/worker.py, which sees both planes; that of a remote edge is in http_feed.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from keywright.protocol.changes import Batch, Change, Cursor
from keywright.protocol.frames import FormatUnknown, Frame, FrameError


class SnapshotNeeded(Exception):
    """The record can't lead on from that cursor: its change is not kept, or this record was never there."""


class RecordBehind(Exception):
    """The record, as this feed sees it, may merely have yet to come to where the replica is: it is waited for."""


class Refused(Exception):
    """The record is there and will not have this edge: a person must change something. Asked again, but slowly."""


class OtherPepper(Refused):
    """The record's digests were made under another pepper: this edge could recognise none of its keys."""


class Untrusted(Exception):
    """What came was not made by the record of this deployment, or not for this question."""


class OtherFormat(Untrusted):
    """What came is of a format that this version does not read: origin and edge are of versions too far apart."""


def untrusted(error: FrameError) -> Untrusted:
    """What it means for who follows that a frame is none."""
    return (OtherFormat if isinstance(error, FormatUnknown) else Untrusted)(str(error))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole record at one moment.

    `changes` gives pages of puts: buckets, then consumers in order of number, then keys in order of bucket number and
    digest. It may be empty. It is read once, by one reader, and closed (`aclose`) if it has that method.
    """

    deployment_id: str
    pepper_check: str
    cursor: Cursor
    changes: AsyncIterator[Sequence[Change]]


class Feed(Protocol):
    """The record, as an edge sees it. Any exception but SnapshotNeeded means: not reachable now, ask again later.

    Refused means so, too, and that asking soon is of no use.
    """

    def is_last(self, batch: Batch) -> bool:
        """Whether a batch that `changes` gave ended with the newest change that there was when it was asked for, as
        far as the feed knows (`is_newest` of the batch).
        """
        ...

    async def deployment_id(self) -> str:
        """Whose record it is. Asked at the start and after each failure: replicas of others are replaced."""
        ...

    async def snapshot(self) -> Snapshot: ...

    async def changes(self, after: Cursor) -> Batch:
        """The changes after a cursor, in order; an empty batch when there are none. Raises SnapshotNeeded.

        It holds every change that was committed before the call, up to as many as the feed gives at once. That the
        record has the cursor is made sure of even when nothing follows it: an equal revision proves nothing.
        """
        ...


@runtime_checkable
class LiveFeed(Feed, Protocol):
    """A feed that says by itself when there is something new, and so is not polled."""

    @property
    def synced_at(self) -> float | None:
        """The latest moment of which it is known that all that was committed by then has been handed on.

        In seconds of `Clock.elapsed`.
        """
        ...

    async def wait_for_changes(self) -> None:
        """Return when `changes` should be asked again; raises what `changes` raises. May be cancelled."""
        ...


class NoFeed:
    """What an edge follows that was started without an origin: nothing, and it says so instead of looking in step."""

    def is_last(self, batch: Batch) -> bool:
        raise NotImplementedError

    async def deployment_id(self) -> str:
        raise Refused(
            "this edge has no origin or broker: what changed since its snapshot file was made is not known here"
        )

    async def snapshot(self) -> Snapshot:
        raise NotImplementedError

    async def changes(self, after: Cursor) -> Batch:
        raise NotImplementedError

    async def close(self) -> None: ...


@runtime_checkable
class NotifyingFeed(Feed, Protocol):
    """A feed that hears by itself when asking again is of use, also while it is not asked."""

    on_message: Callable[[], None]
    """Called then. Whoever follows sets it."""


def record_of(frame: Frame) -> str:
    """Whose record a frame is of, and which part of it: the deployment, and the scope of who may see it."""
    return f"{frame.deployment_id}/{frame.scope}"
