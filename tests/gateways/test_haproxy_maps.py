"""A HAProxy that decides by itself holds to every revocation, whichever of it and its edge is killed, and when."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateways.gateway import HAPROXY, Gateway, with_key
from gateways.upstream import Upstream
from keywright.domain.keyformat import Digester
from keywright.edge.haproxy import socket as haproxy_socket
from keywright.edge.haproxy.socket import Map
from support.api import BUCKET, BUCKET_URL, CONSUMERS_URL, ROOT_KEY, Api
from support.process import NO_TLS, EdgeProcess, ServeProcess, until

LEASE_SECONDS = 3


@dataclass
class World:
    """An origin, an edge that follows it, and the HAProxy whose maps that edge keeps."""

    api: Api
    origin: ServeProcess
    data_dir: Path
    gateway: Gateway
    edge: EdgeProcess
    pepper: str

    def start_edge(self) -> None:
        self.edge = new_edge(self.data_dir, self.origin, self.gateway)

    def status(self, key: str) -> int:
        return self.gateway.ask("GET", "/", with_key(key)).status

    def revoke(self, key: dict[str, Any], consumer: str) -> None:
        self.api.call("DELETE", f"{CONSUMERS_URL}/{consumer}/keys/{key['id']}", expect=204)

    def new_keys(self, consumer: str, count: int) -> list[dict[str, Any]]:
        """So many keys of a new consumer, in use at the gateway."""
        self.api.new_consumer(name=consumer)
        keys = [self.api.new_key(consumer) for _ in range(count)]
        until(lambda: all(self.status(key["key"]) == 200 for key in keys), 60)
        return keys


def new_edge(data_dir: Path, origin: ServeProcess, gateway: Gateway) -> EdgeProcess:
    socket = str(gateway.directory / "haproxy.sock")
    return EdgeProcess(
        data_dir / "edge", origin.url, ROOT_KEY, data_dir / "origin/pepper.key", "--haproxy", socket,
        KEYWRIGHT_HAPROXY_LEASE_SECONDS=str(LEASE_SECONDS),
    )  # fmt: skip


def new_keys(origin: ServeProcess, url: str) -> int:
    with Api(origin) as api:
        return len(api.call("POST", url, json=[{}] * 1000)["data"])


async def block(gateway: Gateway, secret: str, pepper: str) -> None:
    """As an edge does that has much to take out."""
    digest = Digester(base64.b64decode(pepper)).digest(secret).hex()
    async with haproxy_socket.connect(gateway.directory / "haproxy.sock") as socket:
        bucket = await socket.get(Map.BUCKETS, BUCKET)
        value = await socket.get(Map.KEYS, f"{bucket}.{digest}")
        assert value is not None
        await socket.put(Map.BLOCKS, value.split("|")[1], "1")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("haproxy")
    upstream = Upstream()
    variables = {"KEYWRIGHT_BOOTSTRAP_KEY": ROOT_KEY, "KEYWRIGHT_MANAGEMENT_RATE_LIMIT": "0"}
    with ServeProcess(directory / "origin", **variables).wait_until_ready() as origin:
        pepper = (directory / "origin/pepper.key").read_text().strip()
        gateway = Gateway(
            HAPROXY,
            directory / "gateway",
            api=upstream.port,
            edge=1,
            bucket=BUCKET,
            variables={"KEYWRIGHT_PEPPER": pepper},
        )
        with gateway:
            made = World(Api(origin), origin, directory, gateway, new_edge(directory, origin, gateway), pepper)
            yield made
            made.edge.kill()
            made.api.close()
    upstream.close()


def test_a_revocation_holds_after_haproxy_was_killed_and_after_the_edge_was(world: World) -> None:
    keys = world.new_keys("killed", 6)
    refused = []
    for number, key in enumerate(keys[:4]):
        if number % 2:
            # Restarted from its files, which know nothing of what was deleted, nor of anything.
            world.gateway.kill()
            world.revoke(key, "killed")
            world.gateway.start()
        else:
            world.edge.kill()
            world.revoke(key, "killed")
            world.start_edge()
        refused.append(key["key"])
        deadline = time.monotonic() + 60
        while world.status(keys[5]["key"]) != 200:
            # Not one of those that had been refused already, whatever else is not yet known again.
            assert [one for one in refused[:-1] if world.status(one) == 200] == []
            assert time.monotonic() < deadline, world.edge.output()
        until(lambda: all(world.status(one) == 401 for one in refused), 60)
    assert world.status(keys[4]["key"]) == 200


def test_without_its_edge_haproxy_says_yes_no_longer_than_the_lease(world: World) -> None:
    (key,) = world.new_keys("leased", 1)
    world.edge.kill()
    world.revoke(key, "leased")
    killed_at = time.monotonic()
    until(lambda: world.status(key["key"]) == 503, LEASE_SECONDS + 30)
    # Asked from here on: never again, for as long as nobody keeps it in step.
    until(lambda: time.monotonic() > killed_at + LEASE_SECONDS + 1)
    assert world.status(key["key"]) == 503
    assert world.gateway.ask("GET", "/").status == 503
    world.start_edge()
    until(lambda: world.status(key["key"]) == 401, 60)


def test_a_restarted_haproxy_says_nothing_before_it_is_in_step_and_then_the_same_as_before(world: World) -> None:
    (key,) = world.new_keys("restarted", 1)
    world.edge.kill()
    world.gateway.kill()
    world.gateway.start()
    assert world.status(key["key"]) == 503
    world.start_edge()
    until(lambda: world.status(key["key"]) == 200, 60)


def test_no_key_is_let_in_once_it_was_answered_that_all_have_applied_its_end(world: World) -> None:
    keys = world.new_keys("waited", 8)
    world.api.new_consumer(name="many")
    many = f"{CONSUMERS_URL}/many/keys/$bulk"
    accepted = []
    with ThreadPoolExecutor(1) as pool:
        # Thousands of entries are on their way to HAProxy meanwhile.
        filling = [pool.submit(new_keys, world.origin, many) for _ in range(4)]
        for key in keys:
            url = f"{CONSUMERS_URL}/waited/keys/{key['id']}?wait=all&timeout=30000"
            answer = world.api.request("DELETE", url)
            assert (answer.status_code, answer.headers["keywright-applied"]) == (204, "2/2"), answer.headers
            accepted.append(world.status(key["key"]) == 200)
        assert [future.result() for future in filling] == [1000] * 4
    assert accepted == [False] * 8


def test_no_key_of_a_consumer_is_let_in_once_it_was_answered_that_all_have_applied_the_roll(world: World) -> None:
    (other,) = world.new_keys("unrolled", 1)
    world.api.new_consumer(name="rolled")
    url = f"{CONSUMERS_URL}/rolled"
    secrets = [
        key["key"] for _ in range(3) for key in world.api.call("POST", f"{url}/keys/$bulk", json=[{}] * 1000)["data"]
    ]
    until(lambda: world.status(secrets[-1]) == 200, 60)
    answer = world.api.request("POST", f"{url}/roll-key?wait=all&timeout=30000", json={})
    assert (answer.status_code, answer.headers["keywright-applied"]) == (204, "2/2"), answer.headers
    assert {world.status(secret) for secret in secrets[::30]} <= {401, 503}
    assert world.status(other["key"]) == 200


def test_a_haproxy_that_can_not_be_reached_is_pending_until_its_lease_is_over(world: World) -> None:
    (key,) = world.new_keys("unreachable", 1)
    socket = world.gateway.directory / "haproxy.sock"
    hidden = socket.with_suffix(".hidden")
    socket.rename(hidden)
    try:
        url = f"{CONSUMERS_URL}/unreachable/keys/{key['id']}"
        first = world.api.request("DELETE", f"{url}?wait=all&timeout=300")
        assert (first.headers["keywright-applied"], world.status(key["key"])) == ("1/2", 200)
        second = world.api.request("PATCH", BUCKET_URL + "?wait=all&timeout=30000", json={"description": "waited for"})
        assert (second.headers["keywright-applied"], world.status(key["key"])) == ("2/2", 503)
        told = world.edge.get("/readyz")["haproxy"]
        assert (told["synced"], told["answering"]) == (False, False)
        assert told["reason"].startswith("FileNotFoundError")
    finally:
        hidden.rename(socket)
    until(lambda: world.status(key["key"]) == 401, 60)
    until(lambda: world.edge.get("/readyz")["haproxy"]["synced"], 60)
    assert "keywright_haproxy_synced 1.0" in httpx2.get(f"{world.edge.url}/metrics", verify=NO_TLS).text


def test_a_blocked_consumer_gets_no_answer_and_everybody_else_does(world: World) -> None:
    (blocked,) = world.new_keys("blocked", 1)
    (other,) = world.new_keys("not-blocked", 1)
    asyncio.run(block(world.gateway, blocked["key"], world.pepper))
    reply = world.gateway.ask("GET", "/", with_key(blocked["key"]))
    assert (reply.status, reply.headers["content-type"], reply.headers["retry-after"]) == (
        503, "application/problem+json", "1",
    )  # fmt: skip
    assert world.status(other["key"]) == 200
    world.edge.kill()
    # What the former edge has left is gone with the next one, and not kept for ever.
    world.start_edge()
    until(lambda: world.status(blocked["key"]) == 200, 60)


def test_every_kind_of_change_reaches_the_maps(world: World) -> None:
    one, other = world.new_keys("changing", 2)
    gone = world.new_keys("going", 2)

    def metadata() -> str:
        seen = world.gateway.ask("GET", "/", with_key(one["key"])).seen
        return dict(seen)["x-consumer-metadata"]

    # The consumer's metadata, also where it would be a second header or a second command.
    told = {"text": "a b;|,\r\nX-Evil: 1\n\ndel map #0", "name": "Zoë"}
    world.api.call("PATCH", f"{CONSUMERS_URL}/changing", json={"metadata": told})
    until(lambda: "Zo%C3%AB" in metadata() and "X-Evil%3A" in metadata(), 30)
    # An end that lies in the past, and one that comes.
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3))
    world.api.call("PATCH", f"{CONSUMERS_URL}/changing/keys/{other['id']}", json={"expiresOn": soon})
    until(lambda: world.status(other["key"]) == 401, 30)
    assert world.status(one["key"]) == 200
    # A consumer takes its keys with it.
    world.api.call("DELETE", f"{CONSUMERS_URL}/going", expect=204)
    until(lambda: [world.status(key["key"]) for key in gone] == [401, 401], 30)
    # A roll.
    world.api.call("POST", f"{CONSUMERS_URL}/changing/roll-key", expect=204, json={})
    until(lambda: world.status(one["key"]) == 401, 30)
    # And the bucket: without it there is nothing to say. The last test of this file, for that.
    world.api.call("DELETE", BUCKET_URL, expect=204)
    until(lambda: world.status(one["key"]) == 503, 30)
