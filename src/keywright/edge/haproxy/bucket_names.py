"""Owns which buckets' names lead to their keys in HAProxy: none whose owner wants no answer now, none with powers that
nobody here knows, and none withheld."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keywright.edge.haproxy import entries, powered
from keywright.edge.haproxy.socket import Map
from keywright.edge.replica.replica import Stale

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from keywright.edge.haproxy.guard import Guard
    from keywright.edge.haproxy.socket import Socket
    from keywright.edge.replica.endings import Ending
    from keywright.edge.replica.replica import Replica
    from keywright.protocol.changes import BucketPut


class BucketNames:
    """The names in one HAProxy. `guard` knows which of them are withheld for its reasons."""

    def __init__(self, replica: Replica, guard: Guard) -> None:
        self._replica = replica
        self._guard = guard

    async def take_out(self, socket: Socket, ended: Iterable[Ending]) -> None:
        """Take out the names of buckets that are gone. If a newer bucket has one, it comes with the fill."""
        for one in ended:
            name = one.bucket_name if one.consumer_number is None and not one.is_narrowed else None
            if name is not None and await socket.get(Map.BUCKETS, name) == str(one.bucket_number):
                await socket.delete(Map.BUCKETS, name)

    async def narrow(self, socket: Socket, ended: Iterable[Ending], buckets: Mapping[int, BucketPut]) -> None:
        """Grant no more than these buckets do now."""
        numbers = {one.bucket_number for one in ended if one.consumer_number is None and one.is_narrowed}
        await socket.write([entries.default_scopes_write(buckets[number]) for number in numbers & buckets.keys()])

    async def withhold_stale(self, socket: Socket, buckets: Iterable[BucketPut]) -> None:
        """Take out the buckets whose owners want no answer from a replica that is out of step for too long."""
        for bucket in buckets:
            if bucket.refuse_after is None or not powered.is_known(bucket):
                continue
            if bucket.number in self._guard.buckets or self._is_stale(bucket):
                await socket.delete(Map.BUCKETS, bucket.name)
            else:
                await socket.put(Map.BUCKETS, bucket.name, str(bucket.number))

    def answering(self, buckets: Iterable[BucketPut]) -> list[BucketPut]:
        """Those whose keys are judged now."""
        judged = (put for put in buckets if powered.is_known(put))
        return [put for put in judged if put.number not in self._guard.buckets and not self._is_stale(put)]

    def _is_stale(self, bucket: BucketPut) -> bool:
        try:
            self._replica.check_fresh(bucket)
        except Stale:
            return True
        return False
