"""A shared replica that can't answer says why: in `status`, and in the log once a minute; and it finds its way back."""

from __future__ import annotations

import base64
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.world import PEPPER_CHECK, at
from keywright.domain.keyformat import Digester
from keywright.edge.replica.freshness import SyncClock
from keywright.edge.replica.replica import Replica
from keywright.policy.shared import SharedReplica
from keywright.runtime import failure_log
from keywright.runtime.clock import Clock
from policy.test_sources import BUCKET, CHANGES, PEPPER, fill, verdict
from support.process import until

OTHER = base64.b64encode(bytes(32)).decode()
TESTS = Path(__file__).parents[1]


def fill_of_other(directory: Path) -> None:
    check = Digester(bytes(32)).pepper_check()
    replica = Replica.open(directory / "replica", check)
    replica.load("dep_other/everything", check, at(3), CHANGES)
    replica.close()


def in_step(directory: Path) -> None:
    clock = Clock()
    SyncClock(directory / "replica" / "in-step.json", clock).advance(clock.elapsed())


def test_a_replica_of_another_pepper_says_so_and_answers_once_the_file_has_the_right_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failure_log, "REPEAT_SECONDS", 0.5)
    pepper_file = tmp_path / "pepper.key"
    pepper_file.write_text(PEPPER)
    pepper_file.chmod(0o600)
    fill_of_other(tmp_path)
    source = SharedReplica(tmp_path, ready_seconds=0.1)
    try:
        assert verdict(source) == "UNAVAILABLE"
        until(lambda: source.status.reason)
        told = source.status.reason
        assert told is not None
        assert "deployment dep_other, whose keys were digested under another pepper" in told
        assert str(pepper_file) in told
        assert not source.status.is_ready
        until(lambda: caplog.text.count(told) >= 3)
        assert {record.levelno for record in caplog.records} == {logging.WARNING}
        pepper_file.write_text(OTHER)
        until(lambda: source.is_ready)
        in_step(tmp_path)
        until(lambda: source.status.reason is None)
        assert verdict(source, "zpka_nobody_has_this") == "UNKNOWN"
    finally:
        source.close()


def test_a_replica_of_another_deployment_under_the_same_pepper_says_so_and_answers_once_it_is_the_right_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failure_log, "REPEAT_SECONDS", 0.5)
    replica = Replica.open(tmp_path / "replica", PEPPER_CHECK)
    replica.load("dep_other/everything", PEPPER_CHECK, at(1), ())
    replica.close()
    in_step(tmp_path)
    source = SharedReplica(tmp_path, pepper=PEPPER, ready_seconds=0.1)
    try:
        assert verdict(source) == "NO_BUCKET"
        until(lambda: source.status.reason)
        told = source.status.reason
        assert told is not None
        assert f"is of deployment dep_other, which has no key bucket '{BUCKET}'" in told
        until(lambda: caplog.text.count(told) >= 3)
        assert {record.levelno for record in caplog.records} == {logging.WARNING}
        done = subprocess.run([sys.executable, "-c", FILL, str(tmp_path)], env=environment(), check=False)
        assert done.returncode == 0
        until(lambda: verdict(source) == "VALID")
        in_step(tmp_path)
        until(lambda: source.status.reason is None)
    finally:
        source.close()


def test_the_reason_is_that_of_now_and_not_that_of_the_first_try(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = SharedReplica(tmp_path, pepper=PEPPER, ready_seconds=0.1)
    try:
        assert verdict(source) == "UNAVAILABLE"
        until(lambda: "No such file" in str(source.reason))
        Replica.open(tmp_path / "replica", PEPPER_CHECK).close()
        until(lambda: "holds no snapshot yet" in str(source.reason))
        shutil.rmtree(tmp_path / "replica")
        fill_of_other(tmp_path)
        until(lambda: "under another pepper than the pepper given" in str(source.reason))
        shutil.rmtree(tmp_path / "replica")
        done = subprocess.run([sys.executable, "-c", FILL, str(tmp_path)], env=environment(), check=False)
        assert done.returncode == 0
        until(lambda: "has not been in step" in str(source.reason))
        assert verdict(source) == "VALID"
        in_step(tmp_path)
        until(lambda: source.reason is None)
    finally:
        source.close()
    for part in ("No such file", "holds no snapshot yet", "under another pepper", "has not been in step"):
        assert part in caplog.text


FILL = "import sys; from pathlib import Path; from policy.test_sources import fill; fill(Path(sys.argv[1]))"
READ_ONLY = """
    mount --bind {directory} {directory} && mount -o remount,bind,ro {directory} &&
    exec {python} -c '
import sys, time
from policy.test_sources import PEPPER, verdict
from keywright.policy.shared import SharedReplica
source = SharedReplica(sys.argv[1], pepper=PEPPER, ready_seconds=0.3)
print(verdict(source), source.status.reason, flush=True)
source.close()
' {directory}
"""


def environment(**more: str) -> dict[str, Any]:
    return {**os.environ, "PYTHONPATH": str(TESTS), **more}


def test_a_read_only_mount_is_refused_in_words_since_lmdb_would_read_without_its_locks(tmp_path: Path) -> None:
    directory = tmp_path / "edge"
    fill(directory)
    script = textwrap.dedent(READ_ONLY).format(directory=directory, python=sys.executable)
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", script], env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("UNAVAILABLE can't open the replica in ")
    assert "on a read-only mount" in done.stdout
    assert "Mount the directory read-write" in done.stdout
    assert "read-only mount" in done.stderr


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """One that every user can enter; pytest's own are its user's alone."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_files_of_another_user_are_refused_in_words(open_directory: Path) -> None:
    directory = open_directory / "edge"
    fill(directory)
    for path in (directory, directory / "replica"):
        path.chmod(0o755)
    for path in (directory / "replica").iterdir():
        path.chmod(0o644)
    script = textwrap.dedent("""
        import os, sys
        from pathlib import Path
        from keywright.edge.replica.replica import Replica
        os.setresuid(65534, 65534, 65534)
        try:
            Replica.open_to_read(Path(sys.argv[1]), "")
        except OSError as error:
            print(error)
    """)
    done = subprocess.run(
        [sys.executable, "-c", script, str(directory / "replica")], env=environment(), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert "runs as the user that the edge runs as" in done.stdout, done.stderr
