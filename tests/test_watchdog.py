"""No run of the tests goes on for ever, and one that was cut off has not passed."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
WATCHED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from support import watchdog
sys.exit(watchdog.run([sys.executable, "-m", "pytest", *sys.argv[3:]], cwd=Path(), silent_seconds=float(sys.argv[2])))
"""
SETTINGS = f"""
[pytest]
pythonpath = {TESTS}
addopts = --disable-plugin-autoload -p timeout -p xdist -p no:cacheprovider -n 3 --dist loadfile
timeout = 60
timeout_method = thread
"""
# No thread gets a turn while this goes on, and Python's handlers don't run.
SPINS = """
import re
def test_spins():
    re.match("(a+)+$", "a" * 1000 + "b")
"""
# Nor does what prints stacks.
HEARS_NOTHING = """
import ctypes, signal
def test_hears_nothing():
    for one in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(one, signal.SIG_IGN)
    ctypes.PyDLL(None).sleep(1000)
"""
PASSES = "def test_passes(): pass"
FAILS = "def test_fails(): assert 1 == 2"
# With a server of its own, which no fixture gets to end.
TAKES_TOO_LONG = """
import subprocess, time
import pytest
@pytest.mark.timeout(3)
def test_takes_too_long():
    subprocess.Popen(["sleep", "1001"], start_new_session=True)
    time.sleep(1000)
def test_comes_after_it():
    pass
"""
GOES_ON = """
import time
import pytest
@pytest.mark.parametrize("number", range(1000))
def test_goes_on(number):
    time.sleep(0.05)
"""
# Its parent ends first, so that it becomes a child of whoever watches.
WAITS_FOR_AN_ORPHAN = """
import subprocess, time
from pathlib import Path
def test_waits_for_an_orphan():
    told = subprocess.run(["sh", "-c", "sleep 0.5 >/dev/null & echo $!"], capture_output=True, check=True)
    orphan = Path("/proc", told.stdout.decode().strip())
    assert orphan.exists()
    deadline = time.monotonic() + 20
    while orphan.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
"""
CONTROLLER_HANGS = """
import time
def pytest_sessionfinish(session):
    if not hasattr(session.config, "workerinput"):
        hang()
def hang():
    time.sleep(1000)
"""


@dataclass
class Ended:
    code: int
    said: str


@dataclass
class Project:
    directory: Path

    def run(self, *tests: str, conftest: str = "", silent_seconds: float = 60) -> Ended:
        """Runs these files of tests in three processes; whatever that started has ended with it."""
        (self.directory / "pytest.ini").write_text(SETTINGS)
        (self.directory / "conftest.py").write_text(
            f'pytest_plugins = ["support.progress", "support.spread"]\n{conftest}'
        )
        for number, test in enumerate(tests):
            (self.directory / f"test_{number}.py").write_text(test)
        command = [sys.executable, "-c", WATCHED, TESTS, str(silent_seconds)]
        said = self.directory / "said.txt"
        try:
            with said.open("wb") as output:
                done = subprocess.run(
                    command, cwd=self.directory, stdout=output, stderr=output, timeout=45, check=False
                )
        finally:
            left = _processes_in(self.directory)
            for one in left:
                os.kill(one, signal.SIGKILL)
        assert left == []
        return Ended(done.returncode, said.read_text())


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.mark.parametrize(
    ("tests", "code"), [([PASSES], 0), ([PASSES, FAILS], 1), ([], 5)], ids=["passes", "fails", "empty"]
)
def test_a_run_that_ends_has_pytest_s_exit_code(project: Project, tests: list[str], code: int) -> None:
    ended = project.run(*tests)
    assert ended.code == code, ended.said
    assert "Left running" not in ended.said


def test_a_test_may_wait_until_a_process_without_a_parent_has_gone(project: Project) -> None:
    ended = project.run(WAITS_FOR_AN_ORPHAN)
    assert ended.code == 0, ended.said


def test_a_test_that_takes_too_long_fails_the_run_and_leaves_nothing(project: Project) -> None:
    ended = project.run(TAKES_TOO_LONG, PASSES)
    assert ended.code == 1, ended.said
    assert "in test_takes_too_long\n    time.sleep(1000)" in ended.said
    assert "crashed while running 'test_0.py::test_takes_too_long'" in ended.said
    assert "1 failed, 2 passed" in ended.said
    assert "Left running by tests, and ended now: sleep 1001" in ended.said


def test_processes_that_no_timeout_can_end_are_ended_with_their_stacks(project: Project) -> None:
    ended = project.run(SPINS, HEARS_NOTHING, GOES_ON, silent_seconds=4)
    assert ended.code == 1, ended.said
    assert re.search("No progress for 4 seconds: process [0-9]+ is still at test_[01]", ended.said)
    assert ", at test_0.py::test_spins:" in ended.said
    assert "in test_spins\n" in ended.said
    assert ", at test_1.py::test_hears_nothing:\nIt printed no stacks." in ended.said


def test_a_controller_that_hangs_is_ended_with_its_stacks(project: Project) -> None:
    ended = project.run(PASSES, conftest=CONTROLLER_HANGS, silent_seconds=4)
    assert ended.code == 1, ended.said
    assert "No progress for 4 seconds: no test began or ended." in ended.said
    assert 'conftest.py", line 8 in hang' in ended.said


def _processes_in(directory: Path) -> list[int]:
    """Who works in this directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.readlink(process / "cwd") == str(directory):
                found.append(int(process.name))
    return found
