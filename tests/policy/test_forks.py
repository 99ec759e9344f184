"""A source and a fork: made before it, opened before it, and in a child that asks for nothing."""

from __future__ import annotations

from pathlib import Path

from policy.test_sources import run

FORKING = """
    import os, sys, warnings
    from pathlib import Path
    from keywright.policy.shared import SharedReplica
    from policy.test_sources import PEPPER, fill, verdict
    # What this is about: threads and forks.
    warnings.simplefilter("ignore", DeprecationWarning)
    fill(Path(sys.argv[1]))
    source = SharedReplica(sys.argv[1], pepper=PEPPER, ready_seconds=30)
    if sys.argv[2] == "opened":
        print(verdict(source), flush=True)
    for _ in range(2):
        if os.fork() == 0:
            print(verdict(source), flush=True)
            # The way on which a child takes everything apart.
            sys.exit()
        os.wait()
    print(verdict(source), flush=True)
    source.close()
"""


def test_a_source_that_was_made_before_the_fork_is_opened_by_each_process_for_itself(tmp_path: Path) -> None:
    done = run(FORKING, tmp_path, "made")
    assert (done.returncode, done.stdout.split()) == (0, ["VALID"] * 3), done.stderr


def test_a_source_that_was_opened_before_the_fork_says_nothing_in_the_child_and_goes_on_in_the_parent(
    tmp_path: Path,
) -> None:
    done = run(FORKING, tmp_path, "opened")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["VALID", "UNAVAILABLE", "UNAVAILABLE", "VALID"]
    assert "opened before a fork" in done.stderr


def test_a_child_that_asks_for_no_verdict_is_told_nothing_of_forks(tmp_path: Path) -> None:
    done = run(FORKING.replace("print(verdict(source), flush=True)\n            # The", "# The"), tmp_path, "opened")
    assert (done.returncode, done.stdout.split()) == (0, ["VALID", "VALID"]), done.stderr
    assert "fork" not in done.stderr
