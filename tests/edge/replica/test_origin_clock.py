"""What time it is by the origin's clock: heard, gone on with, kept, and not believed when it jumps."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from keywright.edge.replica.origin_clock import HOLD_SECONDS, OriginClock
from support.clock import FakeClock

SLOW = 2400.0
"""Forty minutes."""


class World:
    """A machine with a clock of its own, and an origin with another one; answers take `took` seconds."""

    def __init__(self, path: Path | None = None, *, behind: float = 0.0) -> None:
        self.path = path
        self.machine = FakeClock()
        self.origin = self.machine.wall + behind
        self.clock = self.start()

    def start(self, boot_id: str = "this-start") -> OriginClock:
        """What another process on this machine has, or one after a restart."""
        return OriginClock(self.path, self.machine, boot_id=boot_id)

    def advance(self, seconds: float) -> None:
        self.machine.advance(seconds)
        self.origin += seconds

    def answer(self, *, took: float = 0.02, told_after: float | None = None) -> None:
        asked_at = self.machine.count
        before = took / 2 if told_after is None else told_after
        told = round((self.origin + before) * 1000)
        self.advance(took)
        self.clock.hear(told, asked_at, self.machine.count)

    def answers(self, seconds: float) -> None:
        """For so long, one every three seconds."""
        for _ in range(int(seconds / 3)):
            self.advance(2.98)
            self.answer()

    @property
    def is_right(self) -> bool:
        return abs(self.clock.millis() - self.origin * 1000) <= 20


def test_until_the_origin_is_heard_the_machines_own_clock_is_all_there_is() -> None:
    world = World(behind=SLOW)
    assert world.clock.millis() == world.machine.millis()
    assert (world.clock.offset_seconds, world.clock.error_seconds, world.clock.list_warnings()) == (None, None, [])


@pytest.mark.parametrize("behind", [SLOW, -SLOW, 5.0, 0.4, 0.0, 400 * 86_400.0])
def test_from_its_first_answer_on_the_origins_clock_counts(behind: float) -> None:
    world = World(behind=behind)
    world.answer()
    assert world.is_right
    assert world.clock.now().timestamp() == pytest.approx(world.origin, abs=0.02)
    assert world.clock.offset_seconds == pytest.approx(-behind, abs=0.02)
    assert world.clock.error_seconds == pytest.approx(0.01)
    world.answers(30)
    assert world.is_right


def test_the_offset_is_bounded_by_half_of_what_the_answer_took() -> None:
    for told_after in (0.0, 1.0, 2.0):
        world = World(behind=100)
        world.answer(took=2.0, told_after=told_after)
        assert world.clock.offset_seconds == pytest.approx(-100, abs=1.001)
        assert world.clock.error_seconds == pytest.approx(1.0)


def test_an_answer_that_took_long_does_not_make_worse_what_is_known() -> None:
    world = World(behind=100)
    world.answer(took=0.002)
    world.answer(took=4.0, told_after=0.0)
    assert world.is_right
    assert world.clock.error_seconds < 0.01
    world.answer(took=11.0)
    assert world.is_right


@pytest.mark.parametrize("seconds", [SLOW, -SLOW])
def test_who_sets_the_machines_clock_changes_nothing_with_or_without_the_origin(seconds: float) -> None:
    world = World(behind=3)
    world.answer()
    world.machine.wall += seconds
    assert world.is_right
    assert world.clock.offset_seconds == pytest.approx(seconds - 3, abs=0.02)
    world.advance(86_400)
    assert world.is_right
    world.answer()
    assert world.is_right


def test_from_two_seconds_on_it_is_warned_of_and_once_an_hour_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    world = World(behind=1.9)
    world.answers(9)
    assert (caplog.text, world.clock.list_warnings()) == ("", [])
    world = World(behind=2.1)
    world.answers(30)
    assert caplog.text.count("this machine's clock is 2.1 s (give or take 0.01 s) behind the origin's") == 1
    assert len(world.clock.list_warnings()) == 1
    world.answers(3600)
    assert caplog.text.count("behind the origin's") == 2
    world.machine.wall += 2.1
    world.answers(3)
    assert world.clock.list_warnings() == []


@pytest.mark.parametrize("jump", [365 * 86_400.0, -3600.0])
def test_an_origin_whose_clock_jumps_far_is_not_believed_for_ten_minutes_and_told_of(
    jump: float, caplog: pytest.LogCaptureFixture
) -> None:
    world = World()
    world.answers(9)
    before = world.clock.millis() - world.machine.millis()
    world.origin += jump
    world.answers(HOLD_SECONDS - 12)
    assert world.clock.millis() - world.machine.millis() == before
    assert "jumped by" in world.clock.list_warnings()[0]
    assert "jumped by" in caplog.text
    # It was set right again.
    world.origin -= jump
    world.answers(3)
    assert (world.is_right, world.clock.list_warnings()) == (True, [])
    # This time it stays so: all edges agree with their origin in the end, and it is in the log.
    world.origin += jump
    world.answers(HOLD_SECONDS + 12)
    assert world.is_right
    assert "the origin's clock was set by" in caplog.text


def test_a_lesser_step_of_the_origin_is_followed_once_three_answers_agree() -> None:
    world = World()
    world.answers(9)
    world.origin += 20
    world.answers(6)
    assert not world.is_right
    world.answers(3)
    assert world.is_right


def test_origins_that_do_not_agree_move_nothing_and_are_told_of() -> None:
    world = World()
    world.answers(9)
    for _ in range(400):
        world.origin += 90
        world.answers(6)
        assert "origins' clocks differ" in world.clock.list_warnings()[0]
        world.origin -= 90
        world.answers(3)
        assert world.is_right


def test_what_the_process_that_follows_knows_the_others_and_the_next_one_know(tmp_path: Path) -> None:
    world = World(tmp_path / "origin-clock.json", behind=SLOW)
    other = world.start()
    assert other.millis() == world.machine.millis()
    world.answer()
    world.advance(1.1)
    later = world.start()
    for one in (other, later):
        assert one.millis() == world.clock.millis()
        assert one.offset_seconds == world.clock.offset_seconds
        assert one.list_warnings() == world.clock.list_warnings() != []
    # The next one that follows holds on to it as well.
    world.clock = later
    world.origin += 86_400
    world.answers(30)
    assert not world.is_right


def test_over_a_start_of_the_machine_the_origins_time_does_not_go_back(tmp_path: Path) -> None:
    world = World(tmp_path / "origin-clock.json", behind=SLOW)
    world.answer()
    told = world.clock.millis()
    world.machine.count = 5.0
    clock = world.start("another-start")
    assert clock.millis() >= told
    assert clock.error_seconds is None
    assert clock.offset_seconds == pytest.approx(-SLOW, abs=0.1)
    assert "(or more) behind" in clock.list_warnings()[0]
    # Where the machine's clock is later than that, it counts.
    world.machine.wall += 2 * SLOW
    assert clock.millis() == world.machine.millis()
    assert clock.offset_seconds is None


def test_a_snapshot_file_tells_that_it_is_no_earlier_than_when_that_was_made(tmp_path: Path) -> None:
    world = World(tmp_path / "origin-clock.json", behind=SLOW)
    world.clock.hear_least(round(world.origin * 1000))
    for clock in (world.clock, world.start()):
        assert clock.millis() >= world.origin * 1000 - 1
    world.advance(100)
    assert world.clock.millis() >= world.origin * 1000 - 1
    early = World(behind=-SLOW)
    early.clock.hear_least(round(early.origin * 1000))
    assert early.clock.millis() == early.machine.millis()


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{}", '{"boot": "this-start", "elapsed": 1e999, "origin": 1, "error": 1, "jump": null}']
)
def test_what_can_not_be_read_is_nothing(tmp_path: Path, text: str) -> None:
    world = World(tmp_path / "origin-clock.json")
    (tmp_path / "origin-clock.json").write_text(text)
    assert world.start().millis() == world.machine.millis()


def test_where_nothing_can_be_kept_it_works_all_the_same_and_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(tmp_path / "nowhere" / "origin-clock.json", behind=SLOW)
    world.answers(12)
    assert world.is_right
    assert caplog.text.count("can't write") == 1
