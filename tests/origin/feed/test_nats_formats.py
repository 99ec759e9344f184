"""Each format of the feed is published for itself: what an edge of before reads has no row that it does not know."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from keywright.domain.keyformat import Secret
from keywright.edge.replica.replica import Replica
from keywright.edge.sync.nats_feed import NatsFeed
from keywright.edge.sync.nats_feed.live_feed import NotKnownToBeAll
from keywright.edge.sync.nats_feed.session import NatsSession
from keywright.nats.connection import BrokerUnavailable, StreamMissing
from keywright.nats.subjects import FOR_CHANGES, Subjects
from keywright.protocol import feed_formats
from keywright.protocol.changes import Change, ConsumerPut, Cursor, encode
from keywright.protocol.feed_formats import is_same_record
from keywright.runtime.clock import Clock
from keywright.runtime.nats_options import NatsOptions
from origin.feed.test_feed_formats import OFF, committed, put_of
from origin.feed.test_nats_publisher import World, connected, opened
from support import nats as servers
from support.nats import PASSWORDS, streams_of
from support.record import snapshot_of
from support.sync import new_sync_loop
from support.waiting import until


class OldReader:
    """An edge of before: it follows the streams of format 2 and no others, and would refuse a frame of a newer row."""

    def __init__(self, world: World, base: Path) -> None:
        self.replica = Replica.open(base / "old-replica", world.digester.pepper_check())
        self._feed = NatsFeed(world.options, world.digester, Clock(), edge_name="old", formats=(2,))
        self.sync_loop = new_sync_loop(self.replica, self._feed, poll_seconds=0.05, longest_pause_seconds=0.2)
        self._feed.on_message = self.sync_loop.wake
        self._stop = asyncio.Event()
        self._running = asyncio.create_task(self.sync_loop.run(self._stop))
        self._database = world.database

    async def until_it_has_what_it_can_judge(self) -> None:
        async def is_there() -> bool:
            expected = feed_formats.puts_in(await snapshot_of(self._database), 2)
            owners = {put.number for put in expected if isinstance(put, ConsumerPut)}
            # A key whose consumer is not there is reached by nobody.
            seen = [put for put in expected if getattr(put, "consumer_number", None) in {None, *owners}]
            return self.sync_loop.is_synced and self.replica.records() == seen

        await until(is_there)

    async def close(self) -> None:
        self._stop.set()
        await self._running
        await self.sync_loop.close()
        await self._feed.close()
        self.replica.close()


async def test_an_edge_of_before_has_all_but_what_it_can_not_judge_and_has_it_back_when_it_can(
    tmp_path: Path, options: NatsOptions
) -> None:
    async with opened(tmp_path, options) as (service, world):
        old = OldReader(world, tmp_path)
        made = [await service.new_consumer() for _ in range(2)]
        for one in made:
            await service.new_key(one["name"])
        await old.until_it_has_what_it_can_judge()
        (_, key), (_, other) = [await put_of(service, one["name"]) for one in made]

        first_keys, second_consumer = f"{service.consumers_url}/{made[0]['name']}/keys", made[1]["name"]
        await service.call("PATCH", f"{first_keys}/{key.key_id}", json={"enabled": False})
        await service.call("PATCH", f"{service.consumers_url}/{second_consumer}", json={"enabled": False})
        await service.new_key(second_consumer)
        await old.until_it_has_what_it_can_judge()
        await world.until_the_edge_equals_the_record()
        assert not [put for put in (key, other) if put in old.replica.records()]

        await service.call("PATCH", f"{service.consumers_url}/{second_consumer}", json={"enabled": True})
        await service.new_key(made[0]["name"])
        await old.until_it_has_what_it_can_judge()
        await world.until_the_edge_equals_the_record()
        assert other in old.replica.records()
        assert key not in old.replica.records()
        await old.close()


async def stored_in(world: World, feed_format: int) -> list[Change]:
    session = NatsSession(
        world.options,
        world.digester,
        Clock(),
        "test",
        on_heartbeat=lambda *_: None,
        on_change=_nothing,
        on_lost=_nothing,
    )
    session.subjects = session.subjects.in_format(feed_format)
    await session.open()
    try:
        streams, stream = session.domains[0], session.subjects.changes_stream
        bounds = await streams.bounds(stream)
        messages = [await streams.find(stream, seq) for seq in range(bounds.first, bounds.last + 1)]
        return [change for one in messages if one for change in session.frame_in(one, FOR_CHANGES).changes]
    finally:
        await session.close()


def _nothing() -> None: ...


async def test_the_streams_of_format_2_hold_rows_of_that_format_alone(tmp_path: Path, options: NatsOptions) -> None:
    async with opened(tmp_path, options) as (service, world):
        consumer = await service.new_consumer()
        await service.new_key(consumer["name"])
        owner, key = await put_of(service, consumer["name"])
        last = replace(key, expires_at=1_900_000_000_000)
        await committed(service, replace(key, powers=OFF), replace(owner, powers=OFF), last)

        async def is_told() -> bool:
            return [(await stored_in(world, feed_format))[-1:] for feed_format in (2, 3)] == [[last], [last]]

        await until(is_told)
        assert replace(key, powers=OFF) in await stored_in(world, 3)
        assert not [one for one in await stored_in(world, 2) if '3"' in encode(one).split(",")[0]]


@pytest.mark.parametrize("kept", [2, 3])
async def test_a_format_that_the_setting_drops_is_taken_away_and_no_other(
    tmp_path: Path, options: NatsOptions, kept: int
) -> None:
    async with opened(tmp_path, options):
        pass
    dropped = ({2, 3} - {kept}).pop()
    async with (
        opened(tmp_path, options, is_newest=kept == 3, feed_formats=frozenset({kept})),
        connected(options) as connection,
    ):
        streams, subjects = streams_of(connection), Subjects(options.prefix, dropped)
        with pytest.raises(StreamMissing):
            await streams.bounds(subjects.changes_stream)
        with pytest.raises(StreamMissing):
            await streams.bounds(subjects.snapshots_stream)
        assert (await streams.bounds(subjects.in_format(kept).changes_stream)).last


@pytest.mark.parametrize("ask", [lambda feed, at: feed.changes(at), lambda feed, _: feed.snapshot()])
async def test_an_edge_whose_format_goes_away_between_two_questions_asks_for_the_one_before(
    tmp_path: Path, options: NatsOptions, ask: Callable[[NatsFeed, Cursor], Awaitable[object]]
) -> None:
    async with opened(tmp_path, options) as (_, world):
        digester, head = world.digester, await world.head()
    feed = NatsFeed(options, digester, Clock(), edge_name="edge")
    async with connected(options) as connection:
        record = await feed.deployment_id()
        assert record.endswith("/3")
        newest = Subjects(options.prefix, 3)
        for stream in (newest.changes_stream, newest.snapshots_stream):
            await streams_of(connection).delete(stream)
        with pytest.raises(BrokerUnavailable, match="format 3 of the feed is gone"):
            await ask(feed, head)
        assert is_same_record(older := await feed.deployment_id(), record)
        assert older != record
        with contextlib.suppress(NotKnownToBeAll):
            await feed.changes(head)
        await feed.close()


async def test_a_broker_that_is_not_told_of_the_newer_format_gets_the_older_one_and_readiness_says_so(
    tmp_path: Path,
) -> None:
    with servers.older_hub(tmp_path / "hub") as hub:
        options = NatsOptions((hub.url,), user="relay", password=Secret(PASSWORDS["RELAY_PASSWORD"]), domain="hub")
        async with opened(tmp_path, options, is_newest=False) as (service, world):
            await service.new_consumer()
            await world.until_the_edge_equals_the_record()
            assert world.replica.deployment_id is not None
            assert world.replica.deployment_id.endswith("/everything")
            warnings = (await service.call("GET", "/readyz"))["warnings"]
            assert [warning for warning in warnings if "in format 3" in warning and "KEYWRIGHT_NATS_FORMATS" in warning]
