"""Condemned files are left to who is stopped, once all others have had time to let go, and answer nobody any more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge.world import DIGESTER, PEPPER_CHECK, SECRETS, at, batch, consumer, filled
from keywright.edge.replica import files, in_use, reader
from keywright.edge.replica.files import FilesReplaced, WriterStopped
from keywright.edge.replica.reader import NotReady
from keywright.edge.replica.replica import Replica, ReplicaBroken
from support.stopped import TESTS, stopped_in_a_write


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "STOPPED_WRITER_SECONDS", 0.5)
    monkeypatch.setattr(in_use, "LET_GO_SECONDS", 0.5)
    monkeypatch.setattr(in_use, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(reader, "LOOK_SECONDS", 0.1)


def test_who_waits_for_a_writer_that_is_stopped_gives_up_and_begins_anew_beside_it(tmp_path: Path) -> None:
    filled(tmp_path / "replica")
    with stopped_in_a_write(tmp_path / "replica") as process:
        with pytest.raises(WriterStopped, match=f"process {process.pid} holds"):
            Replica.open(tmp_path / "replica", PEPPER_CHECK)
        # Asked to let go, it may still do so.
        with pytest.raises(ReplicaBroken):
            Replica.open_or_replace(tmp_path / "replica", PEPPER_CHECK)
        replica = Replica.open_or_replace(tmp_path / "replica", PEPPER_CHECK, abandon_seconds=5)
        assert replica.revision is None
        replica.load("dep_1", PEPPER_CHECK, at(3), [])
        os.kill(process.pid, signal.SIGCONT)
        assert process.communicate(timeout=10)[0] == "done\n"
        with replica._files.read() as tx:
            assert tx.get(b"written-after-all", db=replica._files.meta) is None
        assert replica.apply(batch(3, [consumer(9, 9)])) == at(4)
    replica.close()


BEGIN_ANEW = """
import sys
from pathlib import Path
from edge.world import PEPPER_CHECK
from keywright.edge.replica import in_use
from keywright.edge.replica.replica import Replica
in_use.mark_corrupt(Path(sys.argv[1]))
Replica.open_or_replace(Path(sys.argv[1]), PEPPER_CHECK, abandon_seconds=10).close()
"""


def test_who_could_not_let_go_answers_nothing_from_the_old_files(tmp_path: Path) -> None:
    filled(tmp_path / "replica")
    replica = Replica.open(tmp_path / "replica", PEPPER_CHECK)
    digest = DIGESTER.digest(SECRETS[0])
    assert replica.find("my-bucket", digest) is not None
    done = subprocess.run(
        [sys.executable, "-c", BEGIN_ANEW, str(tmp_path / "replica")],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for ask in (lambda: replica.find("my-bucket", digest), lambda: replica.find_bucket("my-bucket")):
        time.sleep(0.1)
        with pytest.raises(NotReady, match="replaced"):
            ask()
    assert replica.find_cursor() is None
    # Nor does it write there, or have others let go of the new ones.
    with pytest.raises(FilesReplaced):
        replica.apply(batch(2, []))
    assert replica.needs_reopening
    assert not replica.is_marked_corrupt
    replica.reopen()
    assert not replica.needs_reopening
    replica.close()
