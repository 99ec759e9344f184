"""A connection leaves nothing open, however it ends, and one server that says nothing keeps nobody from the next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from keywright.nats import connection as connections
from keywright.nats.connection import BrokerUnavailable, connect
from keywright.runtime.clock import Clock
from keywright.runtime.nats_options import NatsOptions
from keywright.runtime.tasks import end
from support.nats import NatsServer


class Mute:
    """A server that takes connections and says nothing: as one that is stopped does."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.has_come = asyncio.Event()
        self.is_over = asyncio.Event()


@asynccontextmanager
async def mute() -> AsyncIterator[Mute]:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.has_come.set()
        await reader.read()
        served.is_over.set()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        served = Mute(f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        yield served


async def test_who_is_cancelled_while_it_connects_leaves_no_line_open() -> None:
    async with mute() as server:
        connecting = asyncio.create_task(connect(NatsOptions((server.url,)), "test", Clock()))
        await server.has_come.wait()
        await end(connecting)
        async with asyncio.timeout(5):
            await server.is_over.wait()


async def test_a_server_that_says_nothing_is_given_up_with_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "CONNECT_SECONDS", 0.2)
    async with mute() as server:
        with pytest.raises(BrokerUnavailable):
            await connect(NatsOptions((server.url,)), "test", Clock())
        async with asyncio.timeout(5):
            await server.is_over.wait()


async def test_servers_that_say_nothing_keep_nobody_from_one_that_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "CONNECT_SECONDS", 2)
    with NatsServer(tmp_path / "nats") as broker:
        async with mute() as first, mute() as second:
            made = await connect(NatsOptions((first.url, second.url, broker.url)), "test", Clock())
            await made.close()
            for server in (first, second):
                if server.has_come.is_set():
                    async with asyncio.timeout(5):
                        await server.is_over.wait()
