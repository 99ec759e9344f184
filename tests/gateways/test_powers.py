"""Powers through each gateway: every state its status, a scope by route, and nothing that a client sends changes it."""

from __future__ import annotations

import contextlib
import http.client
import json
import posixpath
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote

import pytest

from edge.world import DIGESTER, PEPPER_CHECK, at, bucket, consumer, key
from gateways import http2
from gateways.conftest import PEPPER, TableEdge
from gateways.gateway import KINDS, PREFLIGHT, ROOT, Edits, Gateway, Kind
from gateways.upstream import Upstream
from keywright.domain.powers import encode_powers
from keywright.edge.replica.replica import Replica
from support.process import until

ON: Edits = [("#scope ", ""), *PREFLIGHT]
FEATURES = ("enabled", "scopes", "allowedIps", "metadata")
OURS, OTHER = "127.0.0.2", "127.0.0.3"
each_gateway = pytest.mark.parametrize("kind", KINDS, ids=str)
SCOPE = 'Bearer error="insufficient_scope", scope="orders:read"'
KEYS = {
    "plain": None,
    "off": encode_powers(enabled=False),
    "scoped": encode_powers(scopes=["orders:*"]),
    "read": encode_powers(scopes=["orders:read"]),
    "elsewhere": encode_powers(allowed_ips=["192.0.2.0/24"]),
    "ours": encode_powers(allowed_ips=[f"{OURS}/32"]),
    "with metadata": encode_powers(metadata='{"env":"live"}'),
    "expired": encode_powers(scopes=["*"]),
}
CONSUMERS = {"granted": encode_powers(scopes=["*"]), "inheriting": None, "off": encode_powers(enabled=False)}


def secret_of(its: str, consumers: str = "granted") -> str:
    return f"zpka_{its}-{consumers}".replace(" ", "-") + "-long-enough"


def fill(data_dir: Path) -> None:
    data_dir.mkdir(mode=0o700)
    replica = Replica.open(data_dir / "replica", DIGESTER.pepper_check())
    made = [replace(consumer(number, 1, name), powers=said) for number, (name, said) in enumerate(CONSUMERS.items(), 1)]
    keys = [
        replace(
            key(secret_of(name, owner.name), 1, owner.number, 1000 if name == "expired" else None),
            powers=said,
        )
        for owner in made
        for name, said in KEYS.items()
    ]
    replica.load("dep_1", PEPPER_CHECK, at(0), [replace(bucket(1, "my-bucket"), features=FEATURES), *made, *keys])
    replica.close()


@dataclass
class World:
    gateways: dict[Kind, Gateway]
    edge: TableEdge
    upstream: Upstream


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("powers")
    fill(directory / "data")
    with ExitStack() as stack:
        edge = TableEdge(
            directory / "data", "--haproxy", str(directory / "haproxy/haproxy.sock"),
            KEYWRIGHT_TRUSTED_PROXIES="127.0.0.1/32", KEYWRIGHT_CLIENT_ADDRESS_HEADER="X-Forwarded-For",
            KEYWRIGHT_IDENTITY_HEADERS="X-Key-Scopes,X-Key-Metadata",
        )  # fmt: skip
        stack.callback(edge.kill)
        gateways = {
            kind: stack.enter_context(
                Gateway(
                    kind, directory / kind.name, api=upstream.port, edge=edge.port, grpc=edge.grpc_port,
                    bucket="my-bucket", edits=ON, variables={"KEYWRIGHT_PEPPER": PEPPER},
                )
            )
            for kind in KINDS
        }  # fmt: skip
        edge.wait_until_ready()
        for gateway in gateways.values():
            until(lambda gateway=gateway: ask(gateway, secret_of("plain"))[0] == 200, 60)
        yield World(gateways, edge, upstream)


Answer = tuple[int, str | None, bytes]


def ask(
    gateway: Gateway, secret: str, path: str = "/", headers: Sequence[tuple[str, str]] = (), *, ip: str = OURS
) -> Answer:
    """Status, WWW-Authenticate and body."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30, source_address=(ip, 0))
    with contextlib.closing(connection):
        connection.putrequest("GET", path)
        for name, value in [("Authorization", f"Bearer {secret}"), *headers]:
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.headers.get("WWW-Authenticate"), answer.read()


INVALID = 'Bearer error="invalid_token"'
STATES: list[tuple[str, str, str, str, int, str | None]] = [
    ("plain", "granted", "/", OURS, 200, None),
    ("plain", "granted", "/orders", OURS, 200, None),
    ("plain", "inheriting", "/", OURS, 200, None),
    ("plain", "inheriting", "/orders/1", OURS, 403, SCOPE),
    ("plain", "off", "/", OURS, 401, INVALID),
    ("off", "granted", "/", OURS, 401, INVALID),
    ("off", "granted", "/orders", OURS, 401, INVALID),
    ("scoped", "granted", "/orders", OURS, 200, None),
    ("read", "granted", "/orders/1?x=1", OURS, 200, None),
    ("read", "inheriting", "/orders/1?x=1", OURS, 403, SCOPE),
    ("elsewhere", "granted", "/", OURS, 403, None),
    ("elsewhere", "granted", "/orders", OURS, 403, None),
    ("ours", "granted", "/", OURS, 200, None),
    ("ours", "granted", "/", OTHER, 403, None),
    ("ours", "inheriting", "/orders", OTHER, 403, None),
    ("with metadata", "granted", "/orders", OURS, 200, None),
    ("expired", "granted", "/", OURS, 401, INVALID),
    ("expired", "off", "/", OURS, 401, INVALID),
]


@each_gateway
def test_the_table_of_powers(kind: Kind, world: World) -> None:
    wrong = {}
    for its, consumers, path, ip, status, challenge in STATES:
        before = world.upstream.requests
        found = ask(world.gateways[kind], secret_of(its, consumers), path, ip=ip)
        if (
            found[:2] != (status, challenge)
            or (world.upstream.requests != before) != (status == 200)
            or (status != 200 and json.loads(found[2])["status"] != status)
        ):
            wrong[its, consumers, path, ip] = found
    assert wrong == {}


TOLD = [
    *((name, OURS) for name in ("X-Forwarded-For", "X-Real-IP", "X-Client-IP", "True-Client-IP", "Keywright-Ip")),
    ("Forwarded", f"for={OURS}"), ("X-Original-Forwarded-For", OURS), ("Keywright-Scope", "a"), ("Keywright-Cost", "0"),
    ("Keywright-Bucket", "my-bucket"), ("X-Original-URI", "/"), ("X-Forwarded-Uri", "/v1/forward-auth/my-bucket"),
    ("X-Envoy-Original-Path", "/"), ("X-Key-Scopes", "orders:read"), ("X-Key-Metadata", "{}"),
]  # fmt: skip
QUERY = "?scope=x&cost=0&ip=10.0.0.1&allowedIps=127.0.0.3&peek=true"
TAILS = [QUERY, ";scope=x", "/;scope=x;cost=0" + QUERY, "/%3Bscope=x", "?;scope=x"]
QUESTIONS = [
    ("scoped", "granted", "/orders", OURS, 200), ("plain", "inheriting", "/orders", OURS, 403),
    ("plain", "inheriting", "/a", OURS, 200), ("ours", "granted", "/a", OTHER, 403),
    ("ours", "granted", "/a", OURS, 200), ("off", "granted", "/a", OURS, 401),
]  # fmt: skip


@each_gateway
def test_nothing_that_a_client_sends_changes_the_question(kind: Kind, world: World) -> None:
    wrong = {}
    for its, consumers, path, ip, status in QUESTIONS:
        for tail in TAILS:
            found = ask(world.gateways[kind], secret_of(its, consumers), path + tail, TOLD, ip=ip)
            if found[0] != status:
                wrong[its, consumers, path + tail] = found
    assert wrong == {}


@each_gateway
def test_a_path_that_is_none_adds_nothing_to_the_question(kind: Kind, world: World) -> None:
    gateway = world.gateways[kind]
    headers = (b"authorization", b"Bearer " + secret_of("plain", "inheriting").encode())
    for path in (b";scope=x", b";scope=orders:read", b"", b"*", b"?scope=x", b"x"):
        with http2.connect(gateway.port) as connection:
            assert connection.ask(http2.request(headers, path=path)).status in (0, 200, 400, 404, 503), path


SPELT = [
    "/orders;x", "/%6frders", "/orders%2f1", "//orders", "/./orders", "/x/../orders", "/x/%2e%2e/orders",
    "/x%2f..%2forders",
    "/x//../orders", "/%2forders", "/.//orders", "/%2e/orders", "/x/.%2E/%6Frders/1",
]  # fmt: skip


def _is_of_orders(path: str) -> bool:
    return posixpath.normpath(re.sub("/+", "/", unquote(path))).startswith("/orders") or "//" in path


@each_gateway
def test_no_other_spelling_of_a_path_gets_by_what_its_route_demands(kind: Kind, world: World) -> None:
    found = {path: ask(world.gateways[kind], secret_of("plain", "inheriting"), path) for path in SPELT}
    let_in = {path: json.loads(body)["path"] for path, (status, _, body) in found.items() if status not in (400, 403)}
    # A gateway that puts a path into another form first hands on that form.
    assert {path: seen for path, seen in let_in.items() if _is_of_orders(seen)} == {}
    assert ask(world.gateways[kind], secret_of("scoped"), "/x/y/orders%20z")[0] == 200


@each_gateway
def test_no_name_of_identity_is_a_clients_also_one_that_is_yet_to_come(kind: Kind, world: World) -> None:
    names = [f"X{a}{noun}{b}{word}" for a, b in ("--", "__", "..", "-_") for noun in ("Key", "Consumer")
             for word in ("Metadata", "Scopes", "Plan", "Tags", "Id")]  # fmt: skip
    status, _, body = ask(world.gateways[kind], secret_of("plain"), "/", [(name, "forged") for name in names])
    assert status == 200
    assert [(name, value) for name, value in json.loads(body)["headers"] if "forged" in value] == []


@each_gateway
def test_a_preflight_passes_on_a_route_that_demands_a_scope(kind: Kind, world: World) -> None:
    asked = [(b"Access-Control-Request-Method", b"PUT")]
    gateway = world.gateways[kind]
    assert (gateway.ask("OPTIONS", "/orders", asked).status, gateway.ask("OPTIONS", "/orders").status) == (200, 401)


@pytest.mark.parametrize("page", ["nginx", "traefik", "caddy", "envoy", "haproxy"])
def test_each_page_shows_what_its_files_have(page: str) -> None:
    text = (ROOT / f"docs/how-to/protect-an-api-behind-{page}.md").read_text()
    section = text.partition("## What a route demands")[2].partition("\n## ")[0]
    lines = [
        line.strip() for block in re.findall(r"```\w+\n(.*?)```", section, re.DOTALL) for line in block.splitlines()
    ]
    files = "\n".join(file.read_text() for file in (ROOT / "gateways" / page).iterdir() if file.suffix != ".md")
    kept = {line.strip().removeprefix("#scope ").strip() for line in files.splitlines()}
    assert len(lines) > 3
    assert [line for line in lines if line and line not in kept] == []


@each_gateway
def test_what_else_is_told_of_a_key_where_the_edge_names_it(kind: Kind, world: World) -> None:
    told = {"x-key-scopes": "orders:*", "x-key-metadata": "%7B%22env%22%3A%22live%22%7D"}
    forged = [("X-Key-Scopes", "*"), ("X-Key-Metadata", "forged"), ("Connection", "X-Key-Scopes, X-Key-Metadata")]
    for name, secret in (("x-key-scopes", "scoped"), ("x-key-metadata", "with metadata")):
        _, _, body = ask(world.gateways[kind], secret_of(secret), "/", forged)
        seen = {name.lower(): value for name, value in json.loads(body)["headers"]}
        assert "forged" not in seen.values()
        # It judges by maps, and those tell no more than it needs.
        assert seen.get(name) == (None if kind.is_own_judge else told[name])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.is_own_judge], ids=str)
def test_a_question_that_the_edge_does_not_know_is_no_yes(kind: Kind, world: World, tmp_path: Path) -> None:
    """As from an edge of before (404), or one that a parameter is unknown to (400)."""
    edits: Edits = [*ON, (";scope=orders:read", ";speed=fast")]
    with Gateway(
        kind, tmp_path / "gateway", api=world.upstream.port, edge=world.edge.port, grpc=world.edge.grpc_port,
        bucket="my-bucket", edits=edits,
    ) as gateway:  # fmt: skip
        until(lambda: ask(gateway, secret_of("plain"))[0] == 200, 60)
        assert ask(gateway, secret_of("plain"), "/orders")[0] in (400, 401, 403, 503)
