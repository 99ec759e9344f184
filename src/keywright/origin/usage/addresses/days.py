"""Owns what is kept of the networks that one key was used from in one day, and how two of that are added up. Pure.

Networks are /24 and /48: no address of anybody. The most frequent ones are kept with their counts; how many there were
in all is estimated. What is counted of a network that comes and goes between many others may be too little.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from heapq import nlargest
from typing import Any

from keywright.origin.usage.addresses.sketch import Sketch
from keywright.protocol.usage import OTHER_ADDRESSES, UsageRow

SHOWN = 16
"""So many of a key and a day are told, the most frequent."""
KEPT = 2 * SHOWN
"""So many are kept, so that one that is frequent in the end is not passed over in between."""
MOST_IN_MEMORY = 8 * SHOWN
VALID = "VALID"

KeyDay = tuple[int, int, int, str]
"""Day (counted from the epoch, UTC), bucket, consumer, key id."""


@dataclass(slots=True)
class NetworkCount:
    """How often each verdict was given there, and when the first and the last of them was, in milliseconds."""

    first: int
    last: int
    verdicts: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.verdicts.values())

    def add(self, other: NetworkCount) -> None:
        self.first, self.last = min(self.first, other.first), max(self.last, other.last)
        for verdict, count in other.verdicts.items():
            self.verdicts[verdict] = self.verdicts.get(verdict, 0) + count


@dataclass(slots=True)
class AddressDay:
    """`used` is when and from where the key was VALID last, of what is told here."""

    networks: dict[str, NetworkCount] = field(default_factory=dict)
    sketch: Sketch = field(default_factory=Sketch)
    used: tuple[int, str] | None = None

    def add_row(self, row: UsageRow, first: int, last: int) -> None:
        """A row with an address, of this key and day."""
        network = row.address or OTHER_ADDRESSES
        if network != OTHER_ADDRESSES:
            self.sketch.add(network)
            if row.verdict == VALID:
                self.used = max(self.used or (0, ""), (last, network))
        self._add(network, NetworkCount(first, last, {row.verdict: row.total}))

    def add(self, other: AddressDay) -> None:
        for network, count in other.networks.items():
            self._add(network, count)
        self.sketch.merge(other.sketch)
        if other.used is not None:
            self.used = max(self.used or (0, ""), other.used)

    def most_frequent(self, most: int) -> dict[str, NetworkCount]:
        found = nlargest(most, self.networks.items(), key=lambda item: (item[1].total, item[1].last, item[0]))
        return dict(found)

    def pack(self) -> list[Any]:
        """As JSON has it."""
        return [self.pack_networks(), b64encode(self.sketch.encode()).decode(), self.used]

    def pack_networks(self) -> dict[str, Any]:
        kept = self.most_frequent(KEPT)
        return {network: [count.first, count.last, count.verdicts] for network, count in kept.items()}

    @classmethod
    def unpack(cls, value: list[Any]) -> AddressDay:
        networks, sketch, used = value
        return cls(unpack_networks(networks), Sketch.decode(b64decode(sketch)), None if used is None else tuple(used))

    def _add(self, network: str, count: NetworkCount) -> None:
        held = self.networks.get(network)
        if held is None:
            self.networks[network] = NetworkCount(count.first, count.last, dict(count.verdicts))
            if len(self.networks) > MOST_IN_MEMORY:
                self.networks = self.most_frequent(MOST_IN_MEMORY // 2)
        else:
            held.add(count)


def unpack_networks(value: dict[str, Any]) -> dict[str, NetworkCount]:
    return {network: NetworkCount(first, last, verdicts) for network, (first, last, verdicts) in value.items()}
