"""Edges of a broker, all real processes: they begin with it alone, live without it, and end up with the record."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from keywright.domain.keyformat import Digester
from keywright.edge.replica.replica import Replica
from remote.conftest import Origin
from support import nats as servers
from support.nats import NatsServer
from support.process import BrokerEdgeProcess, ServeProcess, until
from support.proxy import Proxy

pytestmark = pytest.mark.long(50)

StartOrigin = Callable[..., Origin]
StartEdge = Callable[..., BrokerEdgeProcess]


@pytest.fixture
def start_origin(tmp_path: Path) -> Iterator[StartOrigin]:
    started: list[Origin] = []

    def start(broker: str, *arguments: str, **variables: str) -> Origin:
        started.append(Origin(tmp_path / "origin", "--nats", broker, *arguments, **variables))
        return started[-1]

    yield start
    for one in started:
        one.client.close()
        one.process.kill()


@pytest.fixture
def start_edge(tmp_path: Path) -> Iterator[StartEdge]:
    started: list[BrokerEdgeProcess] = []

    def start(broker: str, origin: Origin, name: str = "edge", **variables: str) -> BrokerEdgeProcess:
        started.append(BrokerEdgeProcess(tmp_path / name, broker, origin.pepper_file, **variables))
        return started[-1]

    yield start
    for one in started:
        one.kill()


def is_synced(process: ServeProcess) -> bool:
    return bool(process.get("/readyz")["synced"])


def states_of(origin: Origin) -> dict[str, str]:
    """Of the edges that follow the broker, by name."""
    edges = origin.call("GET", "/v1/accounts/my-account/edges")["data"]
    return {edge["name"]: edge["state"] for edge in edges if edge["region"] == "at-a-broker"}


def records_of(place: Path, origin: Origin) -> Any:
    """What the replica of a process that has ended holds."""
    check = Digester(base64.b64decode(origin.pepper_file.read_text())).pepper_check()
    replica = Replica.open(place / "replica", check)
    try:
        return replica.records()
    finally:
        replica.close()


def test_a_new_edge_begins_with_the_broker_alone_and_a_restarted_one_with_nothing(
    nats: NatsServer, start_origin: StartOrigin, start_edge: StartEdge
) -> None:
    origin = start_origin(nats.url)
    kept, ended = origin.new_key(), origin.new_key()
    first = start_edge(nats.url, origin, "first").wait_until_ready()
    until(lambda: first.verdict(ended["key"]) == "VALID" and is_synced(first))
    origin.revoke(ended)
    until(lambda: first.verdict(ended["key"]) == "UNKNOWN")
    origin.process.kill()
    second = start_edge(nats.url, origin, "second").wait_until_ready()
    until(lambda: (second.verdict(kept["key"]), second.verdict(ended["key"])) == ("VALID", "UNKNOWN"))
    # All that there is, and nothing says so.
    until(lambda: "NotKnownToBeAll" in second.get("/readyz").get("reason", ""))
    assert not is_synced(second)
    until(lambda: not is_synced(first), timeout=20)
    nats.kill()
    second.kill()
    second = start_edge(nats.url, origin, "second").wait_until_ready()
    assert (second.verdict(kept["key"]), second.verdict(ended["key"]), is_synced(second)) == ("VALID", "UNKNOWN", False)
    nats.start()
    origin.restart()
    until(lambda: is_synced(first) and is_synced(second), timeout=30)
    assert second.stop() == 0


def test_an_origin_killed_in_the_middle_of_its_work_leaves_nothing_to_repair(
    nats: NatsServer, start_origin: StartOrigin, start_edge: StartEdge, tmp_path: Path
) -> None:
    """Two workers relay at once; all are killed while changes are made, and so is the broker."""
    origin = start_origin(nats.url, "--workers", "2")
    edge = start_edge(nats.url, origin).wait_until_ready()
    over = threading.Event()

    def change() -> None:
        number = 0
        while not over.is_set():
            try:
                key = origin.new_key()
                number += 1
                if number % 3 == 0:
                    origin.revoke(key)
            except Exception:  # noqa: BLE001
                # The origin is away for a moment; the client says so in ways of its own.
                over.wait(0.05)

    changing = threading.Thread(target=change)
    changing.start()
    try:
        last = 0
        for killed in ("origin", "broker", "origin"):
            until(lambda: edge.get("/readyz")["revision"] > last + 10, timeout=60)  # noqa: B023
            if killed == "origin":
                origin.process.kill()
                origin.restart()
            else:
                nats.kill()
                nats.start()
            revision = edge.get("/readyz")["revision"]
            assert revision >= last
            last = revision
        until(lambda: edge.get("/readyz")["revision"] > last + 10, timeout=60)
    finally:
        over.set()
        changing.join()
    until(lambda: is_synced(edge) and edge.get("/readyz")["revision"] == origin.revision, timeout=60)
    assert edge.stop() == 0
    assert origin.process.stop() == 0
    assert records_of(tmp_path / "edge", origin) == records_of(origin.data_dir, origin)


def test_a_region_that_is_cut_off_answers_on_and_equals_the_others_when_it_is_healed(
    start_origin: StartOrigin, start_edge: StartEdge, tmp_path: Path
) -> None:
    """Hub and two leaves as deploy/nats has them, an edge at each; the line between the hub and one leaf is cut."""
    with (
        servers.hub(tmp_path / "hub", "eu", "us") as hub,
        Proxy(hub.leaf_port) as line,
        servers.leaf(tmp_path / "eu", "eu", line.port) as eu,
        servers.leaf(tmp_path / "us", "us", hub.leaf_port) as us,
    ):
        secret = servers.PASSWORDS["RELAY_PASSWORD"]
        relay = {"KEYWRIGHT_NATS_USER": "relay", "KEYWRIGHT_NATS_PASSWORD": secret}
        relay["KEYWRIGHT_NATS_MIRRORS"] = "readers,eu,us"
        origin = start_origin(hub.url, KEYWRIGHT_NATS_DOMAIN="hub", **relay)

        def start_at(leaf: NatsServer, name: str) -> BrokerEdgeProcess:
            password = servers.PASSWORDS["EDGE_PASSWORD"]
            access = {"KEYWRIGHT_NATS_USER": "edge", "KEYWRIGHT_NATS_PASSWORD": password}
            places = {"KEYWRIGHT_NATS_DOMAIN": "hub", "KEYWRIGHT_NATS_MIRRORS": "region"}
            told = {"KEYWRIGHT_EDGE_NAME": name, "KEYWRIGHT_REGION": "at-a-broker"}
            return start_edge(leaf.url, origin, name, **access, **places, **told)

        near, far = start_at(us, "near"), start_at(eu, "far")
        for edge in (near, far):
            edge.wait_until_ready()
        until(lambda: is_synced(near) and is_synced(far), timeout=30)
        kept, ended = origin.new_key(), origin.new_key()
        for edge in (near, far):
            until(lambda edge=edge: edge.verdict(ended["key"]) == "VALID")  # type: ignore[misc]
        until(lambda: states_of(origin) == {"near": "synced", "far": "synced"})
        acknowledged = origin.new_key()
        assert origin.revoke(acknowledged, "wait=all&timeout=20000").headers["keywright-applied"] == "3/3"
        assert [edge.verdict(acknowledged["key"]) for edge in (near, far)] == ["UNKNOWN", "UNKNOWN"]

        line.cut()
        answer = origin.revoke(ended, "wait=all&timeout=500")
        assert (answer.headers["keywright-applied"], answer.headers["keywright-pending"]) == ("2/3", "far")
        made = origin.new_key()
        until(lambda: (near.verdict(ended["key"]), near.verdict(made["key"])) == ("UNKNOWN", "VALID"))
        until(lambda: not is_synced(far), timeout=30)
        assert (far.verdict(kept["key"]), far.verdict(ended["key"])) == ("VALID", "VALID")
        until(lambda: far.get("/readyz")["lag_seconds"] > 2, timeout=30)
        assert is_synced(near)
        # One that begins in the cut region has what its mirror has.
        begun = start_at(eu, "begun").wait_until_ready()
        until(lambda: begun.verdict(kept["key"]) == "VALID", timeout=30)
        assert not is_synced(begun)

        line.heal()
        for edge in (far, begun):
            until(lambda edge=edge: edge.verdict(ended["key"]) == "UNKNOWN", timeout=30)  # type: ignore[misc]
            until(lambda edge=edge: is_synced(edge), timeout=30)  # type: ignore[misc]
        until(lambda: near.get("/readyz")["revision"] == origin.revision)
        for process in (near, far, begun, origin.process):
            assert process.stop() == 0
            for password in servers.PASSWORDS.values():
                assert password not in process.output()
        expected = records_of(origin.data_dir, origin)
        for name in ("near", "far", "begun"):
            assert records_of(tmp_path / name, origin) == expected


def test_wrong_credentials_are_loud_at_both_ends_and_shown_to_nobody(
    tmp_path: Path, start_origin: StartOrigin, start_edge: StartEdge
) -> None:
    with servers.hub(tmp_path / "hub") as hub:
        wrong = {"KEYWRIGHT_NATS_DOMAIN": "hub", "KEYWRIGHT_NATS_PASSWORD": "a-wrong-password"}
        origin = start_origin(hub.url, KEYWRIGHT_NATS_USER="relay", **wrong)
        edge = start_edge(hub.url, origin, KEYWRIGHT_NATS_USER="edge", **wrong)
        for process in (origin.process, edge):
            # A warning, that it can't report, may come before the error that it can't follow.
            until(lambda process=process: _is_loud(process.output()), timeout=30)  # type: ignore[misc]
            assert "a-wrong-password" not in process.output()
        # Who may only read can't relay, and is told what it lacks.
        reader = {"KEYWRIGHT_NATS_USER": "edge", "KEYWRIGHT_NATS_PASSWORD": servers.PASSWORDS["EDGE_PASSWORD"]}
        with ServeProcess(tmp_path / "other", "--nats", hub.url, KEYWRIGHT_NATS_DOMAIN="hub", **reader) as other:
            until(lambda: "permissions violation for publish" in other.output().lower(), timeout=30)


def _is_loud(output: str) -> bool:
    return any("ERROR" in line and "refuses the credentials" in line for line in output.splitlines())
