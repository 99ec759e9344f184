"""A connection leaves nothing open, however it ends."""

from __future__ import annotations

import asyncio

from keywright.nats.connection import connect
from keywright.runtime.clock import Clock
from keywright.runtime.nats_options import NatsOptions
from keywright.runtime.tasks import end


async def test_who_is_cancelled_while_it_connects_leaves_no_line_open() -> None:
    has_come, is_over = asyncio.Event(), asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        has_come.set()
        await reader.read()
        is_over.set()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        connecting = asyncio.create_task(connect(NatsOptions((f"nats://127.0.0.1:{port}",)), "test", Clock()))
        await has_come.wait()
        await end(connecting)
        async with asyncio.timeout(5):
            await is_over.wait()
