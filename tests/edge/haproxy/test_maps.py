"""The maps in a real HAProxy hold what the replica holds, whatever happened to either of them."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest

from edge.world import NOW, PEPPER_CHECK, at, batch, bucket, consumer, key
from gateways.conftest import PEPPER
from gateways.gateway import HAPROXY, Gateway
from keywright.edge.haproxy import socket as haproxy_socket
from keywright.edge.haproxy.backlog import Backlog
from keywright.edge.haproxy.entries import MAX_VALUE_BYTES, NEVER
from keywright.edge.haproxy.maps import HaproxyMaps
from keywright.edge.haproxy.socket import HaproxyError, Map, Socket
from keywright.edge.replica.replica import PagePosition, Replica
from keywright.protocol.changes import (
    BucketDelete,
    BucketPut,
    Change,
    ConsumerDelete,
    ConsumerPut,
    Hidden,
    KeyDelete,
    KeyPut,
)

START: list[Change] = [
    bucket(1, "my-bucket"),
    bucket(2, "other-bucket"),
    bucket(3, "_system", None),
    consumer(1, 1),
    consumer(2, 2, "other-consumer", '{"name":"Zoë |;,\\n"}'),
    consumer(3, 3, "root"),
    key("secret-1", 1, 1),
    key("secret-2", 2, 2, NOW),
    key("secret-3", 3, 3),
]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    directory = tmp_path_factory.mktemp("haproxy") / "gateway"
    with Gateway(
        HAPROXY, directory, api=1, edge=1, bucket="my-bucket", variables={"KEYWRIGHT_PEPPER": PEPPER}
    ) as running:
        yield running


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[Replica]:
    opened = Replica.open(tmp_path / "replica", PEPPER_CHECK)
    yield opened
    opened.close()


class Mirror:
    """HaproxyMaps at work on a replica, and what HAProxy has of it."""

    def __init__(self, gateway: Gateway, replica: Replica) -> None:
        self.socket_path = gateway.directory / "haproxy.sock"
        self.replica = replica
        self.is_following = True
        self.now = NOW
        self.maps = replica.observer = HaproxyMaps(
            self.socket_path,
            replica,
            is_following=lambda: self.is_following,
            lease_seconds=5,
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
            for map_ in (Map.STATE, Map.BLOCKS, Map.BUCKETS, Map.CONSUMERS, Map.KEYS):
                if map_ is Map.BLOCKS and not socket.has_blocks:
                    found[map_] = {}
                    continue
                lines = (await socket._ask(f"show map {socket._ids[map_]}")).splitlines()
                rows = [line.split(" ", 2)[1:] for line in lines if line]
                found[map_] = dict(rows)
                assert len(found[map_]) == len(rows)
        return found

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
    maps: dict[Map, dict[str, str]] = {Map.BUCKETS: {}, Map.CONSUMERS: {}, Map.KEYS: {}}
    for put in replica.records():
        match put:
            case BucketPut() if put.name != "_system":
                maps[Map.BUCKETS][put.name] = str(put.number)
            case ConsumerPut() if put.bucket_number != 3:
                value = f"{put.consumer_id}|{put.name}|{quote(put.metadata, safe='')}"
                maps[Map.CONSUMERS][str(put.number)] = value
            case KeyPut() if put.bucket_number != 3 and (put.expires_at is None or put.expires_at > NOW):
                value = f"{put.key_id}|{put.consumer_number}|{NEVER if put.expires_at is None else put.expires_at}"
                maps[Map.KEYS][f"{put.bucket_number}.{put.digest.hex()}"] = value
    return maps


def without_state(found: dict[Map, dict[str, str]]) -> dict[Map, dict[str, str]]:
    assert found[Map.BLOCKS] == {}
    return {map_: rows for map_, rows in found.items() if map_ not in (Map.STATE, Map.BLOCKS)}


@pytest.fixture
async def mirror(gateway: Gateway, replica: Replica) -> AsyncIterator[Mirror]:
    async with haproxy_socket.connect(gateway.directory / "haproxy.sock") as socket:
        for map_ in Map:
            await socket._ask(f"clear map {socket._ids[map_]}")
    running = Mirror(gateway, replica)
    yield running
    await running.stop()


async def test_without_a_snapshot_nothing_is_promised(mirror: Mirror) -> None:
    mirror.maps.applied(batch(0, []), [])
    await asyncio.sleep(0.1)
    assert await mirror.look() == {map_: {} for map_ in Map}


async def test_the_maps_follow_every_change(mirror: Mirror, replica: Replica) -> None:
    replica.load("dep_1", PEPPER_CHECK, at(10), START)
    assert without_state(await mirror.until_in_step()) == expected(replica)
    # Each change once, in an order that meets every case: a name that moves on to a newer bucket, a bucket renamed.
    changes: list[Change] = [
        key("secret-4", 1, 1), key("secret-1", 1, 1, NOW + 5), KeyDelete(key("secret-2", 2, 2).digest, 2), Hidden(),
        consumer(1, 1, "my-consumer", '{"plan":"gold"}'), ConsumerDelete(2), bucket(4, "new-bucket"),
        bucket(1, "my-bucket", "acct_9"), bucket(4, "newer-bucket"), bucket(5, "other-bucket"), BucketDelete(2),
        consumer(6, 5, "sixth"), key("secret-6", 5, 6), BucketDelete(4), consumer(7, 3), key("secret-7", 3, 7),
        KeyDelete(bytes(32), 1), ConsumerDelete(99), BucketDelete(99),
    ]  # fmt: skip
    for number, change in enumerate(changes):
        replica.apply(batch(10 + number, [change]))
        found = await mirror.until_in_step()
        # What can't be reached any more goes with the next sweep.
        wanted = expected(replica)
        assert all(found[map_].items() >= rows.items() for map_, rows in wanted.items()), change
        assert found[Map.BUCKETS] == wanted[Map.BUCKETS], change
    while replica.sweep():
        pass
    found = await mirror.until(lambda found: without_state(found) == expected(replica))
    assert int(found[Map.STATE]["lease"]) == NOW + 5000


async def test_random_histories_come_out_as_the_replica_has_them(mirror: Mirror, replica: Replica) -> None:
    rng = random.Random(4)
    replica.load("dep_1", PEPPER_CHECK, at(0), START)
    revision = 0
    for _ in range(12):
        changes: list[Change] = []
        for _ in range(rng.randrange(1, 40)):
            number = rng.randrange(1, 8)
            secret = f"secret-{rng.randrange(30)}"
            end = rng.choice([None, NOW])
            put = key(secret, 1, number, end)
            changes.append(
                rng.choice([put, consumer(number, 1), KeyDelete(put.digest, 1), ConsumerDelete(number), put])
            )
        replica.apply(batch(revision, changes))
        revision += len(changes)
        if rng.random() < 0.3:
            replica.sweep()
    await mirror.until_in_step()
    while replica.sweep():
        pass
    await mirror.until(lambda found: without_state(found) == expected(replica))


async def test_another_deployment_takes_the_lease_before_its_records_come(mirror: Mirror, replica: Replica) -> None:
    replica.load("dep_1", PEPPER_CHECK, at(5), START)
    await mirror.until_in_step()
    replica.load(
        "dep_2", PEPPER_CHECK, at(5), [bucket(1, "my-bucket"), consumer(1, 1, "another"), key("secret-9", 1, 1)]
    )
    assert without_state(await mirror.until_in_step()) == expected(replica)


async def test_more_than_a_page_and_more_than_a_buffer(mirror: Mirror, replica: Replica) -> None:
    many = [key(f"secret-{number}", 1, 1) for number in range(700)]
    many.sort(key=lambda put: put.digest)
    long = f'{{"text":"{"x" * 3000}"}}'
    too_long = f'{{"text":"{"x" * MAX_VALUE_BYTES}"}}'
    consumers = [consumer(number, 1, f"consumer-{number}", long) for number in range(1, 9)]
    replica.load(
        "dep_1", PEPPER_CHECK, at(0), [bucket(1, "my-bucket"), *consumers, consumer(9, 1, "long", too_long), *many]
    )
    found = without_state(await mirror.until_in_step())
    wanted = expected(replica)
    # Metadata that HAProxy could not pass on: the keys of that consumer are refused there.
    assert found[Map.CONSUMERS].pop("9") == "-"
    wanted[Map.CONSUMERS].pop("9")
    assert found == wanted
    replica.apply(batch(0, [consumer(9, 1, "long", "{}")]))
    assert (await mirror.until_in_step())[Map.CONSUMERS]["9"].endswith("|long|%7B%7D")


async def test_the_next_edge_takes_over_what_is_in_step_and_fills_what_is_not(
    mirror: Mirror, gateway: Gateway, replica: Replica, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    replica.load("dep_1", PEPPER_CHECK, at(5), START)
    await mirror.until_in_step()
    await mirror.stop()
    assert caplog.text.count("filled HAProxy") == 1
    # Nothing has happened since: taken over, and the next bucket's deletion finds its name.
    second = Mirror(gateway, replica)
    second.now = NOW + 1
    await second.until(lambda found: found[Map.STATE].get("lease") == str(NOW + 5001))
    replica.apply(batch(5, [BucketDelete(2)]))
    assert "other-bucket" not in (await second.until_in_step())[Map.BUCKETS]
    await second.stop()
    assert caplog.text.count("filled HAProxy") == 1
    # A change that nobody mirrored.
    replica.observer = None
    replica.apply(batch(6, [ConsumerDelete(1)]))
    third = Mirror(gateway, replica)
    assert "1" not in (await third.until_in_step())[Map.CONSUMERS]
    assert caplog.text.count("filled HAProxy") == 2
    # And one that comes while this edge is at work, of which it hears nothing: no lease before it is there.
    replica.observer = None
    replica.apply(batch(7, [BucketDelete(1)]))
    assert (await third.until_in_step())[Map.BUCKETS] == {}
    replica.observer = third.maps
    # A batch that leaves a gap: what is missing can't be known.
    third.maps.applied(batch(20, [ConsumerDelete(1)]), [])
    await third.until_in_step()
    await third.stop()


async def test_a_bucket_that_wants_no_stale_answers_is_withheld_until_the_replica_is_in_step(
    mirror: Mirror, replica: Replica
) -> None:
    lag = [0.0]
    replica._reader._lag_seconds = lambda: lag[0]
    limited = replace(bucket(1, "my-bucket"), refuse_after=10)
    replica.load("dep_1", PEPPER_CHECK, at(5), [limited, bucket(2, "other-bucket")])
    assert (await mirror.until_in_step())[Map.BUCKETS] == {"my-bucket": "1", "other-bucket": "2"}
    lag[0] = 11.0
    await mirror.until(lambda found: found[Map.BUCKETS] == {"other-bucket": "2"})
    lag[0] = 0.0
    await mirror.until(lambda found: found[Map.BUCKETS] == {"my-bucket": "1", "other-bucket": "2"})


async def test_a_process_that_does_not_follow_leaves_haproxy_alone(mirror: Mirror, replica: Replica) -> None:
    mirror.is_following = False
    await asyncio.sleep(0.3)
    replica.load("dep_1", PEPPER_CHECK, at(5), START)
    await asyncio.sleep(0.1)
    assert await mirror.look() == {map_: {} for map_ in Map}
    mirror.is_following = True
    assert without_state(await mirror.until_in_step()) == expected(replica)


async def test_a_haproxy_that_is_killed_is_filled_again(
    mirror: Mirror, gateway: Gateway, replica: Replica, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    replica.load("dep_1", PEPPER_CHECK, at(5), START)
    await mirror.until_in_step()
    await asyncio.to_thread(gateway.kill)
    replica.apply(batch(5, [ConsumerDelete(1)]))
    async with asyncio.timeout(30):
        while "can't keep HAProxy" not in caplog.text:
            await asyncio.sleep(0.01)
    await asyncio.to_thread(gateway.start)
    assert without_state(await mirror.until_in_step()) == expected(replica)
    assert "is up to date again" in caplog.text


async def test_a_complaint_is_an_error_and_so_is_a_haproxy_without_the_maps(gateway: Gateway, tmp_path: Path) -> None:
    path = gateway.directory / "haproxy.sock"
    async with haproxy_socket.connect(path) as socket:
        for wrong in (socket.commit(Map.KEYS, 12345), socket._do("nonsense")):
            with pytest.raises(HaproxyError):
                await wrong
        socket._ids[Map.KEYS] = "#999"
        for wrong in (socket.get(Map.KEYS, "x"), socket.prepare(Map.KEYS)):
            with pytest.raises(HaproxyError):
                await wrong
    bare = tmp_path / "gateway"
    with Gateway(HAPROXY, bare, api=1, edge=1, bucket="x", variables={"KEYWRIGHT_PEPPER": PEPPER}) as other:
        other.kill()
        config = (bare / "haproxy.cfg").read_text()
        (bare / "haproxy.cfg").write_text(config.replace("keywright-keys.map", "other.map"))
        (bare / "keywright-keys.map").rename(bare / "other.map")
        other.start()
        with pytest.raises(HaproxyError, match="uses no keywright-keys"):
            async with haproxy_socket.connect(bare / "haproxy.sock"):
                pass


async def test_everybody_else_is_answered_while_much_is_taken_away(mirror: Mirror, replica: Replica) -> None:
    keys = [key(f"secret-{number}", 1, 1) for number in range(300)]
    records = [bucket(1, "my-bucket"), consumer(1, 1), consumer(2, 1, "other"), *keys]
    replica.load("dep_1", PEPPER_CHECK, at(0), records)
    await mirror.until_in_step()
    mirroring = mirror.maps._mirroring
    # As with a map so large that each deletion takes a second; and a fill would take longer still.
    mirroring._costs.change, mirroring._costs.entry = 1.0, 1000.0
    looks: list[dict[Map, dict[str, str]]] = []
    write_some = mirroring._write_some

    async def write_and_look(socket: Socket, backlog: Backlog) -> None:
        mirror.now += 1000
        mirroring._renewed_at -= 10.0
        looks.append(await mirror.look())
        await write_some(socket, backlog)

    mirroring._write_some = write_and_look  # type: ignore[method-assign]
    replica.apply(batch(0, [KeyDelete(put.digest, 1) for put in keys]))
    found = await mirror.until_in_step()
    leases = [int(look[Map.STATE]["lease"]) for look in looks]
    assert leases == sorted(set(leases)), "renewed all the time"
    assert len(leases) > 1
    assert [look[Map.BLOCKS] for look in looks] == [{"1": "1"}] * len(looks), "and only whose keys they are is blocked"
    assert {look[Map.STATE]["at"] for look in looks} == {f"dep_1:{at(0)}"}
    assert (found[Map.BLOCKS], found[Map.KEYS]) == ({}, {})


async def test_much_that_is_taken_away_is_made_anew_at_one_go_and_goes_on_being_blocked(
    mirror: Mirror, replica: Replica, caplog: pytest.LogCaptureFixture
) -> None:
    keys = [key(f"secret-{number}", 1, 1) for number in range(300)]
    gone, still = keys[:250], keys[250:]
    replica.load("dep_1", PEPPER_CHECK, at(0), [bucket(1, "my-bucket"), consumer(1, 1), consumer(2, 1), *keys])
    await mirror.until_in_step()
    caplog.set_level("INFO")
    mirroring = mirror.maps._mirroring
    mirroring._costs.change = 1.0
    looks: list[dict[Map, dict[str, str]]] = []
    page = replica.page
    more = [KeyDelete(still[0].digest, 1), ConsumerDelete(2)]

    def page_and_more(position: PagePosition, limit: int) -> tuple[list[Change], PagePosition | None]:
        found = page(position, limit)
        if more:
            # What comes in the midst of it, after the page that it would have been in.
            revision = replica.revision
            assert revision is not None
            replica.apply(batch(revision, [more.pop()]))
        return found

    see = mirroring._see_to_what_is_new

    async def see_and_look(socket: Socket) -> None:
        await see(socket)
        if mirroring._is_filling:
            looks.append(await mirror.look())

    replica.page, mirroring._see_to_what_is_new = page_and_more, see_and_look  # type: ignore[method-assign]
    replica.apply(batch(0, [KeyDelete(put.digest, 1) for put in gone]))
    found = await mirror.until(lambda found: found[Map.STATE].get("at") == f"dep_1:{at(252)}")
    assert "filled HAProxy" in caplog.text
    assert looks[0][Map.BLOCKS] == {"1": "1"}
    assert looks[-1][Map.BLOCKS] == {"1": "1", "2": "1"}
    assert found[Map.BLOCKS] == {}
    del replica.page
    assert without_state(found) == expected(replica)


async def test_a_haproxy_that_asks_for_no_blocks_gets_no_lease_while_much_is_taken_away(
    gateway: Gateway, replica: Replica, tmp_path: Path
) -> None:
    directory = tmp_path / "gateway"
    with Gateway(HAPROXY, directory, api=1, edge=1, bucket="my-bucket", variables={"KEYWRIGHT_PEPPER": PEPPER}) as old:
        old.kill()
        config = (directory / "haproxy.cfg").read_text()
        lines = [line for line in config.splitlines(keepends=True) if "blocked" not in line]
        (directory / "haproxy.cfg").write_text("".join(lines))
        old.start()
        mirror = Mirror(old, replica)
        keys = [key(f"secret-{number}", 1, 1) for number in range(300)]
        replica.load("dep_1", PEPPER_CHECK, at(0), [bucket(1, "my-bucket"), consumer(1, 1), *keys])
        before = await mirror.until_in_step()
        assert before[Map.BLOCKS] == {}
        mirroring = mirror.maps._mirroring
        mirroring._costs.change = 1.0
        mirror.now += 1000
        leases: list[str] = []
        see = mirroring._see_to_what_is_new

        async def see_and_look(socket: Socket) -> None:
            mirroring._renewed_at -= 10.0
            await see(socket)
            if mirroring._is_filling:
                leases.append((await mirror.look())[Map.STATE]["lease"])

        mirroring._see_to_what_is_new = see_and_look  # type: ignore[method-assign]
        replica.apply(batch(0, [KeyDelete(put.digest, 1) for put in keys]))
        after = await mirror.until_in_step()
        assert leases
        assert set(leases) == {before[Map.STATE]["lease"]}
        assert int(after[Map.STATE]["lease"]) == NOW + 6000
        await mirror.stop()


async def test_the_next_edge_blocks_what_ended_meanwhile_and_goes_on(mirror: Mirror, replica: Replica) -> None:
    replica.load("dep_1", PEPPER_CHECK, at(5), START)
    await mirror.until_in_step()
    await mirror.stop()
    replica.observer = None
    replica.apply(batch(5, [KeyDelete(key("secret-1", 1, 1).digest, 1), consumer(7, 1), bucket(4, "new-bucket")]))
    replica.apply(batch(8, [ConsumerDelete(2), BucketDelete(2)]))
    second = Mirror.__new__(Mirror)
    looks: list[dict[Map, dict[str, str]]] = []
    page = replica.page

    def paged(position: PagePosition, limit: int) -> tuple[list[Change], PagePosition | None]:
        second.maps._mirroring._renewed_at -= 10.0
        return page(position, limit)

    replica.page = paged  # type: ignore[method-assign]
    second.__init__(_GatewayAt(mirror.socket_path), replica)  # type: ignore[misc]
    second.now += 1000
    see = second.maps._mirroring._see_to_what_is_new

    async def see_and_look(socket: Socket) -> None:
        await see(socket)
        if second.maps._mirroring._is_filling:
            looks.append(await second.look())

    second.maps._mirroring._see_to_what_is_new = see_and_look  # type: ignore[method-assign]
    await second.until_in_step()
    assert {look[Map.STATE]["at"] for look in looks} == {f"dep_1:{at(5)}"}
    assert {tuple(sorted(look[Map.BLOCKS])) for look in looks} == {("1", "2")}
    assert {tuple(look[Map.BUCKETS]) for look in looks} == {("my-bucket",)}
    assert int(looks[-1][Map.STATE]["lease"]) == NOW + 6000, "it is believed, but for those"
    del replica.page
    assert without_state(await second.until_in_step()) == expected(replica)
    await second.stop()


async def test_an_edge_is_as_far_as_its_maps_until_their_lease_is_over(
    mirror: Mirror, gateway: Gateway, replica: Replica
) -> None:
    replica.load("dep_1", PEPPER_CHECK, at(5), START)
    assert mirror.maps.reached(replica.cursor) is None, "nobody knows what is there"
    await mirror.until_in_step()
    mirror.now += 5000
    await mirror.until(lambda found: found[Map.STATE].get("lease") == str(NOW + 10_000))
    assert mirror.maps.reached(replica.cursor) == at(5)
    assert mirror.maps.status().is_synced
    gateway.kill()
    told = []
    mirror.maps.on_change = lambda: told.append(mirror.maps.reached(replica.cursor))
    replica.apply(batch(5, [ConsumerDelete(1)]))
    assert mirror.maps.reached(replica.cursor) == at(5)
    mirror.now += 5001
    assert mirror.maps.reached(replica.cursor) == at(6), "no answer is given by those maps any more"
    await asyncio.to_thread(gateway.start)
    await mirror.until_in_step()
    async with asyncio.timeout(30):
        while told[-1:] != [at(6)]:
            await asyncio.sleep(0.01)


async def test_a_haproxy_that_lags_is_told_of(
    mirror: Mirror, replica: Replica, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    replica.load("dep_1", PEPPER_CHECK, at(5), START)
    await mirror.until_in_step()
    mirroring = mirror.maps._mirroring
    go_on = mirroring._go_on
    held_up = asyncio.Event()

    async def wait(socket: Socket) -> bool:
        await held_up.wait()
        return await go_on(socket)

    mirroring._go_on = wait  # type: ignore[method-assign]
    replica.apply(batch(5, [ConsumerDelete(1)]))
    mirroring._in_step_at -= 10.0
    async with asyncio.timeout(30):
        while "s behind" not in caplog.text:
            await asyncio.sleep(0.01)
    status = mirror.maps.status()
    assert (status.is_synced, status.revision, status.lag_seconds > 10) == (False, 5, True)
    held_up.set()
    async with asyncio.timeout(30):
        while "in step again" not in caplog.text:
            await asyncio.sleep(0.01)
    assert mirror.maps.status().is_synced


class _GatewayAt:
    """Where a mirror looks for the socket."""

    def __init__(self, socket_path: Path) -> None:
        self.directory = socket_path.parent
