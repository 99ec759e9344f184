"""A worker that is stopped makes no other deaf: another follows in its place, and a revoked key is refused."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from remote.conftest import BUCKET, BUCKETS, ROOT_KEY, Origin
from support.process import NO_TLS, EdgeProcess, until
from support.stopped import (
    ask,
    ask_stopped,
    ask_until,
    followers_in,
    keep_connections,
    stopped,
    stopped_in_a_write,
    workers_of,
)

HEARD_SECONDS = 10.0
"""The leader's lease is 3 s; then the follower in its place has to connect."""
REPLACED_SECONDS = 25.0
"""A writer is waited for 5 s, others get 3 s to let go of the files, and pauses between the tries are up to 10 s."""


@pytest.fixture
def edge(origin: Origin, tmp_path: Path) -> Iterator[EdgeProcess]:
    told = {"KEYWRIGHT_LOG_LEVEL": "info"}
    url = origin.process.url
    with EdgeProcess(tmp_path / "edge", url, origin.token, origin.pepper_file, "--workers", "2", **told) as started:
        until(lambda: started.output().count("is ready") == 2, timeout=60)
        yield started.wait_until_ready()


def test_a_stopped_follower_of_an_edge_is_replaced_and_never_says_valid_afterwards(
    origin: Origin, edge: EdgeProcess, tmp_path: Path
) -> None:
    key, later = origin.new_key(), origin.new_key()
    ask_until(edge.port, key["key"], "VALID", 10)
    kept = keep_connections(edge.port, key["key"], workers_of(edge))
    (follower,) = followers_in(edge.output())
    with stopped(follower, tmp_path / "edge" / "replica"):
        waiting = ask_stopped(kept, key["key"], follower)
        assert 0 < len(waiting) < len(kept)
        origin.revoke(key)
        ask_until(edge.port, key["key"], "UNKNOWN", HEARD_SECONDS)
        # No connection waits at a worker that is stopped.
        assert {ask(edge.port, key["key"]) for _ in range(20)} == {"UNKNOWN"}
        assert f"process {follower} follows the record and has stopped moving" in edge.output()
    assert {connection.answer(10) for connection in waiting} <= {"UNKNOWN", "503"}
    until(lambda: f"process {follower} was stopped for a while" in edge.output())
    assert len(followers_in(edge.output())) == 2
    origin.revoke(later)
    until(lambda: {ask(edge.port, later["key"]) for _ in range(10)} == {"UNKNOWN"})
    assert "Traceback" not in edge.output()


def test_a_worker_of_an_edge_that_is_stopped_in_a_write_is_left_with_the_old_files(
    origin: Origin, edge: EdgeProcess, tmp_path: Path
) -> None:
    key, later = origin.new_key(), origin.new_key()
    ask_until(edge.port, key["key"], "VALID", 10)
    with stopped_in_a_write(tmp_path / "edge" / "replica") as process:
        origin.revoke(key)
        ask_until(edge.port, key["key"], "UNKNOWN", REPLACED_SECONDS)
        assert "holds its writer lock and doesn't move" in edge.output()
        os.kill(process.pid, signal.SIGCONT)
        assert process.communicate(timeout=10)[0] == "done\n"
    origin.revoke(later)
    until(lambda: {ask(edge.port, later["key"]) for _ in range(10)} == {"UNKNOWN"})
    assert {ask(edge.port, key["key"]) for _ in range(10)} == {"UNKNOWN"}
    assert edge.output().count("it is replaced, and filled again") == 1
    assert "Traceback" not in edge.output()


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Origin]:
    made = Origin(tmp_path / "two", "--workers", "2", KEYWRIGHT_LOG_LEVEL="info")
    until(lambda: made.process.output().count("is ready") == 2, timeout=60)
    yield made
    made.client.close()
    made.process.kill()


def test_no_worker_of_serve_waits_for_one_that_is_stopped(two: Origin) -> None:
    port = two.process.port
    for pid in workers_of(two.process):
        key = two.new_key()
        ask_until(port, key["key"], "VALID", 10)
        kept = keep_connections(port, key["key"], workers_of(two.process))
        with stopped(pid, two.data_dir / "replica"):
            waiting = ask_stopped(kept, key["key"], pid)
            revoke(two, key)
            assert {ask(port, key["key"]) for _ in range(20)} == {"UNKNOWN"}
        assert {connection.answer(10) for connection in waiting} <= {"UNKNOWN", "503"}
    assert "Traceback" not in two.process.output()


def test_a_worker_of_serve_that_is_stopped_in_a_write_is_left_with_the_old_files(two: Origin) -> None:
    port = two.process.port
    key, later = two.new_key(), two.new_key()
    with stopped_in_a_write(two.data_dir / "replica") as process:
        revoke(two, key)
        ask_until(port, key["key"], "UNKNOWN", REPLACED_SECONDS)
        os.kill(process.pid, signal.SIGCONT)
        assert process.communicate(timeout=10)[0] == "done\n"
    until(lambda: {ask(port, key["key"]) for _ in range(10)} == {"UNKNOWN"})
    two.revoke(later)
    assert {ask(port, later["key"]) for _ in range(10)} == {"UNKNOWN"}


def revoke(origin: Origin, key: dict[str, Any]) -> None:
    """Until a worker that runs has taken it: one that is stopped answers nothing."""
    url = f"{origin.process.url}{BUCKETS}/{BUCKET}/consumers/one/keys/{key['id']}"
    until(lambda: _is_gone(url), timeout=30)


def _is_gone(url: str) -> bool:
    try:
        answer = httpx2.delete(url, headers={"authorization": f"Bearer {ROOT_KEY}"}, timeout=1, verify=NO_TLS)
    except httpx2.TransportError:
        return False
    return answer.status_code in {204, 404}
