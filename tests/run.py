"""`make test`: every test, with branch coverage, and a gate on the rooms where a wrong answer is an outage.

python tests/run.py              everything, then the gate
python tests/run.py -k doors     what pytest is told, without the gate
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEAST_PERCENT = 95
GATED = ("core", "origin/service", "origin/store", "edge")


def main(arguments: list[str]) -> int:
    python = sys.executable
    if arguments:
        return subprocess.call([python, "-m", "pytest", *arguments], cwd=ROOT)
    failed = subprocess.call([python, "-m", "coverage", "run", "-m", "pytest"], cwd=ROOT)
    gates = [_is_covered(python, room) for room in GATED]
    return failed or int(not all(gates))


def _is_covered(python: str, room: str) -> bool:
    report = [python, "-m", "coverage", "report", f"--include=src/keywright/{room}/*", f"--fail-under={LEAST_PERCENT}"]
    done = subprocess.run(report, cwd=ROOT, capture_output=True, text=True, check=False)
    total = next((line.split()[-1] for line in done.stdout.splitlines() if line.startswith("TOTAL")), "?")
    print(f"Branch coverage of {room}: {total}")
    if done.returncode:
        print(done.stdout, done.stderr, f"{room} must have at least {LEAST_PERCENT} %.", sep="\n")
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
