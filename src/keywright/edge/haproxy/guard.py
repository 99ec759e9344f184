"""Owns for whom HAProxy gives no answer (503) while entries by which they would get in wrongly wait to be taken out."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from keywright.edge.haproxy import powered
from keywright.edge.haproxy.socket import Entry, Map

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from keywright.edge.haproxy.backlog import Owner
    from keywright.edge.haproxy.socket import Socket
    from keywright.protocol.changes import BucketPut

MOST_CONSUMERS = 5000
"""Of one bucket. Beyond that the bucket itself is withheld: one entry, and quicker than so many."""


class Guard:
    """The blocks in one HAProxy."""

    def __init__(self) -> None:
        self._consumers: set[int] = set()
        """Those that are blocked, of which that is known."""
        self._is_known = False
        """Whether nobody else is blocked: an earlier edge may have left something."""
        self.buckets: set[int] = set()
        """Those whose names are withheld."""

    @property
    def count(self) -> int:
        return len(self._consumers) + len(self.buckets)

    @property
    def is_clear(self) -> bool:
        """Whether certainly nobody is blocked."""
        return self._is_known and not self.count

    def forget(self) -> None:
        """Another HAProxy is at the socket, or what was asked of it may have been done or not."""
        self._consumers = set()
        self._is_known = False

    async def hold(self, socket: Socket, owners: Collection[Owner], buckets: Mapping[int, BucketPut]) -> None:
        """Block these, too. `buckets` by number."""
        consumers, withheld = _split(owners)
        for number in withheld:
            if number in buckets:
                await socket.delete(Map.BUCKETS, buckets[number].name)
        self.buckets |= withheld
        missing = consumers - self._consumers
        await socket.write([(Entry(Map.BLOCKS, str(number)), "1") for number in missing])
        self._consumers |= missing

    async def release(self, socket: Socket, owners: Collection[Owner], buckets: Mapping[int, BucketPut]) -> None:
        """Block these and nobody else. Buckets that may be stale come back with the next renewal of the lease."""
        consumers, withheld = _split(owners)
        for number in self.buckets - withheld:
            if number in buckets and buckets[number].refuse_after is None and powered.is_known(buckets[number]):
                await socket.put(Map.BUCKETS, buckets[number].name, str(number))
        self.buckets &= withheld
        if socket.has_blocks and not (self._is_known and self._consumers == consumers):
            version = await socket.prepare(Map.BLOCKS)
            await socket.add_all(Map.BLOCKS, version, [f"{number} 1" for number in consumers])
            await socket.commit(Map.BLOCKS, version)
        self._consumers, self._is_known = consumers, True


def _split(owners: Collection[Owner]) -> tuple[set[int], set[int]]:
    """The consumers to block, and the buckets to withhold instead."""
    counts = Counter(owner.bucket_number for owner in owners)
    withheld = {number for number, count in counts.items() if count > MOST_CONSUMERS}
    return {owner.consumer_number for owner in owners if owner.bucket_number not in withheld}, withheld
