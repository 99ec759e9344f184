"""An edge follows a broker with what deploy/nats gives it, and with what it gave before (decision 44)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from edge.world import DIGESTER, PEPPER_CHECK, key
from keywright.domain.keyformat import Secret
from keywright.edge.replica.replica import Replica
from keywright.edge.sync.nats_feed import NatsFeed
from keywright.nats.connection import connect
from keywright.runtime.clock import Clock
from keywright.runtime.nats_options import NatsOptions
from support import nats as servers
from support.nats import PASSWORDS, NatsServer
from support.scripted_broker import ScriptedOrigin
from support.sync import new_sync_loop
from support.waiting import until

BEFORE = """
listen: "0.0.0.0:4222"
jetstream { store_dir: "/var/lib/nats", domain: hub }
accounts { KEYWRIGHT {
  jetstream: enabled
  users: [
    { user: relay, password: $RELAY_PASSWORD }
    {
      user: edge, password: $EDGE_PASSWORD
      permissions {
        publish { allow: [
          "keywright.reports"
          "$JS.API.STREAM.INFO.keywright-changes", "$JS.*.API.STREAM.INFO.keywright-changes"
          "$JS.API.STREAM.INFO.keywright-snapshots", "$JS.*.API.STREAM.INFO.keywright-snapshots"
          "$JS.API.STREAM.MSG.GET.keywright-changes", "$JS.*.API.STREAM.MSG.GET.keywright-changes"
          "$JS.API.STREAM.MSG.GET.keywright-snapshots", "$JS.*.API.STREAM.MSG.GET.keywright-snapshots"
          "$JS.API.CONSUMER.CREATE.keywright-changes.*", "$JS.*.API.CONSUMER.CREATE.keywright-changes.*"
          "$JS.API.CONSUMER.CREATE.keywright-snapshots.*", "$JS.*.API.CONSUMER.CREATE.keywright-snapshots.*"
          "$JS.API.CONSUMER.MSG.NEXT.keywright-changes.*", "$JS.*.API.CONSUMER.MSG.NEXT.keywright-changes.*"
          "$JS.API.CONSUMER.MSG.NEXT.keywright-snapshots.*", "$JS.*.API.CONSUMER.MSG.NEXT.keywright-snapshots.*"
        ] }
        subscribe { allow: ["_INBOX.>", "keywright.heartbeat"] }
      }
    }
  ]
} }
"""
"""One account for all, consumers for edges, and no word of changes but heartbeats."""


def options_of(server: NatsServer, user: str) -> NatsOptions:
    password = PASSWORDS["RELAY_PASSWORD" if user == "relay" else "EDGE_PASSWORD"]
    return NatsOptions((server.url,), user=user, password=Secret(password), domain="hub")


@asynccontextmanager
async def following(server: NatsServer, user: str, base: Path) -> AsyncIterator[Replica]:
    replica = Replica.open(base, PEPPER_CHECK)
    feed = NatsFeed(options_of(server, user), DIGESTER, Clock(), edge_name=user)
    sync_loop = new_sync_loop(replica, feed, poll_seconds=0.05, longest_pause_seconds=0.2)
    feed.on_message = sync_loop.wake
    stop = asyncio.Event()
    running = asyncio.create_task(sync_loop.run(stop))
    try:
        yield replica
    finally:
        stop.set()
        await running
        await sync_loop.close()
        await feed.close()
        replica.close()


@asynccontextmanager
async def heart_beating(origin: ScriptedOrigin) -> AsyncIterator[None]:
    async def beat() -> None:
        while True:
            await origin.heartbeat()
            await asyncio.sleep(1)

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()


@pytest.mark.parametrize(("shipped", "edges"), [("before", 1), ("now", 5)])
async def test_edges_begin_and_hear_of_changes_at_once(tmp_path: Path, shipped: str, edges: int) -> None:
    made = (
        servers.hub(tmp_path / "hub", edges=edges)
        if shipped == "now"
        else NatsServer(tmp_path / "hub", BEFORE, PASSWORDS)
    )
    async with AsyncExitStack() as stack:
        server = stack.enter_context(made)
        connection = await connect(options_of(server, "relay"), "origin", Clock())
        stack.push_async_callback(connection.close)
        origin = ScriptedOrigin(connection, feed_format=2 if shipped == "before" else 3)
        await origin.start()
        await stack.enter_async_context(heart_beating(origin))
        users = ["edge", *(f"edge-{number}" for number in range(2, edges + 1))]
        replicas = [await stack.enter_async_context(following(server, user, tmp_path / user)) for user in users]
        for number in range(3):
            await origin.commit(key(f"zpka_new-{number}", 1, 1))
            revision = len(origin.log)

            async def have_all(revision: int = revision) -> bool:
                return all(replica.revision == revision for replica in replicas)

            await until(have_all, timeout=10)
        info = await connection.client.jetstream(domain="hub").stream_info(origin.subjects.changes_stream)
        # Whoever only reads leaves nothing there.
        assert info.state.consumer_count == 0
