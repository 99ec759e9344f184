"""A region's mirrors are found dead and made anew, however the hub came to lose what they were copies of."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from keywright.domain.keyformat import Digester, Secret
from keywright.edge.replica.replica import Replica
from keywright.edge.sync.nats_feed import NatsFeed
from keywright.nats.connection import BrokerUnavailable, Connection, StreamMissing, connect
from keywright.nats.streams import Streams
from keywright.origin.feed import nats_mirrors, nats_retention
from keywright.origin.feed.nats_mirrors import Mirrors
from keywright.runtime.clock import Clock
from keywright.runtime.nats_options import NatsOptions
from keywright.runtime.secret_files import load_digester
from support import nats as servers
from support import service as services
from support.nats import PASSWORDS, NatsServer
from support.service import Service
from support.sync import new_sync_loop
from support.waiting import until

STREAM, DOMAIN = "keywright-changes", "eu"


@dataclass
class Regions:
    """A hub and the leaf of a region."""

    hub: NatsServer
    leaf: NatsServer

    def relay(self) -> NatsOptions:
        return self._options(self.hub, "relay", PASSWORDS["RELAY_PASSWORD"], "readers", DOMAIN)

    def edge(self) -> NatsOptions:
        return self._options(self.leaf, "edge", PASSWORDS["EDGE_PASSWORD"], "region")

    def _options(self, server: NatsServer, user: str, password: str, *mirrors: str) -> NatsOptions:
        return NatsOptions((server.url,), user=user, password=Secret(password), domain="hub", mirrors=mirrors)

    def lose_the_hubs_store(self) -> None:
        self.hub.kill()
        shutil.rmtree(self.hub.base / "store")
        self.hub.start()


@pytest.fixture
async def regions(tmp_path: Path) -> AsyncIterator[Regions]:
    with servers.hub(tmp_path / "hub") as hub, servers.leaf(tmp_path / "leaf", DOMAIN, hub.leaf_port) as leaf:
        yield Regions(hub, leaf)


@asynccontextmanager
async def connected(regions: Regions) -> AsyncIterator[tuple[Connection, Streams, Streams]]:
    """A connection, the streams of the hub, and those of the region when that is in reach."""
    connection = await connect(regions.relay(), "test", Clock())
    hub, mirror = Streams(connection, "hub"), Streams(connection, DOMAIN)

    async def is_in_reach() -> bool:
        try:
            await mirror.bounds(STREAM)
        except StreamMissing:
            return True
        except BrokerUnavailable:
            return False
        return True

    try:
        await until(is_in_reach)
        yield connection, hub, mirror
    finally:
        await connection.close()


async def fill(hub: Streams, text: str, count: int) -> None:
    for stream, subject in ((STREAM, "keywright.changes"), ("keywright-snapshots", "keywright.snapshots.page")):
        await hub.create(stream, [subject], 1)
        first = (await hub.bounds(stream)).last
        for number in range(first, first + count):
            await hub.append(subject, f"{text} {number}".encode(), "pepper", after=number, name=f"{text}-{number}")


async def texts_of(streams: Streams) -> list[bytes]:
    bounds = await streams.bounds(STREAM)
    found = [await streams.find(STREAM, seq) for seq in range(bounds.first, bounds.last + 1)]
    return [message.data for message in found if message is not None]


async def until_equal(mirrors: Mirrors, hub: Streams, mirror: Streams) -> None:
    async def is_equal() -> bool:
        await mirrors.sync()
        try:
            return await texts_of(mirror) == await texts_of(hub)
        except StreamMissing:
            return False

    await until(is_equal)


@pytest.mark.parametrize("count", [3, 10, 20], ids=["fewer", "as-many", "more"])
async def test_a_mirror_of_a_stream_that_is_gone_is_made_anew_however_many_messages_the_new_one_has(
    regions: Regions, caplog: pytest.LogCaptureFixture, count: int
) -> None:
    async with connected(regions) as (connection, hub, mirror):
        await fill(hub, "old", 10)
        await until_equal(Mirrors(connection, connection.subjects, hub, {}), hub, mirror)
    regions.lose_the_hubs_store()
    caplog.clear()
    problems: dict[str, str] = {}
    async with connected(regions) as (connection, hub, mirror):
        await fill(hub, "new", count)
        mirrors = Mirrors(connection, connection.subjects, hub, problems)
        await until_equal(mirrors, hub, mirror)
        # Nor is a good one made anew.
        caplog.clear()
        await fill(hub, "new", 2)
        await until_equal(mirrors, hub, mirror)
        assert "made anew" not in caplog.text
    assert problems == {}


async def test_a_mirror_that_has_stopped_is_told_of_and_made_anew(
    regions: Regions, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_mirrors, "BEHIND_SECONDS", 0.1)
    monkeypatch.setattr(nats_mirrors, "STALLED_SECONDS", 0.5)
    problems: dict[str, str] = {}
    async with connected(regions) as (connection, hub, mirror):
        # A stream of that name which copies nothing.
        await mirror._ask(f"STREAM.CREATE.{STREAM}", {"name": STREAM, "subjects": ["nothing.comes.here"]})
        await fill(hub, "new", 3)
        mirrors = Mirrors(connection, connection.subjects, hub, problems)

        async def is_told() -> bool:
            await mirrors.sync()
            return problems == {DOMAIN: f"is behind: {STREAM}"}

        await until(is_told)
        assert "the domain eu: is behind" in caplog.text
        await until_equal(mirrors, hub, mirror)
        await mirrors.sync()
    assert problems == {}


async def test_a_region_that_is_away_is_told_of_and_ends_nothing(regions: Regions) -> None:
    problems: dict[str, str] = {}
    async with connected(regions) as (connection, hub, mirror):
        await fill(hub, "new", 3)
        mirrors = Mirrors(connection, connection.subjects, hub, problems)
        await until_equal(mirrors, hub, mirror)
        regions.leaf.stop()
        await mirrors.sync()
        assert problems[DOMAIN].startswith("can't be synced")
        regions.leaf.start()

        async def is_well() -> bool:
            await mirrors.sync()
            return problems == {}

        await until(is_well)


async def test_after_the_hub_lost_its_store_a_new_edge_begins_in_the_region_with_the_hub_away(
    regions: Regions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_retention, "LOOK_SECONDS", 0.3)
    settings = services.settings_for(tmp_path / "data", broker=regions.relay())
    async with services.running(settings) as service:
        kept = (await service.new_consumer(apiKeys=[{}]))["apiKeys"][0]["id"]
        await until_begun_at_the_region(regions, tmp_path / "before", settings.pepper_file, service)
        regions.lose_the_hubs_store()
        await service.new_consumer()

        async def is_told_and_then_well() -> bool:
            return "warnings" not in await service.call("GET", "/readyz")

        await until(is_told_and_then_well, timeout=20)
        await until_begun_at_the_region(regions, tmp_path / "after", settings.pepper_file, service)
        regions.leaf.stop()

        async def is_told() -> bool:
            told = await service.call("GET", "/readyz")
            return any("the domain eu" in one for one in told.get("warnings", ()))

        await until(is_told, timeout=20)
        assert kept


async def until_begun_at_the_region(regions: Regions, base: Path, pepper_file: Path, service: Service) -> None:
    """An edge that is new begins with the mirrors alone, at the record's head, once they have it."""
    head = (await service.call("GET", "/readyz"))["revision"]
    digester = load_digester(None, pepper_file)
    number = 0

    async def has_begun() -> bool:
        nonlocal number
        number += 1
        return await begin(regions, base / str(number), digester) == head

    # The region is asked by itself, as while the hub is away.
    await until(has_begun, timeout=20)


async def begin(regions: Regions, base: Path, digester: Digester) -> int | None:
    options = NatsOptions(
        (regions.leaf.url,), user="edge", password=Secret(PASSWORDS["EDGE_PASSWORD"]), domain="region"
    )
    replica = Replica.open(base, digester.pepper_check())
    feed = NatsFeed(options, digester, Clock(), edge_name="new", first_heartbeat_seconds=0.1, silence_seconds=0.2)
    sync_loop = new_sync_loop(replica, feed)
    try:
        async with asyncio.timeout(2):
            await sync_loop.sync_now()
    except Exception:  # noqa: BLE001
        # Whether it may be called synced is another matter.
        pass
    finally:
        await sync_loop.close()
        await feed.close()
    revision = replica.revision
    replica.close()
    return revision
