"""HaproxyMaps at work on a replica, and what a real HAProxy has of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from urllib.parse import quote

from edge.world import NOW, bucket, consumer, key
from gateways.gateway import Gateway
from keywright.edge.haproxy import socket as haproxy_socket
from keywright.edge.haproxy.entries import NEVER
from keywright.edge.haproxy.maps import HaproxyMaps
from keywright.edge.haproxy.socket import Entry, Map
from keywright.edge.replica.replica import Replica
from keywright.protocol.changes import (
    BucketPut,
    Change,
    ConsumerPut,
    KeyPut,
)

RECORDS = (Map.BUCKETS, Map.BUCKETS3, Map.CONSUMERS, Map.CONSUMERS3, Map.KEYS, Map.KEYS3)
FEATURES = ("enabled", "scopes", "allowedIps", "metadata")
START: list[Change] = [
    replace(bucket(1, "my-bucket"), features=FEATURES),
    bucket(2, "other-bucket"),
    bucket(3, "_system", None),
    consumer(1, 1),
    consumer(2, 2, "other-consumer", '{"name":"Zoë |;,\\n"}'),
    consumer(3, 3, "root"),
    key("secret-1", 1, 1),
    key("secret-2", 2, 2, NOW),
    key("secret-3", 3, 3),
]


class Mirror:
    """HaproxyMaps at work on a replica, and what HAProxy has of it."""

    def __init__(self, gateway: Gateway, replica: Replica, *, lease_seconds: int = 5) -> None:
        self.socket_path = gateway.directory / "haproxy.sock"
        self.replica = replica
        self.is_following = True
        self.now = NOW
        self.maps = replica.observer = HaproxyMaps(
            self.socket_path,
            replica,
            is_following=lambda: self.is_following,
            lease_seconds=lease_seconds,
            clock=lambda: self.now,
            note_path=replica.path / "haproxy.json",
        )
        self._stop = asyncio.Event()
        self._running = asyncio.create_task(self.maps.run(self._stop))

    async def stop(self) -> None:
        self._stop.set()
        await self._running

    async def look(self) -> dict[Map, dict[str, str]]:
        """Everything in HAProxy's maps; fails if a name is there twice."""
        found: dict[Map, dict[str, str]] = {}
        async with haproxy_socket.connect(self.socket_path) as socket:
            # The state first: what it promises, the others must hold when they are looked at after it.
            for map_ in (Map.STATE, Map.BLOCKS, *RECORDS):
                if not socket.has(map_):
                    found[map_] = {}
                    continue
                lines = (await socket._ask(f"show map {socket._ids[map_]}")).splitlines()
                rows = [line.split(" ", 2)[1:] for line in lines if line]
                found[map_] = dict(rows)
                assert len(found[map_]) == len(rows)
        return found

    async def write_state(self, **entries: str) -> None:
        async with haproxy_socket.connect(self.socket_path) as socket:
            await socket.write([(Entry(Map.STATE, name), value) for name, value in entries.items()])

    async def until_in_step(self) -> dict[Map, dict[str, str]]:
        """The maps, as soon as HAProxy is told that they are at the replica's revision."""
        mark = f"{self.replica.deployment_id}:{self.replica.cursor}"
        return await self.until(lambda found: found[Map.STATE].get("at") == mark and "lease" in found[Map.STATE])

    async def until(self, is_true: Callable[[dict[Map, dict[str, str]]], object]) -> dict[Map, dict[str, str]]:
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(OSError, EOFError):
                    found = await self.look()
                    if is_true(found):
                        return found
                await asyncio.sleep(0.01)


def expected(replica: Replica) -> dict[Map, dict[str, str]]:
    """What the maps must hold of a replica, said anew in the plainest way."""
    maps: dict[Map, dict[str, str]] = {map_: {} for map_ in RECORDS}
    for put in replica.records():
        match put:
            case BucketPut() if put.name != "_system":
                maps[Map.BUCKETS][put.name] = str(put.number)
                maps[Map.BUCKETS3][str(put.number)] = _scopes(put.default_scopes)
            case ConsumerPut() if put.bucket_number != 3:
                value = f"{put.consumer_id}|{put.name}|{quote(put.metadata, safe='')}"
                map_ = Map.CONSUMERS if put.powers is None else Map.CONSUMERS3
                maps[map_][str(put.number)] = value + _powers(put.powers, "inherited")
            case KeyPut() if put.bucket_number != 3 and (put.expires_at is None or put.expires_at > NOW):
                value = f"{put.key_id}|{put.consumer_number}|{NEVER if put.expires_at is None else put.expires_at}"
                map_ = Map.KEYS if put.powers is None else Map.KEYS3
                maps[map_][f"{put.bucket_number}.{put.digest.hex()}"] = value + _powers(put.powers, "+*+")
    return maps


def _powers(powers: str | None, unsaid: str) -> str:
    """On or off, and scopes; networks are looked at elsewhere."""
    if powers is None:
        return ""
    said = json.loads(powers)
    scopes = _scopes(said["scopes"]) if "scopes" in said else unsaid
    return f"|{'on' if said.get('enabled', True) else 'off'}|{scopes}"


def _scopes(names: Sequence[str]) -> str:
    return "+" + "+".join(names) + "+" if names else "none"


def without_state(found: dict[Map, dict[str, str]]) -> dict[Map, dict[str, str]]:
    assert found[Map.BLOCKS] == {}
    return {map_: rows for map_, rows in found.items() if map_ not in (Map.STATE, Map.BLOCKS)}
