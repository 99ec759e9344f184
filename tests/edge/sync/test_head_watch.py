"""What a heartbeat proves, by a clock that the test sets. The same over a real broker: test_nats_feed.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edge.world import at
from keywright.edge.sync.nats_feed.head_watch import CLOCK_SECONDS, HeadWatch
from keywright.nats.subjects import EVERYTHING, FOR_HEARTBEATS
from keywright.protocol.frames import Frame, FrameKind
from support.clock import FakeClock

if TYPE_CHECKING:
    from keywright.protocol.changes import Cursor


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def head(clock: FakeClock) -> HeadWatch:
    return HeadWatch(clock, silence_seconds=6.0)


def heartbeat(clock: FakeClock, cursor: Cursor, *, late: float = 0.0) -> Frame:
    common = "dply_1", FrameKind.CHANGES, EVERYTHING, FOR_HEARTBEATS, 0
    return Frame(*common, cursor, cursor, cursor.revision, clock.millis() - round(late * 1000), ())


def test_before_the_first_heartbeat_nothing_is_known_and_nobody_is_heard(head: HeadWatch) -> None:
    assert (head.known, head.is_heard, head.problem) == (None, False, "")


def test_a_heartbeat_counts_for_as_long_as_three_of_them_take(head: HeadWatch, clock: FakeClock) -> None:
    head.on_heartbeat(heartbeat(clock, at(4)))
    clock.advance(6.0)
    assert head.is_heard
    clock.advance(0.1)
    assert not head.is_heard


def test_the_head_is_true_as_of_when_the_frame_was_made_in_elapsed_time(head: HeadWatch, clock: FakeClock) -> None:
    """Both clocks go on while the machine sleeps, so what was known before it is as old as the sleep was long."""
    head.on_heartbeat(heartbeat(clock, at(4), late=2.5))
    assert head.known is not None
    assert head.known.true_at == clock.elapsed() - 2.5
    clock.advance(7200)
    assert clock.elapsed() - head.known.true_at == 7202.5
    assert not head.is_heard


@pytest.mark.parametrize("late", [CLOCK_SECONDS + 1, -CLOCK_SECONDS - 1], ids=["too-old", "of-the-future"])
def test_a_heartbeat_of_another_minute_proves_nothing(head: HeadWatch, clock: FakeClock, late: float) -> None:
    head.on_heartbeat(heartbeat(clock, at(4), late=late))
    assert (head.known, head.is_heard) == (None, False)
    assert "a clock is wrong" in head.problem


def test_one_that_is_repeated_proves_nothing(head: HeadWatch, clock: FakeClock) -> None:
    frame = heartbeat(clock, at(4))
    head.on_heartbeat(frame)
    clock.advance(6.1)
    head.on_heartbeat(frame)
    assert not head.is_heard
    assert "repeats" in head.problem


def test_a_later_one_from_before_what_is_known_proves_nothing(head: HeadWatch, clock: FakeClock) -> None:
    head.on_heartbeat(heartbeat(clock, at(4)))
    clock.advance(7)
    head.on_heartbeat(heartbeat(clock, at(2)))
    assert "before this replica's" in head.problem
    # Two origins, of which one is a little behind, are no such thing.
    clock.advance(1)
    head.on_heartbeat(heartbeat(clock, at(5)))
    clock.advance(1)
    head.on_heartbeat(heartbeat(clock, at(4)))
    assert (head.problem, head.is_heard) == ("", True)
    assert head.known is not None
    assert head.known.frame.cursor == at(5)


def test_a_frame_of_a_clock_ahead_does_not_outlast_what_the_right_one_says_later(
    head: HeadWatch, clock: FakeClock
) -> None:
    head.accept(heartbeat(clock, at(4), late=-3600))
    assert head.known is not None
    assert head.known.true_at == clock.elapsed()
    clock.advance(1)
    head.accept(heartbeat(clock, at(4)))
    assert head.known.true_at == clock.elapsed()
