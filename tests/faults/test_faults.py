"""Whatever goes wrong, and whenever: nothing acknowledged is lost, no edge goes back, and in the end all are equal.

A fixed set of schedules; `make test-faults` plays as many others as it is told.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from faults import clock
from faults.schedule import Engine, Fault, Schedule, frozen_targets_of, targets_of
from faults.worlds import Worlds

SEEDS = {Engine.SQLITE: (1, 133, 178), Engine.POSTGRESQL: (126, 34, 38), Engine.NATS: (145, 1263)}
FROZEN_SEEDS = (1015, 1041)
"""At a broker, with junk there, and every kind of process frozen."""

pytestmark = pytest.mark.long(90)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worlds]:
    with Worlds(tmp_path_factory.mktemp("faults")) as made:
        yield made


# One takes seconds. What never heals is said after HEAL_SECONDS, with its schedule.
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("engine", "seed"), [(engine, seed) for engine, seeds in SEEDS.items() for seed in seeds], ids=str
)
def test_a_schedule_of_faults_breaks_no_rule(worlds: Worlds, engine: Engine, seed: int) -> None:
    schedule = Schedule.of(seed, engine, has_clock=clock.find_library() is not None)
    print(schedule)
    outcome = worlds.play(schedule)
    assert outcome.violations == []


@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", FROZEN_SEEDS)
def test_processes_that_freeze_and_junk_at_the_broker_break_no_rule(worlds: Worlds, seed: int) -> None:
    schedule = Schedule.of_frozen(seed, Engine.NATS)
    print(schedule)
    assert worlds.play(schedule).violations == []


def test_the_fixed_schedules_freeze_each_kind_of_process_and_send_junk() -> None:
    wanted = {
        (_kind_of(target), fault)
        for target, faults in frozen_targets_of(Engine.NATS).items()
        for fault in faults
        if fault in {Fault.FREEZE, Fault.JUNK}
    }
    steps = [step for seed in FROZEN_SEEDS for step in Schedule.of_frozen(seed, Engine.NATS).steps]
    assert {(step.kind_of_target, step.fault) for step in steps} >= wanted


def test_the_fixed_schedules_have_every_kind_of_fault_at_every_kind_of_target() -> None:
    wanted = {(_kind_of(target), fault) for target, faults in targets_of(Engine.POSTGRESQL).items() for fault in faults}
    wanted |= {("broker", fault) for fault in targets_of(Engine.NATS)["broker"]}
    steps = [step for engine, seeds in SEEDS.items() for seed in seeds for step in Schedule.of(seed, engine).steps]
    assert {(step.kind_of_target, step.fault) for step in steps} >= wanted
    assert {"origin's link", "edge-1's link"} <= {
        step.target for seed in SEEDS[Engine.NATS] for step in Schedule.of(seed, Engine.NATS).steps
    }


def test_a_seed_gives_the_same_schedule_again_and_each_another() -> None:
    drawn = [Schedule.of(seed) for seed in range(200)]
    assert drawn == [Schedule.of(seed) for seed in range(200)]
    for of in (Schedule.of, Schedule.of_frozen, Schedule.of_outage):
        # Also where the engine is said, as in what is printed of one that failed.
        assert all(of(seed) == of(seed, of(seed).engine) for seed in range(20))
    assert len({schedule.steps for schedule in drawn}) == 200
    for schedule in drawn:
        for one, other in itertools.combinations(schedule.steps, 2):
            overlap = one.at <= other.at + other.seconds and other.at <= one.at + one.seconds
            assert not (overlap and one.target == other.target)


def _kind_of(target: str) -> str:
    """Edges are of one kind."""
    return target.replace("-1", "").replace("-2", "")
