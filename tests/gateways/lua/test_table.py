"""nginx and Envoy that judge by themselves give every key state its status, and let no made-up identity pass."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import unquote

import pytest

from endpoints.table import BUCKET, METADATA, ROWS, VALID
from gateways.conftest import KNOWN_KEYS, TableEdge, fill_with_table
from gateways.gateway import IDENTITY, with_key
from gateways.lua.lua_gateway import KINDS, LuaGateway
from gateways.spellings import spellings
from gateways.test_gateways import CHALLENGES, FORGED, _expected_statuses
from gateways.upstream import Upstream
from support.process import until

REASONS = {
    "MALFORMED": "The key is malformed.",
    "UNKNOWN": "The key is unknown.",
    "EXPIRED": "The key has expired.",
    "MISSING": "There is no key in the request.",
    "AMBIGUOUS": "There is more than one header with a key.",
    "NO_BUCKET": "The key could not be checked.",
}
BUCKETS = sorted({row.bucket for row in ROWS if not row.bucket.startswith("_")})


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TableEdge]:
    """Stopped once it has said what time it is: whatever is answered is the gateway's own."""
    data_dir = tmp_path_factory.mktemp("edge") / "data"
    fill_with_table(data_dir)
    with TableEdge(data_dir) as running:
        until((data_dir / "replica" / "state").exists, 60)
        running.wait_until_ready()
        running.stop()
        yield running


@pytest.fixture(scope="module", params=KINDS)
def gateways(
    request: pytest.FixtureRequest, edge: TableEdge, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, LuaGateway]]:
    """One for each bucket of the table."""
    directory = tmp_path_factory.mktemp(request.param)
    with ExitStack() as stack:
        started = {}
        for name in BUCKETS:
            started[name] = LuaGateway(
                request.param, directory / name, data=edge.data_dir, api=upstream.port, edge=edge.port, bucket=name,
                is_up=401 if name in KNOWN_KEYS else 503,
            )  # fmt: skip
            stack.callback(started[name].kill)
        yield started


def test_the_table_of_key_states_with_no_edge_to_ask(gateways: dict[str, LuaGateway], upstream: Upstream) -> None:
    wrong = {}
    for row in ROWS:
        if row.bucket not in gateways:
            continue
        headers = with_key(row.secret) if row.headers is None else row.headers
        before = upstream.requests
        try:
            reply = gateways[row.bucket].ask("GET", "/hello?x=1", headers)
        except OSError:
            assert 0 in _expected_statuses(row)
            continue
        code = row.expected.code
        told = None
        if reply.status not in _expected_statuses(row):
            told = f"{reply.status} {reply.body[:200]!r}"
        elif reply.status == 200:
            if dict(reply.seen).get("x-consumer-name") != row.expected.consumer or reply.json()["path"] != "/hello?x=1":
                told = f"{reply.seen}"
        elif upstream.requests != before:
            told = "refused, and yet it reached the API"
        elif reply.status in (401, 503) and row.name != "100 kB header":
            document = reply.json()
            challenge = CHALLENGES.get(code, 'Bearer error="invalid_token"').replace(BUCKET, row.bucket)
            found = [document[name] for name in ("status", "detail", "instance", "requestId")]
            if found != [reply.status, REASONS[code], "/hello", reply.headers["x-request-id"]]:
                told = f"{document}"
            elif reply.status == 401 and reply.headers.get("www-authenticate") != challenge:
                told = f"{reply.headers.get('www-authenticate')}, not {challenge}"
            elif (reply.headers["content-type"], reply.headers["cache-control"]) != (
                "application/problem+json",
                "no-store",
            ):
                told = f"{reply.headers}"
        if told:
            wrong[row.name] = told
    assert wrong == {}


def test_identity_reaches_the_api_and_a_forged_one_never_does(gateways: dict[str, LuaGateway]) -> None:
    for at in range(0, len(FORGED), 45):
        seen = gateways[BUCKET].ask("GET", "/", [*with_key(VALID), *FORGED[at : at + 45]]).seen
        identity = dict(seen)
        assert [(name, value) for name, value in seen if "forged" in value] == []
        assert identity["x-consumer-name"] == "my-consumer"
        assert identity["x-consumer-id"].startswith("csmr_")
        assert identity["x-key-id"].startswith("key_")
        assert json.loads(unquote(identity["x-consumer-metadata"])) == json.loads(METADATA)
        assert "authorization" not in identity, "the API has no need of the key"


@pytest.mark.parametrize("named", [*IDENTITY, "close, x-consumer-NAME"])
def test_what_a_client_calls_hop_by_hop_takes_no_identity_away(gateways: dict[str, LuaGateway], named: str) -> None:
    listed = [(b"Connection", b"keep-alive"), (b"Connection", named.encode()), (b"X-Consumer-Name", b"forged")]
    found = dict(gateways[BUCKET].ask("GET", "/", [*with_key(VALID), *listed]).seen)
    plain = dict(gateways[BUCKET].ask("GET", "/", with_key(VALID)).seen)
    kept = {name.lower() for name in IDENTITY} & plain.keys()
    assert len(kept) == 4
    assert {name: found.get(name) for name in kept} == {name: plain[name] for name in kept}


def test_two_credentials_are_none_however_they_come(gateways: dict[str, LuaGateway]) -> None:
    good, bad = f"Bearer {VALID}".encode(), b"Bearer " + b"x" * 20
    for headers in (
        [(b"Authorization", good), (b"Authorization", bad)],
        [(b"Authorization", bad), (b"Authorization", good)],
        [(b"Authorization", good + b"," + bad)],
        [(b"Authorization", bad + b" , " + good)],
        [(b"Authorization", good), (b"authorization", b"Basic eDp5")],
    ):
        assert gateways[BUCKET].ask("GET", "/", headers).status in (400, 401), headers


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "POST", "PUT", "DELETE"])
def test_every_method_needs_a_key(gateways: dict[str, LuaGateway], method: str) -> None:
    assert gateways[BUCKET].ask(method, "/").status == 401
    body = b"x=1" if method in ("POST", "PUT") else b""
    assert gateways[BUCKET].ask(method, "/", with_key(VALID), body).status == 200


def test_a_route_that_demands_a_scope_refuses_a_key_without_one(gateways: dict[str, LuaGateway]) -> None:
    reply = gateways[BUCKET].ask("GET", "/orders", with_key(VALID))
    assert reply.status == 403
    assert reply.headers["www-authenticate"] == 'Bearer error="insufficient_scope", scope="orders:read"'


def test_all_spellings_of_a_name_are_tried() -> None:
    assert {"X_Consumer_Name", "x.consumer.name"} <= set(spellings("X-Consumer-Name"))
