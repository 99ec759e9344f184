"""`make test-faults`: plays schedules of faults with real processes, and holds all that happened against the rules.

    make test-faults                                         200 schedules, each of a seed of its own
    make test-faults ARGS="--seed 123 --schedules 1"         one of them again
    make test-faults ARGS="--schedules 50 --engine sqlite"   some, on one engine

Each schedule is printed with its seed and its steps before it is judged. Exit code 1 if any broke a rule.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from faults import clock  # noqa: E402
from faults.disk import Disk  # noqa: E402
from faults.schedule import EDGES, Engine, Schedule  # noqa: E402
from faults.worlds import Worlds  # noqa: E402


def describe(directory: Path) -> str:
    disk = Disk(directory / "disk")
    disk.close()
    library = clock.find_library()
    return f"A full disk is {disk.kind}. A wrong clock is {library or 'left out: there is no libfaketime'}."


def main() -> int:
    # An end that was asked for ends the processes, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parser = argparse.ArgumentParser(description="Plays schedules of faults with real processes.")
    parser.add_argument("--seed", type=int, help="the first seed; the others count on from it (default: the time)")
    parser.add_argument("--schedules", type=int, default=200, help="how many (default 200)")
    parser.add_argument("--engine", choices=list(Engine), help="this engine only (default: the seed's)")
    parser.add_argument("--outages", action="store_true", help="origins that are away for up to 60 s, and little else")
    parser.add_argument("--frozen", action="store_true", help="processes that stop moving, and junk at the broker")
    parser.add_argument("--keep", action="store_true", help="keep logs and data of the processes even if none failed")
    options = parser.parse_args()
    first = options.seed if options.seed is not None else int(time.time()) % 1_000_000 * 1000
    engine = Engine(options.engine) if options.engine else None
    seeds = range(first, first + options.schedules)
    has_clock = clock.find_library() is not None
    schedules = [
        Schedule.of_outage(seed, engine)
        if options.outages
        else Schedule.of_frozen(seed, engine)
        if options.frozen
        else Schedule.of(seed, engine, has_clock=has_clock)
        for seed in seeds
    ]
    directory = Path(tempfile.mkdtemp(prefix="keywright-faults-"))
    print(describe(directory), f"Edges: {', '.join(EDGES)}. Logs and data: {directory}", flush=True)
    failed = []
    faults: Counter[str] = Counter()
    writes = answers = 0
    with Worlds(directory) as worlds:
        for number, schedule in enumerate(schedules, 1):
            outcome = worlds.play(schedule)
            print(f"[{number}/{len(schedules)}] {outcome}", flush=True)
            faults.update(f"{step.kind_of_target}: {step.fault}" for step in schedule.steps)
            writes, answers = writes + outcome.writes, answers + outcome.answers
            if outcome.violations:
                failed.append(schedule)
    print(f"{writes} writes, {answers} answers;", "; ".join(f"{kind}: {n}" for kind, n in sorted(faults.items())))
    print(f"{len(schedules) - len(failed)} passed, {len(failed)} failed")
    if not (failed or options.keep):
        shutil.rmtree(directory, ignore_errors=True)
    if failed:
        print("Again:", *(f'make test-faults ARGS="{schedule.arguments}"' for schedule in failed), sep="\n    ")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
