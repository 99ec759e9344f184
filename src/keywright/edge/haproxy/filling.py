"""Owns making HAProxy's maps anew: beside those that are there, which go on being asked until these are whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keywright.edge.haproxy import entries, powered
from keywright.edge.haproxy.socket import Map
from keywright.edge.replica.replica import PagePosition
from keywright.protocol.changes import ConsumerPut, KeyPut

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence

    from keywright.edge.haproxy.socket import Socket
    from keywright.edge.replica.replica import Replica
    from keywright.protocol.changes import BucketPut, Change

PAGE_SIZE = 500
_RECORDS = (Map.CONSUMERS, Map.CONSUMERS3, Map.KEYS, Map.KEYS3)


async def fill(
    socket: Socket,
    replica: Replica,
    *,
    known: Collection[BucketPut],
    buckets: Callable[[], Iterable[BucketPut]],
    clock: Callable[[], int],
    between: Callable[[], Awaitable[None]],
    unjudged: set[int],
) -> int:
    """Put in all that there is, and return how many keys and consumers that were.

    `known` are the buckets whose records are wanted; `buckets` is asked at the end which names lead to them. `between`
    is called after each page, for what can't wait until all is there. `unjudged` gets the numbers of buckets of which
    HAProxy can't judge all.
    """
    versions = {map_: await socket.prepare(map_) for map_ in _RECORDS if socket.has(map_)}
    numbers = {put.number: put.has_powers for put in known}
    count = 0
    position: PagePosition | None = PagePosition()
    while position is not None:
        # On the loop's thread, as all reading: none of it is under way when the files are closed.
        page, position = replica.page(position, PAGE_SIZE)
        rows = _rows_of(page, numbers, clock(), unjudged)
        for map_, version in versions.items():
            await socket.add_all(map_, version, rows[map_])
        count += len(page)
        await between()
    await _commit(socket, versions, Map.CONSUMERS, Map.CONSUMERS3)
    await _fill_buckets(socket, list(buckets()))
    await _commit(socket, versions, Map.KEYS, Map.KEYS3)
    return count


async def _commit(socket: Socket, versions: Mapping[Map, int], *maps: Map) -> None:
    for map_ in maps:
        if map_ in versions:
            await socket.commit(map_, versions[map_])


async def _fill_buckets(socket: Socket, buckets: Collection[BucketPut]) -> None:
    lines = {
        Map.BUCKETS3: [f"{put.number} {powered.scopes_value(put.default_scopes)}" for put in buckets],
        Map.BUCKETS: [f"{put.name} {put.number}" for put in buckets],
    }
    for map_, some in lines.items():
        if socket.has(map_):
            version = await socket.prepare(map_)
            await socket.add_all(map_, version, some)
            await socket.commit(map_, version)


def _rows_of(page: Sequence[Change], numbers: Mapping[int, bool], now: int, unjudged: set[int]) -> dict[Map, list[str]]:
    """The page's lines. `numbers` are buckets' own, with whether there may be powers."""
    rows: dict[Map, list[str]] = {map_: [] for map_ in _RECORDS}
    for change in page:
        if not isinstance(change, (KeyPut, ConsumerPut)) or change.bucket_number not in numbers:
            continue
        if isinstance(change, KeyPut):
            map_, name = Map.KEYS, f"{change.bucket_number}.{change.digest.hex()}"
            value, value3 = entries.key_values(change, now)
        else:
            map_, name = Map.CONSUMERS, str(change.number)
            value, value3 = entries.consumer_values(change)
        if value is not None:
            rows[map_].append(f"{name} {value}")
        elif value3 is not None and numbers[change.bucket_number]:
            rows[entries.TWINS[map_]].append(f"{name} {value3}")
            if powered.is_unjudged(value3):
                unjudged.add(change.bucket_number)
    return rows
