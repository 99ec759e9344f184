"""Which format of the feed an edge follows at a broker: the newest that is there, and nothing older than it has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from edge.world import DIGESTER, key, state
from keywright.domain.keyformat import Secret
from keywright.edge.replica.replica import Replica
from keywright.edge.sync.feed import RecordBehind, Refused
from keywright.edge.sync.loop import SyncLoop
from keywright.edge.sync.nats_feed import NatsFeed, NotKnownToBeAll
from keywright.nats.connection import BrokerUnavailable, Connection, connect
from keywright.protocol.changes import KeyDelete
from keywright.runtime.clock import Clock
from keywright.runtime.nats_options import NatsOptions
from support import nats as servers
from support.nats import PASSWORDS, NatsServer, streams_of
from support.scripted_broker import LOG, ScriptedOrigin
from support.sync import new_sync_loop
from support.waiting import until

pytest_plugins = ["edge.conftest"]

POWERED = replace(key("zpka_secret-9", 1, 1), powers='{"enabled":false}')


@pytest.fixture
async def connection(options: NatsOptions) -> AsyncIterator[Connection]:
    made = await connect(options, "scripted", Clock())
    yield made
    await made.close()


@pytest.fixture
async def following(options: NatsOptions, replica: Replica) -> AsyncIterator[SyncLoop]:
    feed = NatsFeed(options, DIGESTER, Clock(), edge_name="edge", first_heartbeat_seconds=1.0)
    sync_loop = new_sync_loop(replica, feed, poll_seconds=0.01, longest_pause_seconds=0.02)
    feed.on_message = sync_loop.wake
    stop = asyncio.Event()
    running = asyncio.create_task(sync_loop.run(stop))
    yield sync_loop
    stop.set()
    await running
    await sync_loop.close()
    await feed.close()


async def until_it_has(replica: Replica, record: str, *origins: ScriptedOrigin) -> None:
    """With heartbeats of each origin, until the replica is of this record and has all of the first one's."""

    async def is_there() -> bool:
        for origin in origins:
            await origin.heartbeat()
        return replica.deployment_id == record and replica.records() == state(origins[0].log)

    await until(is_there)


async def test_an_origin_of_before_is_followed_in_its_format_until_one_that_writes_the_newer_is_there(
    connection: Connection, replica: Replica, following: SyncLoop
) -> None:
    old = ScriptedOrigin(connection, feed_format=2)
    await old.start()
    await until_it_has(replica, "dply_1/everything", old)
    await until(lambda: following.is_synced)
    new = ScriptedOrigin(connection)
    new.log.append(POWERED)
    await new.start()
    # Another origin, which goes on with the older one, is no reason to stay there.
    await until_it_has(replica, "dply_1/everything/3", new, old)


async def test_where_both_are_there_the_newer_is_followed(
    connection: Connection, replica: Replica, following: SyncLoop
) -> None:
    for origin in (ScriptedOrigin(connection, feed_format=2), ScriptedOrigin(connection, log=[*LOG, POWERED])):
        await origin.start()
    await until_it_has(replica, "dply_1/everything/3", origin)


@pytest.mark.parametrize("is_restarted", [False, True], ids=["running", "started-anew"])
async def test_a_broker_that_hides_the_newer_format_takes_nothing_back(
    connection: Connection, options: NatsOptions, replica: Replica, is_restarted: bool
) -> None:
    """It keeps the older one as it was before a revocation, and takes away the one that has it."""
    await ScriptedOrigin(connection, feed_format=2).start()
    new = ScriptedOrigin(connection)
    await new.start()
    await new.commit(KeyDelete(DIGESTER.digest("zpka_secret-1"), 1))
    async with looped(options, replica) as sync_loop:
        with pytest.raises(NotKnownToBeAll):
            await sync_loop.sync_now()
        assert (replica.deployment_id, replica.records()) == ("dply_1/everything/3", state(new.log))
        for stream in (new.subjects.changes_stream, new.subjects.snapshots_stream):
            await streams_of(connection).delete(stream)
        if not is_restarted:
            await refuses_to_go_back(sync_loop)
    async with looped(options, replica) as sync_loop:
        await refuses_to_go_back(sync_loop)
    assert (replica.deployment_id, replica.records()) == ("dply_1/everything/3", state(new.log))


async def refuses_to_go_back(sync_loop: SyncLoop) -> None:
    for _ in range(3):
        with pytest.raises(Exception) as caught:  # noqa: PT011
            await sync_loop.sync_now()
    assert isinstance(caught.value, RecordBehind)


@asynccontextmanager
async def looped(options: NatsOptions, replica: Replica) -> AsyncIterator[SyncLoop]:
    feed = NatsFeed(options, DIGESTER, Clock(), edge_name="edge", first_heartbeat_seconds=0.2, silence_seconds=0.2)
    sync_loop = new_sync_loop(replica, feed, poll_seconds=0.01, longest_pause_seconds=0.02)
    yield sync_loop
    await sync_loop.close()
    await feed.close()


async def test_at_the_hub_as_it_is_shipped_an_edge_follows_what_is_there(tmp_path: Path) -> None:
    with servers.hub(tmp_path / "hub") as hub:
        relay = NatsOptions((hub.url,), user="relay", password=Secret(PASSWORDS["RELAY_PASSWORD"]), domain="hub")
        edge = replace(relay, user="edge", password=Secret(PASSWORDS["EDGE_PASSWORD"]))
        connection = await connect(relay, "scripted", Clock())
        feed = NatsFeed(edge, DIGESTER, Clock(), edge_name="edge")
        try:
            await ScriptedOrigin(connection, feed_format=2).start()
            assert await feed.deployment_id() == "dply_1/everything"
            assert (await feed.snapshot()).deployment_id == "dply_1/everything"
            await ScriptedOrigin(connection).start()
            assert await feed.deployment_id() == "dply_1/everything/3"
            assert (await feed.snapshot()).deployment_id == "dply_1/everything/3"
        finally:
            await feed.close()
            await connection.close()


@pytest.fixture(scope="module")
def older_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with servers.older_hub(tmp_path_factory.mktemp("hub") / "hub") as running:
        yield running


async def test_an_edge_that_may_not_read_the_newer_format_follows_the_older_one_and_says_so(
    older_hub: NatsServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    relay = NatsOptions((older_hub.url,), user="relay", password=Secret(PASSWORDS["RELAY_PASSWORD"]), domain="hub")
    edge = replace(relay, user="edge", password=Secret(PASSWORDS["EDGE_PASSWORD"]))
    connection = await connect(relay, "scripted", Clock())
    feed = NatsFeed(edge, DIGESTER, Clock(), edge_name="edge")
    try:
        with pytest.raises((Refused, BrokerUnavailable)):
            await feed.deployment_id()
        await ScriptedOrigin(connection, feed_format=2).start()
        assert await feed.deployment_id() == "dply_1/everything"
        assert "follows format 2 of the feed" in caplog.text
        assert (await feed.snapshot()).deployment_id == "dply_1/everything"
    finally:
        await feed.close()
        await connection.close()
