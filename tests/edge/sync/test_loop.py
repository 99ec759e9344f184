"""The follower's guarantee: after `sync_now` nothing that was committed before it is missing, whatever happens."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import lmdb
import pytest

from edge.world import PEPPER_CHECK, MemoryFeed, at, batch, bucket, consumer, key, state
from keywright.edge.replica.replica import LOADING, Replica, ReplicaBroken, WrongPepper
from keywright.edge.sync.feed import RecordBehind
from keywright.edge.sync.loop import SyncLoop
from keywright.protocol.changes import Batch, Change, ConsumerDelete, Cursor
from support.clock import FakeClock
from support.sync import new_sync_loop
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path


def start_of_log() -> list[Change]:
    return [bucket(1, "my-bucket"), consumer(1, 1), key("zpka_secret-1", 1, 1), key("zpka_secret-2", 1, 1)]


@pytest.fixture
def feed() -> MemoryFeed:
    return MemoryFeed(log=start_of_log())


@pytest.fixture
async def sync_loop(replica: Replica, feed: MemoryFeed) -> AsyncIterator[SyncLoop]:
    made = new_sync_loop(replica, feed, poll_seconds=0.02)
    yield made
    await made.close()


async def test_the_first_catch_up_takes_a_snapshot_and_later_ones_take_changes(
    replica: Replica, feed: MemoryFeed, sync_loop: SyncLoop
) -> None:
    assert (sync_loop.revision, sync_loop.is_synced) == (None, False)
    await sync_loop.sync_now()
    assert (sync_loop.revision, sync_loop.is_synced) == (4, True)
    assert replica.records() == state(feed.log)
    feed.log += [key(f"zpka_other-{n}", 1, 1) for n in range(7)]
    feed.calls.clear()
    await sync_loop.sync_now()
    assert replica.records() == state(feed.log)
    # The third batch was not a full one, so it was the last.
    assert feed.calls == ["changes 4", "changes 7", "changes 10"]


async def test_an_empty_record_is_followed(replica: Replica) -> None:
    feed = MemoryFeed()
    sync_loop = new_sync_loop(replica, feed)
    await sync_loop.sync_now()
    assert (sync_loop.revision, sync_loop.is_synced) == (0, True)
    await sync_loop.close()


async def test_calls_at_the_same_time_share_one_round_and_none_misses_its_change(
    replica: Replica, feed: MemoryFeed, sync_loop: SyncLoop
) -> None:
    await sync_loop.sync_now()
    feed.calls.clear()
    gate, entered = asyncio.Event(), asyncio.Event()
    answer = feed.changes

    async def slow(after: Cursor) -> Batch:
        batch = await answer(after)
        entered.set()
        await gate.wait()
        return batch

    feed.changes = slow  # type: ignore[method-assign]
    first = asyncio.create_task(sync_loop.sync_now())
    await entered.wait()
    # Committed after the first round has read: only a round that starts later can see it.
    feed.log.append(ConsumerDelete(1))
    others = [asyncio.create_task(sync_loop.sync_now()) for _ in range(20)]
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(first, *others)
    assert sync_loop.revision == 5
    assert feed.calls == ["changes 4", "changes 4"]


async def test_one_who_gives_up_waiting_does_not_stop_the_round_for_others(
    feed: MemoryFeed, sync_loop: SyncLoop
) -> None:
    one, other = asyncio.create_task(sync_loop.sync_now()), asyncio.create_task(sync_loop.sync_now())
    await asyncio.sleep(0)
    one.cancel()
    await other
    assert sync_loop.revision == 4


LATER = 50_000
"""A history in which everything happens later than in the others of these tests."""


@pytest.mark.parametrize(
    ("cursor", "is_loud"),
    [(at(1), False), (at(9, 2), False), (at(13, 2), True), (at(20), True), (Cursor(13, "", 0), False)],
    ids=["too-old", "another-past", "another-past-at-the-same-revision", "ahead-in-another-past", "without-a-stamp"],
)
async def test_a_cursor_that_the_record_cannot_lead_on_from_is_answered_with_a_snapshot(
    replica: Replica, cursor: Cursor, is_loud: bool, caplog: pytest.LogCaptureFixture
) -> None:
    replica.load("dep_1", PEPPER_CHECK, cursor, [bucket(9, "stale-bucket")])
    if not cursor.stamp:
        with replica._files.write() as tx:
            tx.delete(b"stamp", db=replica._files.meta)
    feed = MemoryFeed(start=9, log=start_of_log(), history=LATER)
    sync_loop = new_sync_loop(replica, feed)
    await sync_loop.sync_now()
    assert replica.records() == state(feed.log)
    assert replica.cursor == at(13, LATER)
    assert "a new snapshot is needed" in caplog.text
    assert ("the record has another past" in caplog.text) is is_loud
    await sync_loop.close()


async def test_a_record_that_is_merely_behind_is_waited_for(replica: Replica, feed: MemoryFeed) -> None:
    """What answers for it has yet to catch up, as far as can be told: its newest change is of before the replica's."""
    kept = [bucket(9, "newer-bucket")]
    replica.load("dep_1", PEPPER_CHECK, at(6), kept)
    sync_loop = new_sync_loop(replica, feed)
    for _ in range(2):
        with pytest.raises(RecordBehind, match="revision 4 and this replica at 6"):
            await sync_loop.sync_now()
    assert (replica.records(), replica.cursor, sync_loop.is_synced) == (kept, at(6), False)
    feed.log += [key(f"zpka_other-{n}", 1, 1) for n in range(3)]
    await sync_loop.sync_now()
    assert (replica.cursor, sync_loop.is_synced) == (at(7), True)
    await sync_loop.close()


async def test_a_batch_that_another_process_overtook_is_asked_for_again(
    replica: Replica, feed: MemoryFeed, sync_loop: SyncLoop
) -> None:
    await sync_loop.sync_now()
    answer = feed.changes

    async def slow(after: Cursor) -> Batch:
        found = await answer(after)
        feed.changes = answer  # type: ignore[method-assign]
        replica.apply(batch(4, feed.log[4:5]))
        return found

    feed.changes = slow  # type: ignore[method-assign]
    feed.log += [consumer(2, 1), consumer(3, 1)]
    feed.calls.clear()
    await sync_loop.sync_now()
    assert replica.records() == state(feed.log)
    assert feed.calls == ["changes 4", "changes 5"]


async def test_a_gap_is_answered_with_a_snapshot(replica: Replica, feed: MemoryFeed, sync_loop: SyncLoop) -> None:
    await sync_loop.sync_now()
    answer = feed.changes

    async def gap(after: Cursor) -> Batch:
        feed.changes = answer  # type: ignore[method-assign]
        return batch(after.revision + 3, [bucket(5, "too-far")])

    feed.changes = gap  # type: ignore[method-assign]
    feed.log.append(consumer(2, 1))
    await sync_loop.sync_now()
    assert replica.records() == state(feed.log)


async def test_a_replica_of_another_deployment_is_replaced(replica: Replica, feed: MemoryFeed) -> None:
    replica.load("dep_0", PEPPER_CHECK, at(4), [bucket(9, "their-bucket")])
    sync_loop = new_sync_loop(replica, feed)
    await sync_loop.sync_now()
    assert replica.deployment_id == "dep_1"
    assert replica.find_bucket("their-bucket") is None
    await sync_loop.close()


async def test_a_failure_reaches_who_waits_and_the_next_call_recovers(feed: MemoryFeed, sync_loop: SyncLoop) -> None:
    await sync_loop.sync_now()
    feed.error = OSError("no route")
    with pytest.raises(OSError, match="no route"):
        await sync_loop.sync_now()
    assert (sync_loop.is_synced, sync_loop.revision) == (False, 4)
    feed.error = None
    await sync_loop.sync_now()
    assert sync_loop.is_synced
    # Asked again: behind a new connection there may be another deployment.
    assert feed.calls.count("deployment_id") == 2


async def test_a_snapshot_that_breaks_off_leaves_the_old_state(replica: Replica, feed: MemoryFeed) -> None:
    old = [bucket(9, "old-bucket")]
    replica.load("dep_0", PEPPER_CHECK, at(4), old)

    async def torn(_: Sequence[Change]) -> AsyncIterator[Sequence[Change]]:
        yield feed.log[:2]
        raise OSError("torn")

    feed.pages = torn  # type: ignore[method-assign, assignment]
    sync_loop = new_sync_loop(replica, feed)
    with pytest.raises(OSError, match="torn"):
        await sync_loop.sync_now()
    assert replica.records() == old
    await sync_loop.close()


async def test_closing_ends_a_snapshot_that_never_comes(replica: Replica, feed: MemoryFeed) -> None:
    entered = asyncio.Event()

    async def endless(_: Sequence[Change]) -> AsyncIterator[Sequence[Change]]:
        yield feed.log[:2]
        entered.set()
        await asyncio.sleep(3600)

    feed.pages = endless  # type: ignore[method-assign, assignment]
    sync_loop = new_sync_loop(replica, feed)
    waiting = asyncio.create_task(sync_loop.sync_now())
    await entered.wait()
    async with asyncio.timeout(5):
        await sync_loop.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert replica.revision is None


async def test_a_snapshot_of_another_pepper_is_an_error_and_not_a_no(replica: Replica, feed: MemoryFeed) -> None:
    feed.pepper_check = "0" * 16
    sync_loop = new_sync_loop(replica, feed)
    with pytest.raises(WrongPepper):
        await sync_loop.sync_now()
    assert sync_loop.revision is None
    await sync_loop.close()


async def test_only_one_of_the_followers_of_a_replica_loads_the_snapshot(
    replica: Replica, feed: MemoryFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Followers of several processes meet at the lock; here another holder of it stands for the other process."""
    monkeypatch.setattr("keywright.edge.sync.snapshot_loader.LOCK_SECONDS", 0.01)
    sync_loop = new_sync_loop(replica, feed)
    held = replica.new_lock(LOADING).try_acquire()
    assert held is not None
    waiting = asyncio.create_task(sync_loop.sync_now())
    await asyncio.sleep(0.05)
    assert "snapshot" not in feed.calls
    replica.load("dep_1", PEPPER_CHECK, at(4), state(feed.log))
    held.release()
    await waiting
    assert "snapshot" not in feed.calls
    await sync_loop.close()


async def test_a_process_that_stopped_moving_while_it_loads_is_not_waited_for(
    replica: Replica, feed: MemoryFeed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("keywright.edge.sync.snapshot_loader.LOCK_SECONDS", 0.01)
    monkeypatch.setattr("keywright.edge.heartbeat_lock.LEASE_SECONDS", 0.2)
    held = replica.new_lock(LOADING).try_acquire()
    assert held is not None
    sync_loop = new_sync_loop(replica, feed)
    async with asyncio.timeout(5):
        await sync_loop.sync_now()
    assert "which loads a snapshot, has stopped" in caplog.text
    assert sync_loop.revision == 4
    assert not held.is_current
    await sync_loop.close()


async def test_a_snapshot_that_comes_after_another_process_moved_on_is_not_taken(
    replica: Replica, feed: MemoryFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = replica.load

    def load_late(*given: Any, **more: Any) -> None:
        """As a process does that was stopped in between: the other one is where the snapshot is not yet."""
        monkeypatch.undo()
        feed.log.append(ConsumerDelete(1))
        load("dep_1", PEPPER_CHECK, at(5), state(feed.log))
        load(*given, **more)

    monkeypatch.setattr(replica, "load", load_late)
    sync_loop = new_sync_loop(replica, feed)
    await sync_loop.sync_now()
    assert sync_loop.revision == 5
    assert feed.calls.count("snapshot") == 1
    await sync_loop.close()


async def test_the_loop_hears_the_bell_and_stops_when_told(replica: Replica, feed: MemoryFeed) -> None:
    sync_loop = new_sync_loop(replica, feed, poll_seconds=60)
    stop = asyncio.Event()
    running = asyncio.create_task(sync_loop.run(stop))
    await until(lambda: sync_loop.is_synced)
    feed.log.append(ConsumerDelete(1))
    sync_loop.wake()
    await until(lambda: sync_loop.revision == 5)
    stop.set()
    async with asyncio.timeout(2):
        await running
    await sync_loop.close()


async def test_a_stop_requested_before_the_loop_starts_is_not_lost(sync_loop: SyncLoop) -> None:
    stop = asyncio.Event()
    stop.set()
    async with asyncio.timeout(2):
        await sync_loop.run(stop)


async def test_the_loop_polls_sweeps_and_checks_readers(
    replica: Replica, feed: MemoryFeed, sync_loop: SyncLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keywright.edge.sync.loop.READER_CHECK_SECONDS", 0.0)
    stop = asyncio.Event()
    running = asyncio.create_task(sync_loop.run(stop))
    await until(lambda: sync_loop.is_synced)
    feed.log.append(ConsumerDelete(1))
    await until(lambda: sync_loop.revision == 5)
    await until(lambda: _key_count(replica) == 0)
    stop.set()
    await running


async def test_the_loop_survives_failures_and_logs_each_kind_once(
    feed: MemoryFeed, sync_loop: SyncLoop, caplog: pytest.LogCaptureFixture
) -> None:
    stop = asyncio.Event()
    feed.error = OSError("no route")
    with caplog.at_level(logging.WARNING):
        running = asyncio.create_task(sync_loop.run(stop))
        await until(lambda: len(feed.calls) > 3)
        assert caplog.text.count("no route") == 1
        feed.error = None
        await until(lambda: sync_loop.is_synced)
        feed.error = OSError("no route")
        await until(lambda: caplog.text.count("no route") == 2)
    stop.set()
    await running


@pytest.mark.parametrize("error", [ReplicaBroken("page 7"), None], ids=["met-by-the-follower", "met-by-another"])
async def test_a_replica_that_breaks_in_use_is_replaced_and_filled_again(
    replica: Replica, feed: MemoryFeed, sync_loop: SyncLoop, error: Exception | None
) -> None:
    await sync_loop.sync_now()
    if error is None:
        replica.mark_corrupt()
    else:
        feed.error = error
        with pytest.raises(ReplicaBroken):
            await sync_loop.sync_now()
        feed.error = None
    feed.calls.clear()
    await sync_loop.sync_now()
    assert "snapshot" in feed.calls
    assert replica.records() == state(feed.log)


async def test_the_status_tells_since_when_and_how_far_behind(replica: Replica, feed: MemoryFeed) -> None:
    clock = FakeClock()
    sync_loop = new_sync_loop(replica, feed, clock=clock)
    clock.advance(30)
    assert sync_loop.lag_seconds == float("inf")
    clock.wall += 3600
    await sync_loop.sync_now()
    assert (sync_loop.lag_seconds, sync_loop.since) == (0.0, clock.now())
    synced_at = clock.now()
    clock.advance(1.5)
    await sync_loop.sync_now()
    assert sync_loop.since == synced_at
    feed.error = OSError()
    clock.advance(8.5)
    with pytest.raises(OSError):  # noqa: PT011
        await sync_loop.sync_now()
    assert (sync_loop.lag_seconds, sync_loop.since) == (8.5, clock.now())
    await sync_loop.close()
    replica.close()
    assert sync_loop.revision is None


async def test_a_replica_is_as_fresh_as_the_question_and_not_as_the_answer(replica: Replica) -> None:
    """What was committed while the answer was on its way is not in it."""
    clock = FakeClock()

    class SlowFeed(MemoryFeed):
        async def changes(self, after: Cursor) -> Batch:
            found = await super().changes(after)
            clock.advance(7)
            return found

    sync_loop = new_sync_loop(replica, SlowFeed(log=start_of_log()), clock=clock)
    await sync_loop.sync_now()
    assert sync_loop.lag_seconds == 7
    await sync_loop.close()


async def test_what_a_process_has_committed_itself_says_not_that_nobody_else_has(replica: Replica) -> None:
    class OwnBatch(Batch):
        is_newest = False

    class OwnFeed(MemoryFeed):
        async def changes(self, after: Cursor) -> Batch:
            found = await super().changes(after)
            return OwnBatch(found.follows, found.changes, found.cursor) if found.changes else found

    clock, feed = FakeClock(), OwnFeed(log=start_of_log())
    sync_loop = new_sync_loop(replica, feed, clock=clock)
    await sync_loop.sync_now()
    clock.advance(7)
    feed.log.append(key("zpka_another", 1, 1))
    await sync_loop.sync_now()
    # It is here, and for all that is known of others the replica is as old as it was.
    assert (sync_loop.revision, sync_loop.lag_seconds) == (len(feed.log), 7)
    await sync_loop.sync_now()
    assert sync_loop.lag_seconds == 0
    await sync_loop.close()


def _key_count(replica: Replica) -> int:
    files = replica._files
    with files.read() as tx:
        count: int = tx.stat(files.keys)["entries"]
        return count


def test_lmdb_is_the_engine_whose_files_we_describe() -> None:
    assert lmdb.version()[:2] == (0, 9)


async def test_a_replica_that_was_damaged_while_nobody_ran_is_replaced_and_filled_again(tmp_path: Path) -> None:
    feed = MemoryFeed(log=[bucket(1, "my-bucket"), *[consumer(n, 1) for n in range(300)]])
    replica = Replica.open(tmp_path, PEPPER_CHECK)
    sync_loop = new_sync_loop(replica, feed)
    await sync_loop.sync_now()
    await sync_loop.close()
    records = replica.records()
    replica.close()
    data = (tmp_path / "data.mdb").read_bytes()
    # In the middle of a value that is neither the first nor the last: no start looks at it.
    name = records[150].consumer_id.removeprefix("csmr_").encode()  # type: ignore[union-attr]
    (tmp_path / "data.mdb").write_bytes(data.replace(name, name[::-1]))

    feed.calls.clear()
    replica = Replica.open_or_replace(tmp_path, PEPPER_CHECK)
    sync_loop, stop = new_sync_loop(replica, feed), asyncio.Event()
    running = asyncio.create_task(sync_loop.run(stop))
    async with asyncio.timeout(30):
        while "snapshot" not in feed.calls or not sync_loop.is_synced:
            await asyncio.sleep(0.01)
    stop.set()
    await running
    await sync_loop.close()
    assert replica.records() == records
    replica.close()
