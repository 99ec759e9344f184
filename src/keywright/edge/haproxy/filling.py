"""Owns making HAProxy's maps anew: beside those that are there, which go on being asked until these are whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keywright.edge.haproxy import entries
from keywright.edge.haproxy.socket import Map
from keywright.edge.replica.replica import PagePosition
from keywright.protocol.changes import ConsumerPut, KeyPut

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence

    from keywright.edge.haproxy.socket import Socket
    from keywright.edge.replica.replica import Replica
    from keywright.protocol.changes import BucketPut, Change

PAGE_SIZE = 500


async def fill(
    socket: Socket,
    replica: Replica,
    *,
    bucket_numbers: Collection[int],
    buckets: Callable[[], Iterable[BucketPut]],
    clock: Callable[[], int],
    between: Callable[[], Awaitable[None]],
) -> int:
    """Put in all that there is, and return how many keys and consumers that were.

    `bucket_numbers` are those whose records are wanted; `buckets` is asked at the end which names lead to them.
    `between` is called after each page, for what can't wait until all is there.
    """
    versions = {map_: await socket.prepare(map_) for map_ in (Map.CONSUMERS, Map.KEYS)}
    count = 0
    position: PagePosition | None = PagePosition()
    while position is not None:
        # On the loop's thread, as all reading: none of it is under way when the files are closed.
        page, position = replica.page(position, PAGE_SIZE)
        rows = _rows_of(page, bucket_numbers, clock())
        for map_, lines in rows.items():
            await socket.add_all(map_, versions[map_], lines)
        count += len(page)
        await between()
    await socket.commit(Map.CONSUMERS, versions[Map.CONSUMERS])
    version = await socket.prepare(Map.BUCKETS)
    await socket.add_all(Map.BUCKETS, version, [f"{put.name} {put.number}" for put in buckets()])
    await socket.commit(Map.BUCKETS, version)
    await socket.commit(Map.KEYS, versions[Map.KEYS])
    return count


def _rows_of(page: Sequence[Change], bucket_numbers: Collection[int], now: int) -> dict[Map, list[str]]:
    rows: dict[Map, list[str]] = {Map.CONSUMERS: [], Map.KEYS: []}
    for change in page:
        if isinstance(change, KeyPut) and change.bucket_number in bucket_numbers:
            value = entries.key_value(change, now)
            if value is not None:
                rows[Map.KEYS].append(f"{change.bucket_number}.{change.digest.hex()} {value}")
        elif isinstance(change, ConsumerPut) and change.bucket_number in bucket_numbers:
            value = entries.consumer_value(change)
            if value is not None:
                rows[Map.CONSUMERS].append(f"{change.number} {value}")
    return rows
