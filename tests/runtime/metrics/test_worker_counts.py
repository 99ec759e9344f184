"""The counts of several workers: every sum has all that was told before, whoever has died, and nothing twice."""

from __future__ import annotations

import logging
import os
import random
from pathlib import Path

import pytest

from keywright.runtime.metrics.worker_counts import VARIABLE, Counts, WorkerCounts, shared_by_workers

VALID, EXPIRED = ("validate", "VALID"), ("forward-auth", "EXPIRED")


class Worker:
    """A worker of one process group, as far as its counts go. `die` as a process does: without another write."""

    def __init__(self, directory: Path) -> None:
        self.own: Counts = {VALID: 0}
        self.shared = WorkerCounts(directory)

    def tell(self) -> Counts:
        return self.shared.add_up(lambda: dict(self.own))

    def write(self) -> None:
        self.shared.write(lambda: dict(self.own))

    def die(self) -> None:
        slot = self.shared._slot
        if slot is not None:
            os.close(slot._lock)


def test_the_sum_is_of_all_workers_that_have_written(tmp_path: Path) -> None:
    first, second = Worker(tmp_path), Worker(tmp_path)
    first.own = {VALID: 19, EXPIRED: 1}
    second.own = {VALID: 3}
    assert first.tell() == {VALID: 19, EXPIRED: 1}
    assert second.tell() == {VALID: 22, EXPIRED: 1}
    assert first.tell() == {VALID: 22, EXPIRED: 1}
    second.own = {VALID: 4}
    assert first.tell()[VALID] == 22
    second.write()
    assert first.tell()[VALID] == 23


def test_the_counts_of_a_worker_that_died_stay_and_whoever_comes_after_it_goes_on_from_them(tmp_path: Path) -> None:
    first, second = Worker(tmp_path), Worker(tmp_path)
    first.own, second.own = {VALID: 5}, {VALID: 7}
    assert first.tell()[VALID] + second.tell()[VALID] == 5 + 12
    second.die()
    assert first.tell() == {VALID: 12}
    for number in range(10):
        third = Worker(tmp_path)
        assert third.tell() == {VALID: 12 + number}
        third.own = {VALID: 1}
        third.write()
        third.die()
    assert first.tell() == {VALID: 22}
    assert len(list(tmp_path.glob("*.json"))) == 2


def test_whatever_workers_do_no_sum_is_less_than_one_before_it(tmp_path: Path) -> None:
    dice = random.Random(3)
    workers, told, counted = [Worker(tmp_path) for _ in range(4)], 0, 0
    for _ in range(3000):
        number = dice.randrange(4)
        worker = workers[number]
        match dice.choice(["count", "count", "count", "tell", "write", "die"]):
            case "count":
                worker.own[VALID] += 1
                counted += 1
            case "tell":
                now = worker.tell()[VALID]
                assert told <= now <= counted
                told = now
            case "write":
                worker.write()
            case "die":
                worker.die()
                workers[number] = Worker(tmp_path)
    assert told > 500


def test_what_is_in_a_file_by_accident_counts_nothing(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    for number, text in enumerate(["", "[", "[[]]", "7", '{"a":1}', "[[1]]"], start=5):
        (tmp_path / f"{number}.json").write_text(text)
    worker.own = {VALID: 2}
    assert worker.tell() == {VALID: 2}


def test_a_worker_whose_files_fail_tells_its_own_counts_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(tmp_path / "none")
    worker.own = {VALID: 2}
    with caplog.at_level(logging.WARNING):
        assert worker.tell() == {VALID: 2}
        worker.write()
        assert worker.tell() == {VALID: 2}
    assert caplog.text.count("the metrics may lack workers") == 1


def test_a_start_names_its_own_directory_to_its_workers_and_takes_it_away(tmp_path: Path) -> None:
    assert WorkerCounts.of_environment() is None
    with shared_by_workers(tmp_path):
        first = Path(os.environ[VARIABLE])
        assert WorkerCounts.of_environment() is not None
        # Another start on the same data directory, as two edges may be, is another group.
        with shared_by_workers(tmp_path):
            assert Path(os.environ[VARIABLE]) != first
            assert first.is_dir()
        assert first.is_dir()
    assert not first.exists()
    assert VARIABLE not in os.environ


def test_what_a_killed_start_has_left_is_taken_away_by_the_next_one(tmp_path: Path) -> None:
    left = tmp_path / "worker-counts" / "0123456789abcdef"
    left.mkdir(parents=True)
    (left / "0.json").write_text('[["validate", "VALID", 5]]')
    with shared_by_workers(tmp_path):
        assert not left.exists()


def test_a_start_that_can_make_no_directory_goes_on_without(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "worker-counts").touch()
    with caplog.at_level(logging.WARNING), shared_by_workers(tmp_path):
        assert WorkerCounts.of_environment() is None
    assert "the metrics are those of one worker each" in caplog.text
