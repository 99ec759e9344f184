"""Section: what each of many edges costs the origin that all of them follow over HTTP.

The edges are real followers with real feeds and replicas, many in one process; what they cost themselves
is left out.
"""

from __future__ import annotations

import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import record
import servers
from client import Client
from machine import LOAD_CORES, SERVER_CORES, on_cores
from plan import Plan, progress
from processes import Memory, ServerProcess
from record import Record
from report import Table, number

EDGES = 50
CHANGES_PER_SECOND = 10


def run(plan: Plan) -> list[Table]:
    table = Table(
        "Edges that follow one origin over HTTP",
        (
            "edges",
            "CPU, quiet",
            f"CPU, {CHANGES_PER_SECOND} changes/s",
            "CPU us/change and edge",
            "memory, MiB",
        ),
        notes=[
            "CPU and memory of the origin: one worker on one core, 100 % is that core. Each follower has its own "
            "connection and replica, over the real feed; they share a process on the other core. Keys are made one by "
            "one. Memory: own + mapped files."
        ],
    )
    progress("fleet: starting")
    made = record.make(plan.directory / "fleet", keys=1)
    with on_cores(SERVER_CORES), servers.without_rate_limit():
        origin = servers.keywright(made.data_dir)
    try:
        with on_cores(LOAD_CORES):
            _measure(plan, made, origin, table)
    finally:
        origin.stop()
    return [table]


def _measure(plan: Plan, made: Record, origin: ServerProcess, table: Table) -> None:
    first = Client(origin, made)
    keys = first.new_consumer("bench")
    first.close()
    found: list[tuple[int, float, float, Memory]] = []
    for count in (0, EDGES):
        progress(f"{count} edges on one origin")
        followers = _follow(plan, made, origin, count)
        client = Client(origin, made)
        try:
            quiet = _cpu(origin, plan.seconds_of(5), lambda: None)
            busy = _cpu(origin, plan.seconds_of(5), partial(client.call, "POST", keys, {}))
            found.append((count, quiet, busy, origin.memory()))
        finally:
            client.close()
            for one in followers:
                one.terminate()
                one.communicate()
    alone = found[0]
    for count, quiet, busy, memory in found:
        each = (busy - alone[2]) / CHANGES_PER_SECOND / count * 1e6 if count else 0.0
        table.add(str(count), f"{quiet:.1%}", f"{busy:.1%}", number(each) if count else "", str(memory))
    many = found[1]
    table.add("each", f"{(many[1] - alone[1]) / EDGES:.2%}", f"{(many[2] - alone[2]) / EDGES:.2%}", "",
              f"{(many[3].own - alone[3].own) / EDGES / 2**20:.2f}")  # fmt: skip


def _follow(plan: Plan, made: Record, origin: ServerProcess, count: int) -> list[subprocess.Popen[str]]:
    """Processes of followers, all of them in step."""
    if not count:
        return []
    directory = plan.directory / "followers"
    directory.mkdir()
    arguments = (Path(__file__).with_name("followers.py"), origin.port, made.data_dir, directory, count)
    process = subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env={"KEYWRIGHT_EDGE_TOKEN": made.root_key},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    if process.stdout.readline() != "in step\n":
        raise RuntimeError("the followers did not come into step")
    return [process]


def _cpu(origin: ServerProcess, seconds: float, change: object) -> float:
    """The part of a core that the origin uses while `change` is called at its rate."""
    before, started = origin.cpu_seconds(), time.perf_counter()
    count = 0
    while (elapsed := time.perf_counter() - started) < seconds:
        change()  # type: ignore[operator]
        count += 1
        time.sleep(max(0.0, count / CHANGES_PER_SECOND - (time.perf_counter() - started)))
    return (origin.cpu_seconds() - before) / elapsed
