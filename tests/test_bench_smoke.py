"""`make bench` itself still works: no figure is looked at, because a test run is no place to measure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

RUN = Path(__file__).parent / "benchmarks" / "run.py"


def test_a_quick_run_prints_a_table_with_aims() -> None:
    done = subprocess.run(
        [sys.executable, str(RUN), "--quick", "--only", "in-process"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert "in process, 1,000 keys" in done.stderr
    header = next(line for line in done.stdout.splitlines() if line.startswith("| random keys of"))
    assert [cell.strip() for cell in header.strip("|").split("|")][-2:] == ["aim", "met"]
    assert "| 5,000 keys" in done.stdout


def test_a_partial_run_is_not_written_into_the_page() -> None:
    done = subprocess.run([sys.executable, str(RUN), "--quick", "--write"], capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "full run" in done.stderr
