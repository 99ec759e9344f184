"""Edges that refuse once they are cut off: by their lease, or because the owner of a bucket says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from remote.conftest import BUCKET, BUCKETS, Origin
from remote.fleet import answers, listed, revoke, state_of
from support.process import NO_TLS, EdgeProcess, until
from support.proxy import Proxy

pytestmark = pytest.mark.long(65)


def test_a_leased_edge_refuses_when_it_is_cut_off_and_is_retired_then(
    origin: Origin, proxy: Proxy, tmp_path: Path
) -> None:
    key = origin.new_key()
    variables = {"KEYWRIGHT_EDGE_NAME": "leased", "KEYWRIGHT_REFUSE_AFTER_SECONDS": "8"}
    place = tmp_path / "leased"
    edge = EdgeProcess(place, proxy.url, origin.token, origin.pepper_file, "--workers", "2", **variables)
    again = None
    try:
        edge.wait_until_ready()
        until(lambda: state_of(origin, "leased") == (True, "synced"))
        until(lambda: {edge.verdict(key["key"]) for _ in range(6)} == {"VALID"})
        assert (listed(origin)["leased"]["refusesAfterSeconds"], listed(origin)["leased"]["leased"]) == (8, True)
        proxy.cut()
        answer = revoke(origin, key, "wait=all&timeout=30000")
        assert (answer.headers["keywright-applied"], answer.headers["keywright-refusing"]) == ("1/1", "leased")
        assert {edge.verdict(key["key"]) for _ in range(8)} == {"503"}
        ready = httpx2.get(f"{edge.url}/readyz", timeout=5, verify=NO_TLS)
        assert (ready.status_code, ready.json()["ready"]) == (503, False)
        # Started again without the setting it is bound by what it told all the same.
        edge.kill()
        again = EdgeProcess(place, proxy.url, origin.token, origin.pepper_file, KEYWRIGHT_EDGE_NAME="leased")
        until(lambda: answers(again), timeout=60)
        assert again.verdict(key["key"]) == "503"
        until(lambda: "leased" not in listed(origin), timeout=70)
        proxy.heal()
        until(lambda: again.verdict(key["key"]) == "UNKNOWN", timeout=30)
        until(lambda: state_of(origin, "leased") == (True, "synced"))
        assert listed(origin)["leased"]["refusesAfterSeconds"] is None
    finally:
        for one in (edge, again):
            if one is not None:
                one.kill()


def test_an_edge_whose_reports_alone_are_cut_off_refuses_before_it_is_not_waited_for(
    origin: Origin, proxy: Proxy, fleet: Callable[..., EdgeProcess]
) -> None:
    for bucket in origin.call("GET", BUCKETS)["data"]:
        limit = {"maxStalenessSeconds": 4, "whenStale": "refuse"}
        origin.call("PATCH", f"{BUCKETS}/{bucket['name']}", json=limit)
    edge = fleet("unheard", url=proxy.url)
    key = origin.new_key()
    until(lambda: edge.verdict(key["key"]) == "VALID")
    until(lambda: listed(origin)["unheard"]["refusesAfterSeconds"] == 10)
    # The feed that is open goes on: only what the edge sends is held, and its feed sends nothing.
    proxy.holds_requests = True
    answer = revoke(origin, key, "wait=all&timeout=30000")
    assert (answer.headers["keywright-applied"], answer.headers.get("keywright-refusing")) == ("1/1", "unheard")
    assert edge.verdict(key["key"]) in {"503", "UNKNOWN"}
    other = origin.new_key()
    assert edge.verdict(other["key"]) == "503"


def test_a_cut_edge_refuses_where_the_owner_says_so_in_every_worker_and_after_a_restart_and_serves_elsewhere(
    origin: Origin, proxy: Proxy, fleet: Callable[..., EdgeProcess], tmp_path: Path
) -> None:
    key = origin.new_key()
    strict, lenient = BUCKET, "my-project-preview"
    edge = fleet("strict", "--workers", "2", url=proxy.url)
    limit = {"maxStalenessSeconds": 4, "whenStale": "refuse"}
    answer = origin.client.patch(f"{BUCKETS}/{strict}?wait=all&timeout=20000", json=limit)
    assert (answer.status_code, answer.headers["keywright-applied"]) == (200, "2/2")
    assert edge.verdict(key["key"]) == "VALID"
    proxy.cut()
    until(lambda: {edge.verdict(key["key"]) for _ in range(8)} == {"503"}, timeout=30)
    assert {edge.verdict(key["key"], lenient) for _ in range(8)} == {"UNKNOWN"}
    edge.kill()
    again = EdgeProcess(tmp_path / "strict", proxy.url, origin.token, origin.pepper_file).wait_until_ready()
    try:
        assert again.verdict(key["key"]) == "503"
        assert again.get("/readyz")["lag_seconds"] > 4
        # In the same moment the forward-auth endpoint gives no 401.
        asked = httpx2.get(
            f"{again.url}/v1/forward-auth/{strict}", headers={"authorization": "Bearer nothing-good"}, verify=NO_TLS
        )
        assert asked.status_code == 503
        proxy.heal()
        until(lambda: again.verdict(key["key"]) == "VALID", timeout=30)
    finally:
        again.kill()
