"""Replicas in an application's own process do what edges do: refuse when stale, report, and follow a broker."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from edge.asgi import call
from keywright.domain.models import to_iso
from keywright.policy.asgi import ApiKeyPolicy
from keywright.policy.embedded import EmbeddedReplica
from keywright.policy.shared import SharedReplica
from keywright.runtime.clock import Clock
from keywright.runtime.nats_options import NatsOptions
from support import origin as origins
from support.api import ACCOUNT_URL, BUCKET
from support.nats import NatsServer
from support.origin import Origin
from support.process import EdgeProcess, until
from support.proxy import Proxy

LIMIT_SECONDS = 3
_numbers = itertools.count()


@pytest.fixture
def strict(origin: Origin) -> tuple[str, str]:
    """A bucket whose owner wants no answers from stale replicas, and a key of it."""
    name = f"strict-bucket-{next(_numbers)}"
    buckets = f"{ACCOUNT_URL}/key-buckets"
    limit = {"name": name, "maxStalenessSeconds": LIMIT_SECONDS, "whenStale": "refuse"}
    origin.api.call("POST", buckets, json=limit)
    origin.api.call("POST", f"{buckets}/{name}/consumers", json={"name": "one"})
    return name, origin.api.call("POST", f"{buckets}/{name}/consumers/one/keys", json={})["key"]


@pytest.fixture
def lenient(origin: Origin) -> tuple[str, str]:
    """A bucket that is served however old the replica is, and a key of it."""
    return BUCKET, origin.api.new_key(origin.api.new_consumer()["name"])["key"]


@pytest.fixture
def proxy(origin: Origin) -> Iterator[Proxy]:
    with Proxy(origin.served.port) as running:
        yield running


def verdict(source: Any, key: tuple[str, str]) -> str:
    bucket, secret = key
    return str(source.validate(secret, bucket).verdict)


async def status(source: Any, key: tuple[str, str]) -> int:
    """What an application behind the policy answers."""

    async def greet(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})

    bucket, secret = key
    headers = [(b"authorization", f"Bearer {secret}".encode())]
    return (await call(ApiKeyPolicy(greet, source, bucket_name=bucket), "GET", "/", headers=headers)).status


def edges_named(origin: Origin, name: str) -> list[dict[str, Any]]:
    """Of the edges in the list, those that are connected and have this name."""
    listed = origin.api.call("GET", f"{ACCOUNT_URL}/edges")["data"]
    return [edge for edge in listed if edge["name"] == name and edge["connected"]]


# -- counted ----------------------------------------------------------------------------------------------------------


def test_a_write_waits_for_the_replica_in_an_app_as_for_every_edge(
    origin: Origin, proxy: Proxy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "keywright.edge")
    for edge in origin.api.call("GET", f"{ACCOUNT_URL}/edges")["data"]:
        # Other tests on this origin have killed some, and writes wait for those until they are retired.
        origin.api.delete(f"{ACCOUNT_URL}/edges/{edge['id']}")
    proxy.delay_seconds = 0.02
    consumer = origin.api.new_consumer()["name"]
    keys = f"{ACCOUNT_URL}/key-buckets/{BUCKET}/consumers/{consumer}/keys"
    options: dict[str, Any] = {"name": "in-an-app", "region": "eu-north", "pepper_file": origin.pepper_file}
    source = EmbeddedReplica.from_origin(proxy.url, token=origin.token, directory=tmp_path, **options)
    try:
        source.open()
        until(lambda: [edge["state"] for edge in edges_named(origin, "in-an-app")] == ["synced"], timeout=60)
        (edge,) = edges_named(origin, "in-an-app")
        assert edge["region"] == "eu-north"
        for _ in range(10):
            made = origin.api.post(f"{keys}?wait=all&timeout=20000", json={})
            assert made.headers.get("keywright-pending") is None, made.headers
            assert verdict(source, (BUCKET, made.json()["key"])) == "VALID"
            ended = origin.api.delete(f"{keys}/{made.json()['id']}?wait=all&timeout=20000")
            assert ended.headers.get("keywright-pending") is None, ended.headers
            assert verdict(source, (BUCKET, made.json()["key"])) == "UNKNOWN"
        proxy.stall()
        made = origin.api.post(f"{keys}?wait=all&timeout=300", json={})
        assert "in-an-app" in made.headers["keywright-pending"]
        assert verdict(source, (BUCKET, made.json()["key"])) == "UNKNOWN"
    finally:
        source.close()
    assert "can't report" not in caplog.text


class SlowClock(Clock):
    """Forty minutes behind."""

    def millis(self) -> int:
        return super().millis() - 2_400_000


@pytest.mark.parametrize("is_behind", [True, False])
def test_a_replica_in_an_app_judges_by_the_origins_clock_and_knows_how_far_its_own_is_off(
    origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_behind: bool
) -> None:
    if is_behind:
        monkeypatch.setattr("keywright.policy.source.Clock", SlowClock)
    end = to_iso(datetime.now(UTC) - timedelta(minutes=20))
    key = origin.api.new_consumer(apiKeys=[{"expiresOn": end}])["apiKeys"][0]["key"]
    options: dict[str, Any] = {"name": "off", "pepper_file": origin.pepper_file}
    source = EmbeddedReplica.from_origin(origin.url, token=origin.token, directory=tmp_path, **options)
    try:
        source.open()
        until(lambda: source.is_synced and source.clock_offset_seconds is not None)
        assert source.clock_offset_seconds == pytest.approx(-2400 if is_behind else 0, abs=1)
        until(lambda: verdict(source, (BUCKET, key)) == "EXPIRED")
        if is_behind:
            until(lambda: [(edge["clockOffsetSeconds"] or 0) < -2399 for edge in edges_named(origin, "off")] == [True])
    finally:
        source.close()


def test_a_name_that_the_list_of_edges_can_t_show_is_refused(tmp_path: Path) -> None:
    for option in ({"name": "my app"}, {"name": ""}, {"region": "eu/north"}):
        with pytest.raises(ValueError, match="name and region are 1 to 64"):
            EmbeddedReplica.from_origin(
                "http://127.0.0.1:9", token="t", directory=tmp_path, pepper="A" * 43 + "=", **option
            )  # type: ignore[arg-type]


# -- stale ------------------------------------------------------------------------------------------------------------


async def test_a_shared_replica_judges_as_long_as_its_edge_is_in_step_and_refuses_where_the_owner_says_so_after_that(
    origin: Origin, tmp_path: Path, strict: tuple[str, str], lenient: tuple[str, str]
) -> None:
    place = (tmp_path / "edge", origin.url, origin.token, origin.pepper_file)
    source = SharedReplica(place[0], pepper_file=origin.pepper_file, ready_seconds=0.1)
    assert source.lag_seconds == math.inf
    try:
        with EdgeProcess(*place).wait_until_ready():
            until(lambda: verdict(source, strict) == "VALID", timeout=60)
            assert await status(source, strict) == 200
            assert source.lag_seconds <= LIMIT_SECONDS
        # The edge is gone, and what it has noted of itself gets older.
        until(lambda: verdict(source, strict) == "UNAVAILABLE", timeout=60)
        assert source.lag_seconds > LIMIT_SECONDS
        assert (await status(source, strict), await status(source, (strict[0], "nothing-good"))) == (503, 503)
        assert (verdict(source, lenient), await status(source, lenient)) == ("VALID", 200)
        # Opened anew it has no other memory of that than the disk.
        source.close()
        assert [verdict(source, key) for key in (strict, lenient)] == ["UNAVAILABLE", "VALID"]
        with EdgeProcess(*place):
            until(lambda: verdict(source, strict) == "VALID", timeout=60)
    finally:
        source.close()


async def test_an_embedded_replica_that_is_cut_off_refuses_where_the_owner_says_so_and_after_a_restart_at_once(
    origin: Origin, proxy: Proxy, tmp_path: Path, strict: tuple[str, str], lenient: tuple[str, str]
) -> None:
    def start() -> EmbeddedReplica:
        return EmbeddedReplica.from_origin(
            proxy.url, token=origin.token, directory=tmp_path, pepper_file=origin.pepper_file, ready_seconds=30
        )

    source = start()
    try:
        until(lambda: verdict(source, strict) == "VALID", timeout=60)
        assert await status(source, strict) == 200
        proxy.cut()
        until(lambda: verdict(source, strict) == "UNAVAILABLE", timeout=60)
        assert source.lag_seconds > LIMIT_SECONDS
        assert (await status(source, strict), await status(source, lenient)) == (503, 200)
        source.close()
        source = start()
        assert [verdict(source, key) for key in (strict, lenient)] == ["UNAVAILABLE", "VALID"]
        proxy.heal()
        until(lambda: verdict(source, strict) == "VALID", timeout=60)
    finally:
        source.close()


# -- a broker ---------------------------------------------------------------------------------------------------------


def test_an_embedded_replica_follows_a_broker_and_is_counted_there(tmp_path: Path) -> None:
    with (
        NatsServer(tmp_path / "nats") as nats,
        origins.running(tmp_path / "origin", "--nats", nats.url) as origin,
    ):
        consumer = origin.api.new_consumer()["name"]
        options: dict[str, Any] = {"pepper_file": origin.pepper_file, "ready_seconds": 60, "name": "at-the-broker"}
        source = EmbeddedReplica.from_broker(NatsOptions((nats.url,)), directory=tmp_path / "app", **options)
        try:
            source.open()
            until(lambda: [edge["state"] for edge in edges_named(origin, "at-the-broker")] == ["synced"], timeout=60)
            made = origin.api.new_key(consumer)
            until(lambda: verdict(source, (BUCKET, made["key"])) == "VALID")
            url = f"{ACCOUNT_URL}/key-buckets/{BUCKET}/consumers/{consumer}/keys/{made['id']}"
            ended = origin.api.delete(f"{url}?wait=all&timeout=20000")
            assert ended.headers["keywright-applied"] == "2/2", ended.headers
            assert verdict(source, (BUCKET, made["key"])) == "UNKNOWN"
            # With the broker alone: there is no origin to ask, and the app is opened anew.
            origin.served.kill()
            source.close()
            kept = EmbeddedReplica.from_broker(NatsOptions((nats.url,)), directory=tmp_path / "another", **options)
            assert verdict(kept, (BUCKET, made["key"])) == "UNKNOWN"
            kept.close()
        finally:
            source.close()


async def test_replicas_in_applications_spend_a_quota_together(origin: Origin, tmp_path: Path) -> None:
    """One that follows by itself, and one beside an edge: in line at the first use, and no further than there is."""
    name = f"quota-bucket-{next(_numbers)}"
    buckets = f"{ACCOUNT_URL}/key-buckets"
    refuses = {"name": name, "maxStalenessSeconds": 3600, "whenStale": "refuse"}
    origin.api.call("POST", buckets, json=refuses)
    quota = {"name": "calls", "limit": 40, "period": "none"}
    origin.api.call("POST", f"{buckets}/{name}/consumers", json={"name": "one", "quotas": [quota]})
    key = name, origin.api.call("POST", f"{buckets}/{name}/consumers/one/keys", json={})["key"]
    pepper = origin.pepper_file
    embedded = EmbeddedReplica.from_origin(
        origin.url, token=origin.token, directory=tmp_path / "embedded", pepper_file=pepper
    )
    with EdgeProcess(tmp_path / "edge", origin.url, origin.token, pepper) as edge:
        edge.wait_until_ready()
        shared = SharedReplica(tmp_path / "edge", pepper_file=pepper)
        try:
            for source in (embedded, shared):
                until(lambda source=source: verdict(source, key) in {"VALID", "UNAVAILABLE"})
            served = 0
            for source in (embedded, shared) * 8:
                told = [await status(source, key) for _ in range(4)]
                assert set(told) <= {200, 429, 503}
                served += told.count(200)
            # A first question or two may have been taken by the look above.
            assert 20 <= served <= 40
            quotas = origin.api.call("GET", f"{buckets}/{name}/consumers/one/quotas")["data"]
            assert quotas[0]["spent"] + quotas[0]["lent"] >= served
            assert quotas[0]["overspent"] == 0
        finally:
            embedded.close()
            shared.close()
