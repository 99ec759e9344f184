"""An edge on a machine whose clock is wrong: it judges by the origin's, and says how far its own is off.

The clock is libfaketime's, for the edge's processes only. The time since the start is left as it is: nobody can set
that.
"""

from __future__ import annotations

import base64
import contextlib
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest

from faults import clock
from keywright.edge.replica.origin_clock import READ_SECONDS
from keywright.policy.shared import SharedReplica
from remote.conftest import BUCKET, BUCKETS, Origin
from support.nats import NatsServer
from support.process import NO_TLS, BrokerEdgeProcess, EdgeProcess, ServeProcess, run_command, until

SLOW, FAST = -2400, 2400


def off_by(seconds: int) -> tuple[str, ...]:
    return ("env", *(f"{name}={value}" for name, value in clock.variables(seconds).items()))


@pytest.fixture
def origin(tmp_path: Path, nats: NatsServer) -> Iterator[Origin]:
    made = Origin(tmp_path / "origin", "--nats", nats.url)
    yield made
    made.client.close()
    made.process.kill()


StartEdge = Callable[[int], ServeProcess]


@pytest.fixture(params=["http", "nats"])
def start_edge(request: pytest.FixtureRequest, tmp_path: Path, origin: Origin, nats: NatsServer) -> Iterator[StartEdge]:
    with contextlib.ExitStack() as stack:

        def start(seconds: int) -> ServeProcess:
            data, under, pepper = tmp_path / "edge", off_by(seconds), origin.pepper_file
            variables = {"KEYWRIGHT_IDENTITY_TOKEN_SECONDS": "60", "KEYWRIGHT_EDGE_NAME": "off"}
            workers = ("--workers", "2")
            edge: ServeProcess
            if request.param == "nats":
                edge = BrokerEdgeProcess(data, nats.url, pepper, *workers, under=under, **variables)
            else:
                url, token = origin.process.url, origin.token
                edge = EdgeProcess(data, url, token, pepper, *workers, under=under, **variables)
            return stack.enter_context(edge.wait_until_ready())

        yield start


def key_that_ends(origin: Origin, seconds: float) -> str:
    """A key that ends then, by a clock that is right; what has ended already comes in as an import would."""
    end = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
    body = {"name": f"ends-{time.monotonic_ns()}", "apiKeys": [{"expiresOn": end}]}
    made = origin.call("POST", f"{BUCKETS}/{BUCKET}/consumers", json=body)
    return str(made["apiKeys"][0]["key"])


def offset_of(edge: ServeProcess) -> float:
    return float(edge.get("/readyz")["clock_offset_seconds"] or 0.0)


def offset_told(origin: Origin) -> float:
    """What the origin lists of that edge."""
    edges = {one["name"]: one for one in origin.call("GET", "/v1/accounts/my-account/edges")["data"]}
    return float(edges.get("off", {}).get("clockOffsetSeconds") or 0.0)


@pytest.mark.long(20)
@pytest.mark.parametrize("seconds", [SLOW, FAST])
def test_an_edge_with_a_wrong_clock_judges_by_the_origins_and_says_so_everywhere(
    origin: Origin, start_edge: StartEdge, seconds: int, tmp_path: Path
) -> None:
    ended, good = key_that_ends(origin, -1200), key_that_ends(origin, 1200)
    edge = start_edge(seconds)
    until(lambda: edge.get("/readyz")["synced"] and edge.get("/readyz")["revision"] == origin.revision)
    until(lambda: offset_of(edge) == pytest.approx(seconds, abs=1))
    # The worker that follows has it from the origin. The other one looks what was noted, at a request, so often:
    # which of the two a request gets to nobody can say.
    time.sleep(READ_SECONDS)
    assert {(edge.verdict(ended), edge.verdict(good)) for _ in range(8)} == {("EXPIRED", "VALID")}
    warning = "behind the origin's" if seconds < 0 else "ahead of the origin's"
    readiness = edge.get("/readyz")
    assert warning in readiness["warnings"][0]
    assert readiness["clock_error_seconds"] < 1
    assert warning in edge.output()
    scraped = httpx2.get(f"{edge.url}/metrics", verify=NO_TLS).text
    line = next(line for line in scraped.splitlines() if line.startswith("keywright_clock_offset_seconds "))
    assert float(line.split()[1]) == pytest.approx(seconds, abs=1)
    until(lambda: offset_told(origin) == pytest.approx(seconds, abs=1))
    # The identity token says when it was made, by the clock that backends go by.
    claims = claims_of(edge, good)
    assert claims["iat"] == pytest.approx(time.time(), abs=5)
    assert claims["exp"] == pytest.approx(time.time() + 60, abs=5)
    # An application that reads this replica, in a process of its own, goes by it as well.
    shared = SharedReplica(tmp_path / "edge", pepper_file=origin.pepper_file)
    try:
        assert (shared.validate(ended, BUCKET).verdict, shared.validate(good, BUCKET).verdict) == ("EXPIRED", "VALID")
        assert shared.clock_offset_seconds == pytest.approx(0, abs=1)
    finally:
        shared.close()


def claims_of(edge: ServeProcess, key: str) -> dict[str, int]:
    headers = {"authorization": f"Bearer {key}"}
    answer = httpx2.get(f"{edge.url}/v1/forward-auth/{BUCKET}", headers=headers, verify=NO_TLS)
    body = answer.headers["x-consumer-token"].split(".")[1]
    claims: dict[str, int] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return claims


class SnapshotEdgeProcess(ServeProcess):
    """`keywright edge` with a snapshot file and nothing to follow."""

    command = "edge"


def test_an_edge_from_a_snapshot_file_alone_goes_by_when_that_was_made(origin: Origin, tmp_path: Path) -> None:
    ended, file = key_that_ends(origin, -1200), tmp_path / "keywright.snapshot"
    made = run_command("snapshot", "export", "--data-dir", str(origin.data_dir), "--out", str(file))
    assert made.returncode == 0, made.stderr
    variables = {"KEYWRIGHT_PEPPER_FILE": str(origin.pepper_file)}
    with SnapshotEdgeProcess(
        tmp_path / "edge", "--snapshot", str(file), under=off_by(SLOW), **variables
    ).wait_until_ready() as edge:
        assert edge.verdict(ended) == "EXPIRED"
        assert "(or more) behind the origin's" in edge.get("/readyz")["warnings"][0]
        assert "(or more) behind the origin's" in edge.output()
