"""What each gateway's file offers as an option, switched on: CORS headers on refusals, and a greatest age."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import pytest

from endpoints.table import VALID
from gateways.conftest import TableEdge, start_all
from gateways.gateway import CADDY, ENVOY, ENVOY_GRPC, HAPROXY, KINDS, NGINX, TRAEFIK, Edits, Gateway, Kind, with_key
from gateways.upstream import Upstream
from support.process import until

AGE_SECONDS, MOST_SECONDS = 2, 6
_ON: Edits = [("#cors ", ""), ("#age ", "")]
OPTIONS: dict[Kind, Edits] = {
    NGINX: [*_ON, ("worker_shutdown_timeout 60s", f"worker_shutdown_timeout {AGE_SECONDS}s")],
    HAPROXY: [*_ON, ("hard-stop-after 60s", f"hard-stop-after {AGE_SECONDS}s")],
    **{kind: [*_ON, ("3600s", f"{AGE_SECONDS}s")] for kind in (CADDY, ENVOY, ENVOY_GRPC, TRAEFIK)},
}
ORIGIN = (b"Origin", b"https://app.example.com")
ALLOWED, EXPOSED = "access-control-allow-origin", "access-control-expose-headers"
each_gateway = pytest.mark.parametrize("kind", KINDS, ids=str)


@dataclass
class World:
    gateways: dict[Kind, Gateway]
    edge: TableEdge


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[World]:
    with ExitStack() as stack:
        directory = tmp_path_factory.mktemp("options")
        started = start_all(stack, directory, upstream, lambda kind: OPTIONS[kind], KEYWRIGHT_HAPROXY_LEASE_SECONDS="2")
        yield World(*started)


@each_gateway
def test_a_browser_may_read_a_refusal_and_the_api_speaks_for_itself(kind: Kind, world: World) -> None:
    gateway = world.gateways[kind]
    for headers in ([], with_key("of nobody"), with_key("zpka_" + "x" * 40)):
        reply = gateway.ask("GET", "/", [*headers, ORIGIN])
        assert (reply.status, reply.headers.get(ALLOWED)) == (401, "*")
        assert "WWW-Authenticate" in reply.headers[EXPOSED]
        assert "www-authenticate" in reply.headers
    reply = gateway.ask("GET", "/", [*with_key(VALID), ORIGIN])
    assert (reply.status, reply.headers.get(ALLOWED), reply.headers.get(EXPOSED)) == (200, None, None)


def opened(gateway: Gateway, *lines: str, path: str = "/stream") -> socket.socket:
    """What goes on for as long as it may, behind the answer's head."""
    connection = socket.create_connection(("127.0.0.1", gateway.port), timeout=30)
    head = [f"GET {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {VALID}", *lines, "", ""]
    connection.sendall("\r\n".join(head).encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(1)
    assert answer.split()[1] in (b"101", b"200"), answer
    return connection


def open_websocket(gateway: Gateway) -> socket.socket:
    return opened(
        gateway, "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", path="/",
    )  # fmt: skip


def seconds_until_closed(connection: socket.socket, most: float, *, speaks: bool) -> float | None:
    """How long it went on, with something to say all the time; None if it went on for longer than `most`."""
    began = time.monotonic()
    connection.settimeout(1)
    with connection:
        while time.monotonic() - began < most:
            try:
                if speaks:
                    connection.sendall(b"x")
                    time.sleep(0.05)
                if not connection.recv(65536):
                    break
            except OSError:
                break
        else:
            return None
    return time.monotonic() - began


@pytest.fixture(scope="module")
def ages(world: World) -> dict[tuple[Kind, str], float | None]:
    """How old a WebSocket and a stream became that are in use all the time, at each gateway, all at once."""

    def websocket(kind: Kind) -> float | None:
        return seconds_until_closed(open_websocket(world.gateways[kind]), MOST_SECONDS, speaks=True)

    def stream(kind: Kind) -> float | None:
        return seconds_until_closed(opened(world.gateways[kind]), MOST_SECONDS, speaks=False)

    with ThreadPoolExecutor(2 * len(KINDS)) as pool:
        asked = {
            (kind, name): pool.submit(measure, kind)
            for kind in KINDS
            for name, measure in (("websocket", websocket), ("stream", stream))
        }
        return {what: future.result() for what, future in asked.items()}


WITHOUT_AGE = {
    (NGINX, "websocket"),
    (NGINX, "stream"),
    (HAPROXY, "websocket"),
    (HAPROXY, "stream"),
    (TRAEFIK, "websocket"),
}
"""So it is written in their READMEs: whoever finds an age here takes that out of there."""


@pytest.mark.parametrize("what", ["websocket", "stream"])
@each_gateway
def test_what_is_in_use_is_closed_at_the_greatest_age_where_there_is_one(
    kind: Kind, what: str, ages: dict[tuple[Kind, str], float | None]
) -> None:
    lasted = ages[kind, what]
    if (kind, what) in WITHOUT_AGE:
        assert lasted is None
    else:
        assert lasted is not None
        assert lasted >= AGE_SECONDS - 1


@pytest.mark.parametrize("kind", [NGINX, HAPROXY], ids=str)
def test_a_reload_closes_what_is_open_after_so_long(kind: Kind, world: World) -> None:
    gateway = world.gateways[kind]
    connections = [open_websocket(gateway), opened(gateway)]
    if kind is NGINX:
        gateway.process.send_signal(signal.SIGHUP)
        second = None
    else:
        # As a service manager's reload does: a new process takes over from the old one.
        command = ["haproxy", "-f", "haproxy.cfg", "-sf", str(gateway.process.pid)]
        environment = {**os.environ, **gateway._variables, "PATH": f"{os.environ['PATH']}:/usr/sbin"}
        second = subprocess.Popen(command, cwd=gateway.directory, env=environment)
    try:
        assert seconds_until_closed(connections[0], 30, speaks=True) is not None
        assert seconds_until_closed(connections[1], 30, speaks=False) is not None
        until(lambda: gateway.ask("GET", "/", with_key(VALID)).status == 200, 60)
    finally:
        if second is not None:
            gateway.process.wait()
            gateway.process = second


@each_gateway
def test_a_browser_may_read_that_a_key_could_not_be_checked(kind: Kind, world: World) -> None:
    gateway = world.gateways[kind]
    with suppress(ProcessLookupError):
        world.edge.kill()
    until(lambda: gateway.ask("GET", "/", [*with_key(VALID), ORIGIN]).status == 503, 60)
    reply = gateway.ask("GET", "/", [*with_key(VALID), ORIGIN])
    assert (reply.status, reply.headers.get(ALLOWED)) == (503, "*")
