"""A snapshot file starts a replica and never sets one back; a damaged one changes nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edge.world import DIGESTER, PEPPER_CHECK, at, bucket, consumer, key
from keywright.edge.replica.freshness import SyncClock
from keywright.edge.replica.origin_clock import OriginClock
from keywright.edge.replica.replica import Replica
from keywright.edge.sync import snapshot_file_loader
from keywright.protocol.changes import Change, Cursor, KeyPut
from keywright.protocol.snapshot_file import SnapshotFileError, SnapshotHead, SnapshotWriter
from keywright.runtime.clock import Clock
from support.clock import FakeClock

RECORDS: list[Change] = [bucket(1, "my-bucket"), consumer(1, 1), key("zpka_secret-1", 1, 1)]
NEWER = [*RECORDS, key("zpka_secret-2", 1, 1)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of revision 10 with one key."""
    writer = SnapshotWriter(
        DIGESTER, SnapshotHead("dply_1", "everything", at(10), 1_800_000_000_000, 2), "some-random-text"
    )
    path = tmp_path / "edge.snapshot"
    path.write_bytes(b"".join([writer.begin(), *writer.add(RECORDS), writer.end()]))
    return path


def test_an_empty_replica_is_filled(file: Path, replica: Replica) -> None:
    said = snapshot_file_loader.load(file, DIGESTER, replica, SyncClock(None, Clock()), OriginClock(None, Clock()))
    assert "filled from the snapshot file (of revision 10, made 2027-01-15T08:00:00.000Z)" in said
    assert (replica.deployment_id, replica.revision, replica.records()) == ("dply_1/everything", 10, RECORDS)


def test_an_older_replica_of_the_same_record_is_brought_forward(file: Path, replica: Replica) -> None:
    replica.load("dply_1/everything", PEPPER_CHECK, at(9), NEWER)
    snapshot_file_loader.load(file, DIGESTER, replica, SyncClock(None, Clock()), OriginClock(None, Clock()))
    assert (replica.revision, replica.records()) == (10, RECORDS)


@pytest.mark.parametrize("revision", [10, 11])
def test_a_replica_that_is_as_new_or_newer_is_never_set_back(file: Path, replica: Replica, revision: int) -> None:
    replica.load("dply_1/everything", PEPPER_CHECK, at(revision), NEWER)
    assert f"is ignored: the replica is at revision {revision}" in snapshot_file_loader.load(
        file, DIGESTER, replica, SyncClock(None, Clock()), OriginClock(None, Clock())
    )
    assert (replica.revision, replica.records()) == (revision, NEWER)


@pytest.mark.parametrize("cursor", [Cursor(8, "0" * 16, 99_999), Cursor(12, "0" * 16, 1)], ids=["behind", "ahead"])
def test_a_replica_of_another_past_is_left_alone(file: Path, replica: Replica, cursor: Cursor) -> None:
    """The record was restored from a backup, of before the file or of before the replica: nobody can tell here."""
    replica.load("dply_1/everything", PEPPER_CHECK, cursor, NEWER)
    assert f"is ignored: the replica is at revision {cursor.revision}" in snapshot_file_loader.load(
        file, DIGESTER, replica, SyncClock(None, Clock()), OriginClock(None, Clock())
    )
    assert (replica.cursor, replica.records()) == (cursor, NEWER)


@pytest.mark.parametrize("record", ["dply_2/everything", "dply_1/of-one-token"])
def test_a_replica_of_another_record_or_scope_is_left_alone(file: Path, replica: Replica, record: str) -> None:
    replica.load(record, PEPPER_CHECK, at(3), NEWER)
    assert "is ignored: the replica is of another" in snapshot_file_loader.load(
        file, DIGESTER, replica, SyncClock(None, Clock()), OriginClock(None, Clock())
    )
    assert (replica.deployment_id, replica.records()) == (record, NEWER)


def test_a_file_whose_last_byte_is_damaged_has_changed_nothing(file: Path, replica: Replica) -> None:
    replica.load("dply_1/everything", PEPPER_CHECK, at(9), NEWER)
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(SnapshotFileError, match=str(file)):
        snapshot_file_loader.load(file, DIGESTER, replica, SyncClock(None, Clock()), OriginClock(None, Clock()))
    assert (replica.revision, replica.records()) == (9, NEWER)


def test_what_it_filled_is_as_old_as_the_file_and_an_hour_more_for_a_slow_clock(file: Path, replica: Replica) -> None:
    made_at = 1_800_000_000
    clock = FakeClock(count=50_000.0, wall=made_at + 600.0)
    sync_clock = SyncClock(None, clock)
    snapshot_file_loader.load(file, DIGESTER, replica, sync_clock, OriginClock(None, clock))
    assert sync_clock.lag_seconds() == 600 + 3600


def test_a_machine_whose_clock_is_behind_the_file_goes_by_the_file(file: Path, replica: Replica) -> None:
    made_at = 1_800_000_000
    clock = FakeClock(wall=made_at - 2400.0)
    origin_clock = OriginClock(None, clock)
    snapshot_file_loader.load(file, DIGESTER, replica, SyncClock(None, clock), origin_clock)
    clock.advance(10)
    assert origin_clock.millis() == (made_at + 10) * 1000
    assert origin_clock.offset_seconds == -2400


def test_what_a_file_holds_is_counted(file: Path) -> None:
    found = snapshot_file_loader.examine(file, DIGESTER)
    assert (found.head.cursor, found.buckets, found.consumers, found.keys) == (at(10), 1, 1, 1)


def test_what_has_powers_is_counted_and_loaded(tmp_path: Path, replica: Replica) -> None:
    powered = [replace(one, powers='{"enabled":false}') if isinstance(one, KeyPut) else one for one in NEWER]
    head = SnapshotHead("dply_1", "everything/3", at(10), 1_800_000_000_000)
    writer = SnapshotWriter(DIGESTER, head, "some-random-text")
    path = tmp_path / "edge.snapshot"
    path.write_bytes(b"".join([writer.begin(), *writer.add(powered), writer.end()]))
    found = snapshot_file_loader.examine(path, DIGESTER)
    assert (found.consumers, found.keys, found.with_powers) == (1, 2, 2)
    snapshot_file_loader.load(path, DIGESTER, replica, SyncClock(None, Clock()), OriginClock(None, Clock()))
    assert (replica.deployment_id, replica.records()) == ("dply_1/everything/3", powered)


def test_a_file_that_is_not_there_or_no_file_is_refused_by_name(tmp_path: Path) -> None:
    for path, said in ((tmp_path / "none", "no such file"), (tmp_path, "is a directory")):
        with pytest.raises(SnapshotFileError, match=said):
            snapshot_file_loader.examine(path, DIGESTER)
