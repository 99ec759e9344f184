"""Workers on one embedded directory: one that is stopped, or busy, makes no other accept a key that was revoked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.api import ACCOUNT_URL, BUCKET
from support.origin import Origin
from support.process import until
from support.stopped import followers_in, stopped_in_a_write

TESTS = Path(__file__).parents[1]
HEARD_SECONDS = 25.0
"""Mostly 4: the leader's lease is 3. It is more for one that was stopped in the middle of a write."""
WORKER = """
    import logging, re, sys
    from keywright.policy.embedded import EmbeddedReplica
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    url, token, directory, pepper = sys.argv[1:]
    options = {"directory": directory, "pepper_file": pepper, "ready_seconds": 30, "name": "two-workers"}
    source = EmbeddedReplica.from_origin(url, token=token, **options)
    source.open()
    for line in sys.stdin:
        if line.startswith("be busy"):
            print("busy", flush=True)
            # It holds the interpreter for as long as somebody's pattern is tried.
            re.match("(a+)+$", "a" * 27 + "b")
            continue
        print(source.validate(line.strip(), "my-project-production").verdict, flush=True)
"""


class Worker:
    def __init__(self, origin: Origin, directory: Path, log: Path) -> None:
        self.log = log
        arguments = (origin.url, origin.token, str(directory), str(origin.pepper_file))
        with log.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-c", textwrap.dedent(WORKER), *arguments],
                env={**os.environ, "PYTHONPATH": str(TESTS)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                bufsize=1,
            )

    def say(self, line: str) -> None:
        print(line, file=self.process.stdin, flush=True)

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def ask(self, key: str) -> str:
        self.say(key)
        return self.hear()


@pytest.fixture
def workers(origin: Origin, tmp_path: Path) -> Iterator[list[Worker]]:
    started = [Worker(origin, tmp_path / "keys", tmp_path / f"{number}.log") for number in range(2)]
    yield started
    for worker in started:
        worker.process.kill()
        worker.process.communicate()


@pytest.mark.parametrize("how", ["stopped", "busy"])
def test_a_follower_that_does_not_move_is_replaced_and_never_says_valid_afterwards(
    origin: Origin, workers: list[Worker], how: str
) -> None:
    consumer = origin.api.new_consumer()["name"]
    made = origin.api.new_key(consumer)
    for worker in workers:
        until(lambda worker=worker: worker.ask(made["key"]) == "VALID", timeout=60)  # type: ignore[misc]
    (follower,) = (worker for worker in workers if followers_in(worker.log.read_text()))
    (other,) = (worker for worker in workers if worker is not follower)
    if how == "stopped":
        follower.process.send_signal(signal.SIGSTOP)
    else:
        follower.say("be busy")
        assert follower.hear() == "busy"
    began = time.monotonic()
    follower.say(made["key"])
    revoke(origin, consumer, made["id"])
    until(lambda: other.ask(made["key"]) == "UNKNOWN", timeout=HEARD_SECONDS)
    assert f"process {follower.process.pid} follows the record and has stopped moving" in other.log.read_text()
    follower.process.send_signal(signal.SIGCONT)
    assert follower.hear() in {"UNKNOWN", "UNAVAILABLE"}
    assert time.monotonic() - began > 3
    until(lambda: "was stopped for a while" in follower.log.read_text())
    until(lambda: follower.ask(made["key"]) == "UNKNOWN")


def test_a_worker_that_is_stopped_in_a_write_is_left_with_the_old_files(
    origin: Origin, workers: list[Worker], tmp_path: Path
) -> None:
    consumer = origin.api.new_consumer()["name"]
    made = origin.api.new_key(consumer)
    for worker in workers:
        until(lambda worker=worker: worker.ask(made["key"]) == "VALID", timeout=60)  # type: ignore[misc]
    with stopped_in_a_write(tmp_path / "keys" / "replica"):
        revoke(origin, consumer, made["id"])
        for worker in workers:
            until(lambda worker=worker: worker.ask(made["key"]) == "UNKNOWN", timeout=HEARD_SECONDS)  # type: ignore[misc]


def revoke(origin: Origin, consumer: str, key_id: str) -> None:
    url = f"{ACCOUNT_URL}/key-buckets/{BUCKET}/consumers/{consumer}/keys/{key_id}"
    origin.api.call("DELETE", url, expect=204)
