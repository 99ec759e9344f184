"""Of several processes on one replica exactly one follows, and each of them tells the truth about it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from edge.world import MemoryFeed, bucket, consumer, key
from keywright.edge.mirror import MirrorStatus
from keywright.edge.replica.freshness import SyncClock
from keywright.edge.replica.replica import Replica
from keywright.edge.sync import leader_election
from keywright.edge.sync.leader_election import NOBODY, LeaderElection
from keywright.runtime.clock import Clock
from support.clock import FakeClock
from support.sync import new_sync_loop
from support.waiting import until


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leader_election, "TRY_SECONDS", 0.01)
    monkeypatch.setattr(leader_election, "WRITE_SECONDS", 0.01)


class Process:
    """One process's part, as a worker has it; LMDB lets one process open a replica once, so here they share it."""

    def __init__(
        self,
        replica: Replica,
        feed: MemoryFeed,
        clock: Clock,
        mirror_status: Callable[[], MirrorStatus] | None = None,
    ) -> None:
        self.replica = replica
        sync_clock = SyncClock(replica._files.path / "in-step.json", clock)
        self.election = LeaderElection(
            replica,
            replica._files.path / "standing.json",
            lambda: new_sync_loop(replica, feed, clock=clock, sync_clock=sync_clock, poll_seconds=0.01),
            clock,
            sync_clock,
            mirror_status=mirror_status,
        )
        self.stop = asyncio.Event()
        self.running: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.running = asyncio.create_task(self.election.run(self.stop))

    async def end(self) -> None:
        self.stop.set()
        if self.running is not None:
            async with asyncio.timeout(5):
                await self.running


def test_without_a_process_that_follows_nothing_is_said_to_be_in_step(replica: Replica) -> None:
    process = Process(replica, MemoryFeed(), Clock())
    assert (process.election.is_synced, process.election.reason, process.election.revision) == (False, NOBODY, None)
    assert process.election.lag_seconds >= 0
    replica.close()
    assert process.election.revision is None


async def test_one_follows_the_other_reads_its_status_and_takes_over(replica: Replica) -> None:
    feed = MemoryFeed(log=[bucket(1, "my-bucket"), consumer(1, 1)])
    one, other = (Process(replica, feed, Clock()) for _ in range(2))
    one.start()
    await until(lambda: one.election.is_following and one.election.is_synced)
    other.start()
    await until(lambda: other.election.is_synced)
    assert not other.election.is_following
    assert (other.election.revision, other.election.reason) == (2, None)
    assert abs((other.election.since - one.election.since).total_seconds()) < 0.01
    assert other.election.lag_seconds < 2
    feed.error = OSError("no route")
    await until(lambda: not other.election.is_synced)
    assert other.election.reason == one.election.reason == "OSError: no route"
    feed.error = None
    await one.end()
    feed.log.append(key("zpka_secret", 1, 1))
    await until(lambda: other.election.is_following and other.election.is_synced and other.election.revision == 3)
    await other.end()


async def test_every_process_tells_of_the_mirror_that_the_leader_keeps(replica: Replica) -> None:
    feed = MemoryFeed(log=[bucket(1, "my-bucket")])
    status = MirrorStatus(
        is_synced=False, revision=7, lag_seconds=2.5, pending=30, blocked=2, is_believed=True, reason="OSError: gone"
    )
    leader = Process(replica, feed, Clock(), lambda: status)
    other = Process(replica, feed, Clock(), lambda: pytest.fail("it keeps none"))
    assert other.election.mirror == MirrorStatus.unknown(NOBODY)
    leader.start()
    await until(lambda: leader.election.is_following)
    await until(lambda: other.election.mirror == status)
    assert leader.election.mirror == status
    assert Process(replica, feed, Clock()).election.mirror is None
    await leader.end()


@pytest.mark.parametrize("later", [60.0, -60.0], ids=["the-writer-is-silent", "the-machine-was-started-anew"])
async def test_an_old_status_says_nothing_of_now(replica: Replica, later: float) -> None:
    clock = FakeClock()
    feed = MemoryFeed(log=[bucket(1, "my-bucket")])
    one, other = (Process(replica, feed, clock) for _ in range(2))
    one.start()
    await until(lambda: other.election.is_synced)
    await one.end()
    clock.advance(later)
    assert (other.election.is_synced, other.election.reason) == (False, NOBODY)
    assert other.election.lag_seconds >= 0
    await other.end()


async def test_a_status_that_cannot_be_read_is_none(replica: Replica) -> None:
    process = Process(replica, MemoryFeed(), Clock())
    for text in ("", "{}", "[]", '{"written_at": null}'):
        (replica._files.path / "standing.json").write_text(text)
        assert (process.election.is_synced, process.election.reason) == (False, NOBODY)
    await process.end()


async def test_who_only_reads_lets_go_of_broken_files_so_that_they_can_be_replaced(replica: Replica) -> None:
    feed = MemoryFeed(log=[bucket(1, "my-bucket")])
    process = Process(replica, feed, Clock())
    with replica.following() as is_ours:
        assert is_ours
        process.start()
        replica.mark_corrupt()
        await until(lambda: not replica.is_marked_corrupt and replica.is_open)
        assert not process.election.is_following
    await until(lambda: process.election.is_synced and process.election.revision == 1)
    await process.end()


async def test_a_leader_that_does_not_move_is_overtaken_and_finds_out_when_it_does(
    replica: Replica, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("keywright.edge.heartbeat_lock.LEASE_SECONDS", 0.2)
    feed = MemoryFeed(log=[bucket(1, "my-bucket")])
    one, other = (Process(replica, feed, Clock()) for _ in range(2))
    one.start()
    await until(lambda: one.election.is_following and one.election.is_synced)
    # From here on it is as if its process were stopped: nothing of it runs but this test.
    held = one.election._held
    assert held is not None
    monkeypatch.setattr(held, "beat", lambda: None)
    other.start()
    await until(lambda: other.election.is_following)
    assert not one.election.is_following
    await until(lambda: "another follows the record by now" in caplog.text)
    assert "has stopped moving: it is replaced" in caplog.text
    feed.log.append(consumer(1, 1))
    await until(lambda: one.election.revision == 2 and one.election.is_synced)
    await one.end()
    assert other.election.is_following
    await other.end()
