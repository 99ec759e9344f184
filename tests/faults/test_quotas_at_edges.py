"""Real edges never overspend a quota together, while they and the origin are killed, and lose only what deaths hide."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from support import origin as origins
from support.api import BUCKET
from support.nats import NatsServer
from support.origin import Origin
from support.process import NO_TLS, BrokerEdgeProcess, EdgeProcess, ServeProcess, until

LIMIT = 600
CLIENTS = 2
"""Of each edge."""
SECONDS = 8.0


@dataclass
class Checker:
    """What clients were told. A request of which nobody heard may have been served."""

    served: int = 0
    unheard: int = 0
    refused: int = 0
    unavailable: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, answer: Any) -> None:
        with self.lock:
            match answer:
                case None:
                    self.unheard += 1
                case {"valid": True}:
                    self.served += 1
                    assert self.served <= LIMIT, "more was served than there is"
                case {"code": "QUOTA_EXCEEDED"}:
                    self.refused += 1
                case {"status": 503}:
                    self.unavailable += 1
                case _:
                    raise AssertionError(answer)


@dataclass
class Fleet:
    origin: Origin
    edges: list[ServeProcess]
    key: str
    consumer: str
    checker: Checker
    begin: Callable[[int], ServeProcess]

    def ask(self, client: httpx2.Client, base: str, *, peek: bool = False) -> Any:
        try:
            return client.post(f"{base}/v2/validate/{BUCKET}", json={"key": self.key, "peek": peek}).json()
        except httpx2.ConnectError:
            return {"status": 503}
        except (httpx2.TransportError, ValueError):
            return None

    @contextmanager
    def spending(self, pause: float) -> Iterator[None]:
        """At all edges, and at the one beside the origin."""
        stop, failed = threading.Event(), []

        def spend(number: int) -> None:
            with httpx2.Client(timeout=5, verify=NO_TLS, trust_env=False) as client:
                while not stop.is_set():
                    base = self.origin.url if number < 0 else self.edges[number].url
                    try:
                        self.checker.note(self.ask(client, base))
                    except AssertionError as error:
                        failed.append(error)
                        return
                    time.sleep(pause)

        places = [*range(-1, len(self.edges))] * CLIENTS
        threads = [threading.Thread(target=spend, args=(number,)) for number in places]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        if failed:
            raise failed[0]

    def ledger(self) -> Any:
        url = f"/v1/accounts/my-account/key-buckets/{BUCKET}/consumers/{self.consumer}/quotas"
        return self.origin.api.call("GET", url)["data"][0]

    def use_up(self) -> None:
        """All that is left, wherever it is, until every edge says that there is no more."""

        def is_used_up() -> bool:
            ended = True
            with httpx2.Client(timeout=5, verify=NO_TLS, trust_env=False) as client:
                for base in (self.origin.url, *(edge.url for edge in self.edges)):
                    while True:
                        answer = self.ask(client, base)
                        self.checker.note(answer)
                        if not (answer or {}).get("valid"):
                            break
                        ended = False
            return ended and self.checker.served + self.checker.unheard >= LIMIT

        until(is_used_up, timeout=60)


@contextmanager
def fleet_of(
    base: Path, new_edge: Callable[[Origin, Path], ServeProcess], count: int, *arguments: str
) -> Iterator[Fleet]:
    with ExitStack() as stack:
        origin = stack.enter_context(origins.running(base / "origin", *arguments))
        bucket = f"/v1/accounts/my-account/key-buckets/{BUCKET}"
        origin.api.call("PATCH", bucket, json={"maxStalenessSeconds": 3600, "whenStale": "refuse"})
        consumer = origin.api.new_consumer(quotas=[{"name": "calls", "limit": LIMIT, "period": "none"}])
        made = origin.api.new_key(consumer["name"])

        def begin(number: int) -> ServeProcess:
            return stack.enter_context(new_edge(origin, base / f"edge-{number}"))

        edges = [begin(number) for number in range(count)]
        for edge in edges:
            edge.wait_until_ready()
            until(lambda edge=edge: edge.verdict(made["key"]) in {"VALID", "QUOTA_EXCEEDED"})
        # These were taken.
        yield Fleet(origin, edges, made["key"], consumer["name"], Checker(served=count), begin)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", [1])
def test_edges_and_the_origin_are_killed_and_no_unit_is_served_twice(tmp_path: Path, seed: int) -> None:
    def new_edge(origin: Origin, data_dir: Path) -> ServeProcess:
        return EdgeProcess(data_dir, origin.url, origin.token, origin.pepper_file, "--workers", "2")

    chance = random.Random(seed)
    with fleet_of(tmp_path, new_edge, 2) as fleet:
        kills = stops = 0
        ends = time.monotonic() + SECONDS
        with fleet.spending(pause=0.05):
            while time.monotonic() < ends:
                time.sleep(0.4 + chance.random() / 2)
                if chance.random() < 0.6:
                    place = chance.randrange(len(fleet.edges))
                    fleet.edges[place].kill()
                    fleet.edges[place] = fleet.begin(place)
                    fleet.edges[place].wait_until_ready()
                    kills += 1
                else:
                    # The line is cut: what is asked meanwhile is answered late, or not at all.
                    os.killpg(fleet.origin.served.process.pid, signal.SIGSTOP)
                    time.sleep(0.5)
                    os.killpg(fleet.origin.served.process.pid, signal.SIGCONT)
                    stops += 1
        fleet.use_up()
        checker = fleet.checker
        said = f"{checker}, {kills} kills of edges, {stops} stops of the origin, {fleet.ledger()}"
        print(said)
        # As long as the machine runs, a death hides nothing but the answers that were under way.
        assert LIMIT - checker.unheard <= checker.served <= LIMIT, said
        assert checker.unheard <= (kills + stops) * 2 * CLIENTS, said
        assert min(kills, stops) > 0, said
        assert checker.served > LIMIT / 4, said


@pytest.mark.timeout(120)
def test_edges_of_a_broker_spend_a_quota_to_its_end(tmp_path: Path, nats: NatsServer) -> None:
    def new_edge(origin: Origin, data_dir: Path) -> ServeProcess:
        return BrokerEdgeProcess(data_dir, nats.url, origin.pepper_file)

    with fleet_of(tmp_path, new_edge, 2, "--nats", nats.url) as fleet:
        with fleet.spending(pause=0.0):
            until(lambda: fleet.checker.refused > 20, timeout=40)
        fleet.use_up()
        assert fleet.checker.served + fleet.checker.unheard >= LIMIT
        assert fleet.checker.served <= LIMIT
        assert fleet.ledger()["overspent"] == 0


def test_an_edge_that_is_stopped_gives_back_what_is_left(origin: Origin, tmp_path: Path) -> None:
    consumer = origin.api.new_consumer(quotas=[{"name": "calls", "limit": LIMIT, "period": "none"}])
    key = origin.api.new_key(consumer["name"])["key"]
    url = f"/v1/accounts/my-account/key-buckets/{BUCKET}/consumers/{consumer['name']}/quotas"
    with EdgeProcess(tmp_path, origin.url, origin.token, origin.pepper_file, "--workers", "2") as edge:
        edge.wait_until_ready()
        until(lambda: edge.verdict(key) == "VALID")
        until(lambda: origin.api.call("GET", f"{url}")["data"][0]["lent"] > 0)
        edge.stop()
        (told,) = origin.api.call("GET", url)["data"]
    assert told["lent"] == 0
    assert told["remaining"] == LIMIT - told["spent"]
