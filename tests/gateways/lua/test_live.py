"""nginx and Envoy that judge by themselves beside a real `keywright serve`: changes, limits, restarts, kills."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateways.gateway import with_key
from gateways.lua.lua_gateway import KINDS, LuaGateway
from gateways.upstream import Upstream
from support.api import BUCKET, CONSUMERS_URL, VARIABLES, Api
from support.ports import free_port
from support.process import ServeProcess, until

each_kind = pytest.mark.parametrize("kind", KINDS)
LIMITS = [{"name": "burst", "limit": 3, "windowSeconds": 3600, "scope": "edge"}]
TRUSTED = {"KEYWRIGHT_TRUSTED_PROXIES": "127.0.0.1/32", "KEYWRIGHT_CLIENT_ADDRESS_HEADER": "X-Forwarded-For"}


@dataclass
class World:
    served: ServeProcess
    api: Api
    gateways: dict[str, LuaGateway]

    def new_key(self, consumer: dict[str, Any] | None = None, **fields: Any) -> tuple[dict[str, Any], str]:
        made = self.api.new_consumer(**(consumer or {}))
        return made, str(self.api.new_key(made["name"], **fields)["key"])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("live")
    served = ServeProcess(directory / "data", **VARIABLES, **TRUSTED).wait_until_ready()
    with served, Api(served) as api:
        gateways = {
            kind: LuaGateway(
                kind, directory / kind, data=served.data_dir, api=upstream.port, edge=served.port, bucket=BUCKET
            )
            for kind in KINDS
        }
        yield World(served, api, gateways)
        for gateway in gateways.values():
            gateway.kill()


@each_kind
def test_a_change_counts_from_the_very_next_request(kind: str, world: World) -> None:
    gateway = world.gateways[kind]
    for _ in range(20):
        made, secret = world.new_key()
        assert gateway.ask("GET", "/", with_key(secret)).status == 200
        world.api.call("PATCH", f"{CONSUMERS_URL}/{made['name']}", json={"metadata": {"n": 1}})
        assert dict(gateway.ask("GET", "/", with_key(secret)).seen)["x-consumer-metadata"] == "%7B%22n%22%3A1%7D"
        world.api.call("DELETE", f"{CONSUMERS_URL}/{made['name']}", expect=204)
        assert gateway.ask("GET", "/", with_key(secret)).status == 401


@each_kind
def test_a_key_with_limits_is_counted_by_the_edge(kind: str, world: World) -> None:
    gateway = world.gateways[kind]
    made, secret = world.new_key(rateLimits=LIMITS)
    replies = [gateway.ask("GET", "/", with_key(secret)) for _ in range(5)]
    assert [reply.status for reply in replies] == [200, 200, 200, 429, 429]
    assert dict(replies[0].seen)["x-consumer-name"] == made["name"]
    assert "authorization" not in dict(replies[0].seen)
    assert all("burst" in reply.headers["ratelimit"] for reply in replies)
    assert int(replies[-1].headers["retry-after"]) >= 1
    assert replies[-1].json()["status"] == 429


@each_kind
def test_powers_are_judged_here(kind: str, world: World) -> None:
    gateway = world.gateways[kind]
    _, off = world.new_key(enabled=False)
    _, here = world.new_key(allowedIps=["127.0.0.0/8"])
    _, elsewhere = world.new_key(allowedIps=["192.0.2.0/24"])
    _, scoped = world.new_key({"scopes": ["orders:*"]})
    _, narrow = world.new_key({"scopes": ["orders:*"]}, scopes=["orders:write"])
    for path, secret, status in (
        ("/", off, 401), ("/", here, 200), ("/", elsewhere, 403), ("/", scoped, 200),
        ("/orders", scoped, 200), ("/orders", narrow, 403), ("/orders/1?x", narrow, 403), ("/", narrow, 200),
    ):  # fmt: skip
        reply = gateway.ask("GET", path, with_key(secret))
        assert reply.status == status, (path, reply)
    # An address that the client makes up is not its own.
    forged = [(b"X-Forwarded-For", b"192.0.2.7"), (b"X-Real-IP", b"192.0.2.7"), (b"Forwarded", b"for=192.0.2.7")]
    assert gateway.ask("GET", "/", [*with_key(elsewhere), *forged]).status == 403


@each_kind
def test_the_edge_is_told_the_address_of_the_connection_and_no_made_up_one(kind: str, world: World) -> None:
    gateway = world.gateways[kind]
    _, here = world.new_key(rateLimits=LIMITS, allowedIps=["127.0.0.0/8"])
    _, elsewhere = world.new_key(rateLimits=LIMITS, allowedIps=["192.0.2.0/24"])
    forged = [(b"X-Forwarded-For", b"192.0.2.7"), (b"X-Real-IP", b"192.0.2.7")]
    assert gateway.ask("GET", "/", [*with_key(here), *forged]).status == 200
    assert gateway.ask("GET", "/", [*with_key(elsewhere), *forged]).status == 403


def test_envoy_opens_the_files_once_for_all_its_workers(world: World) -> None:
    gateway = world.gateways["envoy"]
    _, secret = world.new_key()
    threads = [threading.Thread(target=gateway.ask, args=("GET", "/", with_key(secret))) for _ in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    maps = Path(f"/proc/{gateway.process.pid}/maps").read_text()
    assert sum("data.mdb" in line for line in maps.splitlines()) == 1


@pytest.mark.parametrize(
    ("line", "status"),
    [
        # Each in the place of what protects: a failure in the library, in the script around it, and no script at all.
        ('keywright.gate = { question = function() error("made up") end }; keywright:protect(handle, {})', 503),
        ('error("made up")', 403),
        ("local nothing", 403),
    ],
)
def test_a_script_that_fails_lets_nothing_through_envoy(
    line: str, status: int, world: World, upstream: Upstream, tmp_path: Path
) -> None:
    _, secret = world.new_key()
    protecting = f'keywright:protect(handle, {{ bucket = "{BUCKET}", scopes = scopes }})'
    gateway = LuaGateway(
        "envoy", tmp_path / "envoy", data=world.served.data_dir, api=upstream.port, edge=world.served.port,
        bucket=BUCKET, edits={protecting: line}, is_up=status,
    )  # fmt: skip
    before = upstream.requests
    try:
        for headers in ([], with_key(secret), [(b"X-Consumer-Name", b"root"), (b"Keywright", b"allow")]):
            assert gateway.ask("GET", "/", headers).status == status
    finally:
        gateway.kill()
    assert upstream.requests == before


@each_kind
def test_without_a_pepper_nothing_is_let_through(kind: str, world: World, upstream: Upstream, tmp_path: Path) -> None:
    _, secret = world.new_key()
    data = tmp_path / "data"
    data.mkdir()
    (data / "replica").symlink_to(world.served.data_dir / "replica")
    (data / "pepper.key").write_text("bm90IHRoaXMgb25lLCBidXQgMzIgYnl0ZXMgb2YgaXQ=")
    gateway = LuaGateway(
        kind, tmp_path / kind, data=data, api=upstream.port, edge=free_port(), bucket=BUCKET, is_up=503
    )
    try:
        assert gateway.ask("GET", "/", with_key(secret)).status == 503
    finally:
        gateway.kill()


def test_no_request_is_answered_wrongly_while_nginx_reloads_and_its_workers_are_killed(world: World) -> None:
    gateway = world.gateways["nginx"]
    _, good = world.new_key()
    statuses: Counter[object] = Counter()
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            for secret in (good, "zpka_nobody-has-this-one"):
                try:
                    statuses[secret == good, gateway.ask("GET", "/", with_key(secret)).status] += 1
                except OSError:
                    # A worker was killed with the request.
                    statuses["broken off"] += 1

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for turn in range(6):
        time.sleep(0.25)
        if turn % 2:
            os.kill(gateway.workers()[0], signal.SIGKILL)
            until(gateway.workers, 10)
        else:
            gateway.reload()
    # The places of the killed are given back.
    stop.set()
    for thread in threads:
        thread.join()
    answered = {status for status in statuses if status != "broken off"}
    # For a moment, while another worker opens the files, the edge is asked: it says the same.
    assert answered == {(True, 200), (False, 401)}, statuses
    assert statuses["broken off"] <= 30


@each_kind
def test_with_keywright_killed_plain_keys_are_good_and_counted_ones_are_not_checked(kind: str, world: World) -> None:
    gateway = world.gateways[kind]
    _, plain = world.new_key()
    _, limited = world.new_key(rateLimits=LIMITS)
    world.served.kill()
    try:
        assert gateway.ask("GET", "/", with_key(plain)).status == 200
        assert gateway.ask("GET", "/", with_key("zpka_nobody-has-this-one")).status == 401
        reply = gateway.ask("GET", "/", with_key(limited))
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
    finally:
        world.served = ServeProcess(world.served.data_dir, port=world.served.port, **VARIABLES, **TRUSTED)
        world.served.wait_until_ready()
    assert gateway.ask("GET", "/", with_key(limited)).status == 200
