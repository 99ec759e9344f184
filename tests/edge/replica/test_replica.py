"""The replica as others use it: who may load, who is told of what was committed, and what a reopened one answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.world import batch, bucket, consumer, key, load, owner_of
from keywright.protocol.changes import Batch, ConsumerDelete

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keywright.edge.replica.endings import Ending
    from keywright.edge.replica.replica import Replica

A = "zpka_first-secret"


class Told:
    """An observer that writes down what it is told."""

    def __init__(self) -> None:
        self.events: list[object] = []

    def applied(self, batch: Batch, endings: Sequence[Ending]) -> None:
        self.events.append(batch)

    def replaced(self) -> None:
        self.events.append("replaced")

    def swept(self, *, is_keys: bool, names: list[bytes]) -> None:
        self.events.append(("keys" if is_keys else "consumers", len(names)))


def test_one_follows_at_a_time(replica: Replica) -> None:
    with replica.following() as first, replica.following() as second:
        assert (first, second) == (True, False)
    with replica.following() as third:
        assert third


def test_the_observer_is_told_of_each_commit_and_of_nothing_else(replica: Replica) -> None:
    told = replica.observer = Told()
    load(replica, bucket(1, "my-bucket"), consumer(1, 1), consumer(2, 1), key(A, 1, 1))
    assert replica.sweep() == 0
    deleted = batch(10, [ConsumerDelete(1)])
    replica.apply(deleted)
    while replica.sweep():
        pass
    assert told.events == ["replaced", deleted, ("keys", 1)]


def test_a_reopened_replica_finds_what_is_in_the_files_that_it_has_by_then(replica: Replica) -> None:
    load(replica, bucket(1, "my-bucket"), consumer(1, 1), key(A, 1, 1))
    for _ in range(5):
        assert owner_of(replica, A) == "my-consumer"
    replica.mark_corrupt()
    replica.reopen()
    told = replica.observer = Told()
    # The new files count their transactions anew: this one has the number that the old one had.
    load(replica, bucket(1, "my-bucket"))
    assert owner_of(replica, A) is None
    assert told.events == ["replaced"]
