"""What stands at the end of a publisher's stream that it did not put there: an old frame, or another deployment's."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from keywright.domain.keyformat import Digester
from keywright.nats.connection import NotLast
from keywright.nats.subjects import FOR_CHANGES, frame_in
from keywright.origin.db.transaction import Database
from keywright.origin.feed import nats_publisher
from keywright.origin.feed.log_tail import LogTail
from keywright.origin.feed.nats_publisher import NatsPublisher
from keywright.origin.limits.rules import Shares
from keywright.protocol.frames import Frame, FrameSigner
from keywright.runtime import tasks
from keywright.runtime.clock import Clock
from keywright.runtime.nats_options import NatsOptions
from origin.feed.test_nats_publisher import World, connected, make_changes, opened, take_none
from support import service as services
from support.nats import SCOPE, streams_of, subjects_of
from support.service import Service


async def replay(service: Service, world: World, number: int) -> None:
    """An authentic old message of the stream, behind all others. There are more of them if need be: how many are kept
    of a stream that was begun anew depends on when the snapshot before it was taken.
    """
    while not await replayed(world, number):
        await make_changes(service, 1)
        await world.until_the_edge_equals_the_record()


async def replayed(world: World, number: int) -> bool:
    async with connected(world.options) as connection:
        store, subjects = streams_of(connection), subjects_of(connection)
        bounds = await store.bounds(subjects.changes_stream)
        old = await store.find(subjects.changes_stream, bounds.first + number)
        if old is None or old.seq >= bounds.last:
            return False
        check = world.digester.pepper_check()
        try:
            await store.append(subjects.changes, old.data, check, after=bounds.last, name="replayed")
        except NotLast:
            return False
        return True


async def test_an_old_frame_at_the_end_is_left_behind_a_snapshot_and_a_revocation_is_heard_of(
    tmp_path: Path, options: NatsOptions, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(tmp_path, options) as (service, world):
        await make_changes(service, 6)
        await world.until_the_edge_equals_the_record()
        await replay(service, world, 1)
        caplog.clear()
        await make_changes(service, 2)
        async with asyncio.timeout(8):
            await world.until_the_edge_equals_the_record()
        await world.kept()
        assert "can't follow" not in caplog.text.replace("can't follow the record: NotKnown", "")
        # What can't be led on from is gone, without anybody's doing.
        await replay(service, world, 0)
        async with asyncio.timeout(8):
            while len({frame.cursor for frame in await chain(world)}) != len(await chain(world)):
                await asyncio.sleep(0.1)


async def chain(world: World) -> list[Frame]:
    signer = FrameSigner(world.digester)
    async with connected(world.options) as connection:
        store, stream = streams_of(connection), subjects_of(connection).changes_stream
        bounds = await store.bounds(stream)
        messages = [await store.find(stream, place) for place in range(bounds.first, bounds.last + 1)]
    return [frame_in(message, signer, FOR_CHANGES, SCOPE) for message in messages if message]


@pytest.mark.parametrize("has_same_pepper", [True, False], ids=["same-pepper", "other-pepper"])
async def test_a_stream_of_another_deployment_is_not_begun_anew(
    tmp_path: Path,
    options: NatsOptions,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    has_same_pepper: bool,
) -> None:
    """One broker, one prefix, two deployments: the second says so again and again, and the first goes on."""
    monkeypatch.setattr(nats_publisher, "REFUSED_PAUSE_SECONDS", 0.1)
    async with opened(tmp_path, options) as (service, world):
        before = await world.kept()
        settings = services.settings_for(tmp_path / "other")
        async with services.running(settings):
            database = Database(settings.database_url)
            publisher = NatsPublisher(
                LogTail(database, Clock()),
                database,
                world.digester if has_same_pepper else Digester(b"another pepper, thirty-two bytes"[:32]),
                options,
                take_none,
                Shares(database, Clock().elapsed),
                Clock(),
                random.uniform,
                snapshot_changes=1000,
            )
            running = asyncio.create_task(publisher.run())
            try:
                async with asyncio.timeout(10):
                    while "is of another deployment" not in caplog.text:
                        await asyncio.sleep(0.05)
                await make_changes(service, 3)
                await world.until_the_edge_equals_the_record()
                await asyncio.sleep(1)
            finally:
                await tasks.end(running)
                await database.close()
            assert "is of another deployment" in publisher.list_warnings()[0]
        said = [line for line in caplog.records if "is of another deployment" in line.getMessage()]
        assert [line.levelname for line in said] == ["ERROR"]
        assert before[0].deployment_id in said[0].getMessage()
        assert [frame.cursor for frame in await world.kept()][: len(before)] == [frame.cursor for frame in before]
