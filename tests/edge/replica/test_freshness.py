"""How long a replica may have been out of step: never told shorter than it is, whatever restarts and clocks do."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import pytest

from keywright.edge.replica import freshness as sync_clock
from keywright.edge.replica.freshness import SLOW_CLOCK_SECONDS, SyncClock
from support.clock import FakeClock

if TYPE_CHECKING:
    from pathlib import Path


class Machine(FakeClock):
    """Its clock, and which start of it this is."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.boot_id = "boot-1"

    def process(self) -> SyncClock:
        return SyncClock(self.path, self, boot_id=self.boot_id)

    def restart(self, *, off_seconds: float, clock_error: float = 0.0) -> None:
        self.count, self.boot_id = 5.0, "boot-2"
        self.wall += off_seconds + clock_error


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "in-step.json")


def test_a_replica_that_was_never_in_step_is_endlessly_behind(machine: Machine) -> None:
    assert machine.process().lag_seconds() == math.inf
    assert SyncClock(None, FakeClock()).lag_seconds() == math.inf


def test_a_process_that_starts_anew_knows_how_long_it_has_been_however_its_clock_was_set(machine: Machine) -> None:
    machine.process().advance(machine.count)
    machine.advance(20)
    machine.wall -= 7200
    assert machine.process().lag_seconds() == 20


def test_a_process_that_only_reads_hears_of_it_soon_and_is_never_early(machine: Machine) -> None:
    follows, reads = machine.process(), machine.process()
    longest = 0.0
    for _ in range(100):
        follows.advance(machine.count)
        machine.advance(0.1)
        assert reads.lag_seconds() >= follows.lag_seconds() - 1e-6
        longest = max(longest, reads.lag_seconds())
    assert longest < 3
    machine.advance(30)
    assert reads.lag_seconds() >= 30


def test_it_only_moves_forward(machine: Machine) -> None:
    process = machine.process()
    process.advance(999.0)
    process.advance(990.0)
    assert process.lag_seconds() == 1.0


@pytest.mark.parametrize("clock_error", [0.0, -1800.0, -3600.0, 600.0])
def test_after_a_start_of_the_machine_a_clock_an_hour_off_makes_nothing_seem_fresher_than_it_is(
    machine: Machine, clock_error: float
) -> None:
    machine.process().advance(machine.count)
    machine.restart(off_seconds=5400, clock_error=clock_error)
    lag = machine.process().lag_seconds()
    assert lag >= 5400
    assert lag == pytest.approx(5400 + clock_error + SLOW_CLOCK_SECONDS)


def test_after_a_start_of_the_machine_with_a_clock_before_its_end_nothing_is_known_until_it_is_in_step(
    machine: Machine,
) -> None:
    machine.process().advance(machine.count)
    machine.restart(off_seconds=600, clock_error=-1200)
    process = machine.process()
    assert process.lag_seconds() == math.inf
    process.advance(machine.count)
    assert process.lag_seconds() == 0


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "\x00", '{"boot": "boot-1", "elapsed": null, "wall": 1}',
     '{"boot": "boot-1", "elapsed": 1e9, "wall": 1}',
     '{"boot": "boot-1", "elapsed": "x", "wall": 1}', '{"boot": null, "elapsed": 1, "wall": "NaN"}',
     '{"boot": null, "elapsed": 1, "wall": -Infinity}', '{"boot": "boot-1", "elapsed": NaN, "wall": 1}'],
    ids=repr,
)  # fmt: skip
def test_a_note_that_cannot_be_is_none(machine: Machine, text: str) -> None:
    machine.path.write_text(text)
    assert machine.process().lag_seconds() == math.inf


def test_a_directory_that_cannot_be_written_costs_a_warning_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    machine = Machine(tmp_path / "missing" / "in-step.json")
    process = machine.process()
    for _ in range(3):
        process.advance(machine.count)
        machine.advance(2)
    assert process.lag_seconds() == 2
    assert caplog.text.count("can't write") == 1


def test_where_the_system_tells_no_start_each_one_may_be_another(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_clock, "_BOOT_ID", machine.path.with_name("none"))
    machine.boot_id = ""
    machine.process().advance(machine.count)
    assert json.loads(machine.path.read_text())["boot"] is None
    assert machine.process().lag_seconds() == SLOW_CLOCK_SECONDS
