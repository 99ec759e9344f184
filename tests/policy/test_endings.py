"""An application is told which keys have ended: each once, in every process, and all when nobody can say which."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from edge.world import NOW, PEPPER_CHECK, at, batch, bucket, consumer, key, load
from keywright.domain.powers import encode_powers
from keywright.edge.replica.replica import Replica, ReplicaBroken
from keywright.policy.embedded import EmbeddedReplica
from keywright.policy.endings import Endings
from keywright.policy.rules.identity import Anonymous, Ended, User
from keywright.policy.shared import SharedReplica
from keywright.protocol.changes import BucketDelete, Change, ConsumerDelete, KeyDelete, KeyPut
from policy.test_sources import PEPPER, ClosableFeed
from support.api import BUCKET, CONSUMERS_URL
from support.origin import Origin
from support.ports import free_port
from support.process import until

ROOT = Path(__file__).parents[2]
OWNER, OTHER = consumer(1, 1), consumer(2, 1)
FIRST, SECOND, THIRD = (key(f"zpka_secret-{number}", 1, 1) for number in range(3))
OF_OTHER = key("zpka_of-another", 1, 2)


class World:
    """A replica that a subscription looks into, and the time of day."""

    def __init__(self, replica: Replica) -> None:
        self.replica: Replica | None = replica
        self.error: Exception | None = None
        self.now = NOW
        load(replica, bucket(1, "my-bucket"), OWNER, OTHER, FIRST, SECOND, THIRD, OF_OTHER)
        self.revision = 10
        self.endings = Endings(self.reading, lambda: self.now)

    @contextlib.contextmanager
    def reading(self) -> Iterator[Replica | None]:
        if self.error is not None:
            raise self.error
        yield self.replica

    def apply(self, *changes: Change) -> None:
        assert self.replica is not None
        self.replica.apply(batch(self.revision, changes))
        self.revision += len(changes)

    def told(self) -> list[Ended]:
        found = []
        while (one := self.endings._find_next()) is not None:
            found.append(one)
        return found


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    replica = Replica.open(tmp_path / "replica", PEPPER_CHECK)
    yield World(replica)
    replica.close()


def end_at(put: KeyPut, expires_at: int | None) -> KeyPut:
    return KeyPut(put.digest, put.bucket_number, put.consumer_number, put.key_id, expires_at)


def keys_of(owner: Any, *puts: KeyPut) -> Ended:
    return Ended("my-bucket", owner.consumer_id, frozenset(put.key_id for put in puts))


def test_each_end_is_told_once_and_by_consumer(world: World) -> None:
    assert world.told() == []
    world.apply(KeyDelete(FIRST.digest, 1), KeyDelete(OF_OTHER.digest, 1))
    world.apply(end_at(SECOND, NOW))
    assert world.told() == [keys_of(OWNER, FIRST, SECOND), keys_of(OTHER, OF_OTHER)]
    world.apply(ConsumerDelete(1))
    world.apply(BucketDelete(1))
    assert world.told() == [Ended("my-bucket", OWNER.consumer_id), Ended("my-bucket")]
    assert world.told() == []


def test_what_is_good_for_less_has_not_ended_and_what_is_switched_off_has(world: World) -> None:
    scoped, off = encode_powers(scopes=["a"]), encode_powers(enabled=False)
    world.apply(replace(FIRST, powers=scoped), replace(OTHER, powers=scoped))
    assert world.told() == []
    world.apply(replace(FIRST, powers=off), replace(OTHER, powers=off))
    assert world.told() == [Ended("my-bucket", OTHER.consumer_id), keys_of(OWNER, FIRST)]


def test_an_end_that_lies_ahead_is_told_when_it_has_come_and_has_not_been_moved(world: World) -> None:
    world.apply(end_at(FIRST, NOW + 50), end_at(SECOND, NOW + 60), end_at(THIRD, NOW + 70))
    world.apply(end_at(SECOND, None))
    world.apply(end_at(FIRST, NOW + 40))
    world.apply(KeyDelete(THIRD.digest, 1))
    assert world.told() == [keys_of(OWNER, THIRD)]
    world.now = NOW + 39
    assert world.told() == []
    world.now = NOW + 100
    assert world.told() == [keys_of(OWNER, FIRST)]
    assert world.told() == []


def test_where_nobody_knows_what_ended_all_may_have(world: World) -> None:
    world.apply(end_at(FIRST, NOW + 50))
    load(world.replica, bucket(1, "my-bucket"), revision=20)  # type: ignore[arg-type]
    world.now += 100
    assert world.told() == [Ended()]
    assert world.told() == []


def test_a_replica_that_is_away_is_read_on_from_where_it_was(world: World) -> None:
    replica, world.replica = world.replica, None
    assert world.told() == []
    world.replica, world.error = replica, ReplicaBroken("for the moment")
    world.apply(KeyDelete(FIRST.digest, 1))
    assert world.told() == []
    world.error = None
    assert world.told() == [keys_of(OWNER, FIRST)]


def test_a_subscription_to_a_replica_without_a_snapshot_begins_with_its_first(tmp_path: Path) -> None:
    replica = Replica.open(tmp_path / "replica", PEPPER_CHECK)
    endings = Endings(lambda: contextlib.nullcontext(replica), lambda: NOW)
    assert endings._find_next() is None
    replica.load("dep_1", PEPPER_CHECK, at(10), [bucket(1, "my-bucket"), OWNER, FIRST])
    assert endings._find_next() is None
    replica.apply(batch(10, [KeyDelete(FIRST.digest, 1)]))
    assert endings._find_next() == keys_of(OWNER, FIRST)
    replica.close()


def test_an_end_has_come_by_the_clock_that_keys_are_judged_by(tmp_path: Path) -> None:
    feed = ClosableFeed(log=[bucket(1, "my-bucket"), OWNER, FIRST])
    source = EmbeddedReplica(tmp_path, lambda *_: feed, pepper=PEPPER, ready_seconds=30)
    now, elapsed = source._clock.millis(), source._clock.elapsed()
    # This machine's clock is two hours slow, and that is known here.
    source._origin_clock.hear(now + 7_200_000, elapsed, elapsed)
    with source.endings() as endings:
        feed.log.append(end_at(FIRST, now + 3_600_000))
        until(lambda: source.validate("zpka_secret-0", "my-bucket").verdict == "EXPIRED", timeout=30)
        assert endings._find_next() == keys_of(OWNER, FIRST)
    source.close()


@pytest.mark.parametrize(
    ("ended", "bucket_name", "wanted"),
    [
        (Ended(), "my-bucket", True),
        (Ended("my-bucket"), None, True),
        (Ended("my-bucket"), "my-bucket", True),
        (Ended("my-bucket"), "other", False),
        (Ended(None, "csmr_1"), "other", True),
        (Ended("my-bucket", "csmr_1"), "my-bucket", True),
        (Ended("my-bucket", "csmr_2"), "my-bucket", False),
        (Ended("my-bucket", "csmr_1", frozenset({"key_1", "key_2"})), None, True),
        (Ended("my-bucket", "csmr_1", frozenset({"key_2"})), None, False),
        (Ended("my-bucket", None, frozenset({"key_1"})), None, True),
    ],
)
def test_whom_an_end_concerns(ended: Ended, bucket_name: str | None, wanted: bool) -> None:
    assert ended.concerns(User("me", b"{}", "csmr_1", "key_1"), bucket_name) is wanted
    assert not ended.concerns(Anonymous("EXEMPT"), bucket_name)


def test_a_thread_may_wait_and_any_other_may_close(world: World) -> None:
    found: list[Ended] = []
    waiting = threading.Thread(target=lambda: found.extend(world.endings))
    waiting.start()
    world.apply(KeyDelete(FIRST.digest, 1))
    until(lambda: found == [keys_of(OWNER, FIRST)], 10)
    with world.endings:
        assert waiting.is_alive()
    waiting.join(10)
    assert not waiting.is_alive()


async def test_an_event_loop_may_wait(world: World) -> None:
    found: list[Ended] = []

    async def watch() -> None:
        async for ended in world.endings:
            found.append(ended)

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0)
    world.apply(KeyDelete(FIRST.digest, 1))
    async with asyncio.timeout(10):
        while not found:
            await asyncio.sleep(0.01)
        world.endings.close()
        await watching


LISTENER = """
import sys
from keywright.policy import EmbeddedReplica
origin, token, directory, pepper = sys.argv[1:]
source = EmbeddedReplica.from_origin(origin, token=token, directory=directory, pepper_file=pepper)
with source.endings() as endings:
    print(source.is_ready, flush=True)
    print(next(next(iter(ended.key_ids)) for ended in endings if ended.key_ids), flush=True)
source.close()
print([*endings])
"""


def test_every_process_on_a_replica_is_told_whichever_follows(origin: Origin, tmp_path: Path) -> None:
    given = [origin.url, origin.token, str(tmp_path / "app"), str(origin.pepper_file)]
    listeners = [
        subprocess.Popen([sys.executable, "-c", LISTENER, *given], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    shared = SharedReplica(origin.data_dir)
    endings = shared.endings()
    try:
        assert [listener.stdout.readline() for listener in listeners if listener.stdout] == ["True\n"] * 2
        name = origin.api.new_consumer()["name"]
        made = origin.api.new_key(name)
        origin.api.call("DELETE", f"{CONSUMERS_URL}/{name}/keys/{made['id']}", expect=204)
        for listener in listeners:
            # Closed with their source: there is nothing more to come.
            assert listener.communicate(timeout=60)[0] == f"{made['id']}\n[]\n"
    finally:
        for listener in listeners:
            listener.kill()
            listener.communicate()
    ended = next(one for one in endings if one.key_ids and made["id"] in one.key_ids)
    assert ended.bucket_name == BUCKET
    shared.close()
    assert list(endings) == []


class Client:
    """A WebSocket's client, as far as the example needs one."""

    def __init__(self, port: int, secret: str) -> None:
        self._connection = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._file = self._connection.makefile("rb")
        self._connection.sendall(
            f"GET /clock HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Authorization: Bearer {secret}\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        self.status = int(self._file.readline().split()[1])
        while self._file.readline() not in (b"\r\n", b""):
            pass

    def read(self) -> tuple[int, bytes]:
        """The next frame: opcode and payload (RFC 6455, 5.2)."""
        first, length = self._file.read(2)
        if length == 126:
            (length,) = struct.unpack(">H", self._file.read(2))
        return first & 15, self._file.read(length)

    def close_code(self) -> int:
        """Reads on until it is closed."""
        opcode, payload = self.read()
        while opcode != 8:
            opcode, payload = self.read()
        self.drop()
        return int.from_bytes(payload[:2], "big")

    def drop(self) -> None:
        self._file.close()
        self._connection.close()


@contextlib.contextmanager
def example(origin: Origin) -> Iterator[int]:
    port = free_port()
    command = [Path(sys.executable).parent / "granian", "--interface", "asgi", "--ws", "--port", str(port)]
    environment = {**os.environ, "KEYWRIGHT_DATA_DIR": str(origin.data_dir), "BUCKET_NAME": BUCKET}
    process = subprocess.Popen([*command, "--working-dir", "examples/websockets", "app:app"], cwd=ROOT, env=environment)

    def is_up() -> bool:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return True
        return False

    try:
        until(is_up, 60)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def test_the_example_closes_the_websockets_of_keys_that_ended_and_no_others(origin: Origin) -> None:
    api = origin.api
    names = [api.new_consumer()["name"] for _ in range(4)]
    deleted, rolled, gone, still = ([api.new_key(name) for _ in range(2)] for name in names)
    ends: list[tuple[Callable[[], object], str]] = [
        (
            lambda: api.call("DELETE", f"{CONSUMERS_URL}/{names[0]}/keys/{deleted[0]['id']}", expect=204),
            deleted[0]["key"],
        ),
        (lambda: api.call("POST", f"{CONSUMERS_URL}/{names[1]}/roll-key", json={}, expect=204), rolled[0]["key"]),
        (lambda: api.call("DELETE", f"{CONSUMERS_URL}/{names[2]}", expect=204), gone[0]["key"]),
    ]
    with example(origin) as port:
        survivors = [Client(port, still[0]["key"]), Client(port, deleted[1]["key"])]
        closing = [Client(port, secret) for _, secret in ends]
        assert {client.status for client in (*survivors, *closing)} == {101}
        assert {client.read()[0] for client in (*survivors, *closing)} == {1}
        for (end, secret), client in zip(ends, closing, strict=True):
            end()
            assert client.close_code() == 4401
            refused = Client(port, secret)
            refused.drop()
            assert refused.status == 401
        # An end that was known when it was opened.
        url = f"{CONSUMERS_URL}/{names[3]}/keys"
        soon = api.call("POST", url, json={"expiresOn": in_seconds(1.5)})
        assert Client(port, soon["key"]).close_code() == 4401
        for client in survivors:
            assert client.read()[0] == 1
            client.drop()


def in_seconds(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
