"""Replicas in an application's own process: kept by itself, or by an edge beside it."""

from __future__ import annotations

import base64
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.world import PEPPER_CHECK, MemoryFeed, at, bucket, consumer, key
from keywright.domain.keyformat import Digester
from keywright.edge.replica.replica import Replica, ReplicaBroken
from keywright.policy.embedded import EmbeddedReplica
from keywright.policy.shared import SharedReplica
from keywright.runtime.secret_files import KeyFileError
from support.api import ACCOUNT_URL, BUCKET
from support.origin import Origin
from support.process import EdgeProcess, until

PEPPER = base64.b64encode(b"pepper of the tests, 32 bytes ok").decode()
SECRET = "zpka_of_the_consumer"
TESTS = Path(__file__).parents[1]


class ClosableFeed(MemoryFeed):
    closed = 0

    async def close(self) -> None:
        ClosableFeed.closed += 1


def fill(path: Path) -> None:
    replica = Replica.open(path / "replica", PEPPER_CHECK)
    replica.load("dep_1", PEPPER_CHECK, at(3), CHANGES)
    replica.close()


CHANGES: list[Any] = [bucket(1, BUCKET), consumer(1, 1), key(SECRET, 1, 1)]


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[SharedReplica]:
    source = SharedReplica(tmp_path, pepper=PEPPER, ready_seconds=0.1)
    yield source
    source.close()


def verdict(source: Any, secret: str = SECRET) -> str:
    return str(source.validate(secret, BUCKET).verdict)


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(TESTS)}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


# -- embedded ---------------------------------------------------------------------------------------------------------


def embedded(origin: Origin, directory: Path, **options: Any) -> EmbeddedReplica:
    options = {"pepper_file": origin.pepper_file, "ready_seconds": 30, **options}
    return EmbeddedReplica.from_origin(origin.url, token=origin.token, directory=directory, **options)


def test_an_embedded_replica_is_ready_at_the_first_question_and_follows_the_record(
    origin: Origin, tmp_path: Path
) -> None:
    consumer = origin.api.new_consumer(metadata={"plan": "gold"})["name"]
    secret = origin.api.new_key(consumer)["key"]
    source = embedded(origin, tmp_path)
    assert (source.is_ready, source.is_synced, source.lag_seconds, source.reason) == (False, False, math.inf, None)
    try:
        result = source.validate(secret, BUCKET)
        assert result.consumer is not None
        assert (result.consumer.name, result.consumer.metadata) == (consumer, b'{"plan":"gold"}')
        until(lambda: source.is_synced)
        assert source.lag_seconds < math.inf
        later = origin.api.new_key(consumer)
        until(lambda: verdict(source, later["key"]) == "VALID")
        origin.api.call("DELETE", f"{_keys_url(consumer)}/{later['id']}", expect=204)
        until(lambda: verdict(source, later["key"]) == "UNKNOWN")
    finally:
        source.close()
    assert not source.is_ready
    # What was closed can be used again, from what is on the disk.
    assert verdict(source, secret) == "VALID"
    source.close()


def test_an_embedded_replica_answers_without_the_origin_and_is_unavailable_before_it_has_ever_met_it(
    origin: Origin, tmp_path: Path
) -> None:
    nowhere = {"pepper_file": origin.pepper_file, "directory": tmp_path, "token": origin.token}
    source = EmbeddedReplica.from_origin("http://127.0.0.1:9", ready_seconds=0.2, **nowhere)  # type: ignore[arg-type]
    assert verdict(source) == "UNAVAILABLE"
    until(lambda: source.reason)
    assert "OriginUnavailable" in str(source.reason)
    source.close()
    secret = origin.api.new_key(origin.api.new_consumer()["name"])["key"]
    source = embedded(origin, tmp_path)
    assert verdict(source, secret) == "VALID"
    source.close()
    source = EmbeddedReplica.from_origin("http://127.0.0.1:9", ready_seconds=30, **nowhere)  # type: ignore[arg-type]
    assert verdict(source, secret) == "VALID"
    source.close()


def test_a_promise_that_is_over_binds_an_embedded_replica_from_the_first_question_on(tmp_path: Path) -> None:
    fill(tmp_path)
    over = {"boot": None, "until": 1.0, "elapsed": 2.0, "wall": 3.0, "lease": None}
    (tmp_path / "replica" / "lease.json").write_text(json.dumps(over))
    said: list[str] = []

    def new_feed(*_: object) -> ClosableFeed:
        # In the thread that follows, before it does: questions are answered by now.
        opening = source._opening
        assert opening is not None
        assert opening.validator is not None
        said.append(str(opening.validator.validate(SECRET, BUCKET).verdict))
        return ClosableFeed()

    source = EmbeddedReplica(tmp_path, new_feed, pepper=PEPPER, ready_seconds=30)
    try:
        source.open()
        until(lambda: said)
    finally:
        source.close()
    assert said == ["UNAVAILABLE"]


def test_threads_that_ask_first_open_one_replica(tmp_path: Path) -> None:
    feed = ClosableFeed(log=list(CHANGES))
    made: list[Digester] = []
    closed = ClosableFeed.closed

    def new_feed(digester: Digester, name: str) -> ClosableFeed:
        made.append(digester)
        return feed

    source = EmbeddedReplica(tmp_path, new_feed, pepper=PEPPER, ready_seconds=30)
    verdicts: list[str] = []
    threads = [threading.Thread(target=lambda: verdicts.append(verdict(source))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verdicts == ["VALID"] * 8
    assert len(made) == 1
    source.close()
    source.close()
    assert ClosableFeed.closed == closed + 1
    assert not [thread for thread in threading.enumerate() if thread.name == "keywright-replica"]


def test_questions_go_on_while_broken_files_are_replaced_under_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = EmbeddedReplica(tmp_path, lambda *_: ClosableFeed(log=list(CHANGES)), pepper=PEPPER, ready_seconds=30)
    assert verdict(source) == "VALID"
    stop = threading.Event()
    seen: set[str] = set()

    def ask() -> None:
        while not stop.is_set():
            seen.add(verdict(source))
            time.sleep(0)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        (tmp_path / "replica" / "condemned").touch()
        until(lambda: not (tmp_path / "replica" / "condemned").exists())
        until(lambda: verdict(source) == "VALID")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        source.close()
    assert "it is replaced, and filled again" in caplog.text
    assert seen <= {"VALID", "UNAVAILABLE"}


@pytest.mark.parametrize("text", [None, "not base64!"])
def test_a_source_is_made_without_its_files_and_says_what_is_missing_when_it_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str | None
) -> None:
    pepper = tmp_path / "pepper.key"
    if text is not None:
        pepper.write_text(text)
    source = SharedReplica(tmp_path, ready_seconds=30)
    assert not source.is_ready
    assert [verdict(source) for _ in range(3)] == ["UNAVAILABLE"] * 3
    said = "pepper.key is missing" if text is None else "not base64"
    assert len([record for record in caplog.records if said in record.message]) == 1
    with pytest.raises(KeyFileError, match=said):
        source.open()
    # No restart is needed once the file is right.
    fill(tmp_path)
    pepper.write_text(PEPPER)
    pepper.chmod(0o600)
    assert verdict(source) == "VALID"
    source.close()


def test_an_address_that_is_none_is_refused_when_the_source_is_made(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="address"):
        EmbeddedReplica.from_origin("edge", token="t", directory=tmp_path, pepper=PEPPER)


def test_a_source_may_be_closed_and_asked_at_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path)
    source = SharedReplica(tmp_path, pepper=PEPPER, ready_seconds=30)
    for _ in range(5):
        assert verdict(source) == "VALID"
        closing = threading.Thread(target=source.close)
        closing.start()
        assert {verdict(source) for _ in range(20)} <= {"VALID", "UNAVAILABLE"}
        closing.join()
    assert verdict(source) == "VALID"
    source.close()
    assert "already open" not in caplog.text


# -- shared -----------------------------------------------------------------------------------------------------------


def test_a_shared_replica_of_serve_knows_a_change_when_the_call_has_returned(origin: Origin) -> None:
    source = SharedReplica(origin.data_dir, ready_seconds=30)
    consumer = origin.api.new_consumer()["name"]
    try:
        for _ in range(20):
            made = origin.api.new_key(consumer)
            assert verdict(source, made["key"]) == "VALID"
            origin.api.call("DELETE", f"{_keys_url(consumer)}/{made['id']}", expect=204)
            assert verdict(source, made["key"]) == "UNKNOWN"
    finally:
        source.close()


def test_a_shared_replica_outlives_its_edge_and_finds_the_one_that_comes_in_its_place(
    origin: Origin, tmp_path: Path
) -> None:
    secret = origin.api.new_key(origin.api.new_consumer()["name"])["key"]
    directory = tmp_path / "edge"
    source = SharedReplica(directory, pepper_file=origin.pepper_file, ready_seconds=0.1)
    try:
        assert verdict(source, secret) == "UNAVAILABLE"
        edge = EdgeProcess(directory, origin.url, origin.token, origin.pepper_file)
        until(lambda: verdict(source, secret) == "VALID", timeout=60)
        edge.kill()
        assert verdict(source, secret) == "VALID"
        # As the how-to says to take an edge out of service, or to begin anew.
        shutil.rmtree(directory / "replica")
        until(lambda: verdict(source, secret) == "UNAVAILABLE")
        with EdgeProcess(directory, origin.url, origin.token, origin.pepper_file):
            until(lambda: verdict(source, secret) == "VALID", timeout=60)
            assert {verdict(source, secret) for _ in range(50)} == {"VALID"}
    finally:
        source.close()


def test_a_shared_replica_lets_go_of_broken_files_so_that_they_can_be_replaced(
    tmp_path: Path, shared: SharedReplica
) -> None:
    fill(tmp_path)
    until(lambda: verdict(shared) == "VALID")
    data = tmp_path / "replica" / "data.mdb"
    with data.open("r+b") as file:
        file.write(b"\0" * 8192)
    # What an edge does at its start: the reader keeps it from being alone, and hears of it.
    replacing = """
        import sys, time
        from pathlib import Path
        from edge.world import PEPPER_CHECK
        from keywright.edge.replica.replica import Replica, ReplicaBroken
        for attempt in range(400):
            try:
                Replica.open_or_replace(Path(sys.argv[1]), PEPPER_CHECK).close()
                break
            except ReplicaBroken:
                time.sleep(0.05)
        print(attempt)
    """
    done = run(replacing, tmp_path / "replica")
    assert done.returncode == 0, done.stderr
    assert 0 < int(done.stdout) < 399
    until(lambda: verdict(shared) == "UNAVAILABLE")
    fill_elsewhere = (
        "import sys; from pathlib import Path; from policy.test_sources import fill; fill(Path(sys.argv[1]))"
    )
    done = run(fill_elsewhere, tmp_path)
    assert done.returncode == 0, done.stderr
    until(lambda: verdict(shared) == "VALID")


def test_a_reader_makes_nothing_and_judges_nothing(tmp_path: Path, shared: SharedReplica) -> None:
    path = tmp_path / "replica"
    for spoil in (
        lambda: None,
        path.mkdir,
        (path / "in-use.lock").touch,
        lambda: (path / "data.mdb").write_bytes(b"x" * 20_000),
    ):
        spoil()
        before = sorted(path.iterdir()) if path.exists() else None
        assert verdict(shared) == "UNAVAILABLE"
        time.sleep(0.3)
        after = [entry for entry in sorted(path.iterdir()) if entry.name != "lock.mdb"] if path.exists() else None
        assert after == before
        with pytest.raises((ReplicaBroken, OSError)):
            Replica.open_to_read(path, PEPPER_CHECK)


def test_a_file_that_was_cut_short_does_not_kill_the_app(tmp_path: Path, shared: SharedReplica) -> None:
    fill(tmp_path)
    data = tmp_path / "replica" / "data.mdb"
    with data.open("r+b") as file:
        file.truncate(3 * 4096)
    assert verdict(shared) == "UNAVAILABLE"


def test_a_replica_of_another_pepper_is_no_answer(tmp_path: Path) -> None:
    fill(tmp_path)
    other = base64.b64encode(bytes(32)).decode()
    source = SharedReplica(tmp_path, pepper=other, ready_seconds=0.1)
    assert verdict(source) == "UNAVAILABLE"
    source.close()


def test_several_processes_on_one_directory_elect_one_that_follows(origin: Origin, tmp_path: Path) -> None:
    script = """
        import logging, sys, time
        from keywright.policy.embedded import EmbeddedReplica
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        url, token, directory, pepper = sys.argv[1:]
        options = {"directory": directory, "pepper_file": pepper, "ready_seconds": 30, "name": "two-workers"}
        source = EmbeddedReplica.from_origin(url, token=token, **options)
        source.open()
        print("open", flush=True)
        for line in sys.stdin:
            print(source.validate(line.strip(), "my-project-production").verdict, flush=True)
    """
    command = [
        sys.executable,
        "-c",
        textwrap.dedent(script),
        origin.url,
        origin.token,
        str(tmp_path),
        str(origin.pepper_file),
    ]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    logs = [(tmp_path / f"{number}.log").open("w+") for number in range(2)]
    processes = [subprocess.Popen(command, stderr=log, **pipes) for log in logs]
    try:
        assert [process.stdout.readline() for process in processes] == ["open\n"] * 2  # type: ignore[union-attr]

        def ask(process: subprocess.Popen[str], secret: str) -> str:
            print(secret, file=process.stdin, flush=True)
            return process.stdout.readline().strip()  # type: ignore[union-attr]

        def followers() -> list[int]:
            return [n for n, log in enumerate(logs) if "follows the record" in Path(log.name).read_text()]

        consumer = origin.api.new_consumer()["name"]
        secret = origin.api.new_key(consumer)["key"]
        for process in processes:
            until(lambda process=process: ask(process, secret) == "VALID", timeout=60)  # type: ignore[misc]
        (first,) = followers()

        def edges() -> list[str]:
            listed = origin.api.call("GET", f"{ACCOUNT_URL}/edges")["data"]
            return [edge["state"] for edge in listed if edge["name"] == "two-workers"]

        until(edges, timeout=60)
        processes[first].send_signal(signal.SIGKILL)
        processes[first].wait()
        another = origin.api.new_key(consumer)["key"]
        until(lambda: ask(processes[1 - first], another) == "VALID", timeout=60)
        assert followers() == [0, 1]
        # To the origin they are one edge, whichever of them speaks for it.
        assert len(edges()) == 1
    finally:
        for process in processes:
            process.kill()
            process.communicate()
        for log in logs:
            log.close()


def _keys_url(consumer: str) -> str:
    return f"{ACCOUNT_URL}/key-buckets/{BUCKET}/consumers/{consumer}/keys"
