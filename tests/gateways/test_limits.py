"""Rate limits through each gateway: as many as there are, then a 429 whose fields reach the client."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from edge.world import DIGESTER, PEPPER_CHECK, at, bucket, consumer, key, new_id
from gateways.conftest import PEPPER, TableEdge
from gateways.gateway import KINDS, Edits, Gateway, Kind
from gateways.upstream import Upstream
from keywright.domain import models
from keywright.domain.limits import LimitScope, RateLimit
from keywright.domain.powers import encode_powers
from keywright.edge.replica.replica import Replica
from keywright.protocol.changes import PlanPut
from support.process import until

LIMIT = RateLimit("burst", 3, 3600, LimitScope.EDGE)
OF_PLAN = RateLimit("of-plan", 2, 7200, LimitScope.EDGE)
PLAIN = "zpka_plain-and-long-enough"
COUNTING = [kind for kind in KINDS if not kind.is_own_judge]
OWN_JUDGES = [kind for kind in KINDS if kind.is_own_judge]
ON: Edits = [("#scope ", "")]
FEATURES = ("plan", "rateLimits", "scopes")


def secret_of(kind: Kind, what: str) -> str:
    return f"zpka_{kind.name}-{what}-long-enough"


def fill(data_dir: Path) -> None:
    data_dir.mkdir(mode=0o700)
    replica = Replica.open(data_dir / "replica", DIGESTER.pepper_check())
    limited, scoped = encode_powers(rate_limits=[LIMIT]), encode_powers(scopes=["*"], plan=1)
    made, keys = [consumer(1, 1, "plain")], [key(PLAIN, 1, 1)]
    for number, kind in enumerate(KINDS):
        made += [
            replace(consumer(10 + number, 1, f"limited-{number}")),
            replace(consumer(30 + number, 1), powers=scoped),
        ]
        keys += [
            replace(key(secret_of(kind, "key"), 1, 10 + number), powers=limited),
            key(secret_of(kind, "plan"), 1, 30 + number),
        ]
    plan = PlanPut(1, new_id(models.IdKind.PLAN), 1, "gold", encode_powers(rate_limits=[OF_PLAN]))
    records = [replace(bucket(1, "my-bucket"), features=FEATURES), plan, *made, *keys]
    replica.load("dep_1", PEPPER_CHECK, at(0), records)
    replica.close()


@dataclass
class World:
    gateways: dict[Kind, Gateway]
    edge: TableEdge
    upstream: Upstream


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("limits")
    fill(directory / "data")
    with ExitStack() as stack:
        # Workers of one edge count together.
        edge = TableEdge(
            directory / "data", "--workers", "2", "--haproxy", str(directory / "haproxy/haproxy.sock"),
            KEYWRIGHT_TRUSTED_PROXIES="127.0.0.1/32", KEYWRIGHT_CLIENT_ADDRESS_HEADER="X-Forwarded-For",
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
            until(lambda gateway=gateway: ask(gateway, PLAIN)[0] == 200, 60)
        yield World(gateways, edge, upstream)


def ask(gateway: Gateway, secret: str, path: str = "/") -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"Authorization": f"Bearer {secret}"})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


@pytest.mark.parametrize("kind", COUNTING, ids=str)
def test_a_key_beyond_its_limit_is_a_429_with_its_fields(kind: Kind, world: World) -> None:
    gateway, secret = world.gateways[kind], secret_of(kind, "key")
    before = world.upstream.requests
    assert [ask(gateway, secret)[0] for _ in range(5)] == [200] * 3 + [429] * 2
    assert world.upstream.requests == before + 3
    status, headers, body = ask(gateway, secret)
    assert status == 429
    assert headers["content-type"] == "application/problem+json"
    assert headers["ratelimit-policy"] == '"burst";q=3;w=3600'
    retry_after = int(headers["retry-after"])
    assert 1100 < retry_after <= 1200
    assert headers["ratelimit"] in {f'"burst";r=0;t={seconds}' for seconds in (retry_after, retry_after - 1)}
    document = json.loads(body)
    assert document["status"] == 429
    assert document["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded"
    assert document.get("violated-policies", ["burst"]) == ["burst"]


@pytest.mark.parametrize("kind", COUNTING, ids=str)
def test_a_plans_limit_holds_on_a_route_that_demands_a_scope_too(kind: Kind, world: World) -> None:
    gateway, secret = world.gateways[kind], secret_of(kind, "plan")
    first = ask(gateway, secret, "/orders")
    assert first[0] == 200
    # Caddy and Traefik hand on nothing of a yes to the client.
    told = {"nginx": ['"of-plan";r=1;t=3600'], "envoy": ['"of-plan";r=1;t=3600']}
    assert [value for name, value in first[1].items() if name == "ratelimit"] == told.get(kind.folder, [])
    assert [ask(gateway, secret, path)[0] for path in ("/", "/orders", "/")] == [200, 429, 429]
    assert ask(gateway, secret, "/orders")[1]["ratelimit-policy"] == '"of-plan";q=2;w=7200'


@pytest.mark.parametrize("kind", COUNTING, ids=str)
def test_a_key_without_limits_is_told_of_none(kind: Kind, world: World) -> None:
    _, headers, _ = ask(world.gateways[kind], PLAIN)
    assert not [name for name in headers if name.startswith("ratelimit")]


@pytest.mark.parametrize("kind", OWN_JUDGES, ids=str)
def test_a_judge_that_does_not_count_answers_for_no_limited_key(kind: Kind, world: World) -> None:
    for what in ("key", "plan"):
        for _ in range(2):
            status, headers, body = ask(world.gateways[kind], secret_of(kind, what))
            assert (status, json.loads(body)["status"], headers["retry-after"]) == (503, 503, "1")
    assert "my-bucket" in next(line for line in world.edge.output().splitlines() if "HAProxy refuses keys" in line)
