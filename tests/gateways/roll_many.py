"""What HAProxy says while one consumer's many keys are rolled.

    PYTHONPATH=tests .venv/bin/python -m gateways.roll_many --keys 20000 --others 80000

It prints, for so many keys: how long the roll took until `wait=all` was answered, how many rolled keys were accepted
after that, and for how long at a stretch another consumer got 503. `--others` puts so many keys of others beside.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateways.gateway import HAPROXY, Gateway, with_key
from gateways.upstream import Upstream
from support.api import BUCKET, CONSUMERS_URL, ROOT_KEY, Api
from support.process import EdgeProcess, ServeProcess, until

AT_ONCE = 1000


@dataclass
class World:
    api: Api
    origin: ServeProcess
    gateway: Gateway
    edge: EdgeProcess

    def status(self, secret: str) -> int:
        return self.gateway.ask("GET", "/", with_key(secret)).status

    def new_keys(self, consumer: str, count: int) -> list[str]:
        self.api.new_consumer(name=consumer)
        url = f"{CONSUMERS_URL}/{consumer}/keys/$bulk"
        made: list[dict[str, Any]] = []
        while len(made) < count:
            made += self.api.call("POST", url, json=[{} for _ in range(min(AT_ONCE, count - len(made)))])["data"]
        return [key["key"] for key in made]


@contextlib.contextmanager
def running(directory: Path, **variables: str) -> Iterator[World]:
    upstream = Upstream()
    given = {"KEYWRIGHT_BOOTSTRAP_KEY": ROOT_KEY, "KEYWRIGHT_MANAGEMENT_RATE_LIMIT": "0"}
    with contextlib.ExitStack() as stack:
        stack.callback(upstream.close)
        origin = stack.enter_context(ServeProcess(directory / "origin", **given).wait_until_ready())
        pepper = directory / "origin/pepper.key"
        gateway = stack.enter_context(
            Gateway(
                HAPROXY, directory / "gateway", api=upstream.port, edge=1, bucket=BUCKET,
                variables={"KEYWRIGHT_PEPPER": pepper.read_text().strip()},
            )
        )  # fmt: skip
        socket = str(gateway.directory / "haproxy.sock")
        edge = EdgeProcess(directory / "edge", origin.url, ROOT_KEY, pepper, "--haproxy", socket, **variables)
        stack.callback(edge.kill)
        api = Api(origin)
        stack.callback(api.close)
        api.timeout = 600
        yield World(api, origin, gateway, edge)


class Watch:
    """Asks with one key again and again, on a kept connection, and notes when it was not let in."""

    def __init__(self, gateway: Gateway, secret: str) -> None:
        self.longest = 0.0
        self.statuses: dict[int, int] = {}
        self.slowest = 0.0
        self._gateway, self._secret = gateway, secret
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._gateway.port, timeout=60)
        since: float | None = None
        while not self._stop.wait(0.001):
            began = time.monotonic()
            connection.request("HEAD", "/", headers={"Authorization": f"Bearer {self._secret}"})
            answer = connection.getresponse()
            answer.read()
            now = time.monotonic()
            self.slowest = max(self.slowest, now - began)
            self.statuses[answer.status] = self.statuses.get(answer.status, 0) + 1
            if answer.status == 200:
                since = None
            else:
                since = since or began
                self.longest = max(self.longest, now - since)
        connection.close()


def roll(world: World, rolled: list[str], other: str, consumer: str) -> dict[str, Any]:
    with Watch(world.gateway, other) as watch:
        began = time.monotonic()
        answer = world.api.request(
            "POST", f"{CONSUMERS_URL}/{consumer}/roll-key?wait=all&timeout=30000", json={}, timeout=600
        )
        seconds = time.monotonic() - began
        late = [secret for secret in rolled if world.status(secret) == 200]
        until(lambda: world.status(rolled[0]) == 401, 300)
        settled = time.monotonic() - began
        time.sleep(1)
    return {
        "status": answer.status_code,
        "applied": answer.headers.get("keywright-applied"),
        "pending": answer.headers.get("keywright-pending"),
        "seconds": round(seconds, 2),
        "settled": round(settled, 2),
        "accepted_after": len(late),
        "longest_503": round(watch.longest, 3),
        "slowest_answer": round(watch.slowest, 3),
        "statuses": watch.statuses,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--keys", type=int, default=20_000)
    parser.add_argument("--others", type=int, default=0)
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="keywright-roll-"))
    try:
        with running(directory) as world:
            (other,) = world.new_keys("other", 1)
            if options.others:
                world.new_keys("others", options.others)
            keys = world.new_keys("many", options.keys)
            until(lambda: world.status(keys[-1]) == 200 and world.status(other) == 200, 300)
            print(os.cpu_count(), "cores,", options.keys, "keys rolled beside", options.others)
            print(roll(world, random.Random(1).sample(keys, 300), other, "many"))
            print(world.edge.output()[-1500:], world.origin.output()[-2500:])
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
