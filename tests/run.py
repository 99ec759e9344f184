"""`make test`: every test, on every core, with branch coverage, and a gate on rooms where a wrong answer is an outage.

python tests/run.py              everything, then the gate
python tests/run.py -k doors     what pytest is told, without the gate
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEAST_PERCENT = 95
GATED = ("domain", "protocol", "origin", "edge")


def main(arguments: list[str]) -> int:
    python = sys.executable
    if arguments:
        return subprocess.call([python, "-m", "pytest", *arguments], cwd=ROOT)
    # A file's tests stay in one process, which has a PostgreSQL and other servers of its own.
    spread = ["-n", str(os.cpu_count() or 1), "--dist", "loadfile", "--tb", "short"]
    failed = subprocess.call([python, "-m", "pytest", *spread, "--cov", "--cov-report="], cwd=ROOT)
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
