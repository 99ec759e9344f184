"""The maps in a real HAProxy hold what the replica holds, whatever happened to either of them."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from pathlib import Path

import pytest

from edge.haproxy.mirror import START, Mirror, expected, without_state
from edge.world import NOW, PEPPER_CHECK, at, batch, bucket, consumer, key
from gateways.conftest import PEPPER
from gateways.gateway import HAPROXY, Gateway
from keywright.domain.powers import encode_powers
from keywright.edge.haproxy import socket as haproxy_socket
from keywright.edge.haproxy.entries import MAX_VALUE_BYTES
from keywright.edge.haproxy.socket import HaproxyError, Map
from keywright.edge.replica.replica import Replica
from keywright.protocol.changes import (
    BucketDelete,
    Change,
    ConsumerDelete,
    Hidden,
    KeyDelete,
)

POWERS = [None, None, encode_powers(scopes=["a"]), encode_powers(enabled=False)]


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


async def test_several_buckets_may_go_at_once(mirror: Mirror, replica: Replica) -> None:
    names = {number: f"bucket-{number}" for number in range(1, 6)}
    replica.load("dep_1", PEPPER_CHECK, at(0), [bucket(number, name) for number, name in names.items()])
    await mirror.until_in_step()
    replica.apply(batch(0, [BucketDelete(number) for number in (1, 2, 3, 4)]))
    assert (await mirror.until_in_step())[Map.BUCKETS] == {"bucket-5": "5"}


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
            put = replace(key(secret, 1, number, end), powers=rng.choice(POWERS))
            owner = replace(consumer(number, 1), powers=rng.choice(POWERS))
            changes.append(rng.choice([put, owner, KeyDelete(put.digest, 1), ConsumerDelete(number), put]))
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
