"""Ending tasks of an event loop for certain, and pauses that end early when their task is to.

A cancellation can get lost on its way: before Python 3.12 `asyncio.wait_for` returns its result instead, if that comes
at the same moment, and clients of databases and brokers are built on it.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

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
