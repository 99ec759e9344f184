"""What a gateway's README says for those who would rather let requests through than refuse them while the edge is away.

While it isn't, nothing that a client sends may make a check fail that way: a check that a client switches off is none.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import pytest

from endpoints.table import EXPIRED, VALID
from gateways.conftest import TableEdge, start_all
from gateways.gateway import KINDS, TRAEFIK, Edits, Gateway, Kind, with_key
from gateways.upstream import Upstream
from support.process import until

OPEN: Edits = [("#open ", "")]
TRAEFIK_OPEN: Edits = [('statusRewrites: { "500-504": 503 }', 'statusRewrites: { "500-501": 503, "502-504": 200 }')]
FORGED = [(b"X-Consumer-Name", b"forged"), (b"X_Consumer_Id", b"forged"), (b"X-Key-Id", b"forged"), (b"X-Own", b"1")]
each_gateway = pytest.mark.parametrize("kind", KINDS, ids=str)


@dataclass
class World:
    """All gateways with the variant of their README, before one edge."""

    gateways: dict[Kind, Gateway]
    edge: TableEdge
    upstream: Upstream


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[World]:
    def edits(kind: Kind) -> Edits:
        return TRAEFIK_OPEN if kind is TRAEFIK else OPEN

    with ExitStack() as stack:
        directory = tmp_path_factory.mktemp("unchecked")
        gateways, edge = start_all(stack, directory, upstream, edits, KEYWRIGHT_HAPROXY_LEASE_SECONDS="2")
        yield World(gateways, edge, upstream)


@pytest.fixture(scope="module")
def silent(world: World) -> World:
    """An edge that takes connections and says nothing."""
    os.killpg(world.edge.process.pid, signal.SIGSTOP)
    return world


@pytest.fixture(scope="module")
def away(world: World) -> World:
    world.edge.kill()
    return world


def _request(*lines: bytes, method: bytes = b"GET", path: bytes = b"/odd", body: bytes = b"") -> bytes:
    return b"\r\n".join([method + b" " + path + b" HTTP/1.1", b"Host: x", *lines, b"", body])


_BEARER = b"Authorization: Bearer " + EXPIRED.encode()
ODD = {
    "plain": _request(),
    "150 headers": _request(*(b"X-%d: 1" % number for number in range(150))),
    "20 kB of headers": _request(*(b"X-%d: " % number + b"x" * 2000 for number in range(10))),
    "50 kB header": _request(b"X-Long: " + b"x" * 50_000),
    "900 kB of headers": _request(*(b"X-%d: " % number + b"x" * 9000 for number in range(90)), b"X: " + b"x" * 90_000),
    "no revision": _request(b"Min-Revision: x", _BEARER),
    "a revision that is far off": _request(b"Min-Revision: 999999999999", _BEARER),
    "a token of nobody's": _request(b"Keywright-Token: x", _BEARER),
    "expect": _request(b"Expect: 100-continue", b"Content-Length: 3", method=b"POST", body=b"abc"),
    "expect what nobody does": _request(b"Expect: wonders", _BEARER),
    "chunked": _request(b"Transfer-Encoding: chunked", method=b"POST", body=b"3\r\nabc\r\n0\r\n\r\n"),
    "chunks that are none": _request(b"Transfer-Encoding: chunked", method=b"POST", body=b"nothing\r\n\r\n"),
    "length and chunked": _request(
        b"Content-Length: 3", b"Transfer-Encoding: chunked", method=b"POST", body=b"0\r\n\r\n"
    ),
    "two lengths": _request(b"Content-Length: 3", b"Content-Length: 4", method=b"POST", body=b"abcd"),
    "upgrade to HTTP/2": _request(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"),
    "upgrade to a WebSocket": _request(
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ),
    "hop by hop": _request(b"Connection: authorization, host, x-forwarded-uri", _BEARER),
    "trailers": _request(b"TE: trailers", b"Trailer: Authorization", _BEARER),
    "bytes": _request(b"X-Bytes: \xff\xfe\x80", b"Cookie: \xc3\x28"),
    "another path": _request(b"X-Forwarded-Uri: /v1/x", b"X-Original-URI: /livez", b"X-Forwarded-Method: OPTIONS"),
    "no UTF-8 in the path": _request(path=b"/%ff%fe?%ff"),
    "bytes in the path": _request(path=b"/\xff\xfe"),
    "NUL in the path": _request(path=b"/%00/%0d%0a"),
    "up and away": _request(path=b"/../../../livez"),
    "half an escape": _request(path=b"/%"),
    "long path": _request(path=b"/" + b"x" * 7000),
    "50 kB path": _request(path=b"/" + b"x" * 50_000),
    "whole address": _request(path=b"http://127.0.0.1/livez"),
    "asterisk": _request(method=b"OPTIONS", path=b"*"),
    "unknown method": _request(method=b"BREW"),
    "connect": _request(method=b"CONNECT", path=b"x:443"),
    "HTTP/1.0": b"GET / HTTP/1.0\r\n\r\n",
}


def _send(gateway: Gateway, request: bytes) -> bytes:
    """The first line of the answer, empty where there is none."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as connection:
        with suppress(OSError):
            connection.sendall(request)
        try:
            return connection.recv(65536).partition(b"\r\n")[0]
        except OSError:
            return b""


@each_gateway
def test_no_client_can_make_the_check_fail_and_so_go_unchecked(kind: Kind, world: World) -> None:
    gateway = world.gateways[kind]
    passed, at_first = {}, world.upstream.requests
    for name, request in ODD.items():
        before = world.upstream.requests
        line = _send(gateway, request)
        if world.upstream.requests != before:
            passed[name] = line
    assert passed == {}
    assert gateway.ask("GET", "/", with_key(VALID)).status == 200
    assert world.upstream.requests == at_first + 1, "nor has any of them come late"


def _assert_unchecked(gateway: Gateway, headers: list[tuple[bytes, bytes]]) -> None:
    reply = gateway.ask("POST", "/hello?x=1", [*headers, *FORGED], b"body")
    assert reply.status == 200, reply
    assert reply.json()["path"] == "/hello?x=1"
    assert reply.headers["content-type"] == "application/json"
    seen = dict(reply.seen)
    assert [(name, value) for name, value in reply.seen if "forged" in value] == []
    assert seen["x-own"] == "1"
    assert "authorization" not in seen


def test_requests_pass_without_identity_while_the_edge_says_nothing(silent: World) -> None:
    gateways = [gateway for kind, gateway in silent.gateways.items() if not kind.is_own_judge]
    with ThreadPoolExecutor(len(gateways)) as pool:
        list(pool.map(lambda gateway: _assert_unchecked(gateway, with_key(VALID)), gateways))


@each_gateway
def test_requests_pass_without_identity_while_the_edge_is_away(kind: Kind, away: World) -> None:
    gateway = away.gateways[kind]
    until(lambda: gateway.ask("GET", "/").status == 200, 60)
    for headers in ([], with_key(VALID), with_key("of nobody")):
        _assert_unchecked(gateway, headers)
