"""`make test-faults`: plays schedules of faults with real processes, and holds all that happened against the rules.

    make test-faults                                         200 schedules, each of a seed of its own
    make test-faults ARGS="--seed 123 --schedules 1"         one of them again
    make test-faults ARGS="--schedules 50 --engine sqlite"   some, on one engine

Each schedule is printed with its seed and its steps before it is judged. Exit code 1 if any broke a rule.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from faults import clock  # noqa: E402
from faults.play import Outcome, play  # noqa: E402
from faults.schedule import EDGES, Engine, Schedule  # noqa: E402
from faults.world import World  # noqa: E402
from support import postgres  # noqa: E402


class Worlds:
    """One for each engine, made when it is first needed. After a schedule that broke a rule a new one takes over."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = ExitStack()
        self._worlds: dict[Engine, World] = {}
        self._count = 0

    def __enter__(self) -> Worlds:
        return self

    def __exit__(self, *_: object) -> None:
        for engine in list(self._worlds):
            self.drop(engine)
        self._stack.close()

    def get(self, engine: Engine) -> World:
        if engine not in self._worlds:
            self._count += 1
            # A server of its own: it is killed and stopped.
            server = self._stack.enter_context(postgres.running()) if engine is Engine.POSTGRESQL else None
            self._worlds[engine] = World(self._directory / f"world-{self._count}", engine, server)
        return self._worlds[engine]

    def drop(self, engine: Engine) -> None:
        self._worlds.pop(engine).close()


def play_all(schedules: list[Schedule], directory: Path) -> Iterator[Outcome]:
    with Worlds(directory) as worlds:
        for schedule in schedules:
            outcome = play(worlds.get(schedule.engine), schedule)
            if outcome.violations:
                worlds.drop(schedule.engine)
            yield outcome


def describe(directory: Path) -> str:
    from faults.disk import Disk

    disk = Disk(directory / "disk")
    disk.close()
    library = clock.find_library()
    return f"A full disk is {disk.kind}. A wrong clock is {library or 'left out: there is no libfaketime'}."


def main() -> int:
    parser = argparse.ArgumentParser(description="Plays schedules of faults with real processes.")
    parser.add_argument("--seed", type=int, help="the first seed; the others count on from it (default: the time)")
    parser.add_argument("--schedules", type=int, default=200, help="how many (default 200)")
    parser.add_argument("--engine", choices=list(Engine), help="this engine only (default: the seed's)")
    parser.add_argument("--keep", action="store_true", help="keep logs and data of the processes")
    options = parser.parse_args()
    first = options.seed if options.seed is not None else int(time.time()) % 1_000_000 * 1000
    engine = Engine(options.engine) if options.engine else None
    seeds = range(first, first + options.schedules)
    schedules = [Schedule.of(seed, engine, has_clock=clock.find_library() is not None) for seed in seeds]
    directory = Path(tempfile.mkdtemp(prefix="keywright-faults-"))
    print(describe(directory), f"Edges: {', '.join(EDGES)}. Logs and data: {directory}", flush=True)
    failed = []
    for number, outcome in enumerate(play_all(schedules, directory), 1):
        print(f"[{number}/{len(schedules)}] {outcome}", flush=True)
        if outcome.violations:
            failed.append(outcome.schedule.seed)
    print(f"{len(schedules) - len(failed)} passed, {len(failed)} failed")
    if failed:
        print(f'Again: make test-faults ARGS="--seed {failed[0]} --schedules 1"')
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
