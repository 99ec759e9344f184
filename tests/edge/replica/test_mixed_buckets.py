"""A key whose consumer is of another bucket: no record says so, and a replica that does lets nobody in by it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.world import DIGESTER, PEPPER_CHECK, at, batch, bucket, consumer, key
from keywright.protocol.changes import ConsumerDelete

if TYPE_CHECKING:
    from keywright.edge.replica.replica import Replica

A, B = "zpka_first-secret", "zpka_second-secret"


def load(replica: Replica) -> None:
    mixed = key(A, 1, 2)
    puts = [bucket(1, "mine"), bucket(2, "theirs"), consumer(1, 1, "me"), consumer(2, 2, "they"), mixed, key(B, 1, 1)]
    replica.load("dep_1", PEPPER_CHECK, at(10), puts)


def test_a_key_whose_consumer_is_of_another_bucket_stands_for_nobody(replica: Replica) -> None:
    load(replica)
    for name in ("mine", "theirs"):
        # Asked more than once: what is found may be kept in memory.
        for _ in range(8):
            found = replica.find(name, DIGESTER.digest(A))
            assert found is not None
            assert found[1] is None
    right = replica.find("mine", DIGESTER.digest(B))
    assert right is not None
    assert right[1] is not None
    assert right[1].name == "me"


def test_the_sweep_removes_a_key_whose_consumer_is_of_another_bucket(replica: Replica) -> None:
    load(replica)
    # Something is deleted, so that there is a sweep; nobody has that consumer.
    replica.apply(batch(10, [consumer(3, 2), ConsumerDelete(3)]))
    assert sum(replica.sweep() for _ in range(3)) == 1
    assert [put.digest for put in replica.records() if hasattr(put, "digest")] == [DIGESTER.digest(B)]
