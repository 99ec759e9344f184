"""Waiting in an event loop for what something else brings about."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable


async def until(is_true: Callable[[], object], timeout: float = 20) -> None:
    """Return as soon as something is so; `is_true` may be a coroutine function."""
    async with asyncio.timeout(timeout):
        while True:
            answer = is_true()
            if inspect.isawaitable(answer):
                answer = await answer
            if answer:
                return
            await asyncio.sleep(0.005)
