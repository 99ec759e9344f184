"""The promise of `?wait=all`: once it has answered that all edges have applied a change, every edge acts by it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from remote.conftest import BUCKET, BUCKETS, ROOT_KEY, Origin
from support.postgres import Postgres
from support.process import EdgeProcess, ServeProcess, until
from support.proxy import Proxy

pytestmark = [pytest.mark.long(200), pytest.mark.timeout(240)]

EDGES = "/v1/accounts/my-account/edges"
KEYS = f"{BUCKETS}/{BUCKET}/consumers/one/keys"


@pytest.fixture
def fleet(origin: Origin, proxy: Proxy, tmp_path: Path) -> Iterator[Callable[..., EdgeProcess]]:
    """Starts edges, each with a directory of its own, following the origin or what stands before it."""
    started: list[EdgeProcess] = []

    def start(name: str, *arguments: str, url: str | None = None) -> EdgeProcess:
        edge = EdgeProcess(
            tmp_path / name,
            url or origin.process.url,
            origin.token,
            origin.pepper_file,
            *arguments,
            KEYWRIGHT_EDGE_NAME=name,
            KEYWRIGHT_REGION="test-1",
        )
        started.append(edge)
        edge.wait_until_ready()
        until(lambda: state_of(origin, name) == (True, "synced"))
        return edge

    yield start
    for one in started:
        # A process that is paused can't be waited for.
        one.kill()


def listed(origin: Origin) -> dict[str, dict[str, Any]]:
    return {edge["name"]: edge for edge in origin.call("GET", EDGES)["data"]}


def state_of(origin: Origin, name: str) -> tuple[bool, str] | None:
    edge = listed(origin).get(name)
    return None if edge is None else (edge["connected"], edge["state"])


def revoke(origin: Origin, key: dict[str, Any], query: str) -> httpx2.Response:
    answer = origin.client.delete(f"{KEYS}/{key['id']}?{query}", timeout=60)
    assert answer.status_code == 204, answer.text
    return answer


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


@pytest.mark.parametrize("seconds", [9, 14])
def test_after_an_outage_every_edge_that_ever_reported_is_waited_for_and_none_accepts_what_ended(
    origin: Origin, fleet: Callable[..., EdgeProcess], seconds: int
) -> None:
    edge = fleet("backing-off")
    keys = [origin.new_key() for _ in range(3)]
    until(lambda: {edge.verdict(key["key"]) for key in keys} == {"VALID"})
    origin.process.kill()
    time.sleep(seconds)
    origin.restart()
    for key in keys:
        answer = revoke(origin, key, "wait=all&timeout=30000")
        assert (answer.headers["keywright-applied"], edge.verdict(key["key"])) == ("2/2", "UNKNOWN")


def test_many_who_wait_at_once_are_all_answered(origin: Origin, fleet: Callable[..., EdgeProcess]) -> None:
    edge = fleet("near")
    keys = [origin.new_key() for _ in range(10)]

    def end(key: dict[str, Any]) -> tuple[str, str]:
        with httpx2.Client(base_url=origin.process.url, headers=origin.client.headers, timeout=40) as client:
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


def test_an_edge_that_said_goodbye_answers_again_only_when_it_has_what_ended_meanwhile(
    origin: Origin, proxy: Proxy, fleet: Callable[..., EdgeProcess], tmp_path: Path
) -> None:
    key = origin.new_key()
    edge = fleet("stopped", url=proxy.url)
    until(lambda: edge.verdict(key["key"]) == "VALID")
    edge.stop()
    assert revoke(origin, key, "wait=all").headers["keywright-applied"] == "1/1"
    proxy.cut()
    again = EdgeProcess(tmp_path / "stopped", proxy.url, origin.token, origin.pepper_file)
    try:
        until(lambda: _answers(again), timeout=60)
        assert again.verdict(key["key"]) == "503"
        proxy.heal()
        until(lambda: again.verdict(key["key"]) != "503", timeout=30)
        assert again.verdict(key["key"]) == "UNKNOWN"
    finally:
        again.kill()


def test_a_stop_while_the_origin_is_away_leaves_the_edge_pending(
    origin: Origin, proxy: Proxy, fleet: Callable[..., EdgeProcess]
) -> None:
    edge = fleet("cut", url=proxy.url)
    proxy.cut()
    edge.stop()
    answer = revoke(origin, origin.new_key(), "wait=all&timeout=300")
    assert answer.headers["keywright-pending"] == "cut"


def test_an_edge_is_in_step_soon_after_the_origin_is_back_however_long_it_backed_off(
    origin: Origin, fleet: Callable[..., EdgeProcess]
) -> None:
    edge = fleet("backing-off")
    for seconds in (6, 12):
        origin.process.kill()
        time.sleep(seconds)
        origin.restart()
        back_at = time.monotonic()
        until(lambda: edge.get("/readyz")["synced"], timeout=30)
        assert time.monotonic() - back_at < 3


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
        ready = httpx2.get(f"{edge.url}/readyz", timeout=5)
        assert (ready.status_code, ready.json()["ready"]) == (503, False)
        # Started again without the setting it is bound by what it told all the same.
        edge.kill()
        again = EdgeProcess(place, proxy.url, origin.token, origin.pepper_file, KEYWRIGHT_EDGE_NAME="leased")
        until(lambda: _answers(again), timeout=60)
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


def _answers(edge: EdgeProcess) -> bool:
    try:
        return edge.get("/livez") == {"alive": True}
    except httpx2.TransportError:
        return False


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
        # In the same moment the forward-auth door gives no 401.
        asked = httpx2.get(f"{again.url}/v1/forward-auth/{strict}", headers={"authorization": "Bearer nothing-good"})
        assert asked.status_code == 503
        proxy.heal()
        until(lambda: again.verdict(key["key"]) == "VALID", timeout=30)
    finally:
        again.kill()


def test_an_edge_of_another_origin_on_the_same_record_is_waited_for(postgres: Postgres, tmp_path: Path) -> None:
    url = postgres.new_database()
    variables = {"KEYWRIGHT_BOOTSTRAP_KEY": ROOT_KEY, "KEYWRIGHT_MANAGEMENT_RATE_LIMIT": "0"}
    one = ServeProcess(tmp_path / "one", "--database-url", url, KEYWRIGHT_EDGE_NAME="origin-1", **variables)
    one.wait_until_ready()
    copied = tmp_path / "two"
    copied.mkdir()
    for name in ("pepper.key", "master.key"):
        (copied / name).write_bytes((tmp_path / "one" / name).read_bytes())
    two = ServeProcess(copied, "--database-url", url, KEYWRIGHT_EDGE_NAME="origin-2", **variables)
    edge = None
    try:
        two.wait_until_ready()
        headers = {"authorization": f"Bearer {ROOT_KEY}"}
        edge = EdgeProcess(
            tmp_path / "edge", two.url, ROOT_KEY, tmp_path / "one" / "pepper.key", KEYWRIGHT_EDGE_NAME="edge"
        ).wait_until_ready()
        with httpx2.Client(base_url=one.url, headers=headers, timeout=40) as client:

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
    while (answer := httpx2.post(ask, json={"key": key["key"]}, headers=wanted, timeout=5)).status_code == 503:
        assert answer.headers["retry-after"] == "1"
        assert time.monotonic() < deadline
    assert answer.json()["code"] == "UNKNOWN"
    for future in ("999999999999", "99999999999999999"):
        answer = httpx2.post(ask, json={"key": key["key"]}, headers={"min-revision": future}, timeout=5)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
