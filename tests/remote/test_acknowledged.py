"""The promise of `?wait=all`: once it has answered that all edges have applied a change, every edge acts by it."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from remote.conftest import BUCKET, BUCKETS, ROOT_KEY, Origin
from remote.fleet import EDGES, KEYS, listed, revoke, state_of
from support.postgres import Postgres
from support.process import NO_TLS, EdgeProcess, ServeProcess, until
from support.proxy import Proxy

pytestmark = pytest.mark.long(70)


def test_once_all_have_applied_it_no_edge_accepts_a_revoked_key_at_its_very_next_request(
    origin: Origin, proxy: Proxy, fleet: Callable[..., EdgeProcess]
) -> None:
    proxy.delay_seconds = 0.02
    edges = [fleet("near"), fleet("two", "--workers", "2"), fleet("slow", url=proxy.url)]
    for _ in range(12):
        made = origin.client.post(f"{KEYS}?wait=all&timeout=20000", json={})
        assert made.headers["keywright-applied"] == "4/4", made.headers
        key = made.json()
        assert [edge.verdict(key["key"]) for edge in edges] == ["VALID"] * 3
        answer = revoke(origin, key, "wait=all&timeout=20000")
        assert (answer.headers["keywright-applied"], answer.headers.get("keywright-pending")) == ("4/4", None)
        assert [edge.verdict(key["key"]) for edge in edges] == ["UNKNOWN"] * 3
        assert {edges[1].verdict(key["key"]) for _ in range(4)} == {"UNKNOWN"}
    assert {edge["region"] for name, edge in listed(origin).items() if name in {"near", "two", "slow"}} == {"test-1"}


def test_many_who_wait_at_once_are_all_answered(origin: Origin, fleet: Callable[..., EdgeProcess]) -> None:
    edge = fleet("near")
    keys = [origin.new_key() for _ in range(10)]

    def end(key: dict[str, Any]) -> tuple[str, str]:
        with httpx2.Client(
            base_url=origin.process.url, headers=origin.client.headers, timeout=40, verify=NO_TLS
        ) as client:
            answer = client.delete(f"{KEYS}/{key['id']}?wait=all&timeout=20000")
            return answer.headers["keywright-applied"], edge.verdict(key["key"])

    with ThreadPoolExecutor(10) as threads:
        assert set(threads.map(end, keys)) == {("2/2", "UNKNOWN")}


def test_a_paused_edge_is_named_as_pending_until_it_is_retired(
    origin: Origin, fleet: Callable[..., EdgeProcess]
) -> None:
    edge = fleet("paused")
    key = origin.new_key()
    until(lambda: edge.verdict(key["key"]) == "VALID")
    os.killpg(edge.process.pid, signal.SIGSTOP)
    answer = revoke(origin, key, "wait=all&timeout=300")
    assert (answer.headers["keywright-applied"], answer.headers["keywright-pending"]) == ("1/2", "paused")
    # One is enough for who says so, and that is the edge beside the origin.
    assert revoke(origin, origin.new_key(), "wait=1").headers["keywright-applied"] == "1/1"
    until(lambda: listed(origin)["paused"]["connected"] is False, timeout=25)
    answer = revoke(origin, origin.new_key(), "wait=all&timeout=300")
    assert (answer.headers["keywright-applied"], answer.headers["keywright-pending"]) == ("1/2", "paused")
    assert origin.client.delete(f"{EDGES}/{listed(origin)['paused']['id']}").status_code == 204
    answer = revoke(origin, origin.new_key(), "wait=all&timeout=25000")
    assert (answer.headers["keywright-applied"], answer.headers.get("keywright-pending")) == ("1/1", None)
    os.killpg(edge.process.pid, signal.SIGCONT)
    until(lambda: edge.verdict(key["key"]) == "UNKNOWN", timeout=30)
    until(lambda: state_of(origin, "paused") == (True, "synced"), timeout=30)


def test_an_edge_that_is_stopped_says_goodbye_with_its_last_worker_and_one_that_is_killed_does_not(
    origin: Origin, fleet: Callable[..., EdgeProcess]
) -> None:
    stopped, killed = fleet("stopped", "--workers", "3"), fleet("killed", "--workers", "2")
    stopped.stop()
    assert set(listed(origin)) & {"stopped", "killed"} == {"killed"}
    killed.kill()
    answer = revoke(origin, origin.new_key(), "wait=all&timeout=300")
    assert (answer.headers["keywright-applied"], answer.headers["keywright-pending"]) == ("1/2", "killed")


def test_an_edge_of_another_origin_on_the_same_record_is_waited_for(postgres: Postgres, tmp_path: Path) -> None:
    url = postgres.new_database()
    variables = {"KEYWRIGHT_BOOTSTRAP_KEY": ROOT_KEY, "KEYWRIGHT_MANAGEMENT_RATE_LIMIT": "0"}
    one = ServeProcess(tmp_path / "one", "--database-url", url, KEYWRIGHT_EDGE_NAME="origin-1", **variables)
    one.wait_until_ready()
    copied = tmp_path / "two"
    copied.mkdir()
    for name in ("pepper.key", "master.key"):
        shutil.copy(tmp_path / "one" / name, copied / name)
    two = ServeProcess(copied, "--database-url", url, KEYWRIGHT_EDGE_NAME="origin-2", **variables)
    edge = None
    try:
        two.wait_until_ready()
        headers = {"authorization": f"Bearer {ROOT_KEY}"}
        edge = EdgeProcess(
            tmp_path / "edge", two.url, ROOT_KEY, tmp_path / "one" / "pepper.key", KEYWRIGHT_EDGE_NAME="edge"
        ).wait_until_ready()
        with httpx2.Client(base_url=one.url, headers=headers, timeout=40, verify=NO_TLS) as client:

            def connected() -> set[str]:
                found = client.get(EDGES).json()["data"]
                return {one["name"] for one in found if one["connected"] and one["state"] == "synced"}

            until(lambda: connected() == {"origin-1", "origin-2", "edge"}, timeout=30)
            client.post(f"{BUCKETS}/{BUCKET}/consumers", json={"name": "one"})
            for _ in range(5):
                key = client.post(f"{KEYS}?wait=all&timeout=20000", json={}).json()
                assert [edge.verdict(key["key"]), two.verdict(key["key"])] == ["VALID", "VALID"]
                answer = client.delete(f"{KEYS}/{key['id']}?wait=all&timeout=20000")
                assert answer.headers["keywright-applied"] == "3/3", answer.headers
                assert [edge.verdict(key["key"]), two.verdict(key["key"])] == ["UNKNOWN", "UNKNOWN"]
            # Nobody who waits makes them write more than now and then; they say so in the end all the same.
            revision = int(client.post(f"{KEYS}", json={}).headers["keywright-revision"])
            until(lambda: all(row["revision"] >= revision for row in client.get(EDGES).json()["data"]))
    finally:
        for process in (edge, two, one):
            if process is not None:
                process.kill()


def test_a_validation_that_asks_for_a_revision_is_answered_by_that_or_503(
    origin: Origin, proxy: Proxy, fleet: Callable[..., EdgeProcess]
) -> None:
    edge = fleet("late", url=proxy.url)
    ask = f"{edge.url}/v1/validate/{BUCKET}"
    key = origin.new_key()
    proxy.delay_seconds = 0.1
    made = origin.client.delete(f"{KEYS}/{key['id']}")
    wanted = {"min-revision": made.headers["keywright-revision"]}
    deadline = time.monotonic() + 20
    while (
        answer := httpx2.post(ask, json={"key": key["key"]}, headers=wanted, timeout=5, verify=NO_TLS)
    ).status_code == 503:
        assert answer.headers["retry-after"] == "1"
        assert time.monotonic() < deadline
    assert answer.json()["code"] == "UNKNOWN"
    for future in ("999999999999", "99999999999999999"):
        answer = httpx2.post(ask, json={"key": key["key"]}, headers={"min-revision": future}, timeout=5, verify=NO_TLS)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
