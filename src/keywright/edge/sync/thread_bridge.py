"""Owns what passes between the event loop and the thread that writes: calls of the one, pages of the other.

Everything that LMDB may block on happens on that thread, so that neither an fsync nor another process's write holds up
the event loop.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from keywright.edge.heartbeat_lock import BEAT_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from concurrent.futures import Future

    from keywright.protocol.changes import Change

_T = TypeVar("_T")


class WriterThread:
    """One thread, on which calls are made one after the other. `close` it.

    `beat` is called now and then while one takes long, for as long as the event loop turns: a slow disk is no reason to
    take this process for one that has stopped.
    """

    def __init__(self, beat: Callable[[], None] = lambda: None) -> None:
        self._executor = ThreadPoolExecutor(1, "replica-writer")
        self._beat = beat

    async def run(self, function: Callable[..., _T], *arguments: object) -> _T:
        running = asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)
        try:
            while not (await asyncio.wait((running,), timeout=BEAT_SECONDS))[0]:
                self._beat()
        except asyncio.CancelledError:
            running.cancel()
            raise
        return running.result()

    async def close(self) -> None:
        """Returns when the call that is under way has ended."""
        await asyncio.to_thread(self._executor.shutdown)


class PageBridge:
    """The changes of a snapshot, produced on the event loop and read on the writer's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pages: AsyncIterator[Sequence[Change]]) -> None:
        self._loop = loop
        self._pages = pages
        self._pending: Future[Sequence[Change] | None] | None = None
        self._is_stopped = False

    def stop(self) -> None:
        """Make the reader fail, so that its transaction is given up; without effect when it has read everything."""
        self._is_stopped = True
        if self._pending is not None:
            self._pending.cancel()

    def __iter__(self) -> Iterator[Change]:
        while True:
            self._pending = asyncio.run_coroutine_threadsafe(self._next_page(), self._loop)
            if self._is_stopped:
                self._pending.cancel()
            page = self._pending.result()
            if page is None:
                return
            yield from page

    async def _next_page(self) -> Sequence[Change] | None:
        return await anext(self._pages, None)
