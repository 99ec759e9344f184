"""Reading a replica: what was loaded is found again exactly, by any thread, and nothing else is."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from edge.world import DIGESTER, PEPPER_CHECK, batch, bucket, consumer, key, load, owner_of
from keywright.domain.permissions import Access
from keywright.edge.replica import reader as reader_module
from keywright.edge.replica.replica import Gap, NotReady, Replica
from keywright.protocol.changes import Cursor

if TYPE_CHECKING:
    from pathlib import Path

A, B = "zpka_first-secret", "zpka_second-secret"


def test_without_a_snapshot_there_is_no_revision_and_no_answer(replica: Replica) -> None:
    assert replica.revision is None
    assert replica.deployment_id is None
    with pytest.raises(NotReady):
        replica.find("my-bucket", DIGESTER.digest(A))
    with pytest.raises(NotReady):
        replica.find_bucket("my-bucket")
    with pytest.raises(Gap):
        replica.apply(batch(0, [bucket(1, "my-bucket")]))


def test_an_empty_snapshot_is_valid(replica: Replica) -> None:
    load(replica, revision=0)
    assert replica.revision == 0
    assert replica.find("my-bucket", DIGESTER.digest(A)) is None
    assert replica.records() == []


def test_a_snapshot_is_found_again_exactly(replica: Replica) -> None:
    puts = [bucket(1, "my-bucket", acct_2=Access.READ), bucket(2, "_system", None), consumer(1, 1), key(A, 1, 1, 123)]
    load(replica, *puts)
    assert replica.records() == puts
    assert (replica.revision, replica.deployment_id) == (10, "dep_1")
    found = replica.find("my-bucket", DIGESTER.digest(A))
    assert found is not None
    assert found[0] is not None
    assert found[0].expires_at == 123
    record = replica.find_bucket("my-bucket")
    assert record is not None
    assert record.grants == {"acct_2": Access.READ}


def test_a_replica_of_another_pepper_answers_nothing(tmp_path: Path) -> None:
    first = Replica.open(tmp_path, PEPPER_CHECK)
    load(first, bucket(1, "my-bucket"))
    first.close()
    second = Replica.open(tmp_path, "0" * 16)
    assert second.revision is None
    with pytest.raises(NotReady):
        second.find("my-bucket", DIGESTER.digest(A))
    second.close()


def test_a_replica_of_the_version_before_stamps_answers_and_has_a_revision_but_no_stamp(replica: Replica) -> None:
    load(replica, bucket(1, "my-bucket"), consumer(1, 1), key(A, 1, 1))
    with replica._files.write() as tx:
        tx.delete(b"stamp", db=replica._files.meta)
    assert (replica.cursor, replica.revision) == (Cursor(10, "", 0), 10)
    assert owner_of(replica, A) == "my-consumer"


def test_new_metadata_is_seen_by_the_next_look_up(replica: Replica) -> None:
    load(replica, bucket(1, "my-bucket"), consumer(1, 1), key(A, 1, 1))
    for plan in ("gold", "silver", "none"):
        for _ in range(5):
            replica.find("my-bucket", DIGESTER.digest(A))
        replica.apply(batch(replica.revision or 0, [consumer(1, 1, metadata=f'{{"plan":"{plan}"}}')]))
        found = replica.find("my-bucket", DIGESTER.digest(A))
        assert found is not None
        assert found[1] is not None
        assert found[1].metadata == f'{{"plan":"{plan}"}}'.encode()


@pytest.mark.parametrize("name", ["", "\ud800", "x" * 5000, "a\0b", "é", "nowhere"])
def test_any_text_may_be_asked_for_as_a_bucket(replica: Replica, name: str) -> None:
    load(replica)
    assert replica.find(name, DIGESTER.digest(A)) is None
    assert replica.find_bucket(name) is None


def test_the_cache_of_records_stays_bounded(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "CACHED_RECORDS", 3)
    load(replica, bucket(1, "my-bucket"), consumer(1, 1), *(key(f"secret-{n}", 1, 1) for n in range(40)))
    for _ in range(3):
        for n in range(40):
            assert owner_of(replica, f"secret-{n}") == "my-consumer"
    assert len(replica._reader._view.found) <= 3


def test_threads_that_read_while_another_writes_see_only_whole_states(replica: Replica) -> None:
    load(replica, bucket(1, "my-bucket"), consumer(1, 1, metadata="0"), key(A, 1, 1), revision=0)
    done = threading.Event()
    wrong: list[object] = []

    def read() -> None:
        seen = 0
        while not done.is_set():
            found = replica.find("my-bucket", DIGESTER.digest(A))
            value = int(found[1].metadata) if found and found[1] else -1
            if value < seen:
                wrong.append((seen, value))
            seen = value

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for n in range(1, 100):
        replica.apply(batch(n - 1, [consumer(1, 1, metadata=str(n))]))
        if owner_metadata(replica) != str(n).encode():
            wrong.append(n)
    done.set()
    for reader in readers:
        reader.join()
    assert wrong == []


def owner_metadata(replica: Replica) -> bytes:
    found = replica.find("my-bucket", DIGESTER.digest(A))
    assert found is not None
    assert found[1] is not None
    return found[1].metadata


def test_files_with_features_that_are_not_known_are_not_judged_by(tmp_path: Path) -> None:
    from keywright.domain.powers import UnknownPower

    replica = Replica.open(tmp_path / "replica", PEPPER_CHECK)
    load(replica, bucket(1, "my-bucket"))
    for features, is_known in ((b"[]", True), (b'["recipes"]', False)):
        with replica._files.write() as tx:
            tx.put(b"features", features, db=replica._files.meta)
        if is_known:
            assert replica.find("my-bucket", bytes(32)) == (None, None)
        else:
            with pytest.raises(UnknownPower):
                replica.find("my-bucket", bytes(32))
    replica.close()
