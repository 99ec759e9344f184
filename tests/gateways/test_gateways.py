"""Each gateway, from its own file, gives every key state its status, and lets no identity pass but the edge's."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from endpoints.table import BUCKET, METADATA, ROWS, SUCCESSOR, VALID, Row
from gateways.conftest import TableEdge, fill_with_table
from gateways.gateway import ASKING, IDENTITY, KINDS, PREFLIGHT, Gateway, Kind, with_key
from gateways.spellings import spellings
from gateways.upstream import Upstream
from support.ports import free_port
from support.process import until

NewGateway = Callable[..., Gateway]
STATUSES = {"VALID": {200}, "NO_BUCKET": {404, 503}}
CHALLENGES = {"MISSING": f'Bearer realm="{BUCKET}"', "AMBIGUOUS": 'Bearer error="invalid_request"'}
each_gateway = pytest.mark.parametrize("kind", KINDS, ids=str)


def _expected_statuses(row: Row) -> set[int]:
    if row.name in ("two headers", "100 kB header"):
        # Some gateways refuse such a request themselves, or break off the connection (0).
        return {400, 401, 413, 431, 0}
    return STATUSES.get(row.expected.code, {401})


@each_gateway
def test_the_table_of_key_states(kind: Kind, new_gateway: NewGateway, upstream: Upstream) -> None:
    wrong = {}
    for row in ROWS:
        gateway = new_gateway(kind, bucket=row.bucket)
        headers = with_key(row.secret) if row.headers is None else row.headers
        before = upstream.requests
        try:
            reply = gateway.ask("GET", "/hello?x=1", headers)
        except OSError:
            assert 0 in _expected_statuses(row)
            continue
        told = None
        if reply.status not in _expected_statuses(row):
            told = f"{reply.status} {reply.body[:200]!r}"
        elif reply.status == 200:
            if dict(reply.seen).get("x-consumer-name") != row.expected.consumer or reply.json()["path"] != "/hello?x=1":
                told = f"{reply.seen}"
        elif upstream.requests != before:
            told = "refused, and yet it reached the API"
        elif reply.status in (401, 503) and row.name not in ("two headers", "100 kB header"):
            document = reply.json()
            challenge = CHALLENGES.get(row.expected.code, 'Bearer error="invalid_token"')
            if reply.headers["content-type"] != "application/problem+json" or document["status"] != reply.status:
                told = f"{reply.headers}"
            elif reply.status == 401 and reply.headers.get("www-authenticate") != challenge:
                told = f"{reply.headers.get('www-authenticate')}, not {challenge}"
        if told:
            wrong[row.name] = told
    assert wrong == {}


YET_TO_COME = ("X-Key-Scopes", "X-Key-Metadata", "X-Consumer-Plan", "X-Key-Tags")
FORGED = [(spelling.encode(), b"forged") for name in (*IDENTITY, *YET_TO_COME) for spelling in spellings(name)]


@each_gateway
def test_identity_reaches_the_api_and_a_forged_one_never_does(
    kind: Kind, new_gateway: NewGateway, edge: TableEdge
) -> None:
    public_keys = KeySet.import_key_set(edge.get("/.well-known/jwks.json"))
    # In portions: some gateways have a limit of 100 headers.
    for at in range(0, len(FORGED), 45):
        seen = new_gateway(kind).ask("GET", "/", [*with_key(VALID), *FORGED[at : at + 45]]).seen
        identity = dict(seen)
        assert [(name, value) for name, value in seen if "forged" in value] == []
        assert identity["x-consumer-name"] == "my-consumer"
        assert identity["x-consumer-id"].startswith("csmr_")
        assert identity["x-key-id"].startswith("key_")
        assert json.loads(unquote(identity["x-consumer-metadata"])) == json.loads(METADATA)
        if kind.is_own_judge:
            assert "x-consumer-token" not in identity
        else:
            claims = jwt.decode(identity["x-consumer-token"], public_keys, algorithms=["ES256"]).claims
            assert (claims["sub"], claims["aud"]) == ("my-consumer", BUCKET)
        assert "authorization" not in identity, "the API has no need of the key"


@each_gateway
@pytest.mark.parametrize("named", [*IDENTITY, ", ".join(IDENTITY), "close, x-consumer-NAME"])
def test_what_a_client_calls_hop_by_hop_takes_no_identity_away(kind: Kind, named: str, new_gateway: NewGateway) -> None:
    # RFC 9110 section 7.6.1: what Connection names ends at this hop. The identity was added here, not by the client.
    gateway = new_gateway(kind)
    plain = dict(gateway.ask("GET", "/", with_key(VALID)).seen)
    listed = [(b"Connection", b"keep-alive"), (b"Connection", named.encode()), (b"X-Consumer-Name", b"forged")]
    found = dict(gateway.ask("GET", "/", [*with_key(VALID), *listed]).seen)
    expected = {name.lower() for name in IDENTITY} & plain.keys()
    # A token is another one each time.
    kept = expected - {"x-consumer-token"}
    assert len(kept) == 4
    assert {name: found.get(name) for name in kept} == {name: plain[name] for name in kept}
    assert expected <= found.keys()


@each_gateway
def test_a_key_in_the_query_string_is_no_key(kind: Kind, new_gateway: NewGateway) -> None:
    for path in (f"/?key={VALID}", f"/?api_key={VALID}&access_token={VALID}&authorization=Bearer%20{VALID}"):
        assert new_gateway(kind).ask("GET", path).status == 401


@each_gateway
@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "POST", "PUT", "DELETE"])
def test_every_method_needs_a_key(kind: Kind, method: str, new_gateway: NewGateway) -> None:
    preflight = [(b"Origin", b"https://app.example"), (b"Access-Control-Request-Method", b"GET")]
    gateway = new_gateway(kind)
    assert gateway.ask(method, "/", preflight if method == "OPTIONS" else []).status == 401
    assert gateway.ask(method, "/", with_key(VALID), b"x=1" if method in ("POST", "PUT") else b"").status == 200


@each_gateway
def test_cors_preflights_pass_where_that_is_switched_on_and_nothing_else_does(
    kind: Kind, new_gateway: NewGateway
) -> None:
    gateway = new_gateway(kind, edits=PREFLIGHT)
    asked = (b"Access-Control-Request-Method", b"PUT")
    seen = gateway.ask("OPTIONS", "/", [asked, *FORGED[:40], (b"Authorization", b"Bearer x")]).seen
    assert [(name, value) for name, value in seen if "forged" in value] == []
    assert "authorization" not in dict(seen)
    assert gateway.ask("OPTIONS", "/").status == 401
    assert gateway.ask("GET", "/", [asked]).status == 401
    assert (
        gateway.ask("GET", "/", [asked, (b"X-Forwarded-Method", b"OPTIONS"), (b"X-HTTP-Method", b"OPTIONS")]).status
        == 401
    )
    assert gateway.ask("GET", "/", with_key(VALID)).status == 200


@each_gateway
def test_an_upgrade_needs_a_key_and_goes_through_with_one(kind: Kind, new_gateway: NewGateway) -> None:
    upgrade = [
        (b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"), (b"Sec-WebSocket-Version", b"13"),
        (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
    ]  # fmt: skip
    gateway = new_gateway(kind)
    assert gateway.ask("GET", "/socket", upgrade).status == 401
    with gateway.connect() as connection:
        connection.putrequest("GET", "/socket")
        for name, value in [*upgrade, *with_key(SUCCESSOR)]:
            connection.putheader(name, value)
        connection.endheaders()
        got = b""
        while b"my-consumer:" not in got:
            piece = connection.sock.recv(65536)
            assert piece, got
            got += piece
        assert got.startswith(b"HTTP/1.1 101")
        connection.sock.sendall(b"hello")
        assert connection.sock.recv(100) == b"hello"


@each_gateway
def test_a_large_body_flows_through_and_is_not_kept(kind: Kind, new_gateway: NewGateway, upstream: Upstream) -> None:
    size, piece = 100 * 1024 * 1024, bytes(1024 * 1024)
    gateway = new_gateway(kind)
    before = upstream.received
    with gateway.connect() as connection:
        connection.putrequest("POST", "/upload")
        connection.putheader("Content-Length", str(size))
        connection.putheader("Authorization", f"Bearer {VALID}")
        connection.endheaders()
        for _ in range(8):
            connection.send(piece)
        # The API has much of the first 8 MB while 92 are still to be sent: what lies between is in buffers of sockets.
        until(lambda: upstream.received - before > 1024 * 1024, 60)
        for _ in range(size // len(piece) - 8):
            connection.send(piece)
        assert connection.getresponse().status == 200
    assert upstream.received - before == size


@each_gateway
def test_a_large_body_without_a_key_does_not_reach_the_api(
    kind: Kind, new_gateway: NewGateway, upstream: Upstream
) -> None:
    gateway, before = new_gateway(kind), upstream.received
    with gateway.connect() as connection:
        connection.putrequest("POST", "/upload")
        connection.putheader("Content-Length", str(100 * 1024 * 1024))
        connection.endheaders()
        # Caddy answers when it has thrown away the first 256 kB, HAProxy at once, and then closes the connection.
        for _ in range(8):
            if select.select([connection.sock], [], [], 0.5)[0]:
                break
            connection.send(bytes(64 * 1024))
        assert connection.getresponse().status == 401
    assert upstream.received == before


def test_while_the_edge_is_away_every_request_is_503_and_then_all_is_well_again(
    upstream: Upstream, tmp_path: Path
) -> None:
    fill_with_table(tmp_path / "data")
    port, grpc_port = free_port(), free_port()

    def new_edge() -> TableEdge:
        return TableEdge(tmp_path / "data", port=port, KEYWRIGHT_GRPC_PORT=str(grpc_port)).wait_until_ready()

    def statuses(headers: list[tuple[bytes, bytes]]) -> dict[str, int]:
        return {gateway.kind.name: gateway.ask("GET", "/", headers).status for gateway in gateways}

    def everywhere(status: int) -> dict[str, int]:
        return {gateway.kind.name: status for gateway in gateways}

    with contextlib.ExitStack() as stack:
        gateways = [
            stack.enter_context(
                Gateway(kind, tmp_path / kind.name, api=upstream.port, edge=port, grpc=grpc_port, bucket=BUCKET)
            )
            for kind in ASKING
        ]
        before = upstream.requests
        # Before there ever was an edge, too.
        assert statuses(with_key(VALID)) == everywhere(503)
        with new_edge() as edge:
            until(lambda: statuses(with_key(VALID)) == everywhere(200), 60)
            assert statuses([]) == everywhere(401)
            seen = upstream.requests
            # It takes connections and says nothing.
            os.killpg(edge.process.pid, signal.SIGSTOP)
            with ThreadPoolExecutor(len(gateways)) as pool:
                silent = pool.map(lambda gateway: gateway.ask("GET", "/", with_key(VALID)).status, gateways)
                assert list(silent) == [503] * len(gateways)
            edge.kill()
            assert statuses(with_key(VALID)) == statuses([]) == everywhere(503)
            assert upstream.requests == seen > before
        with new_edge():
            until(lambda: statuses(with_key(VALID)) == everywhere(200), 60)


@pytest.mark.parametrize("kind", ASKING, ids=str)
def test_an_api_that_is_away_or_failing_is_not_taken_for_a_check_that_failed(
    kind: Kind, edge: TableEdge, tmp_path: Path
) -> None:
    away = free_port()
    with Gateway(kind, tmp_path / "gateway", api=away, edge=edge.port, grpc=edge.grpc_port, bucket=BUCKET) as gateway:
        reply = gateway.ask("GET", "/", with_key(VALID))
        # 503 is Envoy's own answer for an API that can't be reached.
        assert reply.status == (503 if kind.folder == "envoy" else 502)
        assert b"could not be checked" not in reply.body


@each_gateway
def test_no_client_makes_a_check_wait_for_a_revision(kind: Kind, new_gateway: NewGateway) -> None:
    # The edge would keep the one waiting for half a second, then refuse it with 503, and the other with 400.
    for wanted in (b"999999999", b"none"):
        seen = new_gateway(kind).ask("GET", "/", [*with_key(VALID), (b"Min-Revision", wanted)]).seen
        assert dict(seen)["min-revision"] == wanted.decode(), "for the API it is a header like others"


@each_gateway
def test_the_api_hears_by_which_host_and_port_it_was_called(kind: Kind, new_gateway: NewGateway) -> None:
    gateway = new_gateway(kind)
    assert dict(gateway.ask("GET", "/", with_key(VALID)).seen)["host"] == f"127.0.0.1:{gateway.port}"
