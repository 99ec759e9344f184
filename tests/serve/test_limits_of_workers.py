"""Rate limits at an edge with several workers, one of which is killed or stopped while they count."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import httpx2
import pytest

from edge.world import DIGESTER, PEPPER_CHECK, at, bucket, consumer, key
from gateways.conftest import PEPPER, TableEdge
from keywright.domain.limits import LimitScope, RateLimit
from keywright.domain.powers import encode_powers
from keywright.edge.replica.replica import Replica
from keywright.policy.shared import SharedReplica
from support.process import NO_TLS, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIMIT = 300
SECRETS = [f"zpka_limited-{n}-and-long-enough" for n in range(3)]


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TableEdge]:
    data_dir: Path = tmp_path_factory.mktemp("limits") / "data"
    data_dir.mkdir(mode=0o700)
    replica = Replica.open(data_dir / "replica", DIGESTER.pepper_check())
    # Nothing of it is given back while a test runs.
    powers = encode_powers(rate_limits=[RateLimit("daily", LIMIT, 86_400, LimitScope.EDGE)])
    owners = [replace(consumer(number, 1), powers=powers) for number in (1, 2, 3)]
    keys = [key(secret, 1, number) for number, secret in enumerate(SECRETS, 1)]
    made = replace(bucket(1, "my-bucket"), features=("rateLimits",))
    replica.load("dep_1", PEPPER_CHECK, at(0), [made, *owners, *keys])
    replica.close()
    with TableEdge(data_dir, "--workers", "3") as running:
        yield running.wait_until_ready()


def workers_of(edge: TableEdge) -> list[int]:
    children = f"/proc/{edge.process.pid}/task/{edge.process.pid}/children"
    with open(children) as listed:
        found = [int(pid) for pid in listed.read().split()]
    return [pid for pid in found if os.path.exists(f"/proc/{pid}/exe")]


def hammer(edge: TableEdge, secret: str, count: int) -> Counter[str]:
    """What so many questions came to, each on a connection of its own, so that all workers have some."""

    def ask(_: int) -> str:
        try:
            body = {"key": secret}
            answer = httpx2.post(f"{edge.url}/v1/validate/my-bucket", json=body, verify=NO_TLS, timeout=20)
        except httpx2.HTTPError:
            return "no answer"
        return str(answer.json().get("code", answer.status_code))

    with ThreadPoolExecutor(16) as pool:
        return Counter(pool.map(ask, range(count)))


def test_workers_and_an_application_beside_them_let_through_exactly_the_limit(edge: TableEdge) -> None:
    source = SharedReplica(edge.data_dir, pepper=PEPPER, ready_seconds=60)
    try:
        own = sum(source.validate(SECRETS[0], "my-bucket").is_valid for _ in range(100))
        found = hammer(edge, SECRETS[0], 300)
        assert own == 100
        assert found == {"VALID": LIMIT - 100, "RATE_LIMITED": 100}
        assert str(source.validate(SECRETS[0], "my-bucket").verdict) == "RATE_LIMITED"
    finally:
        source.close()


def test_a_worker_that_is_killed_takes_nothing_of_a_limit_with_it(edge: TableEdge) -> None:
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(hammer, edge, SECRETS[1], 400)
        time.sleep(0.2)
        os.kill(workers_of(edge)[0], signal.SIGKILL)
        found = asked.result()
    # What was taken for an answer that did not come is taken.
    assert LIMIT - found["no answer"] <= found["VALID"] <= LIMIT
    assert set(found) <= {"VALID", "RATE_LIMITED", "no answer"}
    until(lambda: hammer(edge, SECRETS[1], 1)["RATE_LIMITED"] == 1, 60)


def test_a_worker_that_is_stopped_keeps_no_other_from_counting(edge: TableEdge) -> None:
    source = SharedReplica(edge.data_dir, pepper=PEPPER, ready_seconds=60)
    stopped = workers_of(edge)
    assert source.validate(SECRETS[2], "my-bucket").is_valid
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert sum(source.validate(SECRETS[2], "my-bucket").is_valid for _ in range(LIMIT)) == LIMIT - 1
        assert time.monotonic() - began < 20
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        source.close()
    until(lambda: hammer(edge, SECRETS[2], 1)["RATE_LIMITED"] == 1, 60)
