"""The publisher's guarantee: the broker has each change once, in order, whoever publishes, dies, forgets or meddles."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from keywright.domain.keyformat import Digester
from keywright.edge.origin_calls import NotTaken
from keywright.edge.replica.replica import Replica
from keywright.edge.sync.nats_feed import NatsFeed
from keywright.edge.sync.nats_reports import NatsReports
from keywright.nats.connection import Connection, NotLast, StreamMissing, connect
from keywright.nats.subjects import FOR_CHANGES, FOR_SNAPSHOT, frame_in
from keywright.origin.db.transaction import Database
from keywright.origin.deployment.store import find_deployment
from keywright.origin.feed import nats_retention
from keywright.origin.feed.log_tail import LogTail
from keywright.origin.feed.nats_publisher import NatsPublisher
from keywright.origin.limits.rules import Shares
from keywright.origin.usage.intake.rules import Intake
from keywright.origin.usage.store import append
from keywright.protocol.changes import Change, Cursor, encode
from keywright.protocol.feed_formats import NEWEST
from keywright.protocol.frames import Frame, FrameKind, FrameSigner
from keywright.protocol.reports import EdgeState, Report, ReportSigner
from keywright.runtime import tasks
from keywright.runtime.clock import Clock
from keywright.runtime.nats_options import NatsOptions
from keywright.runtime.secret_files import load_digester
from keywright.runtime.settings import OriginSettings
from support import service as services
from support.nats import SCOPE, NatsServer, streams_of, subjects_of
from support.record import log_of, snapshot_of
from support.service import Service
from support.sync import new_sync_loop
from support.waiting import until


class World:
    """A service that relays, and an edge that follows the broker, both in this process."""

    def __init__(self, settings: OriginSettings, base: Path) -> None:
        self.settings = settings
        assert settings.broker is not None
        self.options = settings.broker
        self.database = Database(settings.database_url)
        self.digester = load_digester(None, settings.pepper_file)
        self.replica = Replica.open(base / "edge-replica", self.digester.pepper_check())
        self._feed = NatsFeed(self.options, self.digester, Clock(), edge_name="edge")
        sync_loop = new_sync_loop(self.replica, self._feed, poll_seconds=0.05, longest_pause_seconds=0.2)
        self._feed.on_message = sync_loop.wake
        self.sync_loop = sync_loop
        self._stop = asyncio.Event()
        self._running = asyncio.create_task(sync_loop.run(self._stop))

    async def close(self) -> None:
        self._stop.set()
        await self._running
        await self.sync_loop.close()
        await self._feed.close()
        self.replica.close()
        await self.database.close()

    async def head(self) -> Cursor:
        async with self.database.read() as tx:
            found = await find_deployment(tx)
        assert found is not None
        return found.head

    async def until_the_edge_equals_the_record(self) -> None:
        async def is_equal() -> bool:
            return self.sync_loop.is_synced and self.replica.cursor == await self.head()

        await until(is_equal)
        # A replica has what has powers behind what has none.
        record = await snapshot_of(self.database)
        assert sorted(map(encode, self.replica.records())) == sorted(map(encode, record))

    async def page(self, number: int, nonce: str, *, time: int | None = None) -> bytes:
        """A page as a writer of a snapshot puts it there."""
        async with self.database.read() as tx:
            found = await find_deployment(tx)
        assert found is not None
        at = Clock().millis() if time is None else time
        cursor, whose = found.head, (found.id, FrameKind.PAGE, SCOPE, FOR_SNAPSHOT + nonce, number)
        return FrameSigner(self.digester).encode(Frame(*whose, cursor, cursor, cursor.revision, at, ()))

    async def kept(self) -> list[Frame]:
        """The messages of the stream of changes, which must be one unbroken chain up to the record's head."""
        signer = FrameSigner(self.digester)
        async with connected(self.options) as connection:
            store, stream = streams_of(connection), subjects_of(connection).changes_stream
            bounds = await store.bounds(stream)
            messages = [await store.find(stream, place) for place in range(bounds.first, bounds.last + 1)]
        frames = [frame_in(message, signer, FOR_CHANGES, SCOPE) for message in messages if message]
        assert len(frames) == len(messages)
        for earlier, later in itertools.pairwise(frames):
            assert later.follows == earlier.cursor
        assert frames[-1].cursor == await self.head()
        return frames


@asynccontextmanager
async def connected(options: NatsOptions) -> AsyncIterator[Connection]:
    connection = await connect(options, "test", Clock())
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def opened(
    base: Path, options: NatsOptions, *, is_newest: bool = True, **settings: object
) -> AsyncIterator[tuple[Service, World]]:
    """`is_newest`: once the edge follows the newest format, which comes behind the one before it."""
    made = services.settings_for(base / "data", broker=options, **settings)
    async with services.running(made) as service:
        world = World(made, base)
        try:
            await until(lambda: not is_newest or str(world.replica.deployment_id).endswith(f"/{NEWEST}"))
            await world.until_the_edge_equals_the_record()
            yield service, world
        finally:
            await world.close()


@asynccontextmanager
async def another_publisher(world: World) -> AsyncIterator[None]:
    """What another process of the same origin does."""
    database = Database(world.settings.database_url)
    publisher = NatsPublisher(
        LogTail(database, Clock()),
        database,
        world.digester,
        world.options,
        take_none,
        Shares(database, Clock().elapsed),
        Intake(database, append, Clock().millis, Clock().elapsed, hours_days=14),
        Clock(),
        random.uniform,
        snapshot_changes=1000,
    )
    running = asyncio.create_task(publisher.run())
    try:
        yield
    finally:
        await tasks.end(running)
        await database.close()


def count_publishing(log: str) -> int:
    return sum("publishes to NATS from revision" in line and "-changes-3)" in line for line in log.splitlines())


async def changes_kept(world: World) -> list[Change]:
    return [change for frame in await world.kept() for change in frame.changes]


async def take_none(report: Report) -> float:
    raise AssertionError(f"nobody reports here: {report}")


async def make_changes(service: Service, count: int) -> None:
    consumer = (await service.new_consumer())["name"]
    for _ in range(count - 1):
        await service.new_key(consumer)


async def test_publishers_that_run_at_once_put_each_change_there_once_and_in_order(
    tmp_path: Path, options: NatsOptions, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with opened(tmp_path, options) as (service, world), AsyncExitStack() as others:
        for _ in range(2):
            await others.enter_async_context(another_publisher(world))
        # One that begins in the middle of changes can't know what was lost, and writes a snapshot, behind which the
        # broker keeps fewer of them.
        await until(lambda: count_publishing(caplog.text) == 3)
        await asyncio.gather(*(make_changes(service, 10) for _ in range(4)))
        await world.until_the_edge_equals_the_record()
        log = [change for _, change in await log_of(world.database)]
        kept = await changes_kept(world)
        assert kept == log[len(log) - len(kept) :]
        assert len(kept) >= 40


async def test_changes_that_pile_up_while_the_broker_is_away_come_in_few_messages_and_none_is_lost(
    tmp_path: Path, nats: NatsServer
) -> None:
    async with opened(tmp_path, NatsOptions((nats.url,))) as (service, world):
        before = len(await world.kept())
        nats.kill()
        await make_changes(service, 30)

        async def is_out_of_step() -> bool:
            return not world.sync_loop.is_synced

        await until(is_out_of_step)
        nats.start()
        await world.until_the_edge_equals_the_record()
        assert len(await world.kept()) < before + 10


async def test_a_broker_that_forgot_what_it_acknowledged_gets_it_again_and_an_edge_that_had_it_goes_on(
    tmp_path: Path, nats: NatsServer
) -> None:
    async with opened(tmp_path, NatsOptions((nats.url,))) as (service, world):
        nats.stop()
        shutil.copytree(nats.base / "store", nats.base / "earlier")
        nats.start()
        await make_changes(service, 7)
        await world.until_the_edge_equals_the_record()
        nats.kill()
        shutil.rmtree(nats.base / "store")
        (nats.base / "earlier").rename(nats.base / "store")
        await make_changes(service, 7)
        nats.start()
        await world.until_the_edge_equals_the_record()
        await world.kept()


async def test_streams_that_were_lost_begin_anew_and_an_edge_that_is_in_step_needs_no_snapshot(
    tmp_path: Path, options: NatsOptions, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_retention, "LOOK_SECONDS", 0.2)
    async with opened(tmp_path, options) as (service, world):
        caplog.clear()
        before = (await world.head()).revision
        async with connected(options) as connection:
            store, subjects = streams_of(connection), subjects_of(connection)
            await store.delete(subjects.changes_stream)
            await store.delete(subjects.snapshots_stream)

            async def is_begun() -> bool:
                try:
                    return (await store.bounds(subjects.changes_stream)).last > 0
                except StreamMissing:
                    return False

            await until(is_begun)
        assert (await world.kept())[0].follows.revision == before
        await make_changes(service, 3)
        await world.until_the_edge_equals_the_record()
        await world.kept()
        assert "a new snapshot is needed" not in caplog.text


async def test_a_strangers_message_stops_nobody_for_long(
    tmp_path: Path, options: NatsOptions, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(tmp_path, options) as (service, world):
        async with connected(options) as connection:
            store, subjects = streams_of(connection), subjects_of(connection)
            after = (await store.bounds(subjects.changes_stream)).last
            await store.append(subjects.changes, b"of a stranger", world.digester.pepper_check(), after=after, name="x")
        await make_changes(service, 3)
        await world.until_the_edge_equals_the_record()
        await world.kept()
        assert "was not made here" in caplog.text


async def test_junk_behind_both_streams_is_no_snapshot_that_somebody_writes(
    tmp_path: Path, options: NatsOptions
) -> None:
    async with opened(tmp_path, options) as (service, world), connected(options) as connection:
        store, subjects = streams_of(connection), subjects_of(connection)
        again = await world.page(3, "sent again")
        old = await world.page(0, "old", time=Clock().millis() - 3_600_000)
        for number, junk in enumerate((b"of a stranger", again, old)):
            for stream, subject in (
                (subjects.snapshots_stream, subjects.snapshot_pages),
                (subjects.changes_stream, subjects.changes),
            ):
                after = (await store.bounds(stream)).last
                with contextlib.suppress(NotLast):
                    await store.append(subject, junk, "", after=after, name=f"x{number}")
            # It would be waited for as long as for a writer.
            async with asyncio.timeout(nats_retention.WRITER_SECONDS / 3):
                await make_changes(service, 2)
                await world.until_the_edge_equals_the_record()
        await world.kept()


async def test_a_record_that_was_restored_from_a_backup_takes_its_edges_along(
    tmp_path: Path, options: NatsOptions
) -> None:
    settings = services.settings_for(tmp_path / "data", broker=options)
    database = settings.data_dir / "keywright.db"
    async with services.running(settings) as service:
        await make_changes(service, 2)
        kept = (await service.new_consumer())["name"]
    shutil.copy(database, tmp_path / "backup.db")
    async with services.running(settings) as service:
        world = World(settings, tmp_path)
        lost = await service.new_key(kept)
        await world.until_the_edge_equals_the_record()
        ahead = world.replica.cursor
    for left in settings.data_dir.glob("keywright.db*"):
        left.unlink()
    shutil.copy(tmp_path / "backup.db", database)
    await world.database.close()
    async with services.running(settings) as service:
        await world.until_the_edge_equals_the_record()
        await world.kept()
        assert world.replica.cursor != ahead
        assert await service.verdict(lost["key"]) == "UNKNOWN"
        await world.close()


async def test_what_is_kept_is_bounded_and_a_snapshot_always_leads_on_to_it(
    tmp_path: Path, options: NatsOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_retention, "LOOK_SECONDS", 0.2)
    async with opened(tmp_path, options, snapshot_changes=5) as (service, world):
        signer = FrameSigner(world.digester)
        async with connected(options) as connection:
            store, subjects = streams_of(connection), subjects_of(connection)
            for _ in range(8):
                await make_changes(service, 5)
                await world.until_the_edge_equals_the_record()
                end = await store.find_last(subjects.snapshots_stream, subjects.snapshot_ends)
                bounds = await store.bounds(subjects.changes_stream)
                oldest = await store.find(subjects.changes_stream, bounds.first)
                assert end
                if oldest is not None:
                    kept_from = frame_in(oldest, signer, FOR_CHANGES, SCOPE).follows.revision
                    assert kept_from <= frame_in(end, signer, FOR_SNAPSHOT, SCOPE).cursor.revision

            async def is_small() -> bool:
                changes, snapshots = [
                    await store.bounds(name) for name in (subjects.changes_stream, subjects.snapshots_stream)
                ]
                return changes.last - changes.first < 20 and snapshots.last - snapshots.first < 12

            await until(is_small)
        # Who begins now begins with the snapshot.
        beginner = World(world.settings, tmp_path / "another")
        await beginner.until_the_edge_equals_the_record()
        await beginner.close()


async def test_snapshots_that_were_lost_or_never_finished_are_written_anew(
    tmp_path: Path, options: NatsOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_retention, "LOOK_SECONDS", 0.2)
    async with opened(tmp_path, options) as (_, world):
        async with connected(options) as connection:
            store, subjects = streams_of(connection), subjects_of(connection)

            async def has_snapshot() -> bool:
                try:
                    return await store.find_last(subjects.snapshots_stream, subjects.snapshot_ends) is not None
                except StreamMissing:
                    return False

            await store.purge(subjects.snapshots_stream, (await store.bounds(subjects.snapshots_stream)).last + 1)
            # A writer's first page, and then it died.
            after = (await store.bounds(subjects.snapshots_stream)).last
            await store.append(subjects.snapshot_pages, await world.page(0, "left"), "", after=after, name="x")
            await asyncio.sleep(0.5)
            assert not await has_snapshot()
            monkeypatch.setattr(nats_retention, "WRITER_SECONDS", 0.0)
            await until(has_snapshot)
            await store.delete(subjects.snapshots_stream)
            await until(has_snapshot)
        beginner = World(world.settings, tmp_path / "another")
        await beginner.until_the_edge_equals_the_record()
        await beginner.close()


async def test_a_report_gets_to_the_registry_and_one_that_no_edge_made_does_not(
    tmp_path: Path, options: NatsOptions
) -> None:
    async with opened(tmp_path, options) as (service, world):
        reports = NatsReports(options, world.digester, Clock(), edge_name="far")
        mallory = await connect(options, "mallory", Clock())
        try:
            async with world.database.read() as tx:
                found = await find_deployment(tx)
            assert found is not None
            head = await world.head()
            report = Report(
                found.id, "i" * 22, "s" * 22, 1, "far", "eu", "1.0", EdgeState.SYNCED, 1_800_000_000_000, head, 0
            )
            assert 0 <= await reports.send(report) <= 10
            assert ("far", head.revision) in await edges_of(service)
            forged = ReportSigner(Digester(b"another pepper, thirty-two bytes"[:32])).encode(report)
            genuine = ReportSigner(world.digester).encode(report)
            for data in (forged, genuine[:-1], genuine.replace(b"far", b"fur"), b"", b"x" * 5000):
                assert b"refused" in await mallory.request(mallory.subjects.reports, data)
            with pytest.raises(NotTaken, match="another deployment"):
                await reports.send(replace(report, number=2, deployment_id="dply_other"))
            assert ("far", head.revision) in await edges_of(service)
        finally:
            await reports.close()
            await mallory.close()


async def test_a_report_that_nobody_hears_is_not_taken_for_heard(options: NatsOptions) -> None:
    reports = NatsReports(options, Digester(b"p" * 32), Clock(), edge_name="far")
    report = Report("dply_1", "i" * 22, "s" * 22, 1, "far", "", "1.0", EdgeState.STARTING, 1, None, None)
    with pytest.raises(NotTaken):
        await reports.send(report)
    await reports.close()


async def edges_of(service: Service) -> list[tuple[str, int]]:
    answer = await service.client.get("/v1/accounts/my-account/edges")
    return [(edge["name"], edge["revision"]) for edge in answer.json()["data"]]
