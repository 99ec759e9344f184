"""What HAProxy's maps lack: what takes away comes first, and a place is reached when nothing of it is pending."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from edge.world import NOW, PEPPER_CHECK, at, batch, bucket, consumer, key, new_id
from keywright.domain.models import IdKind
from keywright.domain.powers import encode_powers
from keywright.edge.haproxy import entries
from keywright.edge.haproxy.backlog import Backlog, Owner
from keywright.edge.haproxy.entries import bucket_entry, consumer_entry, default_scopes_entry, key_entry, twin
from keywright.edge.replica.replica import Replica
from keywright.protocol.changes import BucketDelete, Change, ConsumerDelete, ConsumerPut, KeyDelete, KeyPut

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from keywright.edge.replica.endings import Ending
    from keywright.protocol.changes import Batch

POWERED = replace(bucket(6, "powered-bucket"), features=("scopes", "enabled"), default_scopes=("a", "b"))
SCOPED, OFF = encode_powers(scopes=["a"]), encode_powers(enabled=False)
START: list[Change] = [
    bucket(1, "my-bucket"), bucket(2, "_system", None), consumer(1, 1), consumer(2, 1), consumer(3, 2), POWERED,
    consumer(7, 6), replace(consumer(8, 6), powers=SCOPED),
    replace(key("secret-7", 6, 7), powers=SCOPED), replace(key("secret-8", 6, 8), powers=None),
    key("secret-1", 1, 1), key("secret-2", 1, 2, NOW + 100), key("secret-3", 2, 3),
]  # fmt: skip
OWNER, _, _, _, OWNER_WITH_POWERS = (put for put in START if isinstance(put, ConsumerPut))
WITH_POWERS, OF_POWERED, FIRST, SECOND, HIDDEN = (put for put in START if isinstance(put, KeyPut))
OWNER_VALUE = f"{OWNER_WITH_POWERS.consumer_id}|my-consumer|%7B%22testId%22%3A%221234%22%7D"
NEW_ID = new_id(IdKind.KEY)


def place(put: KeyPut | KeyDelete) -> entries.Entry:
    return key_entry(put.bucket_number, put.digest.hex())


@dataclass
class World:
    """A replica, and the backlog of maps that held what it began with."""

    replica: Replica
    backlog: Backlog

    def applied(self, batch: Batch, endings: Sequence[Ending]) -> None:
        self.backlog.absorb(batch, endings, NOW)

    def replaced(self) -> None: ...
    def swept(self, *, is_keys: bool, names: list[bytes]) -> None:
        self.backlog.throw_away([entries.swept_entry(name, is_keys=is_keys) for name in names])

    def apply(self, *changes: Change) -> None:
        follows = self.replica.revision
        assert follows is not None
        self.replica.apply(batch(follows, changes))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    replica = Replica.open(tmp_path / "replica", PEPPER_CHECK)
    replica.load("dep_1", PEPPER_CHECK, at(10), START)
    made = World(replica, Backlog(at(10), replica.buckets()))
    replica.observer = made
    yield made
    replica.close()


def test_what_takes_away_comes_first_however_much_was_there_before(world: World) -> None:
    for number in range(20):
        world.apply(key(f"new-{number}", 1, 1))
    world.apply(KeyDelete(SECOND.digest, 1))
    assert world.backlog.next_writes(5) == [(place(SECOND), None)]
    assert world.backlog.owners == {Owner(1, 2): 1}
    world.backlog.written(world.backlog.next_writes(5))
    assert (world.backlog.takes, world.backlog.gives, world.backlog.owners) == (0, 20, {})
    assert len(world.backlog.next_writes(5)) == 5


TAKES: dict[str, tuple[list[Change], dict[entries.Entry, str | None], set[Owner]]] = {
    "deletion": ([KeyDelete(FIRST.digest, 1)], {place(FIRST): None}, {Owner(1, 1)}),
    "an end that is over": (
        [KeyPut(FIRST.digest, 1, 1, FIRST.key_id, NOW)], {place(FIRST): None}, {Owner(1, 1)},
    ),
    "an end that comes": (
        [KeyPut(FIRST.digest, 1, 1, FIRST.key_id, NOW + 1)],
        {place(FIRST): f"{FIRST.key_id}|1|{NOW + 1}"}, {Owner(1, 1)},
    ),
    "deletion, and new again for another": (
        [KeyDelete(FIRST.digest, 1), KeyPut(FIRST.digest, 1, 2, NEW_ID, None)],
        {place(FIRST): f"{NEW_ID}|2|{entries.NEVER}"}, {Owner(1, 1)},
    ),
    "to and fro": (
        [KeyPut(FIRST.digest, 1, 2, FIRST.key_id, None), KeyPut(FIRST.digest, 1, 1, FIRST.key_id, None)],
        {place(FIRST): f"{FIRST.key_id}|1|{entries.NEVER}"}, {Owner(1, 1), Owner(1, 2)},
    ),
    "a key gets powers, and its bucket no such feature": (
        [replace(FIRST, powers=OFF)], {place(FIRST): None}, {Owner(1, 1)},
    ),
    "a consumer gets powers, and its bucket no such feature": (
        [replace(OWNER, powers=SCOPED)], {consumer_entry(1): None}, {Owner(1, 1)},
    ),
    "a key gets powers": (
        [replace(OF_POWERED, powers=OFF)],
        {place(OF_POWERED): None, twin(place(OF_POWERED)): f"{OF_POWERED.key_id}|8|{entries.NEVER}|off|+*+"},
        {Owner(6, 8)},
    ),
    "a key gets other powers": (
        [replace(WITH_POWERS, powers=encode_powers(scopes=[]))],
        {place(WITH_POWERS): None, twin(place(WITH_POWERS)): f"{WITH_POWERS.key_id}|7|{entries.NEVER}|on|none"},
        {Owner(6, 7)},
    ),
    "a key with powers is deleted": (
        [KeyDelete(WITH_POWERS.digest, 6)], {place(WITH_POWERS): None, twin(place(WITH_POWERS)): None}, {Owner(6, 7)},
    ),
    "a consumer with powers is switched off": (
        [replace(OWNER_WITH_POWERS, powers=OFF)],
        {consumer_entry(8): None, twin(consumer_entry(8)): f"{OWNER_VALUE}|off|inherited"}, {Owner(6, 8)},
    ),
    "a consumer loses its powers": (
        [replace(OWNER_WITH_POWERS, powers=None, has_lost_powers=True)],
        {consumer_entry(8): OWNER_VALUE, twin(consumer_entry(8)): None}, {Owner(6, 8)},
    ),
    "a consumer with powers is deleted": (
        [ConsumerDelete(8)], {consumer_entry(8): None, twin(consumer_entry(8)): None}, {Owner(6, 8)},
    ),
    "a bucket grants less": (
        [replace(POWERED, default_scopes=("a",))], {default_scopes_entry(6): "+a+"}, set(),
    ),
    "a bucket's keys have powers that nobody knows": (
        [replace(POWERED, features=("scopes", "enabled", "weather"))], {bucket_entry("powered-bucket"): None}, set(),
    ),
    "a consumer": ([ConsumerDelete(2)], {consumer_entry(2): None}, {Owner(1, 2)}),
    "a bucket": ([BucketDelete(1)], {bucket_entry("my-bucket"): None}, set()),
    "a bucket's name goes on to another": (
        [bucket(5, "my-bucket"), BucketDelete(1)], {bucket_entry("my-bucket"): "5"}, set(),
    ),
    "a bucket's name goes on after it": (
        [BucketDelete(1), bucket(5, "my-bucket")], {bucket_entry("my-bucket"): "5"}, set(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("is_one_batch", [True, False], ids=["one batch", "one each"])
@pytest.mark.parametrize(("changes", "wanted", "owners"), TAKES.values(), ids=TAKES)
def test_whatever_lets_somebody_in_wrongly_is_a_take(
    world: World, changes: list[Change], wanted: dict[entries.Entry, str | None], owners: set[Owner], is_one_batch: bool
) -> None:
    for some in [changes] if is_one_batch else [[change] for change in changes]:
        world.apply(*some)
    assert (dict(world.backlog.next_writes(9)), set(world.backlog.owners)) == (wanted, owners)


def test_what_no_gateway_asks_for_is_not_mirrored(world: World) -> None:
    world.apply(key("secret-4", 2, 3), KeyDelete(HIDDEN.digest, 2), ConsumerDelete(3), bucket(2, "_system", None))
    assert world.backlog.takes == 0
    assert [value for _, value in world.backlog.next_writes(9) if value is not None] == []


def test_what_haproxy_can_not_judge_is_told_of_by_bucket(world: World) -> None:
    networks = [f"192.0.2.{number}/32" for number in range(9)]
    world.apply(replace(WITH_POWERS, powers=encode_powers(allowed_ips=networks[:8])))
    assert world.backlog.unjudged == set()
    world.apply(replace(WITH_POWERS, powers=encode_powers(allowed_ips=networks)))
    found = dict(world.backlog.next_writes(9))
    assert found[twin(place(WITH_POWERS))] == f"{WITH_POWERS.key_id}|7|{entries.NEVER}|on|+*+|?"
    world.apply(replace(OWNER_WITH_POWERS, powers='{"weather":"fair"}'))
    assert dict(world.backlog.next_writes(9))[twin(consumer_entry(8))] == "?"
    assert world.backlog.unjudged == {6}


def test_a_place_is_reached_when_everything_up_to_it_is_written(world: World) -> None:
    backlog = world.backlog
    world.apply(key("new-1", 1, 1), key("new-2", 1, 1))
    world.apply(key("new-3", 1, 1))
    world.apply(KeyDelete(SECOND.digest, 1))
    assert (backlog.held, backlog.absorbed) == (at(10), at(14))
    backlog.written(backlog.next_writes(9))
    assert backlog.held == at(10), "what gives is pending"
    backlog.written(backlog.next_writes(1))
    assert backlog.held == at(10)
    backlog.written(backlog.next_writes(1))
    assert backlog.held == at(12)
    # The same entry again: it is written no later than was asked first.
    world.apply(key("new-3", 1, 2))
    backlog.written(backlog.next_writes(1))
    assert (backlog.held, len(backlog)) == (at(15), 0)


def test_a_value_that_changes_while_it_is_written_is_written_again(world: World) -> None:
    world.apply(key("new-1", 1, 1))
    under_way = world.backlog.next_writes(9)
    world.apply(KeyDelete(key("new-1", 1, 1).digest, 1))
    world.backlog.written(under_way)
    assert [value for _, value in world.backlog.next_writes(9)] == [None]
    assert world.backlog.held == at(11)


def test_garbage_is_last_and_holds_nothing_up(world: World) -> None:
    world.apply(ConsumerDelete(2))
    world.apply(key("new-1", 1, 1))
    while world.replica.sweep():
        pass
    backlog = world.backlog
    assert backlog.next_writes(9) == [(consumer_entry(2), None)]
    backlog.written(backlog.next_writes(9))
    assert [entry.map for entry, _ in backlog.next_writes(9)] == ["keywright-keys.map"]
    backlog.written(backlog.next_writes(9))
    assert (backlog.held, backlog.garbage) == (at(12), 2)
    # Which map it was in nobody knows any more.
    assert dict(backlog.next_writes(9)) == dict.fromkeys((place(SECOND), twin(place(SECOND))))
    backlog.written([(twin(place(SECOND)), None)])
    # It is there again before it was taken out.
    world.apply(KeyPut(SECOND.digest, 1, 1, NEW_ID, None))
    assert (backlog.garbage, backlog.gives) == (0, 1)
    # And what was to be put in is swept before it is there.
    world.backlog.throw_away([place(SECOND)])
    assert backlog.next_writes(1) == [(place(SECOND), None)]
