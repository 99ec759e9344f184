"""A small record for the edge's tests: its parts as changes, and a feed that serves them from memory."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keywright.domain import models
from keywright.domain.keyformat import Digester
from keywright.edge.replica.replica import Replica
from keywright.edge.sync.feed import Snapshot, SnapshotNeeded
from keywright.protocol.changes import (
    Batch,
    BucketDelete,
    BucketPut,
    Change,
    ConsumerDelete,
    ConsumerPut,
    Cursor,
    KeyDelete,
    KeyPut,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

DIGESTER = Digester(b"pepper of the tests, 32 bytes ok")
PEPPER_CHECK = DIGESTER.pepper_check()
SECRETS = [f"zpka_secret-{n}" for n in range(2000)]
"""The keys of a replica that was `filled`."""
NOW = 1_800_000_000_000
_random = random.Random(1)


def new_id(kind: models.IdKind) -> str:
    return models.new_id(kind, _random.randbytes)


def bucket(number: int, name: str, account_id: str | None = "acct_1", **grants: object) -> BucketPut:
    return BucketPut(number, new_id(models.IdKind.BUCKET), name, account_id, grants)  # type: ignore[arg-type]


def consumer(
    number: int, bucket_number: int, name: str = "my-consumer", metadata: str = '{"testId":"1234"}'
) -> ConsumerPut:
    return ConsumerPut(number, new_id(models.IdKind.CONSUMER), bucket_number, name, metadata)


def key(secret: str, bucket_number: int, consumer_number: int, expires_at: int | None = None) -> KeyPut:
    return KeyPut(DIGESTER.digest(secret), bucket_number, consumer_number, new_id(models.IdKind.KEY), expires_at)


def at(revision: int, history: int = 1) -> Cursor:
    """A revision's cursor in the one history of these tests, or in another."""
    return Cursor(revision, f"{history:08x}{revision:08x}", 1000 * revision + history)


def batch(follows: int, changes: Sequence[Change]) -> Batch:
    return Batch(at(follows), changes, at(follows + len(changes)))


def load(replica: Replica, *changes: Change, revision: int = 10, deployment_id: str = "dep_1") -> None:
    """Fill a replica with a snapshot of these records."""
    replica.load(deployment_id, PEPPER_CHECK, at(revision), changes)


def filled(path: Path) -> None:
    """Make a replica with one bucket, as many consumers as SECRETS, and a key of each."""
    replica = Replica.open(path, PEPPER_CHECK)
    consumers, keys = [consumer(n, 1) for n in range(2000)], [key(s, 1, n) for n, s in enumerate(SECRETS)]
    replica.load("dep_1", PEPPER_CHECK, at(5), [bucket(1, "my-bucket"), *consumers, *keys])
    replica.close()


def owner_of(replica: Replica, secret: str, name: str = "my-bucket") -> str | None:
    """The name of the consumer whose key this is, as the replica has it."""
    found = replica.find(name, DIGESTER.digest(secret))
    assert found is not None
    return found[1].name if found[1] is not None else None


@dataclass
class MemoryFeed:
    """The Feed's contract over a list. `log` holds every change since revision `start`."""

    deployment: str = "dep_1"
    pepper_check: str = PEPPER_CHECK
    start: int = 0
    log: list[Change] = field(default_factory=list)
    batch_size: int = 3
    calls: list[str] = field(default_factory=list)
    error: Exception | None = None
    history: int = 1

    def is_last(self, batch: Batch) -> bool:
        return len(batch.changes) < self.batch_size

    @property
    def revision(self) -> int:
        return self.start + len(self.log)

    async def deployment_id(self) -> str:
        self.calls.append("deployment_id")
        self._fail()
        return self.deployment

    async def snapshot(self) -> Snapshot:
        self.calls.append("snapshot")
        self._fail()
        cursor = at(self.revision, self.history)
        return Snapshot(self.deployment, self.pepper_check, cursor, self.pages(state(self.log)))

    async def pages(self, changes: Sequence[Change]) -> AsyncIterator[Sequence[Change]]:
        for page in _batched(changes, 2):
            yield page

    async def changes(self, after: Cursor) -> Batch:
        self.calls.append(f"changes {after.revision}")
        assert after.stamp, "nobody is asked to lead on from what has no stamp"
        self._fail()
        if not self.start <= after.revision <= self.revision or after != at(after.revision, self.history):
            raise SnapshotNeeded
        first = after.revision - self.start
        changes = self.log[first : first + self.batch_size]
        return Batch(after, changes, at(after.revision + len(changes), self.history))

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error


def state(log: Sequence[Change]) -> list[Change]:
    """What a replica must hold after these changes: the same thing said in the plainest way, without LMDB."""
    buckets: dict[int, BucketPut] = {}
    consumers: dict[int, ConsumerPut] = {}
    keys: dict[tuple[int, bytes], KeyPut] = {}
    for change in log:
        match change:
            case BucketPut():
                buckets[change.number] = change
            case BucketDelete():
                buckets.pop(change.number, None)
            case ConsumerPut():
                consumers[change.number] = change
            case ConsumerDelete():
                consumers.pop(change.number, None)
            case KeyPut():
                keys[change.bucket_number, change.digest] = change
            case KeyDelete():
                keys.pop((change.bucket_number, change.digest), None)
    reachable = {number: row for number, row in consumers.items() if row.bucket_number in buckets}
    return [
        *(buckets[number] for number in sorted(buckets)),
        *(reachable[number] for number in sorted(reachable)),
        *(row for _, row in sorted(keys.items(), key=lambda item: item[0]) if _owner(row, reachable)),
    ]


def _owner(row: KeyPut, consumers: dict[int, ConsumerPut]) -> bool:
    owner = consumers.get(row.consumer_number)
    return owner is not None and owner.bucket_number == row.bucket_number


def _batched(changes: Sequence[Change], size: int) -> list[Sequence[Change]]:
    return [changes[at : at + size] for at in range(0, len(changes), size)]
