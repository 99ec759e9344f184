"""What a batch takes away: found while it is applied, kept for a while, told to whoever has seen what was before."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import lmdb
import pytest

from edge.world import NOW, PEPPER_CHECK, at, batch, bucket, consumer, key, load
from keywright.domain.powers import encode_powers
from keywright.edge.replica import endings
from keywright.edge.replica.endings import Ending
from keywright.edge.replica.replica import Replica
from keywright.protocol.changes import (
    BucketDelete,
    BucketPut,
    Change,
    ConsumerDelete,
    Cursor,
    Hidden,
    KeyDelete,
    KeyPut,
)

if TYPE_CHECKING:
    from pathlib import Path

BUCKET = bucket(1, "my-bucket")
OWNER = consumer(1, 1)
FIRST, SECOND = key("zpka_first-secret", 1, 1), key("zpka_second-secret", 1, 1, NOW)
FORMER = Ending(1, "my-bucket", 1, OWNER.consumer_id, FIRST.key_id, FIRST.digest.hex())

WHOLE = Ending(1, "my-bucket", 1, OWNER.consumer_id)
SCOPED, OFF = encode_powers(scopes=["a"]), encode_powers(enabled=False)


def moved(put: KeyPut, expires_at: int | None) -> KeyPut:
    return KeyPut(put.digest, put.bucket_number, put.consumer_number, put.key_id, expires_at)


def ended(put: KeyPut, ends_at: int | None = None) -> Ending:
    return Ending(1, "my-bucket", 1, OWNER.consumer_id, put.key_id, put.digest.hex(), ends_at)


@pytest.fixture
def filled(replica: Replica) -> Replica:
    load(replica, BUCKET, OWNER, FIRST, SECOND)
    return replica


ENDS: dict[str, tuple[Change, list[Ending]]] = {
    "a key is deleted": (KeyDelete(FIRST.digest, 1), [ended(FIRST)]),
    "a key that nobody knows is deleted": (KeyDelete(bytes(32), 1), []),
    "a key gets an end": (moved(FIRST, NOW + 5), [ended(FIRST, NOW + 5)]),
    "an end comes sooner": (moved(SECOND, NOW - 1), [ended(SECOND, NOW - 1)]),
    "an end comes later": (moved(SECOND, NOW + 1), []),
    "an end is taken off": (moved(SECOND, None), []),
    "an end stays": (SECOND, []),
    "a key is new": (key("zpka_third-secret", 1, 1, NOW), []),
    "a text is another key now": (key("zpka_first-secret", 1, 1), [ended(FIRST)]),
    "a text is another consumer's key now": (key("zpka_first-secret", 1, 2), [ended(FIRST)]),
    "metadata changes": (consumer(1, 1, metadata="{}"), []),
    "a consumer is deleted": (ConsumerDelete(1), [Ending(1, "my-bucket", 1, OWNER.consumer_id)]),
    "a consumer that nobody knows is deleted": (ConsumerDelete(9), []),
    "a bucket is deleted": (BucketDelete(1), [Ending(1, "my-bucket")]),
    "a bucket that nobody knows is deleted": (BucketDelete(9), []),
    "a bucket gets another name": (BucketPut(1, BUCKET.bucket_id, "new", "acct_1"), [Ending(1, "my-bucket")]),
    "a bucket changes otherwise": (BucketPut(1, BUCKET.bucket_id, "my-bucket", "acct_2"), []),
    "a change is hidden": (Hidden(), []),
    "a key gets powers": (replace(FIRST, powers=SCOPED), [replace(FORMER, is_narrowed=True)]),
    "a key is switched off": (replace(FIRST, powers=OFF), [FORMER]),
    "a key gets powers and an end": (replace(FIRST, powers=SCOPED, expires_at=NOW), [ended(FIRST, NOW)]),
    "a consumer gets powers": (replace(OWNER, powers=SCOPED), [replace(WHOLE, is_narrowed=True)]),
    "a consumer is switched off": (replace(OWNER, powers=OFF), [WHOLE]),
}


@pytest.mark.parametrize(("change", "wanted"), ENDS.values(), ids=ENDS)
def test_what_ends_with_a_change(filled: Replica, change: Change, wanted: list[Ending]) -> None:
    filled.apply(batch(10, [change]))
    assert filled.endings_since(at(10)) == (at(11), wanted)


def test_powers_that_change_may_be_less_and_those_that_are_taken_off_a_key_are_not(filled: Replica) -> None:
    narrowed = replace(FORMER, is_narrowed=True)
    granting = replace(BUCKET, default_scopes=("a", "b"))
    steps: list[tuple[Change, list[Ending]]] = [
        (granting, []),
        (replace(FIRST, powers=SCOPED), [narrowed]),
        (replace(FIRST, powers=SCOPED), []),
        (replace(FIRST, powers=encode_powers(scopes=[])), [narrowed]),
        (FIRST, []),
        (replace(OWNER, powers=SCOPED), [replace(WHOLE, is_narrowed=True)]),
        # What it inherits from there on may be less.
        (replace(OWNER, has_lost_powers=True), [replace(WHOLE, is_narrowed=True)]),
        (replace(granting, default_scopes=("a", "b", "c")), []),
        (replace(granting, default_scopes=("c",)), [Ending(1, "my-bucket", is_narrowed=True)]),
    ]
    for revision, (change, wanted) in enumerate(steps, 10):
        filled.apply(batch(revision, [change]))
        assert filled.endings_since(at(revision)) == (at(revision + 1), wanted), change


def test_whoever_was_there_is_told_what_ended_since_and_nobody_else(filled: Replica) -> None:
    filled.apply(batch(10, [KeyDelete(FIRST.digest, 1), Hidden()]))
    filled.apply(batch(12, [key("zpka_third-secret", 1, 1)]))
    filled.apply(batch(13, [KeyDelete(SECOND.digest, 1)]))
    everything = [ended(FIRST), ended(SECOND)]
    assert [filled.endings_since(at(revision)) for revision in (10, 12, 13, 14)] == [
        (at(14), everything), (at(14), everything[1:]), (at(14), everything[1:]), (at(14), []),
    ]  # fmt: skip
    # Between two batches, before the snapshot, ahead of everything, and in another history.
    for cursor in (at(11), at(9), at(99), at(12, history=2), Cursor(12, "", 0)):
        assert filled.endings_since(cursor) is None
        assert not filled.has_been_at(cursor)
    load(filled, BUCKET, revision=14)
    assert filled.endings_since(at(12)) is None, "a snapshot tells nothing of what was before"


def test_only_so_much_is_kept(filled: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endings, "KEPT_BATCHES", 5)
    for revision in range(10, 20):
        filled.apply(batch(revision, [Hidden()]))
    assert [filled.has_been_at(at(revision)) for revision in (15, 16, 20)] == [False, True, True]
    monkeypatch.setattr(endings, "KEPT_BATCHES", 100)
    monkeypatch.setattr(endings, "KEPT_BYTES", 500)
    for revision in range(20, 40, 2):
        third = key("zpka_third-secret", 1, 1)
        filled.apply(batch(revision, [third, KeyDelete(third.digest, 1)]))
    found = filled.endings_since(at(36))
    assert found is not None
    assert len(found[1]) == 2
    assert not filled.has_been_at(at(30))
    monkeypatch.setattr(endings, "KEPT_BYTES", 1)
    filled.apply(batch(40, [KeyDelete(FIRST.digest, 1)]))
    filled.apply(batch(41, [Hidden()]))
    assert [filled.has_been_at(at(revision)) for revision in (41, 42)] == [False, True]


def test_files_of_an_earlier_version_get_the_journal_and_its_batches_are_not_known(tmp_path: Path) -> None:
    path = tmp_path / "replica"
    made = Replica.open(path, PEPPER_CHECK)
    load(made, BUCKET, OWNER, FIRST)
    made.close()
    env = lmdb.open(str(path), max_dbs=6)
    with env.begin(write=True) as tx:
        tx.drop(env.open_db(b"endings", txn=tx), delete=True)
    env.close()
    reader = Replica.open_to_read(path, PEPPER_CHECK)
    assert reader.endings_since(at(9)) is None
    assert not reader.has_been_at(at(10))
    reader.close()
    opened = Replica.open(path, PEPPER_CHECK)
    assert opened.endings_since(at(9)) is None
    opened.apply(batch(10, [KeyDelete(FIRST.digest, 1)]))
    assert opened.endings_since(at(10)) == (at(11), [FORMER])
    opened.close()
