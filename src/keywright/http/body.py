"""Owns reading the body of a request: no more than is allowed, each piece in PIECE_SECONDS, all in BODY_SECONDS.

Without an end to it, a client that sends a byte now and then would hold what the service has for its request.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from keywright.domain.problems import PayloadTooLarge, RequestTimeout

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, MutableMapping

    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

BODY_SECONDS = 30.0
PIECE_SECONDS = 10.0
LOOK_SECONDS = 1.0
"""How often SlowBodies looks whether one is."""


def declared_size(content_length: str) -> int | None:
    """How long a body is by its Content-Length, 10^18 for all that is longer; None without one that can be meant."""
    if not content_length.isdecimal():
        return None
    return int(content_length) if len(content_length) <= 18 else 10**18


async def read_bounded(chunks: AsyncIterable[bytes], most: int, too_large: str, declared: str = "0") -> bytes:
    """The whole body. `declared` is the request's Content-Length. Raises PayloadTooLarge, RequestTimeout."""
    if (declared_size(declared) or 0) > most:
        raise PayloadTooLarge(too_large)
    body = bytearray()
    try:
        async with asyncio.timeout(min(PIECE_SECONDS, BODY_SECONDS)) as deadline:
            last = asyncio.get_running_loop().time() + BODY_SECONDS
            async for chunk in chunks:
                body += chunk
                if len(body) > most:
                    raise PayloadTooLarge(too_large)
                deadline.reschedule(min(asyncio.get_running_loop().time() + PIECE_SECONDS, last))
    except TimeoutError:
        raise too_slow() from None
    return bytes(body)


async def chunks_after(first: bytes, receive: Receive) -> AsyncIterator[bytes]:
    """A body whose first piece has been received, with more to come."""
    yield first
    while True:
        message = await receive()
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return


def too_slow() -> RequestTimeout:
    return RequestTimeout(
        f"The body did not come: {PIECE_SECONDS:g} seconds for its next piece, {BODY_SECONDS:g} for all of it."
    )


class SlowBodies:
    """Ends waiting for the first piece of a body, where asyncio.timeout for each would take too long itself.

    One timer looks at all that are being received: `begin`, then await in the same task, then `end` in any case. A
    CancelledError in between is a timeout if `is_expired` says so.
    """

    def __init__(self) -> None:
        self._since: dict[asyncio.Task[Any], int] = {}
        self._look_count = 0
        self._expired: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> asyncio.Task[Any]:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101
        # In looks, not seconds: a clock need not be read for each of them.
        self._since[task] = self._look_count
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)
        return task

    def end(self, task: asyncio.Task[Any]) -> None:
        self._since.pop(task, None)

    def is_expired(self, task: asyncio.Task[Any]) -> bool:
        """Whether it was this that has cancelled the task; the task goes on then."""
        if task not in self._expired:
            return False
        self._expired.discard(task)
        return task.uncancel() == 0

    def _look(self) -> None:
        self._look_count += 1
        latest = self._look_count - PIECE_SECONDS / LOOK_SECONDS
        # The oldest comes first.
        late = []
        for task, since in self._since.items():
            if since > latest:
                break
            late.append(task)
        for task in late:
            del self._since[task]
            self._expired.add(task)
            task.cancel()
        self._timer = None
        if self._since:
            self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)
