"""A replica answers no longer than its edge told the origin that it would: in every process, and over restarts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from keywright.edge.replica.lease import READ_SECONDS, Lease

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Times:
    """Stands for the machine's clocks."""

    now: float = 1000.0
    wall: float = 1_800_000_000.0

    def elapsed(self) -> float:
        return self.now

    def millis(self) -> int:
        return int(self.wall * 1000)

    def pass_(self, seconds: float) -> None:
        self.now += seconds
        self.wall += seconds


@pytest.fixture
def times() -> Times:
    return Times()


def lease(path: Path, times: Times, *, seconds: float | None = None, lag: float = 0.0, boot_id: str = "b1") -> Lease:
    clock: Any = times
    return Lease(path / "lease.json", clock, lambda: lag, seconds=seconds, boot_id=boot_id)


def test_who_never_promised_anything_answers(tmp_path: Path, times: Times) -> None:
    one = lease(tmp_path, times)
    assert one.offer(None) is None
    one.taken(None, times.now)
    times.pass_(1e6)
    assert not one.is_over()
    assert list(tmp_path.iterdir()) == []


def test_a_promise_binds_from_before_it_is_sent_in_every_process_and_after_a_restart(
    tmp_path: Path, times: Times
) -> None:
    one, other = lease(tmp_path, times), lease(tmp_path, times)
    assert not other.is_over()
    assert one.offer(60.0) == 60.0
    # No answer came: it may have been taken.
    times.pass_(60.0)
    assert (one.is_over(), other.is_over()) == (False, False)
    times.pass_(0.1)
    assert (one.is_over(), other.is_over(), lease(tmp_path, times).is_over()) == (True, True, True)


def test_each_report_that_is_taken_renews_it_from_when_it_was_sent(tmp_path: Path, times: Times) -> None:
    one = lease(tmp_path, times)
    for _ in range(5):
        sent_at = times.now
        one.offer(60.0)
        times.pass_(5.0)
        one.taken(60.0, sent_at)
    times.pass_(55.0)
    assert not one.is_over()
    times.pass_(0.1)
    assert one.is_over()


def test_a_longer_promise_holds_only_once_it_was_taken_and_a_shorter_one_at_once(tmp_path: Path, times: Times) -> None:
    one = lease(tmp_path, times)
    one.taken(60.0, times.now)
    assert one.offer(600.0) == 600.0
    times.pass_(61.0)
    assert one.is_over()
    one.taken(600.0, times.now)
    assert one.offer(10.0) == 10.0
    times.pass_(11.0)
    assert one.is_over()
    one.taken(None, times.now)
    times.pass_(1e6)
    assert not one.is_over()


def test_another_process_that_takes_over_is_bound_by_what_was_told_before(tmp_path: Path, times: Times) -> None:
    lease(tmp_path, times).taken(60.0, times.now)
    successor = lease(tmp_path, times)
    times.pass_(50.0)
    successor.offer(60.0)
    times.pass_(11.0)
    assert successor.is_over()


def test_what_can_not_be_kept_is_not_promised(tmp_path: Path, times: Times) -> None:
    one = lease(tmp_path / "not-there", times)
    assert one.offer(60.0) is None


def test_its_own_setting_refuses_what_is_out_of_step_also_for_mere_readers(tmp_path: Path, times: Times) -> None:
    assert lease(tmp_path, times, seconds=60.0, lag=60.1).is_over()
    one = lease(tmp_path, times, seconds=60.0, lag=59.9)
    assert not one.is_over()
    one.offer(60.0)
    one.taken(60.0, times.now)
    assert lease(tmp_path, times, lag=60.1).is_over()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"until": "x", "lease": null}', "\x00"])
def test_what_can_not_be_read_is_over(tmp_path: Path, times: Times, text: str) -> None:
    (tmp_path / "lease.json").write_text(text)
    one = lease(tmp_path, times)
    assert one.is_over()
    one.taken(60.0, times.now)
    assert not one.is_over()


@pytest.mark.parametrize(("away", "is_over"), [(0.0, False), (3300.0, False), (3500.0, True), (-1.0, True)], ids=str)
def test_over_a_start_of_the_machine_its_clock_is_taken_to_be_an_hour_slow(
    tmp_path: Path, times: Times, away: float, *, is_over: bool
) -> None:
    lease(tmp_path, times).taken(7000.0, times.now)
    times.now, times.wall = 5.0, times.wall + away
    assert lease(tmp_path, times, boot_id="b2").is_over() is is_over


def test_a_process_learns_within_a_second_what_another_one_was_told(tmp_path: Path, times: Times) -> None:
    one, other = lease(tmp_path, times), lease(tmp_path, times)
    one.taken(10.0, times.now)
    assert not other.is_over()
    times.pass_(5.0)
    one.taken(10.0, times.now)
    times.pass_(6.0)
    assert not other.is_over()
    assert json.loads((tmp_path / "lease.json").read_text())["until"] == 1015.0
    one.taken(None, times.now)
    times.pass_(READ_SECONDS)
    times.pass_(100.0)
    assert not other.is_over()


@pytest.mark.parametrize(("lag", "is_over"), [(0.5, False), (2.0, True), (float("inf"), True)], ids=str)
def test_what_was_over_begins_anew_only_when_it_has_been_in_step_since(
    tmp_path: Path, times: Times, lag: float, *, is_over: bool
) -> None:
    lease(tmp_path, times).taken(60.0, times.now)
    times.pass_(61.0)
    one = lease(tmp_path, times, lag=lag)
    assert one.is_over()
    one.taken(None, times.now)
    assert one.is_over() is is_over


def test_after_a_goodbye_nothing_is_answered_until_it_is_in_step_again(tmp_path: Path, times: Times) -> None:
    earlier = lease(tmp_path, times).end()
    times.pass_(0.1)
    behind = lease(tmp_path, times, lag=30.0)
    behind.taken(None, times.now)
    assert behind.is_over()
    assert earlier is not None
    behind.restore(earlier)
    assert not lease(tmp_path, times, lag=30.0).is_over()
    assert lease(tmp_path / "not-there", times).end() is None
