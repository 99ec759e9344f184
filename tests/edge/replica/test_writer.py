"""Writing a replica: records and cursor move together, and nothing that was deleted is ever found."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING

import lmdb
import pytest

from edge.world import DIGESTER, PEPPER_CHECK, at, batch, bucket, consumer, key, load, owner_of, state
from keywright.edge.replica.replica import Gap, Overtaken, Replica, WrongPepper
from keywright.protocol.changes import Batch, BucketDelete, Change, ConsumerDelete, KeyDelete

if TYPE_CHECKING:
    from pathlib import Path

A, B = "zpka_first-secret", "zpka_second-secret"


def test_a_snapshot_in_any_order_is_loaded_all_the_same(replica: Replica) -> None:
    puts = [bucket(2, "second"), bucket(1, "first"), consumer(7, 2), consumer(3, 1), key(B, 2, 7), key(A, 1, 3)]
    load(replica, *puts)
    assert replica.records() == state(puts)


def test_a_second_snapshot_leaves_nothing_of_the_first(replica: Replica) -> None:
    load(replica, bucket(1, "my-bucket"), consumer(1, 1), key(A, 1, 1))
    load(replica, bucket(2, "my-bucket"), revision=3, deployment_id="dep_2")
    assert owner_of(replica, A) is None
    assert (replica.revision, replica.deployment_id) == (3, "dep_2")


def test_a_snapshot_that_fails_half_way_changes_nothing(replica: Replica) -> None:
    puts = [bucket(1, "my-bucket"), consumer(1, 1), key(A, 1, 1)]
    load(replica, *puts)

    def broken() -> object:
        yield bucket(2, "other-bucket")
        # A reader goes on with the old state while the snapshot arrives.
        seen: list[str | None] = []
        reader = threading.Thread(target=lambda: seen.append(owner_of(replica, A)))
        reader.start()
        reader.join()
        assert seen == ["my-consumer"]
        raise OSError("connection lost")

    with pytest.raises(OSError, match="connection lost"):
        replica.load("dep_2", PEPPER_CHECK, at(99), broken())  # type: ignore[arg-type]
    assert replica.records() == puts
    assert (replica.revision, replica.deployment_id) == (10, "dep_1")


def test_a_snapshot_that_was_asked_for_at_another_cursor_is_refused(replica: Replica) -> None:
    """A process that was stopped before it loaded one must not take the replica back to it."""
    load(replica, bucket(1, "my-bucket"), consumer(1, 1), key(A, 1, 1))
    replica.apply(batch(10, [ConsumerDelete(1)]))
    for seen in (at(10), None):
        with pytest.raises(Overtaken, match="meanwhile"):
            replica.load("dep_1", PEPPER_CHECK, at(10), [bucket(1, "my-bucket"), key(A, 1, 1)], replaces=seen)
    assert (replica.revision, owner_of(replica, A)) == (11, None)
    replica.load("dep_1", PEPPER_CHECK, at(12), [], replaces=at(11))
    assert replica.revision == 12


def test_a_snapshot_of_another_pepper_is_refused(replica: Replica) -> None:
    with pytest.raises(WrongPepper):
        replica.load("dep_1", "0" * 16, at(1), [])
    assert replica.revision is None


def test_a_batch_moves_records_and_cursor(replica: Replica) -> None:
    load(replica)
    assert replica.apply(batch(10, [bucket(1, "my-bucket"), consumer(1, 1), key(A, 1, 1)])) == at(13)
    assert replica.revision == 13
    assert owner_of(replica, A) == "my-consumer"


def test_what_follows_an_earlier_revision_is_ignored_also_where_it_leads_further(replica: Replica) -> None:
    load(replica)
    changes = [bucket(1, "my-bucket"), consumer(1, 1), key(A, 1, 1), KeyDelete(DIGESTER.digest(A), 1)]
    replica.apply(batch(10, changes))
    assert replica.apply(batch(10, changes[:3])) == at(14)
    assert owner_of(replica, A) is None
    # Whether the part that is new follows this replica's past, nothing in the batch tells.
    assert replica.apply(batch(12, [*changes[2:], key(B, 1, 1)])) == at(14)
    assert (replica.cursor, owner_of(replica, B)) == (at(14), None)


def test_a_batch_that_follows_another_past_is_refused_and_changes_nothing(replica: Replica) -> None:
    load(replica, bucket(1, "my-bucket"))
    for history in (0, 2):
        with pytest.raises(Gap):
            replica.apply(Batch(at(10, history), [BucketDelete(1)], at(11, history)))
    assert (replica.cursor, len(replica.records())) == (at(10), 1)


def test_a_gap_is_seen_and_changes_nothing(replica: Replica) -> None:
    load(replica)
    with pytest.raises(Gap):
        replica.apply(batch(11, [bucket(1, "my-bucket")]))
    assert (replica.revision, replica.records()) == (10, [])


def test_a_batch_with_a_change_that_cannot_be_stored_changes_nothing(replica: Replica) -> None:
    load(replica)
    with pytest.raises(ValueError, match="not an id"):
        replica.apply(batch(10, [bucket(1, "my-bucket"), key(A, 1, 1), consumer(1, 1), _with_short_id()]))
    assert (replica.revision, replica.records()) == (10, [])


def _with_short_id() -> Change:
    put = key(B, 1, 1)
    return type(put)(put.digest, 1, 1, "key_short", None)


@pytest.mark.parametrize("change", [ConsumerDelete(1), BucketDelete(1), KeyDelete(DIGESTER.digest(A), 1)], ids=type)
def test_what_is_deleted_is_not_found_from_the_next_look_up(replica: Replica, change: Change) -> None:
    load(replica, bucket(1, "my-bucket"), bucket(2, "other-bucket"), consumer(1, 1), key(A, 1, 1))
    for _ in range(5):
        assert owner_of(replica, A) == "my-consumer"
    replica.apply(batch(10, [change]))
    found = replica.find("my-bucket", DIGESTER.digest(A))
    assert found is None or found[1] is None
    assert not any(row.__class__.__name__ == "KeyPut" for row in replica.records())


def test_a_new_bucket_of_an_old_name_has_none_of_its_keys(replica: Replica) -> None:
    load(replica, bucket(1, "my-bucket"), consumer(1, 1), key(A, 1, 1))
    replica.apply(batch(10, [BucketDelete(1), bucket(2, "my-bucket")]))
    assert owner_of(replica, A) is None
    # The old bucket's end may come late: it must not take the new bucket's name with it.
    replica.apply(batch(12, [bucket(3, "my-bucket"), BucketDelete(2)]))
    record = replica.find_bucket("my-bucket")
    assert record is not None
    assert record.number == 3


def test_a_renamed_bucket_gives_its_name_back(replica: Replica) -> None:
    load(replica, bucket(1, "my-bucket"))
    replica.apply(batch(10, [bucket(1, "new-name")]))
    assert replica.find_bucket("my-bucket") is None
    assert replica.find_bucket("new-name") is not None


def test_a_key_brought_to_a_new_consumer_is_that_consumers(replica: Replica) -> None:
    load(replica, bucket(1, "my-bucket"), consumer(1, 1), key(A, 1, 1))
    replica.apply(batch(10, [ConsumerDelete(1), consumer(2, 1, "heir"), key(A, 1, 2)]))
    assert owner_of(replica, A) == "heir"


def test_the_sweep_removes_garbage_and_nothing_else(replica: Replica) -> None:
    kept = [bucket(2, "other-bucket"), consumer(3, 2), *(key(f"kept-{n}", 2, 3) for n in range(20))]
    load(replica, *kept, bucket(1, "my-bucket"), consumer(1, 1), consumer(2, 2), key(B, 2, 2))
    replica.apply(batch(10, [key(f"gone-{n}", 1, 1) for n in range(50)]))
    assert replica.sweep() == 0
    replica.apply(batch(60, [ConsumerDelete(2)]))
    assert replica.sweep(5) <= 5
    replica.apply(batch(61, [BucketDelete(1)]))
    removed = 0
    for _ in range(100):
        removed += replica.sweep(5)
    # 50 keys and 1 consumer of the bucket, 1 key of the consumer (unless the first sweep took it).
    assert removed in {51, 52}
    assert replica.records() == state(kept)
    assert _entries(replica) == (1, 20)
    assert replica.sweep() == 0


def test_a_random_history_leads_to_the_same_records_as_the_plain_model(replica: Replica) -> None:
    random_source = random.Random(7)
    load(replica, revision=0)
    log: list[Change] = []
    for number in range(1, 400):
        bucket_number, consumer_number = random_source.randint(1, 4), random_source.randint(1, 12)
        secret = f"zpka_secret-{random_source.randint(1, 30)}"
        log.append(
            random_source.choice(
                [
                    lambda n=bucket_number: bucket(n, f"bucket-{n}"),
                    lambda n=consumer_number: consumer(n, n % 4 + 1),
                    lambda n=consumer_number, s=secret: key(s, n % 4 + 1, n),
                    lambda n=consumer_number, s=secret: key(s, n % 4 + 1, n, 5),
                    lambda n=bucket_number, s=secret: KeyDelete(DIGESTER.digest(s), n),
                    lambda n=number: ConsumerDelete(n % 13) if n % 3 else BucketDelete(n % 5),
                ]
            )()
        )
        replica.apply(batch(number - 1, log[-1:]))
        if number % 10 == 0:
            assert replica.records() == state(log)
    replica.apply(batch(0, log))
    assert replica.records() == state(log)


def test_a_full_map_is_doubled_and_the_batch_applied(tmp_path: Path) -> None:
    replica = Replica.open(tmp_path, PEPPER_CHECK, map_size=128 * 1024)
    load(replica, bucket(1, "my-bucket"), revision=0)
    replica.apply(batch(0, [consumer(n, 1, metadata=f'{{"x":"{"y" * 900}"}}') for n in range(1, 600)]))
    assert replica.revision == 599
    assert len(replica.records()) == 600
    with pytest.raises(lmdb.MapFullError):
        load(replica, *(consumer(n, 1, metadata=f'{{"x":"{"y" * 900}"}}') for n in range(9000)))
    assert replica.revision == 599
    replica.close()


def _entries(replica: Replica) -> tuple[int, int]:
    files = replica._files
    with files.read() as tx:
        return tx.stat(files.consumers)["entries"], tx.stat(files.keys)["entries"]
