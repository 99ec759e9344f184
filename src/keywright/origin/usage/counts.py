"""Owns counts on their way from a batch to the tables: how they are added up, packed, and divided. Pure.

Whatever way they take, each count is in exactly one place: adding is all that is ever done with two of them.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from keywright.origin.usage.addresses.days import AddressDay, KeyDay
from keywright.protocol.usage import HOUR_MILLIS, UsageRow

VALID = "VALID"
HOURS_OF_DAY = 24
DAY_MILLIS = HOURS_OF_DAY * HOUR_MILLIS
PARTS = 16
"""Into how many parts keys are divided, so that counts of few keys meet however many there are in all."""
AT_ONCE = -1
"""The part of what is folded at once, of whatever keys: it is little, and may be news."""
READY = -2
"""The part of what was added up and divided already, and only has to be written."""
FIRST_USES = -3
"""The part of what is only noted as use, at once: it counts with its batch, later."""
MAX_AT_ONCE = 1000
"""Rows of a batch up to which it is folded at once."""

ALL, EDGE, PLAN, SCOPE, ROUTE = "", "edge", "plan", "scope", "route"
"""Kinds of totals of a bucket. Edges and plans go by their numbers."""

KeyHour = tuple[int, int, int, str, str]
"""Hour, bucket, consumer, key id, verdict."""
Total = tuple[int, int, str, str, str]
"""Hour, bucket, kind, value, verdict."""


@dataclass(slots=True)
class Count:
    """How often, when last (milliseconds since the epoch), and how many of them at which source."""

    total: int
    last: int
    sources: dict[int, int]


@dataclass(slots=True)
class Counts:
    """Counts by key, verdict and hour, totals of buckets, and networks by key and day.

    `since` is the first moment that they tell of.
    """

    keys: dict[KeyHour, Count] = field(default_factory=dict)
    totals: dict[Total, int] = field(default_factory=dict)
    since: int | None = None
    addresses: dict[KeyDay, AddressDay] = field(default_factory=dict)

    @classmethod
    def of_rows(cls, rows: Iterable[UsageRow], source: int) -> Counts:
        """What one batch has, of the edge with this number."""
        counts = cls()
        for row in rows:
            start = row.hour * HOUR_MILLIS
            if row.key_id is not None and row.consumer_number is not None:
                name = (row.hour, row.bucket_number, row.consumer_number, row.key_id, row.verdict)
                counts.add(name, Count(row.total, start + row.last_ms, {source: row.total}))
                if row.address is not None:
                    day = (day_of(row.hour), *name[1:4])
                    told = counts.addresses.setdefault(day, AddressDay())
                    told.add_row(row, start + row.first_ms, start + row.last_ms)
            values = [(ALL, ""), (EDGE, str(source))]
            values += [(PLAN, str(row.plan))] if row.plan is not None else []
            values += [(SCOPE, row.denied_scope)] if row.denied_scope is not None else []
            values += [(ROUTE, row.route)] if row.route is not None else []
            for kind, value in values:
                counts.add_total((row.hour, row.bucket_number, kind, value, row.verdict), row.total)
            counts._note(start + row.first_ms)
        return counts

    def __len__(self) -> int:
        return len(self.keys) + len(self.totals) + len(self.addresses)

    def add(self, name: KeyHour, count: Count) -> None:
        """Adds to what there is of the same; `count` is kept, and may change."""
        held = self.keys.get(name)
        if held is None:
            self.keys[name] = count
            return
        held.total += count.total
        held.last = max(held.last, count.last)
        for source, part in count.sources.items():
            held.sources[source] = held.sources.get(source, 0) + part

    def add_total(self, name: Total, total: int) -> None:
        self.totals[name] = self.totals.get(name, 0) + total

    def add_all(self, others: Counts) -> None:
        for name, count in others.keys.items():
            self.add(name, count)
        for of, total in others.totals.items():
            self.add_total(of, total)
        for day, told in others.addresses.items():
            held = self.addresses.setdefault(day, told)
            if held is not told:
                held.add(told)
        if others.since is not None:
            self._note(others.since)

    def divided(self, parts: int) -> dict[int, Counts]:
        """The same in so many parts, by key; the totals are in the first."""
        found: dict[int, Counts] = {}
        for name, count in self.keys.items():
            part = zlib.crc32(name[3].encode()) % parts
            found.setdefault(part, Counts(since=self.since)).keys[name] = count
        for day, told in self.addresses.items():
            part = zlib.crc32(day[3].encode()) % parts
            found.setdefault(part, Counts(since=self.since)).addresses[day] = told
        if self.totals:
            found.setdefault(0, Counts(since=self.since)).totals = self.totals
        return found

    def sliced(self, size: int) -> Iterator[Counts]:
        """The same, at most `size` of all kinds at a time, in the order of their keys."""
        keys, totals = iter(sorted(self.keys.items(), key=_place)), iter(sorted(self.totals.items()))
        addresses = iter(sorted(self.addresses.items(), key=lambda item: item[0]))
        while True:
            some = Counts(dict(islice(keys, size)), since=self.since)
            some.totals = dict(islice(totals, size - len(some)))
            some.addresses = dict(islice(addresses, size - len(some)))
            if not some:
                return
            yield some

    def pack(self) -> bytes:
        rows = [[*name, count.total, count.last, count.sources] for name, count in self.keys.items()]
        totals = [[*name, total] for name, total in self.totals.items()]
        packed: list[Any] = [self.since, rows, totals]
        if self.addresses:
            # An origin of before can fold what has none.
            packed.append([[*day, told.pack()] for day, told in self.addresses.items()])
        return zlib.compress(json.dumps(packed, separators=(",", ":")).encode(), 1)

    @classmethod
    def unpack(cls, body: bytes) -> Counts:
        since, rows, totals, *others = json.loads(zlib.decompress(body))
        counts = cls(since=since)
        for hour, bucket, consumer, key, verdict, total, last, sources in rows:
            held = Count(total, last, {int(source): part for source, part in sources.items()})
            counts.keys[(hour, bucket, consumer, key, verdict)] = held
        counts.totals = {(hour, bucket, kind, value, verdict): n for hour, bucket, kind, value, verdict, n in totals}
        for days in others:
            for at, bucket, consumer, key, told in days:
                counts.addresses[(at, bucket, consumer, key)] = AddressDay.unpack(told)
        return counts

    def _note(self, moment: int) -> None:
        self.since = moment if self.since is None else min(self.since, moment)


def write_sources(sources: dict[int, int]) -> str:
    """`1:25 3:7`: of 32, 25 at source 1 and 7 at source 3."""
    return " ".join(f"{source}:{part}" for source, part in sorted(sources.items()))


def read_sources(text: str, into: dict[int, int] | None = None) -> dict[int, int]:
    """What `write_sources` wrote, added to what is there."""
    found = {} if into is None else into
    for word in text.split():
        source, _, part = word.partition(":")
        found[int(source)] = found.get(int(source), 0) + int(part)
    return found


def day_of(hour: int) -> int:
    """Which day an hour is in; both count from the epoch, in UTC."""
    return hour // HOURS_OF_DAY


def _place(item: tuple[KeyHour, Any]) -> tuple[str, int, str]:
    hour, _, _, key, verdict = item[0]
    return key, hour, verdict
