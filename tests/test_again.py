"""What failed beside others and passes alone is told and passes; what fails twice, or is more than a few, fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support import again

RUN = """
import subprocess, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from support import again
def pytest(*arguments):
    return subprocess.call([sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", *arguments])
sys.exit(again.run(pytest, [], cwd=Path()))
"""
ONCE = """
from pathlib import Path
def test_late_{number}():
    seen = Path("seen-{number}")
    was, _ = seen.exists(), seen.touch()
    assert was, "came too late"
"""
WRONG = "def test_wrong(): assert False\n"
GOOD = "def test_good(): pass\n"


def run(directory: Path, *tests: str) -> tuple[int, str]:
    (directory / "pytest.ini").write_text("[pytest]\n")
    for number, test in enumerate((GOOD, *tests)):
        (directory / f"test_{number}.py").write_text(test.replace("{number}", str(number)))
    arguments = [sys.executable, "-c", RUN, str(Path(__file__).parent)]
    done = subprocess.run(arguments, cwd=directory, capture_output=True, text=True, check=False, timeout=50)
    return done.returncode, done.stdout


def test_a_run_without_a_failure_is_one_run(tmp_path: Path) -> None:
    code, said = run(tmp_path)
    assert (code, said.count(" passed"), "alone" in said) == (0, 1, False)


def test_what_passes_alone_is_told_by_name_and_passes(tmp_path: Path) -> None:
    code, said = run(tmp_path, ONCE)
    assert code == 0
    assert "came too late" in said
    assert said.rstrip().endswith("Failed beside others, and passed alone:\n  test_1.py::test_late_1")


@pytest.mark.parametrize("tests", [(WRONG,), (ONCE, WRONG), (ONCE,) * (again.MOST + 1)], ids=["wrong", "both", "many"])
def test_what_fails_twice_and_more_than_a_few_fail(tmp_path: Path, tests: tuple[str, ...]) -> None:
    code, said = run(tmp_path, *tests)
    assert code == 1
    assert said.count("test_good") == 0
    if len(tests) > again.MOST:
        assert "alone" not in said


def test_a_run_that_broke_off_is_not_run_again(tmp_path: Path) -> None:
    code, said = run(tmp_path, "import there_is_none\n", "raise SystemExit(3)\n")
    assert code > 1
    assert "alone" not in said
