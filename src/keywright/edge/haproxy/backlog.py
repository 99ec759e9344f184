"""Owns what HAProxy's maps still lack of the replica, and in which order it is to be written: what takes away first.

Of each entry only the last value counts, so the backlog is never longer than the maps. It is in three parts:

- *takes*: entries by which somebody would get in who must not any more. While one of them is pending the consumer whose
  key it was has to be blocked, or HAProxy must be believed no longer.
- *gives*: all other changes. What they bring is late, and nothing worse.
- *garbage*: entries that can't be reached any more, and only cost memory.

Pure: no clock, no socket.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keywright.domain.permissions import SYSTEM_BUCKET
from keywright.edge.haproxy import entries, powered
from keywright.edge.haproxy.socket import Map
from keywright.protocol.changes import BucketDelete, BucketPut, ConsumerDelete, ConsumerPut, KeyDelete, KeyPut

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from keywright.edge.haproxy.socket import Entry, Write
    from keywright.edge.replica.endings import Ending
    from keywright.protocol.changes import Batch, Change, Cursor


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose keys a pending entry lets in."""

    bucket_number: int
    consumer_number: int


@dataclass(slots=True)
class _Pending:
    value: str | None
    batch: int
    """Counted from 1: the first batch since the start that asked for it."""
    owners: set[Owner] = field(default_factory=set)


class Backlog:
    """What the maps lack, if they hold all that the replica held at `cursor`."""

    def __init__(self, cursor: Cursor, buckets: Iterable[BucketPut]) -> None:
        """`buckets` are those that the maps have, or are about to get."""
        self.absorbed = cursor
        """Whatever came by then is held by the maps, or is pending here."""
        self.buckets = {put.number: put for put in buckets if put.name != SYSTEM_BUCKET}
        self.unjudged: set[int] = set()
        """Numbers of buckets in which there was something that HAProxy can't judge."""
        self._had_powers = any(bucket.has_powers for bucket in self.buckets.values())
        self._takes: dict[Entry, _Pending] = {}
        self._gives: dict[Entry, _Pending] = {}
        self._garbage: dict[Entry, None] = {}
        self._owners: Counter[Owner] = Counter()
        self._cursors: dict[int, Cursor] = {0: cursor}
        self._batch = 0

    # -- what comes in ------------------------------------------------------------------------------------------------

    def absorb(self, batch: Batch, endings: Sequence[Ending], now: int) -> None:
        """Take in a batch that follows `absorbed`, with what it has ended. `now` in milliseconds since the epoch."""
        self._batch += 1
        self._cursors[self._batch] = batch.cursor
        for ending in endings:
            self._end(ending)
        for change in batch.changes:
            self._change(change, now)
        self.absorbed = batch.cursor

    def throw_away(self, unreachable: Iterable[Entry]) -> None:
        """Take in that the replica has these no more, which nothing led to any longer."""
        for entry in self._with_twins(unreachable):
            pending = self._takes.get(entry) or self._gives.get(entry)
            if pending is None:
                self._garbage[entry] = None
            else:
                pending.value = None

    # -- what is to be written ----------------------------------------------------------------------------------------

    @property
    def held(self) -> Cursor:
        """The maps hold everything that the replica held here, or what became of it since."""
        firsts = (next(iter(part.values())).batch for part in (self._takes, self._gives) if part)
        reached = min(firsts, default=self._batch + 1) - 1
        for number in list(itertools.takewhile(lambda one: one < reached, self._cursors)):
            del self._cursors[number]
        return self._cursors[reached]

    def __len__(self) -> int:
        return len(self._takes) + len(self._gives) + len(self._garbage)

    @property
    def takes(self) -> int:
        return len(self._takes)

    @property
    def gives(self) -> int:
        return len(self._gives)

    @property
    def garbage(self) -> int:
        return len(self._garbage)

    @property
    def owners(self) -> Mapping[Owner, int]:
        """Whose keys may be let in wrongly until what takes away is written; with the number of entries."""
        return self._owners

    def bucket_writes(self) -> list[Write]:
        """What takes buckets away: quick to write, the map is small."""
        return [
            (entry, pending.value) for entry, pending in self._takes.items() if entry.map in (Map.BUCKETS, Map.BUCKETS3)
        ]

    def next_writes(self, most: int) -> list[Write]:
        """Up to so many: of what takes away, else of the rest, and of garbage only when there is nothing else."""
        for part in (self._takes, self._gives):
            if part:
                return [(entry, pending.value) for entry, pending in itertools.islice(part.items(), most)]
        return [(entry, None) for entry in itertools.islice(self._garbage, most)]

    def written(self, writes: Iterable[Write]) -> None:
        """These values are in the maps."""
        for entry, value in writes:
            self._garbage.pop(entry, None)
            for part in (self._takes, self._gives):
                pending = part.get(entry)
                if pending is not None and pending.value == value:
                    del part[entry]
                    for owner in pending.owners:
                        self._owners[owner] -= 1
                        if not self._owners[owner]:
                            del self._owners[owner]

    # -- the parts ----------------------------------------------------------------------------------------------------

    def _end(self, ending: Ending) -> None:
        """Note whose keys are let in until the entry is written. Its value comes with the change."""
        bucket, consumer = ending.bucket_number, ending.consumer_number
        if bucket not in self.buckets:
            return
        if consumer is None:
            if ending.is_narrowed:
                self._take(*entries.default_scopes_write(self.buckets[bucket]))
            return
        entry = entries.consumer_entry(consumer) if ending.digest is None else entries.key_entry(bucket, ending.digest)
        self._take(entry, None, Owner(bucket, consumer))
        if self.buckets[bucket].has_powers:
            self._take(entries.twin(entry), None, Owner(bucket, consumer))

    def _take(self, entry: Entry, value: str | None, owner: Owner | None = None) -> None:
        self._gives.pop(entry, None)
        self._garbage.pop(entry, None)
        pending = self._takes.setdefault(entry, _Pending(value, self._batch))
        pending.value = value
        if owner is not None and owner not in pending.owners:
            pending.owners.add(owner)
            self._owners[owner] += 1

    def _give(self, entry: Entry, value: str | None) -> None:
        self._garbage.pop(entry, None)
        pending = self._takes.get(entry) or self._gives.setdefault(entry, _Pending(value, self._batch))
        pending.value = value

    def _change(self, change: Change, now: int) -> None:
        """The hidden bucket, and what is in it, no gateway asks for."""
        match change:
            case BucketPut() if change.name != SYSTEM_BUCKET:
                self._change_bucket(change)
            case BucketDelete():
                gone = self.buckets.pop(change.number, None)
                if gone is not None:
                    self._free_name(gone.name)
                    self._garbage[entries.default_scopes_entry(gone.number)] = None
            case ConsumerPut() if change.bucket_number in self.buckets:
                entry = entries.consumer_entry(change.number)
                self._put(entry, change.bucket_number, *entries.consumer_values(change))
            case ConsumerDelete():
                # If it was there with powers, its end is noted.
                entry = entries.consumer_entry(change.number)
                self._give(entry, None)
                if entries.twin(entry) in self._takes:
                    self._give(entries.twin(entry), None)
            case KeyPut() if change.bucket_number in self.buckets:
                entry = entries.key_entry(change.bucket_number, change.digest.hex())
                self._put(entry, change.bucket_number, *entries.key_values(change, now))
            case KeyDelete():
                entry = entries.key_entry(change.bucket_number, change.digest.hex())
                self._put(entry, change.bucket_number, None, None)

    def _change_bucket(self, change: BucketPut) -> None:
        former = self.buckets.get(change.number)
        entry = entries.bucket_entry(change.name)
        if not powered.is_known(change):
            self._take(entry, None)
        elif self._is_taken(change.name, change.number):
            self._take(entry, str(change.number))
        else:
            self._give(entry, str(change.number))
        if former is None or set(former.default_scopes) != set(change.default_scopes):
            self._give(*entries.default_scopes_write(change))
        self.buckets[change.number] = change
        self._had_powers = self._had_powers or change.has_powers
        if former is not None and former.name != change.name:
            self._free_name(former.name)

    def _put(self, entry: Entry, bucket_number: int, value: str | None, value3: str | None) -> None:
        """A record, in its own map and not in the other. What is said not to be there nobody looks up (reader.py)."""
        self._give(entry, value)
        bucket = self.buckets.get(bucket_number)
        if bucket is not None and bucket.has_powers:
            self._give(entries.twin(entry), value3)
            if value3 is not None and powered.is_unjudged(value3):
                self.unjudged.add(bucket_number)

    def _with_twins(self, names: Iterable[Entry]) -> Iterator[Entry]:
        for entry in names:
            yield entry
            if self._had_powers:
                yield entries.twin(entry)

    def _free_name(self, name: str) -> None:
        if not self._is_taken(name, None):
            self._take(entries.bucket_entry(name), None)

    def _is_taken(self, name: str, number: int | None) -> bool:
        """Whether it is the name of another bucket than this one."""
        return any(put.name == name and put.number != number for put in self.buckets.values())
