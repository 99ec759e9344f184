"""Whatever goes wrong, and whenever: nothing acknowledged is lost, no edge goes back, and in the end all are equal.

A fixed set of schedules; `make test-faults` plays as many others as it is told.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from faults import clock
from faults.play import play
from faults.schedule import Engine, Fault, Schedule
from faults.world import World
from support.postgres import running

SEEDS = {Engine.SQLITE: (1, 133, 178), Engine.POSTGRESQL: (126, 34, 38)}


@pytest.fixture(scope="module")
def new_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Engine], World]]:
    """One world for each engine; a PostgreSQL of its own, which is killed and stopped."""
    made: dict[Engine, World] = {}

    def get(engine: Engine) -> World:
        if engine not in made:
            server = database.__enter__() if engine is Engine.POSTGRESQL else None
            made[engine] = World(tmp_path_factory.mktemp("faults") / engine, engine, server)
        return made[engine]

    database = running()
    yield get
    for world in made.values():
        world.close()
    if Engine.POSTGRESQL in made:
        database.__exit__(None, None, None)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("engine", "seed"), [(engine, seed) for engine, seeds in SEEDS.items() for seed in seeds], ids=str
)
def test_a_schedule_of_faults_breaks_no_rule(new_world: Callable[[Engine], World], engine: Engine, seed: int) -> None:
    schedule = Schedule.of(seed, engine, has_clock=clock.find_library() is not None)
    print(schedule)
    outcome = play(new_world(engine), schedule)
    assert outcome.violations == []
    # Something did happen: writes went through, and answers were seen at every reader.
    assert outcome.writes > 20
    assert outcome.answers > 20


def test_the_fixed_schedules_have_every_kind_of_fault() -> None:
    schedules = [Schedule.of(seed, engine) for engine, seeds in SEEDS.items() for seed in seeds]
    assert {step.fault for schedule in schedules for step in schedule.steps} == set(Fault)


def test_a_seed_gives_the_same_schedule_again_and_each_another() -> None:
    drawn = [Schedule.of(seed) for seed in range(200)]
    assert drawn == [Schedule.of(seed) for seed in range(200)]
    assert len({schedule.steps for schedule in drawn}) == 200
    for schedule in drawn:
        for one, other in itertools.combinations(schedule.steps, 2):
            overlap = one.at <= other.at + other.seconds and other.at <= one.at + one.seconds
            assert not (overlap and one.target == other.target)
