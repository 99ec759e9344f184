"""HAProxy judges powers from its maps as the edge judges them, and says nothing where it can't."""

from __future__ import annotations

import contextlib
import http.client
import itertools
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from edge.haproxy.mirror import Mirror
from edge.world import DIGESTER, PEPPER_CHECK, at, batch, bucket, consumer, key
from gateways.conftest import PEPPER
from gateways.gateway import HAPROXY, Edits, Gateway
from gateways.upstream import Upstream
from keywright.domain.networks import parse_address
from keywright.domain.powers import Demand, encode_powers
from keywright.domain.verdict import Verdict
from keywright.edge.haproxy import socket as haproxy_socket
from keywright.edge.haproxy.socket import Map
from keywright.edge.replica.replica import Replica
from keywright.edge.validator import Validator
from keywright.protocol.changes import Change, ConsumerDelete
from keywright.runtime.clock import Clock

SCOPED: Edits = [("#scope ", ""), ("bind 127.0.0.1:8000", "bind 127.0.0.1:8000\n    bind :::8001 v4v6")]
FEATURES = ("enabled", "scopes", "allowedIps", "metadata")
HOUR = 3600_000
STATUSES = {
    Verdict.VALID: 200, Verdict.UNKNOWN: 401, Verdict.DISABLED: 401, Verdict.EXPIRED: 401,
    Verdict.IP_NOT_ALLOWED: 403, Verdict.INSUFFICIENT_SCOPE: 403, Verdict.UNAVAILABLE: 503,
}  # fmt: skip
FORGED = {"X-Forwarded-For": "127.0.0.3", "X-Real-IP": "127.0.0.3", "Forwarded": "for=127.0.0.3"}
EIGHT = [f"192.0.2.{number}/32" for number in range(7)]


@dataclass
class World:
    gateway: Gateway
    replica: Replica
    mirror: Mirror

    def ask(self, secret: str, path: str = "/", *, ip: str = "127.0.0.1", is_both: bool = False) -> tuple[int, str]:
        """The status and WWW-Authenticate. `is_both`: by the listener that takes IPv4 as IPv6."""
        host = "::1" if ":" in ip else "127.0.0.1"
        port = self.gateway.side_port if is_both or ":" in ip else self.gateway.port
        connection = http.client.HTTPConnection(host, port, timeout=30, source_address=(ip, 0))
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Authorization": f"Bearer {secret}", **FORGED})
            answer = connection.getresponse()
            answer.read()
            return answer.status, answer.headers.get("WWW-Authenticate", "")

    async def load(self, *changes: Change) -> None:
        cursor = self.replica.cursor
        revision = 0 if cursor is None else cursor.revision + 1
        self.replica.load("dep_1", PEPPER_CHECK, at(revision), changes)
        self.mirror.now = Clock().millis()
        await self.mirror.until_in_step()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Gateway]:
    directory = tmp_path_factory.mktemp("haproxy") / "gateway"
    variables = {"KEYWRIGHT_PEPPER": PEPPER}
    with Gateway(
        HAPROXY, directory, api=upstream.port, edge=1, bucket="my-bucket", edits=SCOPED, variables=variables
    ) as running:
        yield running


@pytest.fixture
async def world(gateway: Gateway, tmp_path: Path) -> AsyncIterator[World]:
    replica = Replica.open(tmp_path / "replica", PEPPER_CHECK)
    async with haproxy_socket.connect(gateway.directory / "haproxy.sock") as socket:
        for map_ in Map:
            await socket._ask(f"clear map {socket._ids[map_]}")
    mirror = Mirror(gateway, replica, lease_seconds=600)
    yield World(gateway, replica, mirror)
    await mirror.stop()
    replica.close()


OWN = {
    "nothing said": None,
    "off": encode_powers(enabled=False),
    "metadata": encode_powers(metadata='{"a":1}'),
    "no scopes": encode_powers(scopes=[]),
    "the scope": encode_powers(scopes=["a", "orders:read", "z"]),
    "a part of it": encode_powers(scopes=["orders", "orders:rea", "orders:read2", "x:orders:read", "orders:read:x"]),
    "all below it": encode_powers(scopes=["orders:*"]),
    "all": encode_powers(scopes=["*"]),
    "another network": encode_powers(allowed_ips=["192.0.2.0/24", "2001:db8::/32", "::7f00:1/128"]),
    "the last of eight": encode_powers(allowed_ips=[*EIGHT, "127.0.0.0/30"]),
    "the address": encode_powers(allowed_ips=["127.0.0.2/32", "::1/128"], scopes=["*"]),
    "all of IPv4": encode_powers(allowed_ips=["0.0.0.0/0"]),
    "all of IPv6": encode_powers(allowed_ips=["::/0"]),
}
ADDRESSES = ["127.0.0.1", "127.0.0.2", "127.0.0.4", "::1"]


@pytest.mark.parametrize("defaults", [(), ("orders:read",)], ids=["nothing granted", "granted by the bucket"])
async def test_powers_are_judged_as_the_edge_judges_them(world: World, defaults: tuple[str, ...]) -> None:
    changes: list[Change] = [replace(bucket(1, "my-bucket"), features=FEATURES, default_scopes=defaults)]
    names = {}
    for number, (theirs, above) in enumerate(OWN.items(), 1):
        changes.append(replace(consumer(number, 1, f"consumer-{number}"), powers=above))
        for its, own in OWN.items():
            secret = f"zpka_{number}-{len(names)}"
            names[secret] = f"its own: {its}; its consumer's: {theirs}"
            changes.append(replace(key(secret, 1, number), powers=own))
    await world.load(*changes)
    validator = Validator(world.replica, DIGESTER, Clock().millis)
    wrong = {}
    # Each address now and then, so that each pair meets one, and each list each.
    for at_, (secret, name) in enumerate(names.items()):
        ip = ADDRESSES[(at_ + at_ // len(OWN)) % len(ADDRESSES)]
        for path, scopes in (("/", ()), ("/orders/1?scope=x", ("orders:read",))):
            verdict = validator.validate(secret, "my-bucket", Demand(scopes, parse_address(ip))).verdict
            status, challenge = world.ask(secret, path, ip=ip, is_both=at_ % 2 == 0)
            is_told = "insufficient_scope" in challenge
            if status != STATUSES[verdict] or is_told != (verdict is Verdict.INSUFFICIENT_SCOPE):
                wrong[f"{name}; {path} from {ip}"] = (status, challenge, verdict)
    assert wrong == {}


async def test_what_can_not_be_judged_is_503_and_told_of_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    nine = encode_powers(allowed_ips=["127.0.0.0/8", *EIGHT, "198.51.100.0/24"])
    off = encode_powers(allowed_ips=["127.0.0.0/8", *EIGHT, "198.51.100.0/24"], enabled=False)
    made = replace(bucket(1, "my-bucket"), features=FEATURES)
    await world.load(
        made, bucket(2, "other-bucket"), consumer(1, 1), replace(consumer(2, 1), powers='{"weather":"fair"}'),
        replace(consumer(3, 1), powers=nine), key("zpka_plain", 1, 1), replace(key("zpka_nine", 1, 1), powers=nine),
        replace(key("zpka_off", 1, 1), powers=off), replace(key("zpka_new", 1, 1), powers='{"weather":"fair"}'),
        key("zpka_of-2", 1, 2), key("zpka_of-3", 1, 3), key("zpka_ended", 1, 3, 1000),
    )  # fmt: skip
    found = {name: world.ask(f"zpka_{name}")[0] for name in ("plain", "nine", "off", "new", "of-2", "of-3", "ended")}
    assert found == {"plain": 200, "nine": 503, "off": 401, "new": 503, "of-2": 503, "of-3": 503, "ended": 401}
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert told == [
        "HAProxy refuses keys of bucket my-bucket that have more powers than it can judge, "
        "let another gateway ask an edge for them"
    ]
    # And a bucket of which nobody here knows all: as it is found, and as it comes.
    await world.load(made, consumer(1, 1), key("zpka_plain", 1, 1), replace(bucket(2, "newer"), features=["weather"]))
    assert (await world.mirror.look())[Map.BUCKETS] == {"my-bucket": "1"}
    revision = world.replica.revision
    assert revision is not None
    world.replica.apply(batch(revision, [replace(made, features=(*FEATURES, "weather"))]))
    await world.mirror.until_in_step()
    assert world.ask("zpka_plain")[0] == 503
    assert [record.getMessage() for record in caplog.records][-1].startswith("HAProxy refuses keys of bucket my-bucket")


async def test_what_is_switched_off_or_narrowed_is_refused_from_the_next_lease_on(world: World) -> None:
    made = replace(bucket(1, "my-bucket"), features=FEATURES, default_scopes=("*",))
    owner, other = consumer(1, 1), consumer(2, 1, "other")
    first, second = key("zpka_first", 1, 1), key("zpka_second", 1, 2)
    await world.load(made, owner, other, first, second)
    lost = replace(owner, has_lost_powers=True)
    elsewhere = encode_powers(allowed_ips=["192.0.2.0/24"])
    steps: list[tuple[Change, tuple[int, int]]] = [
        (replace(first, powers=encode_powers(enabled=False)), (401, 401)), (first, (200, 200)),
        (replace(owner, powers=encode_powers(enabled=False)), (401, 401)), (lost, (200, 200)),
        (replace(owner, powers=encode_powers(scopes=[])), (200, 403)), (lost, (200, 200)),
        (replace(first, powers=elsewhere), (403, 403)),
        (replace(first, powers=encode_powers(scopes=["a"])), (200, 403)),
        (first, (200, 200)), (replace(made, default_scopes=("orders",)), (200, 403)), (made, (200, 200)),
        (replace(owner, powers=elsewhere), (403, 403)), (ConsumerDelete(1), (401, 401)),
    ]  # fmt: skip
    revision = world.replica.revision
    assert revision is not None
    for number, (change, wanted) in enumerate(steps, revision):
        world.replica.apply(batch(number, [change]))
        await world.mirror.until_in_step()
        assert (world.ask("zpka_first")[0], world.ask("zpka_first", "/orders")[0]) == wanted, change
        assert world.ask("zpka_second")[0] == 200


async def test_a_configuration_of_before_refuses_what_has_powers_and_is_told_of(
    world: World, upstream: Upstream, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await world.mirror.stop()
    before = Path(__file__).with_name("haproxy-before-powers.cfg").read_text()
    directory = tmp_path / "before"
    variables = {"KEYWRIGHT_PEPPER": PEPPER}
    with Gateway(HAPROXY, directory, api=upstream.port, edge=1, bucket="my-bucket", variables=variables) as gateway:
        gateway.kill()
        ports = zip(("8000", "9000", "my-project-production"), (gateway.port, upstream.port, "my-bucket"), strict=True)
        for name, value in ports:
            before = before.replace(name, str(value))
        (directory / "haproxy.cfg").write_text(before)
        gateway.start()
        mirror = Mirror(gateway, world.replica, lease_seconds=600)
        there = World(gateway, world.replica, mirror)
        powered = [text for text in OWN.values() if text is not None]
        changes: list[Change] = [
            replace(bucket(1, "my-bucket"), features=FEATURES),
            consumer(1, 1),
            key("zpka_k", 1, 1),
        ]
        for number, (its, above) in enumerate(itertools.product((None, powered[0]), powered), 2):
            changes += [
                replace(consumer(number, 1), powers=above if its is None else None),
                replace(key(f"zpka_{number}", 1, number), powers=its and above),
            ]
        await there.load(*changes)
        assert there.ask("zpka_k")[0] == 200
        assert {there.ask(f"zpka_{number}")[0] for number in range(2, 2 + 2 * len(powered))} == {401}
        assert "its configuration has no keywright-keys3.map" in caplog.text
        # Powers that come later, and go.
        revision = world.replica.revision
        assert revision is not None
        powered_key = replace(key("zpka_k", 1, 1), powers=powered[1])
        for number, (put, status) in enumerate([(powered_key, 401), (key("zpka_k", 1, 1), 200)], revision):
            world.replica.apply(batch(number, [put]))
            await mirror.until_in_step()
            assert there.ask("zpka_k")[0] == status
        await mirror.stop()


async def test_what_an_edge_of_before_left_alone_is_not_believed(world: World) -> None:
    powered = replace(key("zpka_k", 1, 1), powers=encode_powers(scopes=["*"]))
    await world.load(replace(bucket(1, "my-bucket"), features=FEATURES), consumer(1, 1), powered, key("zpka_p", 1, 1))
    cursor = world.replica.cursor
    assert cursor is not None
    assert world.ask("zpka_k")[0] == 200
    # That one renews the one lease that it knows.
    await world.mirror.stop()
    await world.mirror.write_state(lease=str(Clock().millis() + HOUR), lease3="0")
    assert (world.ask("zpka_k")[0], world.ask("zpka_p")[0], world.ask("zpka_p", "/orders")[0]) == (401, 200, 503)
    # And it says how far the maps are, of those that it knows. The next edge makes all of them anew.
    world.replica.observer = None
    world.replica.apply(batch(cursor.revision, [replace(powered, powers=OWN["off"])]))
    await world.mirror.write_state(at=f"dep_1:{world.replica.cursor}", at3=f"dep_1:{cursor}")
    second = Mirror(world.gateway, world.replica, lease_seconds=600)
    second.now = Clock().millis() + HOUR
    await second.until(lambda found: found[Map.STATE].get("lease3") == str(second.now + 600_000))
    assert (world.ask("zpka_k")[0], world.ask("zpka_p")[0]) == (401, 200)
    assert (await second.look())[Map.KEYS3][f"1.{powered.digest.hex()}"].endswith("|off|+*+")
    await second.stop()
