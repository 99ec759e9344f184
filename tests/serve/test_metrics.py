"""The metrics of several workers: one scrape tells the sum of all, and a worker's death takes nothing away."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import httpx2
import pytest

from support.api import VARIABLES, Api
from support.origin import FOLLOW
from support.process import NO_TLS, EdgeProcess, ServeProcess, until

T = TypeVar("T")
WORKERS = 4
FRESH_SECONDS = 2.0
"""How soon every worker knows of what the others have counted, by the documentation; but this machine may be busy."""


@pytest.fixture(params=["serve", "edge"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[ServeProcess, str]]:
    """Four workers of either kind, and a key that is good there."""
    origin_workers = WORKERS if request.param == "serve" else 1
    with ServeProcess(tmp_path / "origin", "--workers", str(origin_workers), **VARIABLES).wait_until_ready() as origin:
        api = Api(origin)
        key = api.new_consumer(apiKeys=[{}])["apiKeys"][0]["key"]
        if request.param == "serve":
            yield origin, key
            return
        made = api.call("POST", "/v1/accounts/my-account/management-keys", json={"permissions": FOLLOW})
        pepper_file = tmp_path / "origin" / "pepper.key"
        with EdgeProcess(tmp_path / "edge", origin.url, made["key"], pepper_file, "--workers", str(WORKERS)) as edge:
            edge.wait_until_ready()
            until(lambda: edge.verdict(key) == "VALID")
            yield edge, key


def test_any_scrape_tells_what_all_workers_counted_and_none_falls_when_one_is_killed(
    served: tuple[ServeProcess, str],
) -> None:
    process, key = served
    begun = settled(process)
    for _ in range(60):
        assert process.verdict(key) == "VALID"
    counted = begun + 60
    # Every worker: 40 scrapes, each over a connection of its own, from the first that has it all.
    assert settled(process, at_least=counted) == counted
    assert {valid_count(process) for _ in range(40)} == {counted}

    killed = workers_of(process)[0]
    os.kill(killed, signal.SIGKILL)
    told = [counted]
    deadline = time.monotonic() + 20
    while killed in (now := workers_of(process)) or len(now) < WORKERS:
        assert time.monotonic() < deadline
        told += asked(lambda: valid_count(process))
        counted += len(asked(lambda: process.verdict(key) == "VALID"))
    for _ in range(60):
        told += asked(lambda: valid_count(process))
        counted += len(asked(lambda: process.verdict(key) == "VALID"))
    assert told == sorted(told)
    # What the killed one had counted in its last second, and had told nobody, is lost: here it had time.
    assert settled(process, at_least=counted) >= counted


def test_a_new_start_counts_from_nothing(tmp_path: Path) -> None:
    with ServeProcess(tmp_path / "data", "--workers", "2", **VARIABLES).wait_until_ready() as first:
        first.verdict("zpka_none-such")
        assert settled(first, code="UNKNOWN", at_least=1) >= 1
        first.kill()
    with ServeProcess(tmp_path / "data", "--workers", "2", **VARIABLES).wait_until_ready() as second:
        assert valid_count(second, "UNKNOWN") == 0
        assert len([path for path in (tmp_path / "data" / "worker-counts").iterdir() if path.is_dir()]) == 1
        assert second.stop() == 0
    assert not [path for path in (tmp_path / "data" / "worker-counts").iterdir() if path.is_dir()]


def valid_count(process: ServeProcess, code: str = "VALID") -> int:
    """What one scrape tells, over a connection of its own, and so from any of the workers."""
    text = httpx2.get(f"{process.url}/metrics", timeout=5, verify=NO_TLS).text
    found = re.search(rf'keywright_validations_total{{endpoint="validate",verdict="{code}"}} (\d+)\.0', text)
    return int(found[1]) if found else 0


def settled(process: ServeProcess, code: str = "VALID", at_least: int = 0) -> int:
    """The count that all workers tell, once all tell the same; they have FRESH_SECONDS for it."""
    deadline = time.monotonic() + FRESH_SECONDS + 10
    while True:
        told = {valid_count(process, code) for _ in range(20)}
        if len(told) == 1 and min(told) >= at_least:
            return told.pop()
        assert time.monotonic() < deadline, f"{told}, not {at_least}"


def asked(ask: Callable[[], T]) -> list[T]:
    """The answer, unless the connection was to a worker that has just been killed."""
    try:
        return [ask()]
    except httpx2.TransportError:
        return []


def workers_of(process: ServeProcess) -> list[int]:
    """The worker processes, oldest first."""
    children = Path(f"/proc/{process.process.pid}/task/{process.process.pid}/children").read_text().split()
    return [int(child) for child in children if b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes()]
