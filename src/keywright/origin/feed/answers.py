"""Owns what the answers of the feed hold: the frames of each, in order, and when an answer of changes ends.

No transaction is open while an answer of changes waits for its reader; a snapshot holds one, for a limited time and for
few readers at once (places.py).
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from keywright.domain.permissions import Grantee
from keywright.origin.auth.actors import Actor
from keywright.origin.db.commit_log import NotKept
from keywright.origin.db.engine import DatabaseUnavailable
from keywright.origin.db.snapshot_stream import list_bucket_puts, list_system_consumers, stream_snapshot
from keywright.origin.db.transaction import Database
from keywright.origin.deployment.store import find_deployment
from keywright.origin.edges.scopes import DEPLOYMENT
from keywright.origin.feed.log_tail import LogSlice, LogTail
from keywright.origin.feed.places import SnapshotPlaces, StreamPlaces
from keywright.origin.feed.scope_filter import ScopeFilter, ScopeGrew
from keywright.protocol.changes import NOWHERE, Change, Cursor, NotInFormat2
from keywright.protocol.feed_formats import change_in, puts_in
from keywright.protocol.frames import Frame, FrameKind, FrameSigner, pack
from keywright.runtime.clock import Clock

log = logging.getLogger("keywright.origin")

HEARTBEAT_SECONDS = 2.0
TOKEN_CHECK_SECONDS = 1.0
AWAY_SECONDS = 10.0
"""A stream that can't have looked at the record for this long ends: its heartbeats would say nothing."""
SNAPSHOT_SECONDS = 1800.0


@dataclass(slots=True)
class FeedSource:
    """What every answer is made from. One for each process."""

    database: Database
    tail: LogTail
    clock: Clock
    stream_places: StreamPlaces
    snapshot_places: SnapshotPlaces = field(default_factory=SnapshotPlaces)


@dataclass(slots=True)
class FrameSeries:
    """What the frames of one answer have in common, and the count of them."""

    signer: FrameSigner
    deployment_id: str
    scope: str
    nonce: str
    feed_format: int
    """What the reader reads of changes."""
    count: int = 0

    def encode(
        self,
        kind: FrameKind,
        *,
        at: float,
        cursor: Cursor = NOWHERE,
        follows: Cursor | None = None,
        head: int = 0,
        changes: Sequence[Change] = (),
    ) -> bytes:
        """The next frame. `at` is by `Clock.elapsed`: a reader only ever takes the difference of two."""
        cursors = (cursor if follows is None else follows), cursor, max(head, cursor.revision)
        common = self.deployment_id, kind, self.scope, self.nonce, self.count
        self.count += 1
        return self.signer.encode(Frame(*common, *cursors, int(at * 1000), changes))


async def deployment_frames(source: FeedSource, series: FrameSeries) -> AsyncIterator[bytes]:
    """One frame, which says whose record this is."""
    yield series.encode(FrameKind.END, at=source.clock.elapsed())


async def snapshot_frames(source: FeedSource, series: FrameSeries, grantee: Grantee) -> AsyncIterator[bytes]:
    """The record at one revision: pages, then an end frame; without that it is none. Raises ServiceUnavailable."""
    clock = source.clock
    deadline = clock.elapsed() + SNAPSHOT_SECONDS
    with source.snapshot_places.hold(account_of(grantee)):
        scope = ScopeFilter(grantee)
        async with source.database.read(is_snapshot=True) as tx:
            deployment = await find_deployment(tx)
            cursor = deployment.head if deployment is not None else NOWHERE
            yield series.encode(FrameKind.PAGE, at=clock.elapsed(), cursor=cursor)
            async for page in stream_snapshot(tx):
                seen = puts_in((shown for put in page if (shown := scope.view(put)) is not None), series.feed_format)
                for part in pack(seen):
                    yield series.encode(FrameKind.PAGE, at=clock.elapsed(), cursor=cursor, changes=part)
                    if clock.elapsed() > deadline or source.tail.is_stopped:
                        return
        yield series.encode(FrameKind.END, at=clock.elapsed(), cursor=cursor)


def account_of(grantee: Grantee) -> str:
    """As whose reader one counts: an account's, or the whole deployment's."""
    return DEPLOYMENT if grantee.is_root else grantee.account_id


async def change_frames(
    source: FeedSource, series: FrameSeries, actor: Actor, after: Cursor, may_still: Callable[[], Awaitable[bool]]
) -> AsyncIterator[bytes]:
    """Changes after a cursor as they are committed, and heartbeats, for as long as the reader may follow.

    Raises NotKept, DatabaseUnavailable, TooManyRequests before the first frame; after it, it just ends.
    """
    tail, clock, grantee = source.tail, source.clock, actor.grantee
    with source.stream_places.hold(actor.sub):
        async with tail.reading():
            scope = await _scope_of(source.database, grantee)
            piece = await tail.read(after)
            checked_at = sent_at = clock.elapsed()
            is_due = True
            while not tail.is_stopped:
                if piece.changes or is_due:
                    try:
                        frames = _encode_slice(series, scope, piece)
                    except (ScopeGrew, NotInFormat2):
                        yield series.encode(FrameKind.SNAPSHOT, at=piece.as_of, cursor=piece.follows, head=piece.head)
                        return
                    for frame in frames:
                        yield frame
                    sent_at = clock.elapsed()
                now = clock.elapsed()
                if now - checked_at >= TOKEN_CHECK_SECONDS:
                    if not await may_still():
                        return
                    checked_at = now
                next_check, next_heartbeat = checked_at + TOKEN_CHECK_SECONDS, sent_at + HEARTBEAT_SECONDS
                try:
                    piece = await tail.after(piece.cursor, max(0.0, min(next_check, next_heartbeat) - now))
                except (NotKept, DatabaseUnavailable) as error:
                    log.warning("a stream of changes ends: %s", error)
                    return
                now = clock.elapsed()
                if now - piece.as_of > AWAY_SECONDS:
                    return
                is_due = now - sent_at >= HEARTBEAT_SECONDS


def _encode_slice(series: FrameSeries, scope: ScopeFilter, piece: LogSlice) -> list[bytes]:
    """The frames of a slice, the empty one too: that is a heartbeat. Raises ScopeGrew, NotInFormat2."""
    passed = [change_in(scope.pass_on(change), series.feed_format) for _, change in piece.changes]
    cursors = [piece.follows, *(cursor for cursor, _ in piece.changes)]
    frames = []
    done = 0
    for part in pack(passed) if passed else [()]:
        follows, cursor = cursors[done], cursors[done + len(part)]
        at, head = piece.as_of, piece.head
        frames.append(series.encode(FrameKind.CHANGES, at=at, follows=follows, cursor=cursor, head=head, changes=part))
        done += len(part)
    return frames


async def _scope_of(database: Database, grantee: Grantee) -> ScopeFilter:
    """A filter that knows what there is."""
    scope = ScopeFilter(grantee)
    if not scope.is_everything:
        async with database.read(is_snapshot=True) as tx:
            puts: list[Change] = [
                *await list_bucket_puts(tx),
                *await list_system_consumers(tx),
            ]
        for put in puts:
            scope.view(put)
    return scope
