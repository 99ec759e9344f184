"""Real processes share a limit: an origin and edges, over HTTP and over a broker, asked as fast as they answer."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest

from support import origin as origins
from support.api import BUCKET
from support.nats import NatsServer
from support.origin import Origin
from support.process import NO_TLS, BrokerEdgeProcess, EdgeProcess, ServeProcess, until

LIMIT, WINDOW = 300, 10
RATE = LIMIT / WINDOW
LIMITS = [{"name": "calls", "limit": LIMIT, "windowSeconds": WINDOW}]


@dataclass
class Fleet:
    """An origin, edges that follow it, and one consumer whose limit holds at all of them."""

    origin: Origin
    edges: Sequence[ServeProcess]
    key: str
    admitted: dict[int, list[float]] = field(default_factory=dict)

    @contextmanager
    def hammering(self, *numbers: int) -> Iterator[None]:
        """Ask these edges again and again; when each request was let in is in `admitted`."""
        stop = threading.Event()
        threads = [threading.Thread(target=self._hammer, args=(number, stop)) for number in numbers]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def count(self, since: float, until_: float | None = None) -> int:
        end = time.monotonic() if until_ is None else until_
        return sum(since <= at < end for times in self.admitted.values() for at in times)

    def _hammer(self, number: int, stop: threading.Event) -> None:
        times = self.admitted.setdefault(number, [])
        with httpx2.Client(base_url=self.edges[number].url, timeout=5, verify=NO_TLS, trust_env=False) as client:
            while not stop.is_set():
                answer = client.post(f"/v1/validate/{BUCKET}", json={"key": self.key}).json()
                if answer["valid"]:
                    times.append(time.monotonic())
                else:
                    assert answer["code"] == "RATE_LIMITED", answer
                    time.sleep(0.01)


@contextmanager
def running(
    base: Path, new_edge: Callable[[Origin, Path], ServeProcess], count: int, *arguments: str
) -> Iterator[Fleet]:
    with ExitStack() as stack:
        origin = stack.enter_context(origins.running(base / "origin", *arguments))
        edges = [stack.enter_context(new_edge(origin, base / f"edge-{number}")) for number in range(count)]
        for edge in edges:
            edge.wait_until_ready()
        consumer = origin.api.new_consumer(rateLimits=LIMITS)
        made = origin.api.new_key(consumer["name"])
        for edge in edges:
            # Looked at by a question that takes nothing.
            until(lambda edge=edge: code_of(edge, made["key"]) in {"VALID", "RATE_LIMITED"})
            # The origin has an edge beside it.
            until(lambda edge=edge: part_of(edge) == pytest.approx(1 / (count + 1), abs=0.001))
        yield Fleet(origin, edges, made["key"])


def code_of(edge: ServeProcess, key: str) -> str:
    answer = httpx2.post(f"{edge.url}/v2/validate/{BUCKET}", json={"key": key, "peek": True}, verify=NO_TLS, timeout=5)
    return str(answer.json().get("code"))


def part_of(edge: ServeProcess) -> float:
    told = httpx2.get(f"{edge.url}/metrics", verify=NO_TLS, timeout=5).text
    found = re.search(r"^keywright_shares_fallback_ratio (\S+)", told, re.MULTILINE)
    return float(found[1]) if found else 0.0


@pytest.mark.timeout(120)
def test_edges_of_an_origin_admit_no_more_than_the_limit_and_go_on_without_it(tmp_path: Path) -> None:
    def new_edge(origin: Origin, data_dir: Path) -> ServeProcess:
        return EdgeProcess(data_dir, origin.url, origin.token, origin.pepper_file)

    with running(tmp_path, new_edge, 2) as fleet:
        began = time.monotonic()
        with fleet.hammering(0, 1):
            time.sleep(6)
        seconds = time.monotonic() - began
        assert fleet.count(began) <= LIMIT + RATE * seconds
        assert all(len(times) > RATE for times in fleet.admitted.values())

        # All of it moves to one edge, which has nearly all of the rate soon.
        with fleet.hammering(0):
            time.sleep(5)
            moved = time.monotonic()
            time.sleep(3)
        assert fleet.count(moved, moved + 3) > 0.75 * RATE * 3
        assert fleet.count(began) <= LIMIT + RATE * (time.monotonic() - began)

        # The origin is gone: what each has holds on for 10 s, and then it is one of the three edges that there were.
        fleet.origin.served.kill()
        gone = time.monotonic()
        with fleet.hammering(0, 1):
            time.sleep(5)
            assert fleet.count(gone + 1, gone + 5) > 0.7 * RATE * 4
            time.sleep(7)
            alone = time.monotonic()
            time.sleep(4)
        assert fleet.count(alone, alone + 4) < RATE * 4 * 2 / 3 + 4
        assert fleet.count(alone, alone + 4) > RATE * 4 / 4
        assert fleet.count(began) <= LIMIT + RATE * (time.monotonic() - began)


@pytest.mark.timeout(120)
def test_edges_of_a_broker_admit_no_more_than_the_limit_together(tmp_path: Path, nats: NatsServer) -> None:
    def new_edge(origin: Origin, data_dir: Path) -> ServeProcess:
        return BrokerEdgeProcess(data_dir, nats.url, origin.pepper_file)

    with running(tmp_path, new_edge, 4, "--nats", nats.url) as fleet:
        began = time.monotonic()
        with fleet.hammering(0, 1, 2, 3):
            time.sleep(5)
        assert LIMIT / 4 < fleet.count(began) <= LIMIT + RATE * (time.monotonic() - began)
        assert all(fleet.admitted.values())
