"""Reading a stream at the broker ends when it is told to."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, cast

from keywright.nats.streams import Bounds, StreamReader


class Losing:
    """Streams whose client loses a cancellation, as one that is built on `wait_for` may before Python 3.12."""

    async def bounds(self, _: str) -> Bounds:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(10)
        return Bounds(1, 0, 0.0, "made then")


async def test_a_reader_whose_cancellation_was_lost_ends_at_once() -> None:
    reader = StreamReader(cast("Any", Losing()), "changes", 1, lambda: None, 1.0)
    await asyncio.sleep(0)
    async with asyncio.timeout(2):
        await reader.stop()
    assert reader._running.done()
