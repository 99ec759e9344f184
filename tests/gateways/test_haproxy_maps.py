"""A HAProxy that decides by itself holds to every revocation, whichever of it and its edge is killed, and when."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateways.gateway import HAPROXY, Gateway, with_key
from gateways.upstream import Upstream
from support.api import BUCKET, BUCKET_URL, CONSUMERS_URL, ROOT_KEY, Api
from support.process import EdgeProcess, ServeProcess, until

LEASE_SECONDS = 3


@dataclass
class World:
    """An origin, an edge that follows it, and the HAProxy whose maps that edge keeps."""

    api: Api
    origin: ServeProcess
    data_dir: Path
    gateway: Gateway
    edge: EdgeProcess

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
            made = World(Api(origin), origin, directory, gateway, new_edge(directory, origin, gateway))
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
