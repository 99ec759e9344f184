"""What takes away comes first: nobody waits for another one's keys, and an edge is as far as HAProxy's maps are."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from edge.haproxy.mirror import START, Mirror, expected, without_state
from edge.world import NOW, PEPPER_CHECK, at, batch, bucket, consumer, key
from gateways.conftest import PEPPER
from gateways.gateway import HAPROXY, Gateway
from keywright.edge.haproxy import guard
from keywright.edge.haproxy.backlog import Backlog
from keywright.edge.haproxy.socket import Map, Socket
from keywright.edge.replica import records
from keywright.edge.replica.lease import Lease
from keywright.edge.replica.replica import PagePosition, Replica
from keywright.protocol.changes import (
    BucketDelete,
    Change,
    ConsumerDelete,
    Hidden,
    KeyDelete,
)
from keywright.runtime.clock import Clock


async def test_everybody_else_is_answered_while_much_is_taken_away(mirror: Mirror, replica: Replica) -> None:
    keys = [key(f"secret-{number}", 1, 1) for number in range(300)]
    records = [bucket(1, "my-bucket"), consumer(1, 1), consumer(2, 1, "other"), *keys]
    replica.load("dep_1", PEPPER_CHECK, at(0), records)
    await mirror.until_in_step()
    mirroring = mirror.maps._mirroring
    # As with a map so large that each deletion takes a second; and a fill would take longer still.
    mirroring._costs.change, mirroring._costs.entry = 1.0, 1000.0
    mirroring._costs.is_measured = True
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
    mirroring._costs.change, mirroring._costs.is_measured = 1.0, True
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
        mirroring._costs.change, mirroring._costs.is_measured = 1.0, True
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
        await mirror.until_in_step()
        assert leases
        assert set(leases) == {before[Map.STATE]["lease"]}
        # It is told behind where the maps are.
        await mirror.until(lambda found: int(found[Map.STATE]["lease"]) == NOW + 6000)
        await mirror.stop()


async def test_the_next_edge_blocks_what_ended_meanwhile_and_goes_on(mirror: Mirror, replica: Replica) -> None:
    powered = replace(bucket(8, "powered"), features=("scopes",), default_scopes=("a", "b"))
    narrowed = replace(key("secret-8", 8, 8), powers='{"scopes":["a","b"]}')
    replica.load("dep_1", PEPPER_CHECK, at(5), [*START, powered, consumer(8, 8), narrowed])
    await mirror.until_in_step()
    await mirror.stop()
    replica.observer = None
    replica.apply(batch(5, [KeyDelete(key("secret-1", 1, 1).digest, 1), consumer(7, 1), bucket(4, "new-bucket")]))
    replica.apply(batch(8, [ConsumerDelete(2), BucketDelete(2)]))
    # What is good for less is no end, and as much to be seen to.
    replica.apply(batch(10, [replace(narrowed, powers='{"scopes":["a"]}'), replace(powered, default_scopes=("a",))]))
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
    assert {tuple(sorted(look[Map.BLOCKS])) for look in looks} == {("1", "2", "8")}
    assert {look[Map.BUCKETS3]["8"] for look in looks} == {"+a+"}
    assert {tuple(sorted(look[Map.BUCKETS])) for look in looks} == {("my-bucket", "powered")}
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


async def test_what_is_there_again_when_a_sweep_is_heard_of_is_no_garbage(mirror: Mirror, replica: Replica) -> None:
    replica.load("dep_1", PEPPER_CHECK, at(5), START)
    await mirror.until_in_step()
    put = key("secret-1", 1, 1)
    mirror.maps.swept(is_keys=True, names=[records.pack_bucket_number(1) + put.digest, bytes(36)])
    mirror.maps.swept(is_keys=False, names=[records.pack_number(1), bytes(8)])
    replica.apply(batch(5, [Hidden()]))
    assert without_state(await mirror.until_in_step()) == expected(replica)


async def test_an_edge_that_has_promised_to_refuse_gives_no_lease(
    mirror: Mirror, replica: Replica, tmp_path: Path
) -> None:
    lag = [0.0]
    replica.bind(Lease(tmp_path / "lease.json", Clock(), lambda: lag[0], seconds=10))
    replica.load("dep_1", PEPPER_CHECK, at(5), START)
    await mirror.until_in_step()
    lag[0] = 11.0
    mirror.now += 1000
    replica.apply(batch(5, [ConsumerDelete(1)]))
    await mirror.until(lambda found: "1" not in found[Map.CONSUMERS])
    await asyncio.sleep(1.2)
    assert (await mirror.look())[Map.STATE] == {
        **dict.fromkeys(("lease", "lease3"), str(NOW + 5000)), **dict.fromkeys(("at", "at3"), f"dep_1:{at(5)}")
    }  # fmt: skip
    lag[0] = 0.0
    told = {"at": f"dep_1:{at(6)}", "at3": f"dep_1:{at(6)}", "lease": str(NOW + 6000), "lease3": str(NOW + 6000)}
    await mirror.until(lambda found: found[Map.STATE] == told)


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
    mirroring._current_at -= 10.0
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


async def test_where_too_many_consumers_would_be_blocked_their_bucket_is_withheld(
    mirror: Mirror, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "MOST_CONSUMERS", 2)
    keys = [key(f"secret-{number}", 1, 1 + number % 3) for number in range(9)]
    other = key("secret-of-other", 2, 9)
    consumers = [consumer(number, 1, f"consumer-{number}") for number in (1, 2, 3)]
    buckets: list[Change] = [bucket(1, "my-bucket"), bucket(2, "other-bucket")]
    replica.load("dep_1", PEPPER_CHECK, at(0), [*buckets, *consumers, consumer(9, 2, "other"), *keys, other])
    await mirror.until_in_step()
    mirroring = mirror.maps._mirroring
    mirroring._costs.change, mirroring._costs.entry, mirroring._costs.is_measured = 1.0, 1000.0, True
    looks: list[dict[Map, dict[str, str]]] = []
    write_some = mirroring._write_some

    async def write_and_look(socket: Socket, backlog: Backlog) -> None:
        looks.append(await mirror.look())
        await write_some(socket, backlog)

    mirroring._write_some = write_and_look  # type: ignore[method-assign]
    replica.apply(batch(0, [KeyDelete(put.digest, 1) for put in keys] + [KeyDelete(other.digest, 2)]))
    found = await mirror.until_in_step()
    assert (looks[0][Map.BUCKETS], looks[0][Map.BLOCKS]) == ({"other-bucket": "2"}, {"9": "1"})
    assert (found[Map.BUCKETS], found[Map.BLOCKS]) == ({"my-bucket": "1", "other-bucket": "2"}, {})
