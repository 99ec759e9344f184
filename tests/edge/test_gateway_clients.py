"""Keys with allowedIps at forward-auth and over gRPC: whose word is taken for the client's address, and whose never."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from edge.apps import new_app
from edge.asgi import call
from edge.world import DIGESTER, NOW, PEPPER_CHECK, at, bucket, consumer, key
from keywright.domain.networks import Networks, parse_network
from keywright.domain.powers import encode_powers
from keywright.edge.gateway_clients import WARN_SECONDS, GatewayClients
from keywright.edge.grpc.ext_authz import ExtAuthz
from keywright.edge.grpc.ext_authz_pb2 import CheckRequest
from keywright.edge.http.forward_auth import ForwardAuth
from keywright.edge.validator import Validator
from keywright.http.client_address import ClientAddresses
from support.clock import FakeClock

if TYPE_CHECKING:
    from keywright.edge.replica.replica import Replica

S, PLAIN, FROM_PROXIES = "zpka_secret-1", "zpka_secret-2", "zpka_secret-4"
ALLOWED, OTHER, PROXY, STRANGER = "192.0.2.7", "198.51.100.9", "10.1.1.1", "203.0.113.5"
PROXIES = Networks([parse_network("10.0.0.0/8")])
REAL_IP, FORWARDED_FOR, NO_HEADER = (
    ClientAddresses(PROXIES, "x-real-ip"), ClientAddresses(PROXIES, "x-forwarded-for"), ClientAddresses(),
)  # fmt: skip
Pairs = list[tuple[str, str]]


@dataclass
class World:
    validator: Validator
    clock: FakeClock

    def forward_auth(self, addresses: ClientAddresses) -> ForwardAuth:
        return ForwardAuth(self.validator, clients=GatewayClients(addresses, self.clock.elapsed))

    async def ask(self, endpoint: ForwardAuth, peer: str | None, headers: Pairs, secret: str = S) -> int:
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
        raw.append((b"authorization", f"Bearer {secret}".encode()))

        async def from_peer(scope: dict[str, object], receive: object, send: object) -> None:
            scope["client"] = None if peer is None else (peer, 1)
            await endpoint(scope, receive, send)  # type: ignore[arg-type]

        answer = await call(from_peer, "GET", "/v1/forward-auth/my-bucket", headers=raw)
        assert (answer.headers["x-consumer-name"] == "my-consumer") == (answer.status == 200)
        if answer.status == 403:
            assert answer.json()["detail"] == "The key may not be used from this address."
        return answer.status

    def check(self, addresses: ClientAddresses, gateway: str, source: str | None, headers: Pairs) -> int:
        request = CheckRequest()
        request.attributes.context_extensions["bucket"] = "my-bucket"
        if source is not None:
            request.attributes.source.address.socket_address.address = source
        for name, value in [*headers, ("authorization", f"Bearer {S}")]:
            request.attributes.request.http.header_map.headers.add(key=name, raw_value=value.encode("latin-1"))
        peer = f"ipv6:%5B{gateway}%5D:50000" if ":" in gateway else f"ipv4:{gateway}:50000"
        response = ExtAuthz(self.forward_auth(addresses)).check(request, peer=peer)
        return 200 if response.HasField("ok_response") else response.denied_response.status.code


@pytest.fixture
def world(replica: Replica) -> World:
    limited = replace(key(S, 1, 1), powers=encode_powers(allowed_ips=["192.0.2.0/24", "2001:db8::/32"]))
    powered = replace(bucket(1, "my-bucket"), features=("allowedIps",))
    of_proxies = replace(key(FROM_PROXIES, 1, 1), powers=encode_powers(allowed_ips=["10.0.0.0/8"]))
    keys = [limited, key(PLAIN, 1, 1), of_proxies]
    replica.load("dep_1", PEPPER_CHECK, at(1), [powered, consumer(1, 1), *keys])
    return World(Validator(replica, DIGESTER, clock=lambda: NOW), FakeClock())


ASKED = [
    pytest.param(REAL_IP, PROXY, [("x-real-ip", ALLOWED)], 200, id="told"),
    pytest.param(REAL_IP, f"::ffff:{PROXY}", [("x-real-ip", f"::ffff:{ALLOWED}")], 200, id="told on an IPv6 socket"),
    pytest.param(REAL_IP, PROXY, [("x-real-ip", "2001:DB8::1")], 200, id="told in IPv6"),
    pytest.param(REAL_IP, PROXY, [("x-real-ip", OTHER)], 403, id="not allowed"),
    pytest.param(REAL_IP, PROXY, [], 403, id="not told"),
    pytest.param(REAL_IP, PROXY, [("x-real-ip", "")], 403, id="told nothing"),
    pytest.param(REAL_IP, PROXY, [("x-real-ip", ALLOWED), ("x-real-ip", ALLOWED)], 403, id="told twice"),
    pytest.param(REAL_IP, PROXY, [("x-real-ip", f"{ALLOWED}, {ALLOWED}")], 403, id="told a list"),
    pytest.param(REAL_IP, PROXY, [("x-real-ip", f"{ALLOWED}:80")], 403, id="told a port"),
    pytest.param(REAL_IP, PROXY, [("x-real-ip", "192.0.2.7%eth0")], 403, id="told a zone"),
    pytest.param(REAL_IP, PROXY, [("x-forwarded-for", ALLOWED)], 403, id="told in another header"),
    pytest.param(REAL_IP, PROXY, [("keywright-client-address", ALLOWED)], 403, id="told in one of ours"),
    pytest.param(REAL_IP, STRANGER, [("x-real-ip", ALLOWED)], 403, id="told by a stranger"),
    pytest.param(REAL_IP, ALLOWED, [], 403, id="a stranger's own address"),
    pytest.param(REAL_IP, None, [("x-real-ip", ALLOWED)], 403, id="told by nobody"),
    pytest.param(NO_HEADER, ALLOWED, [("x-real-ip", ALLOWED)], 403, id="no header is named"),
    pytest.param(FORWARDED_FOR, PROXY, [("x-forwarded-for", ALLOWED)], 200, id="forwarded"),
    pytest.param(FORWARDED_FOR, PROXY, [("x-forwarded-for", f"{OTHER}, {ALLOWED}, 10.2.2.2")], 200, id="hop by hop"),
    pytest.param(FORWARDED_FOR, PROXY, [("x-forwarded-for", f"{ALLOWED}, {OTHER}, 10.2.2.2")], 403, id="made up"),
    pytest.param(FORWARDED_FOR, PROXY, [("x-forwarded-for", f"{ALLOWED}, x")], 403, id="a hop that is none"),
    pytest.param(FORWARDED_FOR, PROXY, [("x-real-ip", ALLOWED)], 403, id="not forwarded"),
]


@pytest.mark.parametrize(("addresses", "peer", "headers", "status"), ASKED)
async def test_a_client_has_the_address_that_a_trusted_gateway_tells(
    world: World, addresses: ClientAddresses, peer: str | None, headers: Pairs, status: int
) -> None:
    endpoint = world.forward_auth(addresses)
    assert await world.ask(endpoint, peer, headers) == status
    # It is no matter to keys that may be used from everywhere.
    assert await world.ask(endpoint, peer, headers, PLAIN) == 200


CHECKED = [
    pytest.param(REAL_IP, PROXY, ALLOWED, [], 200, id="its connection"),
    pytest.param(FORWARDED_FOR, PROXY, ALLOWED, [], 200, id="its connection, X-Forwarded-For named"),
    pytest.param(REAL_IP, "fd00::1", ALLOWED, [], 403, id="a stranger's word"),
    pytest.param(REAL_IP, PROXY, OTHER, [("x-real-ip", ALLOWED)], 403, id="a header of the client's"),
    pytest.param(REAL_IP, PROXY, ALLOWED, [("x-real-ip", OTHER)] * 2, 200, id="headers that are no matter"),
    pytest.param(FORWARDED_FOR, PROXY, OTHER, [("x-forwarded-for", ALLOWED)], 403, id="a list of the client's"),
    pytest.param(FORWARDED_FOR, PROXY, OTHER, [("x-forwarded-for", f"{ALLOWED}, 10.2.2.2")], 403, id="made-up hops"),
    pytest.param(REAL_IP, PROXY, "10.9.9.9", [("x-real-ip", ALLOWED)], 200, id="a proxy before Envoy"),
    pytest.param(FORWARDED_FOR, PROXY, "10.9.9.9", [("x-forwarded-for", f"{OTHER}, {ALLOWED}")], 200, id="two before"),
    pytest.param(REAL_IP, PROXY, "10.9.9.9", [], 403, id="a proxy before Envoy tells nothing"),
    pytest.param(REAL_IP, PROXY, "10.9.9.9", [("x-real-ip", ALLOWED)] * 2, 403, id="a proxy before Envoy tells two"),
    pytest.param(REAL_IP, PROXY, None, [("x-real-ip", ALLOWED)], 403, id="no connection"),
    pytest.param(REAL_IP, PROXY, "/tmp/socket", [("x-real-ip", ALLOWED)], 403, id="no address"),
    pytest.param(NO_HEADER, PROXY, ALLOWED, [], 403, id="no header is named"),
]


@pytest.mark.parametrize(("addresses", "gateway", "source", "headers", "status"), CHECKED)
def test_over_grpc_it_is_the_connection_that_envoy_asks_about(
    world: World, addresses: ClientAddresses, gateway: str, source: str | None, headers: Pairs, status: int
) -> None:
    assert world.check(addresses, gateway, source, headers) == status


async def test_a_gateway_never_stands_for_its_client(world: World) -> None:
    for addresses in (REAL_IP, FORWARDED_FOR, NO_HEADER):
        assert await world.ask(world.forward_auth(addresses), PROXY, [], FROM_PROXIES) == 403
    told = [("x-real-ip", PROXY)]
    assert await world.ask(world.forward_auth(REAL_IP), PROXY, told, FROM_PROXIES) == 200


async def test_an_address_is_looked_for_once_and_only_for_keys_that_not_everybody_may_use(world: World) -> None:
    endpoint, asked = world.forward_auth(REAL_IP), []

    def counted(scope: object) -> None:
        asked.append(scope)

    endpoint._find_client = counted  # type: ignore[assignment]
    for secret, count in ((PLAIN, 0), ("zpka_secret-3", 0), ("", 0), (S, 1)):
        await world.ask(endpoint, PROXY, [("x-real-ip", ALLOWED)], secret)
        assert len(asked) == count


async def test_who_runs_the_edge_is_told_why_no_address_is_known_once_a_minute(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint = world.forward_auth(REAL_IP)
    with caplog.at_level(logging.WARNING, "keywright.edge.gateway_clients"):
        for peer in (PROXY, STRANGER, PROXY, "fd00::1"):
            await world.ask(endpoint, peer, [])
        assert [record.getMessage() for record in caplog.records] == [
            "keys with allowedIps are refused, and no networks recorded, as a client's address is not known: "
            "there is no x-real-ip header from "
            "10.1.1.1; KEYWRIGHT_TRUSTED_PROXIES and KEYWRIGHT_CLIENT_ADDRESS_HEADER name gateways and the header "
            "they overwrite (said once a minute)"
        ]
        world.clock.advance(60)
        await world.ask(endpoint, STRANGER, [("x-real-ip", "in-no-log")])
    assert "203.0.113.5 is not among the trusted proxies" in caplog.messages[1]
    assert "in-no-log" not in caplog.text
    assert S not in caplog.text


async def test_readiness_tells_of_it_for_a_while(world: World) -> None:
    app = new_app(world.validator)
    clients = GatewayClients(NO_HEADER, world.clock.elapsed)
    app.health.warn_of(clients.list_warnings)
    assert "warnings" not in (await call(app, "GET", "/readyz")).json()
    assert clients.find_in({"client": (PROXY, 1), "headers": []}) is None
    (warning,) = (await call(app, "GET", "/readyz")).json()["warnings"]
    assert "no header is named that would tell it" in warning
    world.clock.advance(WARN_SECONDS)
    assert "warnings" not in (await call(app, "GET", "/readyz")).json()
