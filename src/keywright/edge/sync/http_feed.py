"""Owns following the record over HTTP: requests to the origin, and making sure that what comes back is the origin's.

One answer of changes is open at a time, and read only as fast as the replica takes what it brings: what waits, waits in
the socket. Every frame is checked (frames.py) to be made for this very request, in its place. After anything that
is wrong the answer is given up and the next question opens a new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import zlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import httpx2

from keywright.edge.sync.feed import OtherPepper, Refused, Snapshot, SnapshotNeeded, Untrusted, record_of, untrusted
from keywright.protocol import feed_formats
from keywright.protocol.changes import NOWHERE, Batch, Change, Cursor
from keywright.protocol.frames import Frame, FrameError, FrameKind, FrameSigner, FrameSplitter

if TYPE_CHECKING:
    from keywright.domain.keyformat import Digester
    from keywright.runtime.clock import Clock

SILENCE_SECONDS = 6.0
"""Three heartbeats: a connection that is this quiet is dead, whatever the socket says."""
CONNECT_SECONDS = 5.0
_GZIP = 16 + zlib.MAX_WBITS
_INFLATED_BYTES = 1024 * 1024
_LARGEST_BATCH = 5000


class OriginUnavailable(Exception):
    """The origin can't be reached, is busy, or broke off; asking again may help."""


class HttpFeed:
    """A live feed (feed.py). `close` it when it is no longer needed. To be used by one task at a time."""

    def __init__(self, client: httpx2.AsyncClient, digester: Digester, clock: Clock) -> None:
        """`client` speaks to the origin as this edge (wiring.py); it is closed with the feed."""
        self._signer = FrameSigner(digester)
        self._pepper_check = digester.pepper_check()
        self._clock = clock
        self._client = client
        self._record: str | None = None
        self._answer: _Answer | None = None

    @property
    def synced_at(self) -> float | None:
        answer = self._answer
        return answer.synced_at if answer is not None and answer.is_current else None

    def is_last(self, batch: Batch) -> bool:
        """Each batch is asked for until there is none: that one is short says nothing here."""
        return not batch.changes

    async def deployment_id(self) -> str:
        """The deployment and the scope of the token: a replica of another scope lacks records, or has too many."""
        await self._give_up()
        answer = await self._ask("/v1/feed")
        try:
            frame = await answer.next()
        finally:
            await answer.close()
        self._record = record_of(frame)
        return self._record

    async def changes(self, after: Cursor) -> Batch:
        try:
            answer = self._answer
            if answer is None or answer.handed_on != after:
                await self._give_up()
                answer = self._answer = await self._ask("/v1/feed/changes", after)
                answer.handed_on = after
            if not answer.is_current:
                await answer.hear()
            changes: list[Change] = []
            for frame in answer.take():
                self._check(frame, answer.handed_on)
                changes += frame.changes
                answer.handed_on = frame.cursor
            return Batch(after, changes, answer.handed_on)
        except BaseException:
            await self._give_up()
            raise

    async def wait_for_changes(self) -> None:
        if self._answer is None:
            return
        try:
            await self._answer.hear()
        except BaseException:
            await self._give_up()
            raise

    async def snapshot(self) -> Snapshot:
        await self._give_up()
        answer = await self._ask("/v1/feed/snapshot")
        try:
            first = await answer.next()
            if first.kind is not FrameKind.PAGE:
                raise Untrusted("the snapshot does not begin with a page")
        except BaseException:
            await answer.close()
            raise
        return Snapshot(record_of(first), self._pepper_check, first.cursor, _pages(answer, first))

    async def close(self) -> None:
        await self._give_up()
        await self._client.aclose()

    def _check(self, frame: Frame, follows: Cursor) -> None:
        if record_of(frame) != self._record:
            raise Untrusted("the record has become another one")
        if frame.kind is FrameKind.SNAPSHOT:
            raise SnapshotNeeded("this edge may see, or read, more than it did")
        if frame.kind is not FrameKind.CHANGES or frame.follows != follows:
            raise Untrusted("the changes do not follow each other")
        revision = frame.cursor.revision
        if revision != follows.revision + len(frame.changes) or frame.head < revision:
            raise Untrusted("there is not one change for each revision")

    async def _give_up(self) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            await answer.close()

    async def _ask(self, path: str, after: Cursor | None = None) -> _Answer:
        """The answer to a request of its own nonce. Raises what the origin's refusal means."""
        nonce = secrets.token_urlsafe(24)
        parameters = {} if after is None else {"after": str(after)}
        asked_at = self._clock.elapsed()
        stack = AsyncExitStack()
        try:
            headers = {"keywright-nonce": nonce, feed_formats.HEADER: str(feed_formats.NEWEST)}
            opening = self._client.stream("GET", path, params=parameters, headers=headers)
            response = await stack.enter_async_context(opening)
            await self._refuse(response)
        except httpx2.HTTPError as error:
            await stack.aclose()
            raise OriginUnavailable(f"{type(error).__name__}: {error}") from error
        except BaseException:
            await stack.aclose()
            raise
        return _Answer(response, stack, self._signer, self._clock, nonce, asked_at)

    async def _refuse(self, response: httpx2.Response) -> None:
        status = response.status_code
        if status == 200:
            theirs = response.headers.get("keywright-pepper-check")
            if theirs is None:
                raise Refused(f"{self._client.base_url} is no Keywright origin")
            if theirs != self._pepper_check:
                raise OtherPepper(
                    "the pepper of this edge is not the origin's: no key would be known. Give it that one"
                )
            return
        if status == 410:
            raise SnapshotNeeded("the origin does not have this replica's revision with its stamp, or no longer (410)")
        if status == 401:
            raise Refused("the origin does not know the edge token (401): it was revoked, has expired or is mistyped")
        if status == 403:
            raise Refused("the edge token may not follow the feed (403): its permissions lack feed")
        if status < 500 and status != 429:
            raise Refused(
                f"the origin answered {status}: is KEYWRIGHT_ORIGIN_URL its address, and its version this one's?"
            )
        raise OriginUnavailable(f"the origin answered {status}")


class _Answer:
    """The frames of one answer, checked for their place in it."""

    def __init__(
        self,
        response: httpx2.Response,
        stack: AsyncExitStack,
        signer: FrameSigner,
        clock: Clock,
        nonce: str,
        asked_at: float,
    ) -> None:
        self.handed_on = NOWHERE
        self.synced_at = asked_at
        self._stack = stack
        self._signer = signer
        self._clock = clock
        self._nonce = nonce
        self._asked_at = asked_at
        self._first_time: int | None = None
        self._number = 0
        self._head = -1
        self._arrived: list[Frame] = []
        self._chunks = _inflated(response)
        self._splitter = FrameSplitter()

    @property
    def is_current(self) -> bool:
        """Whether everything that the origin knew of at its last frame has been handed on."""
        return not self._arrived and self.handed_on.revision == self._head

    async def hear(self) -> None:
        """Return when a frame has arrived. Raises OriginUnavailable when there are no more, or none for too long."""
        while not self._arrived:
            try:
                async with asyncio.timeout(SILENCE_SECONDS):
                    data = await anext(self._chunks, None)
            except TimeoutError:
                raise OriginUnavailable(f"nothing was heard of the origin for {SILENCE_SECONDS:g} s") from None
            except (httpx2.HTTPError, zlib.error) as error:
                raise OriginUnavailable(f"the answer broke off: {type(error).__name__}: {error}") from error
            if data is None:
                raise OriginUnavailable("the origin ended the answer")
            try:
                for raw in self._splitter.feed(data):
                    self._admit(self._signer.decode(raw))
            except FrameError as error:
                raise untrusted(error) from error

    def take(self) -> Sequence[Frame]:
        """The frames that have arrived, some at least when there are any."""
        count = size = 0
        for frame in self._arrived:
            if count and size + len(frame.changes) > _LARGEST_BATCH:
                break
            count, size = count + 1, size + len(frame.changes)
        taken, self._arrived = self._arrived[:count], self._arrived[count:]
        return taken

    async def next(self) -> Frame:
        await self.hear()
        return self._arrived.pop(0)

    async def close(self) -> None:
        # What ends here was given up: that closing it fails, too, tells nothing new.
        with contextlib.suppress(httpx2.HTTPError):
            await self._chunks.aclose()  # type: ignore[attr-defined]
        with contextlib.suppress(httpx2.HTTPError):
            await self._stack.aclose()

    def _admit(self, frame: Frame) -> None:
        if frame.nonce != self._nonce:
            raise FrameError("the frame answers another request")
        if frame.number != self._number:
            raise FrameError(f"frame {frame.number} came where {self._number} was due")
        self._number += 1
        if self._first_time is None:
            self._first_time = frame.time
        # The first frame was made after the question, so this is never later than the moment that the origin means,
        # however long the frame was held up and whatever the two clocks say.
        since = (frame.time - self._first_time) / 1000
        self.synced_at = max(self.synced_at, min(self._asked_at + since, self._clock.elapsed()))
        self._head = frame.head
        self._arrived.append(frame)


async def _pages(answer: _Answer, first: Frame) -> AsyncIterator[Sequence[Change]]:
    """Every page. Raises when the end frame doesn't come: a part is never taken for the whole."""
    try:
        frame = first
        while frame.kind is not FrameKind.END:
            if frame.kind is not FrameKind.PAGE or frame.cursor != first.cursor or record_of(frame) != record_of(first):
                raise Untrusted("the snapshot's frames are not of one snapshot")
            yield frame.changes
            frame = await answer.next()
    finally:
        await answer.close()


async def _inflated(response: httpx2.Response) -> AsyncIterator[bytes]:
    """The body's bytes as they come, in pieces that stay small however well they were compressed."""
    if response.headers.get("content-encoding") != "gzip":
        async for data in response.aiter_raw():
            yield data
        return
    inflater = zlib.decompressobj(_GZIP)
    async for data in response.aiter_raw():
        rest = data
        while rest:
            yield inflater.decompress(rest, _INFLATED_BYTES)
            rest = inflater.unconsumed_tail
