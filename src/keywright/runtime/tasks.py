"""Ending tasks of an event loop for certain, and threads that they wait for; pauses that end early when a task is to.

A cancellation can get lost on its way: before Python 3.12 `asyncio.wait_for` returns its result instead, if that comes
at the same moment, and clients of databases and brokers are built on it.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")

AGAIN_SECONDS = 5.0
"""How long a task may take to clean up before it is cancelled once more."""


async def end(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks until all of them have ended, however they do."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=AGAIN_SECONDS)


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Return after so long, or as soon as `stop` is set."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


async def in_thread(call: Callable[..., _T], *arguments: object) -> _T:
    """What a call in a thread comes to. Unlike asyncio.to_thread, a cancellation is heard when the call has ended: what
    it works on can be closed then.
    """
    running = asyncio.get_running_loop().run_in_executor(None, partial(call, *arguments))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([running])
        # What it came to is nobody's any more.
        running.exception()
        raise
