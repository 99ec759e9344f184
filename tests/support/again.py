"""Runs what failed among thousands of tests once more, alone: what fails then as well has failed.

On a small machine a test of real processes may come too late beside others. That is told, never hidden: such tests are
named at the end, with what went wrong above, and more than a few of them are a failed run, whatever they do alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

MOST = 9
"""One in a thousand of ours: so many came too late when a machine was held up for a while, and were good alone."""
FAILED = 1
_LAST_FAILED = Path(".pytest_cache/v/cache/lastfailed")


def run(run_pytest: Callable[..., int], everything: Sequence[str], *, cwd: Path) -> int:
    """The exit code of a run of everything. `run_pytest` takes arguments for pytest, and gives its exit code."""
    code = run_pytest(*everything, "--cache-clear")
    names = _failed_in(cwd) if code == FAILED else []
    if not 0 < len(names) <= MOST:
        return code
    print(f"\nOnce more, alone: {len(names)} of the tests failed.", flush=True)
    code = run_pytest("--last-failed", "--last-failed-no-failures", "none", "--tb", "short")
    still = _failed_in(cwd)
    print("\nFailed beside others, and passed alone:", *sorted(set(names) - set(still)), sep="\n  ", flush=True)
    return code


def _failed_in(cwd: Path) -> list[str]:
    file = cwd / _LAST_FAILED
    return sorted(json.loads(file.read_text())) if file.exists() else []
