"""The load: wrk for the highest rate, constant_rate.py for latency at a given one; each on the load's own core."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from machine import LOAD_CORES, on_cores
from processes import ServerProcess

CONNECTIONS = 32
_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Throughput:
    """What one round gave: requests a second, and the processor time that each cost the server, in microseconds."""

    per_second: float
    cpu_micros: float


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from the moment when a request was due. `late_ms`: how late the client sent, at its 99th percent."""

    p50_ms: float
    p99_ms: float
    late_ms: float


def find_wrk() -> str | None:
    return shutil.which("wrk")


def write_requests(file: Path, requests: Iterable[bytes]) -> Path:
    """Raw HTTP requests, one after the other, parted by a byte that none of them has."""
    file.write_bytes(b"\1".join(requests))
    return file


def highest_rate(
    server: ServerProcess, requests: Path, *, seconds: float, connections: int = CONNECTIONS
) -> Throughput:
    """As many requests as the connections carry, each answered before the next. Raises RuntimeError if any fails."""
    wrk = find_wrk()
    assert wrk is not None
    duration = f"{max(1, round(seconds))}s"
    url = f"http://127.0.0.1:{server.port}"
    command = [
        wrk,
        "-t1",
        f"-c{connections}",
        "-d",
        duration,
        "--timeout",
        "30s",
        "-s",
        str(_HERE / "requests.lua"),
        url,
    ]
    before = server.cpu_seconds()
    with on_cores(LOAD_CORES):
        done = subprocess.run(
            command, env={**os.environ, "BENCH_REQUESTS": str(requests)}, capture_output=True, text=True, check=True
        )
    used = server.cpu_seconds() - before
    summary = json.loads(done.stdout.splitlines()[-1])
    if summary["failures"] or not summary["requests"]:
        raise RuntimeError(f"{server.process.args!r} did not answer 200 to every request:\n{done.stdout}")
    return Throughput(summary["requests"] / summary["seconds"], used / summary["requests"] * 1e6)


def latency(server: ServerProcess, requests: Path, *, rate: float, seconds: float) -> Latency:
    """At a constant rate, whatever the answers do. Raises RuntimeError if one is not 200."""
    arguments = [str(server.port), str(requests), f"{rate:.3f}", str(seconds)]
    with on_cores(LOAD_CORES):
        done = subprocess.run(
            [sys.executable, _HERE / "constant_rate.py", *arguments], capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise RuntimeError(f"{server.process.args!r}: {done.stderr}")
    return Latency(**json.loads(done.stdout))
