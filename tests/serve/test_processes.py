"""The main process and its workers: none outlives the other, and what is in the way is named."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.api import VARIABLES
from support.process import BrokerEdgeProcess, ServeProcess, run_command, until

END_SECONDS = 12
"""A worker drains for five; it takes a fraction of one when nothing is under way."""


def workers_of(process: int) -> list[int]:
    listed = subprocess.run(["pgrep", "-P", str(process)], capture_output=True, text=True, check=False)
    return [int(line) for line in listed.stdout.split()]


def is_running(process: int) -> bool:
    """Not ended, and no zombie either."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def start_serve(data: Path, workers: int) -> ServeProcess:
    return ServeProcess(data, "--workers", str(workers), **VARIABLES)


def start_edge(data: Path, workers: int) -> ServeProcess:
    """It follows a broker that is not there, and serves its disk."""
    data.mkdir()
    (data / "pepper.key").write_text("cGVwcGVyIG9mIHRoZSB0ZXN0cywgMzIgYnl0ZXMgb2s=")
    (data / "pepper.key").chmod(0o600)
    return BrokerEdgeProcess(data, "nats://127.0.0.1:1", data / "pepper.key", "--workers", str(workers))


def is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("start", [start_serve, start_edge], ids=["serve", "edge"])
@pytest.mark.parametrize("workers", [1, 3])
def test_workers_end_with_the_main_process(
    tmp_path: Path, start: Callable[[Path, int], ServeProcess], workers: int
) -> None:
    with start(tmp_path / "data", workers) as served:
        until(lambda: served.output().count("is ready") == workers, timeout=60)
        ids = workers_of(served.process.pid)
        assert len(ids) == workers
        if workers > 1:
            # One that hangs hears nothing, and is no reason for the others to stay.
            os.kill(ids[-1], signal.SIGSTOP)
        os.kill(served.process.pid, signal.SIGKILL)
        served.process.wait()
        for worker in ids[: workers - 1] or ids:
            until(lambda worker=worker: not is_running(worker), timeout=END_SECONDS)  # type: ignore[misc]
        if workers > 1:
            os.kill(ids[-1], signal.SIGCONT)
            until(lambda: not is_running(ids[-1]), timeout=END_SECONDS)
        # The system takes back a process's sockets when its last thread is gone.
        until(lambda: is_free(served.port), timeout=END_SECONDS)


def test_workers_that_are_told_to_end_again_and_again_end(tmp_path: Path) -> None:
    """As from a terminal, or from systemd: every process gets the signal, and the workers another from the main one."""
    with start_edge(tmp_path / "data", 4) as served:
        until(lambda: served.output().count("is ready") == 4, timeout=60)
        ids = workers_of(served.process.pid)
        served.process.terminate()
        for _ in range(50):
            for worker in ids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGTERM)
            time.sleep(0.0005)
        # Sooner than the main process would kill them.
        served.process.wait(10)


def test_a_start_names_the_process_that_has_the_port(tmp_path: Path) -> None:
    with start_serve(tmp_path / "data", 2).wait_until_ready() as served:
        pid = served.process.pid
        ended = run_command("serve", "--data-dir", str(tmp_path / "other"), "--port", str(served.port))
        assert ended.returncode == 1
        assert (
            ended.stderr.split()
            == (
                f"keywright: can't listen on 127.0.0.1:{served.port}: address already in use by pid {pid} (keywright); "
                f"stop that one (kill {pid}), or choose another --port or --host"
            ).split()
        )


def test_a_start_says_that_orphaned_workers_end_by_themselves(tmp_path: Path) -> None:
    with start_serve(tmp_path / "data", 1).wait_until_ready() as served:
        (worker,) = workers_of(served.process.pid)
        os.kill(worker, signal.SIGSTOP)
        os.kill(served.process.pid, signal.SIGKILL)
        served.process.wait()
        ended = run_command("serve", "--data-dir", str(tmp_path / "other"), "--port", str(served.port))
        said = " ".join(ended.stderr.split())
        assert f"by pid {worker} (keywright), a worker whose main process has ended" in said, said
        assert said.endswith("try again then")


def test_a_worker_that_can_not_start_is_tried_less_often_then_given_up(tmp_path: Path) -> None:
    """Its secret is taken away under the running service."""
    with start_serve(tmp_path / "data", 1).wait_until_ready() as served:
        (tmp_path / "data" / "pepper.key").unlink()
        (worker,) = workers_of(served.process.pid)
        began = time.monotonic()
        os.kill(worker, signal.SIGKILL)
        assert served.process.wait(50) == 1
        assert time.monotonic() - began > 5
        said = served.output()
    assert f"worker 1 (pid {worker}) ended" in said
    assert "killed by SIGKILL (by hand, or for want of memory: see the kernel's log)" in said
    pauses = [float(found) for found in re.findall(r"started anew in ([0-9.]+) s", said)]
    assert pauses == sorted(pauses)
    assert pauses[-1] > 10 * pauses[0]
    assert "pepper.key is missing" in said
    assert "That was the 6th time in a row" in said.splitlines()[-1]


def test_a_worker_that_dies_twice_within_a_moment_is_replaced(tmp_path: Path) -> None:
    with start_serve(tmp_path / "data", 1).wait_until_ready() as served:
        for number in (2, 3):
            (worker,) = workers_of(served.process.pid)
            os.kill(worker, signal.SIGKILL)
            until(lambda number=number: served.output().count("is ready") == number, timeout=30)  # type: ignore[misc]
        served.wait_until_ready()
        assert served.stop() == 0
