"""A lock that is kept by who moves, and by nobody else."""

from __future__ import annotations

import os
from pathlib import Path

from keywright.edge.heartbeat_lock import LEASE_SECONDS, HeartbeatLock
from support.clock import FakeClock


def watch(lock: HeartbeatLock, clock: FakeClock, seconds: float) -> bool:
    """Look as often as processes do; whether the holder is still in the end."""
    for _ in range(int(seconds / 0.25)):
        clock.advance(0.25)
        is_still = lock.is_still
    return is_still


def new_lock(path: Path, clock: FakeClock) -> HeartbeatLock:
    return HeartbeatLock(path / "some.lock", elapsed=clock.elapsed)


def test_it_is_held_by_one_and_free_after_its_release(tmp_path: Path) -> None:
    clock = FakeClock()
    one, other = new_lock(tmp_path, clock), new_lock(tmp_path, clock)
    held = one.try_acquire()
    assert held is not None
    assert other.try_acquire() is None
    assert other.holder == os.getpid()
    held.release()
    held.release()
    held.beat()
    assert not held.is_current
    assert other.try_acquire() is not None


def test_a_holder_that_beats_keeps_it_however_long(tmp_path: Path) -> None:
    clock = FakeClock()
    held, other = new_lock(tmp_path, clock).try_acquire(), new_lock(tmp_path, clock)
    assert held is not None
    for _ in range(20):
        assert not watch(other, clock, LEASE_SECONDS - 0.5)
        held.beat()
    assert held.is_current


def test_a_holder_that_is_still_is_overtaken_and_can_see_it(tmp_path: Path) -> None:
    clock = FakeClock()
    held, other = new_lock(tmp_path, clock).try_acquire(), new_lock(tmp_path, clock)
    assert held is not None
    assert watch(other, clock, LEASE_SECONDS + 0.5)
    taken = other.take_over()
    assert taken is not None
    assert (taken.is_current, held.is_current) == (True, False)
    # What it does to its own file from now on is seen by nobody.
    held.beat()
    held.release()
    assert taken.is_current
    assert new_lock(tmp_path, clock).try_acquire() is None
    assert [entry.name for entry in tmp_path.iterdir()] == ["some.lock"]


def test_a_holder_that_moved_in_the_last_moment_keeps_it(tmp_path: Path) -> None:
    clock = FakeClock()
    held, other = new_lock(tmp_path, clock).try_acquire(), new_lock(tmp_path, clock)
    assert held is not None
    assert watch(other, clock, LEASE_SECONDS + 0.5)
    held.beat()
    assert other.take_over() is None
    assert held.is_current


def test_a_process_that_was_itself_stopped_or_a_machine_that_slept_takes_nothing_over(tmp_path: Path) -> None:
    clock = FakeClock()
    held, other = new_lock(tmp_path, clock).try_acquire(), new_lock(tmp_path, clock)
    assert held is not None
    assert not other.is_still
    clock.advance(3600)
    assert not other.is_still


def test_of_two_that_take_it_over_the_last_one_has_it(tmp_path: Path) -> None:
    clock = FakeClock()
    held = new_lock(tmp_path, clock).try_acquire()
    others = [new_lock(tmp_path, clock) for _ in range(2)]
    for _ in range(int(LEASE_SECONDS / 0.25) + 2):
        clock.advance(0.25)
        stills = [other.is_still for other in others]
    assert (held is not None, stills) == (True, [True, True])
    first, second = others[0].take_over(), others[1].take_over()
    # The second one looked after the first had been at it.
    assert first is not None
    assert second is None
    assert first.is_current
