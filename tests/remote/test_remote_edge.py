"""A remote edge's guarantee: it says what the record said last, from its own disk, whatever happens on the way."""

from __future__ import annotations

import base64
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from keywright.domain.keyformat import Digester
from keywright.edge.replica.replica import Replica
from remote.conftest import BUCKET, BUCKETS, Origin
from support.process import EdgeProcess, until
from support.proxy import Proxy
from support.record import seen_by_account

pytestmark = pytest.mark.long(75)

HEARD_SECONDS = 15
"""A line that is good again is taken up when a report gets through: the one that was lost is given up after 5 s, the
next is sent within one, and the question that follows has 6 s."""
NewEdge = Callable[..., EdgeProcess]


def is_synced(edge: EdgeProcess) -> bool:
    return bool(edge.get("/readyz")["synced"])


def test_an_edge_that_has_never_met_the_origin_answers_503_and_is_ready_once_it_has(
    origin: Origin, proxy: Proxy, new_edge: NewEdge
) -> None:
    proxy.cut()
    key = origin.new_key()
    edge = new_edge()
    until(lambda: _answers(edge))
    assert (edge.verdict(key["key"]), edge.get("/readyz")["ready"]) == ("503", False)
    proxy.heal()
    until(lambda: edge.verdict(key["key"]) == "VALID")
    until(lambda: is_synced(edge))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_change_at_the_origin_holds_at_every_worker_of_the_edge(
    origin: Origin, new_edge: NewEdge, workers: str
) -> None:
    edge = new_edge("--workers", workers).wait_until_ready()
    until(lambda: is_synced(edge))
    for _ in range(10):
        key = origin.new_key()
        until(lambda key=key: edge.verdict(key["key"]) == "VALID")  # type: ignore[misc]
        origin.revoke(key)
        until(lambda key=key: edge.verdict(key["key"]) == "UNKNOWN")  # type: ignore[misc]
        # Each question on a connection of its own: it lands on any worker.
        assert {edge.verdict(key["key"]) for _ in range(8)} == {"UNKNOWN"}
    assert edge.output().count("follows the record") == 1


def test_when_the_worker_that_follows_dies_another_one_takes_over(origin: Origin, new_edge: NewEdge) -> None:
    edge = new_edge("--workers", "2").wait_until_ready()
    until(lambda: is_synced(edge))
    until(lambda: edge.output().count("is ready") == 2)
    line = next(line for line in edge.output().splitlines() if "follows the record" in line)
    leader = int(line.split("process ")[1].split()[0])
    os.kill(leader, signal.SIGKILL)
    # Until a process has wholly ended, the system takes connections for it, and then breaks them.
    until(lambda: not Path(f"/proc/{leader}").exists())
    until(lambda: _answers(edge))
    key = origin.new_key()
    until(lambda: edge.verdict(key["key"]) == "VALID", timeout=3)
    until(lambda: all(is_synced(edge) for _ in range(8)))


def test_an_edge_answers_without_the_origin_also_after_its_own_restart_and_catches_up(
    origin: Origin, new_edge: NewEdge
) -> None:
    kept, ended = origin.new_key(), origin.new_key()
    edge = new_edge().wait_until_ready()
    until(lambda: edge.verdict(ended["key"]) == "VALID")
    origin.process.kill()
    until(lambda: not is_synced(edge))
    assert edge.verdict(kept["key"]) == "VALID"
    # It is told once it was asked for again, and not there.
    until(lambda: "OriginUnavailable" in str(edge.get("/readyz").get("reason")))
    edge.kill()
    edge = new_edge().wait_until_ready()
    assert (edge.verdict(kept["key"]), is_synced(edge)) == ("VALID", False)
    origin.restart()
    origin.revoke(ended)
    until(lambda: edge.verdict(ended["key"]) == "UNKNOWN")
    until(lambda: is_synced(edge))
    assert edge.verdict(kept["key"]) == "VALID"


@pytest.mark.parametrize("fault", ["cut", "stall", "deaf", "mute", "slow"])
def test_a_spoilt_line_costs_time_and_never_a_change(
    origin: Origin, proxy: Proxy, new_edge: NewEdge, fault: str
) -> None:
    key = origin.new_key()
    edge = new_edge().wait_until_ready()
    until(lambda: is_synced(edge))
    match fault:
        case "cut":
            proxy.cut()
        case "stall":
            proxy.stall()
        case "deaf":
            proxy.holds_answers = True
        case "mute":
            proxy.holds_requests = True
        case "slow":
            proxy.delay_seconds = 0.2
    origin.revoke(key)
    if fault in {"cut", "stall", "deaf"}:
        # A silent line is not taken for a quiet record.
        until(lambda: not is_synced(edge))
        assert edge.verdict(key["key"]) == "VALID"
        proxy.heal()
    # Where only questions or answers to reports get lost, the answer that is open brings it.
    until(lambda: edge.verdict(key["key"]) == "UNKNOWN", timeout=HEARD_SECONDS)
    proxy.heal()
    until(lambda: is_synced(edge), timeout=HEARD_SECONDS)


def test_what_is_changed_on_the_line_is_refused_and_said_loudly(
    origin: Origin, proxy: Proxy, new_edge: NewEdge
) -> None:
    key = origin.new_key()
    edge = new_edge().wait_until_ready()
    until(lambda: is_synced(edge))
    proxy.tamper = lambda data: data[:-12] + bytes([data[-12] ^ 1]) + data[-11:] if len(data) > 12 else data
    origin.revoke(key)
    until(lambda: not is_synced(edge))
    proxy.heal()
    until(lambda: edge.verdict(key["key"]) == "UNKNOWN", timeout=HEARD_SECONDS)


def test_a_revoked_token_ends_the_stream_and_is_loud_while_the_edge_answers(origin: Origin, new_edge: NewEdge) -> None:
    key = origin.new_key()
    edge = new_edge().wait_until_ready()
    until(lambda: is_synced(edge))
    origin.call("DELETE", f"/v1/accounts/my-account/management-keys/{origin.token_id}")
    until(lambda: "401" in str(edge.get("/readyz").get("reason")), timeout=5)
    assert (edge.verdict(key["key"]), is_synced(edge)) == ("VALID", False)
    assert "ERROR" in edge.output()
    assert origin.token not in edge.output()


def test_a_token_without_feed_is_refused_by_name(origin: Origin, new_edge: NewEdge) -> None:
    permissions = {"account": "none", "buckets": {"*": "write"}, "feed": False}
    made = origin.call("POST", "/v1/accounts/my-account/management-keys", json={"permissions": permissions})
    edge = new_edge(token=made["key"])
    until(lambda: _answers(edge) and "403" in str(edge.get("/readyz").get("reason")))


def test_a_wrong_pepper_keeps_a_new_edge_from_starting_and_is_named(
    origin: Origin, new_edge: NewEdge, tmp_path: Path
) -> None:
    other = tmp_path / "other.key"
    other.write_text(base64.b64encode(bytes(32)).decode())
    edge = new_edge(pepper_file=other)
    assert edge.process.wait(20) == 1
    assert "pepper" in edge.output()


def test_an_edge_of_one_bucket_knows_no_other_and_a_wider_token_fills_it_anew(
    origin: Origin, new_edge: NewEdge
) -> None:
    key = origin.new_key()
    tokens = []
    for buckets in ({"my-project-preview": "validate"}, {BUCKET: "validate"}):
        permissions = {"account": "none", "buckets": buckets, "feed": True}
        made = origin.call("POST", "/v1/accounts/my-account/management-keys", json={"permissions": permissions})
        tokens.append(made["key"])
    edge = new_edge(token=tokens[0]).wait_until_ready()
    assert (edge.verdict(key["key"]), edge.verdict(key["key"], "my-project-preview")) == ("404", "UNKNOWN")
    edge.kill()
    edge = new_edge(token=tokens[1]).wait_until_ready()
    until(lambda: edge.verdict(key["key"]) == "VALID")
    assert edge.verdict(key["key"], "my-project-preview") == "404"


def test_a_bucket_that_is_shared_reaches_an_edge_whole_and_is_withdrawn_at_once(
    origin: Origin, new_edge: NewEdge
) -> None:
    key = origin.new_key()
    origin.call("POST", "/v1/accounts", json={"name": "partner"})
    made = origin.call(
        "POST",
        "/v1/accounts/partner/management-keys",
        json={"permissions": {"account": "none", "buckets": {"*": "validate"}, "feed": True}},
    )
    edge = new_edge(token=made["key"]).wait_until_ready()
    assert edge.verdict(key["key"]) == "404"
    origin.call("POST", f"{BUCKETS}/{BUCKET}/grants", json={"account": "partner", "access": "validate"})
    until(lambda: edge.verdict(key["key"]) == "VALID")
    origin.call("DELETE", f"{BUCKETS}/{BUCKET}/grants/partner")
    until(lambda: edge.verdict(key["key"]) == "404")


def test_an_edge_killed_at_any_moment_is_never_older_afterwards_and_equals_the_record_in_the_end(
    origin: Origin, new_edge: NewEdge, tmp_path: Path
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    over = threading.Event()
    made: list[dict[str, Any]] = []

    def change() -> None:
        while not over.is_set():
            made.append(origin.new_key())
            if len(made) % 3 == 0:
                origin.revoke(made[-2])

    changing = threading.Thread(target=change)
    changing.start()
    last = 0
    try:
        for _ in range(5):
            edge = new_edge().wait_until_ready()
            revision = edge.get("/readyz")["revision"]
            assert revision >= last
            time.sleep(chance.uniform(0, 0.5))
            last = edge.get("/readyz")["revision"]
            edge.kill()
    finally:
        over.set()
        changing.join()
    edge = new_edge().wait_until_ready()
    until(lambda: edge.get("/readyz")["revision"] == origin.revision)
    assert edge.stop() == 0
    assert origin.process.stop() == 0
    check = Digester(base64.b64decode(origin.pepper_file.read_text())).pepper_check()
    edges, origins = (Replica.open(place / "replica", check) for place in (tmp_path / "edge", origin.data_dir))
    try:
        assert edges.records() == seen_by_account(origins.records())
    finally:
        edges.close()
        origins.close()


def test_the_edge_loads_none_of_the_origins_libraries(
    origin: Origin, new_edge: NewEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Every import of the command and of its workers is a line of their output.
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    edge = new_edge().wait_until_ready()
    lines = [line for line in edge.output().splitlines() if line.startswith("import time:")]
    loaded = {line.rpartition("|")[2].strip() for line in lines}
    # The worker's module has no line of its own, as it is named to importlib; what it asks for has.
    assert {"lmdb", "keywright.edge.app", "keywright.http.connections"} <= loaded
    rooms = {"sqlalchemy", "fastapi", "starlette", "alembic", "jinja2", "asyncpg", "aiosqlite", "keywright.origin"}
    assert rooms & loaded == set()


def test_the_origin_stops_promptly_though_edges_follow_it(origin: Origin, new_edge: NewEdge) -> None:
    edge = new_edge().wait_until_ready()
    until(lambda: is_synced(edge))
    started = time.monotonic()
    assert origin.process.stop() == 0
    assert time.monotonic() - started < 5


def _answers(edge: EdgeProcess) -> bool:
    try:
        return bool(edge.get("/livez"))
    except httpx2.TransportError:
        return False
