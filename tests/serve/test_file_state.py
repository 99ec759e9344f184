"""Files that nobody wrote to look alike, and after a commit, whoever made it, they do not."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from keywright.edge.heartbeat_lock import LEASE_SECONDS, LONGEST_LOOK_SECONDS
from keywright.serve.file_state import SETTLED_NANOS, UNKNOWN, FileState
from keywright.serve.own_edge import BEAT_SECONDS, TRY_SECONDS


def age(*files: Path, by: int = 2 * SETTLED_NANOS) -> None:
    """As if they had been written to so long ago."""
    for file in files:
        at = time.time_ns() - by
        os.utime(file, ns=(at, at))


def test_commit_of_another_process_is_seen_and_what_was_just_written_to_is_not_known(tmp_path: Path) -> None:
    file, log = tmp_path / "keywright.db", tmp_path / "keywright.db-wal"
    with closing(sqlite3.connect(file)) as one, closing(sqlite3.connect(file)) as another:
        one.execute("PRAGMA journal_mode=WAL")
        one.execute("CREATE TABLE a (b)")
        one.commit()
        assert FileState.of(file) == UNKNOWN
        age(file, log)
        before = FileState.of(file)
        assert before.is_known
        another.execute("SELECT * FROM a").fetchall()
        assert FileState.of(file) == before
        another.execute("INSERT INTO a VALUES (1)")
        another.commit()
        assert FileState.of(file) == UNKNOWN
        age(log, by=SETTLED_NANOS + SETTLED_NANOS // 2)
        assert FileState.of(file) not in (before, UNKNOWN)
        # A log that is written over from its beginning keeps its size.
        one.execute("PRAGMA wal_checkpoint(RESTART)")
        age(file, log)
        before = FileState.of(file)
        another.execute("UPDATE a SET b = 2")
        another.commit()
        assert FileState.of(file) != before
    # A clock that was set back says nothing of what is later.
    age(file, by=-3600 * SETTLED_NANOS)
    assert FileState.of(file) == UNKNOWN


def test_database_that_is_no_file_or_has_no_log_is_not_known(tmp_path: Path) -> None:
    assert FileState.of(None) == FileState.of(tmp_path / "nothing.db") == UNKNOWN
    (tmp_path / "no-log.db").touch()
    age(tmp_path / "no-log.db")
    assert FileState.of(tmp_path / "no-log.db") == UNKNOWN


def test_who_waits_for_a_lock_looks_often_enough_and_its_holder_beats_often_enough() -> None:
    assert TRY_SECONDS < LONGEST_LOOK_SECONDS
    assert BEAT_SECONDS * 3 <= LEASE_SECONDS
