"""`make test`: every test, on every core. `make coverage`: the same with coverage, and a gate on rooms where a wrong
answer is an outage.

python tests/run.py              everything, and what failed of it once more, alone (support/again.py)
python tests/run.py -k expiry     what pytest is told
python tests/run.py --coverage   everything, then the gate

Coverage is measured by `sys.monitoring`, and never by a tracer: under one, CPython 3.11 was seen to spin for ever.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support import again, watchdog

ROOT = Path(__file__).resolve().parent.parent
LEAST_PERCENT = 95
GATED = ("domain", "protocol", "origin", "edge")
# A file's tests stay in one process, which has a PostgreSQL and other servers of its own.
EVERYTHING = ("-n", str(os.cpu_count() or 1), "--dist", "loadfile", "--no-loadscope-reorder", "--tb", "short")


def main(arguments: list[str]) -> int:
    if arguments == ["--coverage"]:
        return _measure()
    if {"--pdb", "--trace"} & set(arguments):
        # Somebody who looks around takes their time.
        return subprocess.call([sys.executable, "-m", "pytest", *arguments], cwd=ROOT)
    return _run(*arguments) if arguments else again.run(_run, EVERYTHING, cwd=ROOT)


def _measure() -> int:
    if not hasattr(sys, "monitoring"):
        version = ".".join(map(str, sys.version_info[:2]))
        print(f"Coverage needs Python 3.12 or newer, not {version}: make VENV=.venv-3.13 PYTHON=python3.13 coverage")
        return 1
    # Before 3.14, sys.monitoring tells lines only.
    branches = ["--cov-branch"] if sys.version_info >= (3, 14) else []
    os.environ["COVERAGE_CORE"] = "sysmon"
    (ROOT / ".coverage").unlink(missing_ok=True)
    measured = ("-p", "pytest_cov", "--cov", "--cov-append", "--cov-report=", *branches)
    failed = again.run(lambda *arguments: _run(*arguments, *measured), EVERYTHING, cwd=ROOT)
    gates = [_is_covered(room) for room in GATED]
    return failed or int(not all(gates))


def _run(*arguments: str) -> int:
    return watchdog.run([sys.executable, "-m", "pytest", *arguments], cwd=ROOT)


def _is_covered(room: str) -> bool:
    command = [sys.executable, "-m", "coverage", "report"]
    options = [f"--include=src/keywright/{room}/*", f"--fail-under={LEAST_PERCENT}"]
    done = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True, check=False)
    total = next((line.split()[-1] for line in done.stdout.splitlines() if line.startswith("TOTAL")), "?")
    print(f"Coverage of {room}: {total}")
    if done.returncode:
        print(done.stdout, done.stderr, f"{room} must have at least {LEAST_PERCENT} %.", sep="\n")
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
