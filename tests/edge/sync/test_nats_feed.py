"""Whoever holds the broker can withhold, which shows, and nothing else: no key minted, no change altered, left out,
moved or undone, and no old state passed off as the present.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from edge.world import DIGESTER, at, key, state
from keywright.domain.keyformat import Digester
from keywright.edge.replica.replica import Replica
from keywright.edge.sync.feed import LiveFeed, OtherPepper, RecordBehind, Refused, SnapshotNeeded, Untrusted
from keywright.edge.sync.loop import SyncLoop
from keywright.edge.sync.nats_feed import NatsFeed, NotKnownToBeAll, session
from keywright.nats import streams
from keywright.nats.connection import BrokerUnavailable, Connection, connect
from keywright.nats.subjects import FOR_CHANGES, FOR_HEARTBEATS, FOR_SNAPSHOT
from keywright.protocol.changes import ConsumerDelete, Cursor, KeyDelete
from keywright.protocol.frames import Frame, FrameKind
from keywright.runtime.clock import Clock
from keywright.runtime.nats_options import NatsOptions
from support.nats import streams_of
from support.scripted_broker import LOG, ScriptedOrigin
from support.sync import new_sync_loop

pytest_plugins = ["edge.conftest"]


@pytest.fixture
async def origin(options: NatsOptions) -> AsyncIterator[ScriptedOrigin]:
    connection = await connect(options, "scripted", Clock())
    made = ScriptedOrigin(connection)
    await made.start()
    yield made
    await connection.close()


@pytest.fixture
async def feed(options: NatsOptions) -> AsyncIterator[NatsFeed]:
    made = NatsFeed(options, DIGESTER, Clock(), edge_name="edge")
    yield made
    await made.close()


@pytest.fixture
async def sync_loop(replica: Replica, feed: NatsFeed) -> AsyncIterator[SyncLoop]:
    made = new_sync_loop(replica, feed, poll_seconds=0.01, longest_pause_seconds=0.02)
    feed.on_message = made.wake
    yield made
    await made.close()


async def bring_in_step(origin: ScriptedOrigin, sync_loop: SyncLoop) -> None:
    """A round of the follower that knows how far the origin is, with heartbeats that come when it listens."""
    feed = _feed_of(sync_loop)
    for _ in range(50):
        known = feed._head.known
        round_ = asyncio.create_task(sync_loop.sync_now())
        while not round_.done():
            await origin.heartbeat()
            await asyncio.wait([round_], timeout=0.05)
        await round_
        if known is not None and known.frame.cursor.revision >= len(origin.log):
            return


def hurry(
    feed: NatsFeed, *, silence_seconds: float | None = None, first_heartbeat_seconds: float | None = None
) -> None:
    """Have a feed that was opened wait for less."""
    if silence_seconds is not None:
        feed._head.silence_seconds = silence_seconds
    if first_heartbeat_seconds is not None:
        feed._first_heartbeat_seconds = first_heartbeat_seconds


async def catch_up_unheard(sync_loop: SyncLoop, seconds: float = 0.3) -> None:
    """A round while no origin says anything: it applies what there is, and says that this may not be all."""
    hurry(_feed_of(sync_loop), silence_seconds=seconds, first_heartbeat_seconds=seconds)
    with pytest.raises(NotKnownToBeAll):
        await sync_loop.sync_now()


async def test_an_edge_begins_with_the_broker_alone_and_is_in_step_once_it_hears_the_origin(
    origin: ScriptedOrigin, replica: Replica, feed: NatsFeed, sync_loop: SyncLoop
) -> None:
    await origin.commit(ConsumerDelete(1))
    await catch_up_unheard(sync_loop)
    assert isinstance(feed, LiveFeed)
    assert (replica.records(), replica.revision, replica.deployment_id) == (state(origin.log), 5, "dply_1/everything/3")
    assert (sync_loop.is_synced, feed.synced_at) == (False, None)
    before = Clock().elapsed()
    await bring_in_step(origin, sync_loop)
    assert (sync_loop.is_synced, sync_loop.reason) == (True, None)
    assert sync_loop.lag_seconds <= Clock().elapsed() - before + 0.1


async def test_changes_in_one_message_or_in_many_are_applied_live_and_a_repeat_is_nothing(
    origin: ScriptedOrigin, replica: Replica, sync_loop: SyncLoop
) -> None:
    await bring_in_step(origin, sync_loop)
    stop = asyncio.Event()
    running = asyncio.create_task(sync_loop.run(stop))
    await origin.commit(key("zpka_secret-3", 1, 1), key("zpka_secret-4", 1, 1))
    await origin.put(4, origin.log[4:])
    await origin.commit(KeyDelete(DIGESTER.digest("zpka_secret-1"), 1))
    await origin.heartbeat()
    async with asyncio.timeout(10):
        while replica.revision != 7:
            await asyncio.sleep(0.01)
    assert replica.records() == state(origin.log)
    stop.set()
    await running


# What is done to the message that brings a change, and what an edge makes of it.
ALTERED: dict[str, tuple[dict[str, Any], type[Exception]]] = {
    "another-use": ({"nonce": FOR_HEARTBEATS}, NotKnownToBeAll),
    "an-answer-to-a-request": ({"nonce": "nonce-of-a-request"}, NotKnownToBeAll),
    "another-kind": ({"kind": FrameKind.PAGE}, NotKnownToBeAll),
    "another-scope": ({"scope": "narrow"}, NotKnownToBeAll),
    "another-deployment": ({"deployment_id": "dply_2"}, NotKnownToBeAll),
    "changes-left-out-before-it": ({"follows": at(9), "cursor": at(10)}, SnapshotNeeded),
    "changes-left-out-of-it": ({"cursor": at(6)}, NotKnownToBeAll),
    "a-stamp-of-another-past": ({"follows": at(4, 2)}, SnapshotNeeded),
    "a-time-of-another-past": ({"follows": Cursor(4, at(4).stamp, 1)}, SnapshotNeeded),
}


@pytest.mark.parametrize(("change", "meaning"), ALTERED.values(), ids=ALTERED)
async def test_a_frame_that_does_not_lead_on_from_here_is_not_applied(
    origin: ScriptedOrigin, replica: Replica, sync_loop: SyncLoop, change: dict[str, Any], meaning: type[Exception]
) -> None:
    """These frames bear the origin's MAC: what a message says must fit, too."""
    feed = await sync_clock(origin, sync_loop)
    hurry(feed, silence_seconds=0.5)
    await origin.commit(ConsumerDelete(1), alter=lambda frame: replace(frame, **change))
    with pytest.raises(meaning):
        await follow(feed)
    assert (replica.revision, replica.records()) == (4, state(LOG))


DAMAGES = {
    "a-flipped-bit-at-the-end": lambda data: data[:-2] + bytes([data[-2] ^ 1]) + data[-1:],
    "a-flipped-bit-in-the-mac": lambda data: data[:9] + bytes([data[9] ^ 1]) + data[10:],
    "another-deployment": lambda data: data.replace(b"dply_1", b"dply_2"),
    "another-kind": lambda data: data.replace(b'"changes"', b'"snapshot"'),
    "another-scope": lambda data: data.replace(b"everything", b"everythink"),
    "another-use": lambda data: data.replace(b"broker:changes", b"broker:changez"),
    "another-revision": lambda data: data.replace(b"[5,", b"[6,"),
    "another-stamp": lambda data: data.replace(b'"0000000100000005"', b'"0000000100000006"'),
    "another-time": lambda data: data.replace(b"5001", b"6001"),
    "another-change": lambda data: data.replace(b'["-consumer",1]', b'["-consumer",2]'),
    "one-change-more": lambda data: data + b'\n["-"]',
    "a-newer-format": lambda data: data.replace(b"kwf", b"kwx"),
    "two-frames": lambda data: data + data,
    "half-a-frame": lambda data: data[: len(data) // 2],
    "no-frame-at-all": lambda _: b"\xff" * 99,
    "nothing": lambda _: b"",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
async def test_a_message_that_was_tampered_with_is_passed_over_and_the_replica_stays(
    origin: ScriptedOrigin, replica: Replica, sync_loop: SyncLoop, damage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    feed = await sync_clock(origin, sync_loop)
    hurry(feed, silence_seconds=0.5)

    def spoil(data: bytes) -> bytes:
        spoilt: bytes = damage(data)
        assert spoilt != data
        return spoilt

    origin.damage = spoil
    await origin.commit(ConsumerDelete(1))
    with pytest.raises(NotKnownToBeAll):
        await follow(feed)
    assert (replica.revision, replica.records()) == (4, state(LOG))
    assert caplog.text.count("skipped what is no message") == 1


ALTERED_SNAPSHOTS: dict[str, Any] = {
    "a-page-of-another-snapshot": lambda frame: _page(frame, nonce=f"{FOR_SNAPSHOT}another"),
    "a-page-of-another-revision": lambda frame: _page(frame, cursor=at(5)),
    "a-page-of-another-past": lambda frame: _page(frame, cursor=at(4, 2)),
    "a-page-of-another-deployment": lambda frame: _page(frame, deployment_id="dply_2"),
    "pages-out-of-their-place": lambda frame: _page(frame, number=1 - frame.number),
    "a-page-that-is-none": lambda frame: _page(frame, kind=FrameKind.CHANGES),
    "an-end-too-early": lambda frame: replace(frame, number=1) if frame.kind is FrameKind.END else frame,
    "an-end-too-late": lambda frame: replace(frame, number=3) if frame.kind is FrameKind.END else frame,
    "an-end-that-is-none": lambda frame: replace(frame, kind=FrameKind.PAGE),
    "another-use": lambda frame: replace(frame, nonce=FOR_CHANGES),
}


def _page(frame: Frame, **changes: Any) -> Frame:
    return replace(frame, **changes) if frame.kind is FrameKind.PAGE else frame


@pytest.mark.parametrize("alter", ALTERED_SNAPSHOTS.values(), ids=ALTERED_SNAPSHOTS)
async def test_a_snapshot_of_which_any_part_is_wrong_is_none(
    origin: ScriptedOrigin, replica: Replica, sync_loop: SyncLoop, alter: Any
) -> None:
    await origin.snapshot(alter=alter)
    with pytest.raises((Untrusted, BrokerUnavailable)):
        await sync_loop.sync_now()
    assert replica.revision is None


@pytest.mark.parametrize("place", [0, 1, 2], ids=["first-page", "second-page", "end"])
async def test_a_snapshot_with_one_flipped_bit_is_none(
    origin: ScriptedOrigin, replica: Replica, sync_loop: SyncLoop, place: int
) -> None:
    count = 0

    def flip(data: bytes) -> bytes:
        nonlocal count
        count += 1
        return data if count - 1 != place else data[:-2] + bytes([data[-2] ^ 1]) + data[-1:]

    origin.damage = flip
    await origin.snapshot()
    with pytest.raises(Untrusted):
        await sync_loop.sync_now()
    assert replica.revision is None


@pytest.mark.parametrize(("history", "meaning"), [(1, RecordBehind), (0, Untrusted)], ids=["same-past", "older-past"])
async def test_a_running_replica_never_takes_an_older_snapshot(
    origin: ScriptedOrigin, replica: Replica, sync_loop: SyncLoop, history: int, meaning: type[Exception]
) -> None:
    """The broker replays a whole old state, of this history or of one that the record gave up."""
    await origin.commit(ConsumerDelete(1))
    feed = await sync_clock(origin, sync_loop)
    origin.history = history
    old = LOG[:3] if history == 1 else [*LOG, ConsumerDelete(1)]
    await origin.snapshot(old)
    with pytest.raises(meaning):
        await feed.snapshot()
    assert replica.revision == 5


async def test_an_old_state_given_to_a_new_edge_is_never_called_the_present(
    origin: ScriptedOrigin, replica: Replica, sync_loop: SyncLoop
) -> None:
    """Everything that the broker kept is authentic and old; the origin is elsewhere by now, and says so."""
    await catch_up_unheard(sync_loop)
    assert replica.revision == 4
    origin.log.append(ConsumerDelete(1))
    for _ in range(3):
        await origin.heartbeat()
        with pytest.raises((NotKnownToBeAll, BrokerUnavailable)):
            await sync_loop.sync_now()
    assert not sync_loop.is_synced


async def test_an_edge_that_is_not_given_what_the_origin_speaks_of_asks_anew_and_is_not_in_step(
    origin: ScriptedOrigin, sync_loop: SyncLoop
) -> None:
    feed = await sync_clock(origin, sync_loop)
    hurry(_feed_of(sync_loop), silence_seconds=0.5)
    origin.log.append(ConsumerDelete(1))
    heartbeats = asyncio.create_task(keep_heartbeating(origin))
    async with asyncio.timeout(20):
        while feed.synced_at is not None:
            await asyncio.sleep(0.01)
    with pytest.raises(BrokerUnavailable, match="does not give"):
        await feed.changes(at(4))
    heartbeats.cancel()
    await asyncio.wait([heartbeats])


HEARTBEATS: dict[str, tuple[float, str]] = {
    "made-an-hour-ago": (-3600.0, "made 3600 s ago"),
    "of-a-clock-an-hour-ahead": (3600.0, "made in 3600 s"),
}


@pytest.mark.parametrize(("ahead", "reason"), HEARTBEATS.values(), ids=HEARTBEATS)
async def test_a_heartbeat_of_another_hour_proves_nothing_and_changes_are_applied_all_the_same(
    origin: ScriptedOrigin,
    replica: Replica,
    sync_loop: SyncLoop,
    ahead: float,
    reason: str,
) -> None:
    hurry(_feed_of(sync_loop), first_heartbeat_seconds=0.3)
    origin.clock = lambda: time.time() + ahead
    stop = asyncio.Event()
    running = asyncio.create_task(sync_loop.run(stop))
    async with asyncio.timeout(20):
        while replica.revision != 4:
            await asyncio.sleep(0.01)
        await origin.commit(ConsumerDelete(1))
        while replica.revision != 5 or reason not in str(sync_loop.reason):
            await origin.heartbeat()
            await asyncio.sleep(0.2)
    assert not sync_loop.is_synced
    stop.set()
    await running


async def test_a_change_from_a_clock_an_hour_ahead_does_not_hold_up_the_lag_once_the_clock_is_right(
    origin: ScriptedOrigin, sync_loop: SyncLoop
) -> None:
    await bring_in_step(origin, sync_loop)
    origin.clock = lambda: time.time() + 3600
    await origin.commit(ConsumerDelete(1))
    async with asyncio.timeout(20):
        while sync_loop.revision != len(origin.log):
            await sync_loop.sync_now()
    origin.clock = time.time
    right_at = Clock().elapsed()
    async with asyncio.timeout(20):
        while sync_loop.lag_seconds > Clock().elapsed() - right_at:
            await bring_in_step(origin, sync_loop)


async def test_a_frozen_or_repeating_broker_shows_as_lag(origin: ScriptedOrigin, sync_loop: SyncLoop) -> None:
    await sync_clock(origin, sync_loop)
    said = time.time()
    origin.clock = lambda: said
    await origin.heartbeat()
    lag = sync_loop.lag_seconds
    hurry(_feed_of(sync_loop), silence_seconds=0.5)
    feed = _feed_of(sync_loop)
    with pytest.raises(NotKnownToBeAll, match="repeats"):
        await heartbeat_on(origin, feed)
    assert feed.synced_at is None
    assert sync_loop.lag_seconds > lag


async def test_a_record_that_went_back_is_seen_though_its_heartbeats_are_recent(
    origin: ScriptedOrigin, sync_loop: SyncLoop
) -> None:
    feed = await sync_clock(origin, sync_loop)
    del origin.log[2:]
    origin.clock = lambda: time.time() + 20
    hurry(_feed_of(sync_loop), silence_seconds=0.5)
    with pytest.raises(NotKnownToBeAll, match="before this replica's"):
        await heartbeat_on(origin, feed)


async def test_a_cursor_that_is_older_than_the_kept_changes_takes_the_snapshot(
    origin: ScriptedOrigin, replica: Replica, sync_loop: SyncLoop, options: NatsOptions
) -> None:
    feed = await sync_clock(origin, sync_loop)
    await feed.close()
    for number in range(5, 9):
        await origin.commit(key(f"zpka_secret-{number}", 1, 1))
    await origin.snapshot()
    store, subjects = streams_of(origin.connection), origin.subjects
    await store.purge(subjects.changes_stream, (await store.bounds(subjects.changes_stream)).last)
    await origin.commit(ConsumerDelete(1))
    with pytest.raises(SnapshotNeeded):
        await feed.changes(at(4))
    await bring_in_step(origin, sync_loop)
    assert (replica.revision, replica.records()) == (9, state(origin.log))


async def test_an_edge_that_begins_anew_begins_with_the_present_and_not_with_the_snapshot(
    origin: ScriptedOrigin, replica: Replica, sync_loop: SyncLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first readers must not find what the changes behind the newest snapshot have ended."""
    await origin.commit(key("zpka_made-behind-the-snapshot", 1, 1))
    await origin.commit(ConsumerDelete(1))
    seen: list[int | None] = []
    load = replica.load

    def look(*arguments: Any, **options: Any) -> None:
        load(*arguments, **options)
        seen.append(replica.revision)

    monkeypatch.setattr(replica, "load", look)
    await bring_in_step(origin, sync_loop)
    assert (seen, replica.revision, replica.records()) == ([6], 6, state(origin.log))


@pytest.mark.parametrize("messages", [1, 4, 5, 30], ids="{} messages".format)
async def test_what_is_more_than_is_asked_for_at_once_is_read_in_one_go(
    origin: ScriptedOrigin, replica: Replica, sync_loop: SyncLoop, monkeypatch: pytest.MonkeyPatch, messages: int
) -> None:
    """That as many came as were asked for is not that there is no more."""
    monkeypatch.setattr(streams, "AT_ONCE", 4)
    opened: list[None] = []

    async def count(*arguments: Any) -> Connection:
        opened.append(None)
        return await connect(*arguments)

    monkeypatch.setattr(session, "connect", count)
    for number in range(messages):
        await origin.commit(key(f"zpka_behind-the-snapshot-{number}", 1, 1))
    await bring_in_step(origin, sync_loop)
    assert replica.records() == state(origin.log)
    for number in range(messages):
        await origin.commit(key(f"zpka_while-it-follows-{number}", 1, 1))
    async with asyncio.timeout(20):
        while replica.revision != len(origin.log):
            await bring_in_step(origin, sync_loop)
    assert (len(opened), replica.records()) == (1, state(origin.log))


async def test_changes_that_do_not_lead_on_from_the_newest_snapshot_are_not_begun_with(
    origin: ScriptedOrigin, replica: Replica, feed: NatsFeed, options: NatsOptions
) -> None:
    await origin.commit(ConsumerDelete(1))
    store, subjects = streams_of(origin.connection), origin.subjects
    await origin.commit(key("zpka_made-later", 1, 1))
    await store.purge(subjects.changes_stream, (await store.bounds(subjects.changes_stream)).last)
    await feed.deployment_id()
    with pytest.raises(BrokerUnavailable, match="do not lead on"):
        await feed.snapshot()


async def test_another_pepper_is_named(origin: ScriptedOrigin, options: NatsOptions) -> None:
    feed = NatsFeed(options, Digester(bytes(32)), Clock(), edge_name="edge")
    with pytest.raises(OtherPepper, match="pepper"):
        await feed.deployment_id()
    await feed.close()


async def test_what_is_not_there_is_told_from_what_is_refused(options: NatsOptions, feed: NatsFeed) -> None:
    with pytest.raises(Refused, match="no stream"):
        await feed.deployment_id()
    absent = NatsFeed(replace(options, servers=("nats://127.0.0.1:1",)), DIGESTER, Clock(), edge_name="edge")
    with pytest.raises(BrokerUnavailable):
        await absent.deployment_id()
    await absent.wait_for_changes()
    await absent.close()


async def sync_clock(origin: ScriptedOrigin, sync_loop: SyncLoop) -> NatsFeed:
    await bring_in_step(origin, sync_loop)
    return _feed_of(sync_loop)


async def heartbeat_on(origin: ScriptedOrigin, feed: NatsFeed) -> None:
    """Heartbeats, one as soon as the one before was heard, until the feed has had enough of them."""
    async with asyncio.timeout(10):
        while True:
            await origin.heartbeat()
            await feed.wait_for_changes()


async def keep_heartbeating(origin: ScriptedOrigin) -> None:
    while True:
        await origin.heartbeat()
        await asyncio.sleep(0.05)


async def follow(feed: NatsFeed) -> None:
    """Ask for what follows revision 4 until something comes; a message takes a moment to get here."""
    async with asyncio.timeout(10):
        while True:
            assert list((await feed.changes(at(4))).changes) == []
            await feed.wait_for_changes()


def _feed_of(sync_loop: SyncLoop) -> NatsFeed:
    feed = sync_loop._feed
    assert isinstance(feed, NatsFeed)
    return feed
