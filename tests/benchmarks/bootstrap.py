"""Section: how a new edge gets a large record (from the origin, and from a file), and how an old one catches up."""

from __future__ import annotations

import shutil
import subprocess
import time

import record
import servers
from client import Client
from plan import Plan, progress, size_name
from processes import ServerProcess
from record import Record
from report import Aim, Table, number

AIM_PER_SECOND = 100_000
SHORTEST_SECONDS = 2.0
BULK = 1000
CHANGES_PER_SECOND = 10
"""What is assumed to happen at the origin while an edge is away."""


def run(plan: Plan) -> list[Table]:
    keys = plan.sizes[1]
    progress(f"bootstrap: writing a record of {size_name(keys)}")
    made = record.make(plan.directory / "bootstrap", keys=keys)
    with servers.without_rate_limit():
        origin = servers.keywright(made.data_dir, ready_timeout=300)
    try:
        return [_from_nothing(plan, made, origin), _after_an_hour(plan, made, origin)]
    finally:
        origin.stop()


def _from_nothing(plan: Plan, made: Record, origin: ServerProcess) -> Table:
    table = Table(
        f"A new edge takes over {size_name(made.keys)}",
        ("how", "s", "records/s", "edge's CPU, s", "memory, MiB"),
        notes=[
            "A record is a key or its consumer. From the start of the command until /readyz answers 200, less the "
            "start of an edge that has its replica. Memory: own + mapped files (the replica's own pages), at the end."
        ],
    )
    for name, file in (("from the origin over HTTP", None), ("from a snapshot file", plan.directory / "edge.snapshot")):
        if file is not None:
            progress("writing the snapshot file")
            started = time.perf_counter()
            command = [servers.COMMAND, "snapshot", "export", "--out", file, "--data-dir", made.data_dir]
            subprocess.run(command, check=True, capture_output=True)
            elapsed = time.perf_counter() - started
            table.add("writing the file, at the origin", number(elapsed), number(2 * made.keys / elapsed))
            table.notes.append(f"The file has {file.stat().st_size / made.keys:,.0f} bytes a key.")
        progress(f"a new edge, {name}")
        edge = servers.edge(made, origin, "new-edge", snapshot=file, ready_timeout=600)
        used, memory, first = edge.cpu_seconds(), edge.memory(), edge.ready_seconds
        edge.stop()
        again = servers.edge(made, origin, "new-edge")
        again.stop()
        elapsed = first - again.ready_seconds
        # A difference of two starts says nothing about less than that.
        if elapsed > SHORTEST_SECONDS:
            rate = 2 * made.keys / elapsed
            aims = [Aim(rate, AIM_PER_SECOND, unit="/s")]
            table.add(name, number(elapsed), number(rate), number(used), str(memory), aims=aims)
        else:
            table.add(name, "too short to tell", "", number(used), str(memory))
        shutil.rmtree(made.data_dir.with_name("new-edge"))
    return table


def _after_an_hour(plan: Plan, made: Record, origin: ServerProcess) -> Table:
    changes = plan.seconds_of(1800) * CHANGES_PER_SECOND
    progress(f"catching up: {changes:,} changes while an edge is away")
    servers.edge(made, origin, "old-edge", ready_timeout=600).stop()
    client = Client(origin, made)
    keys = client.new_consumer("while-away")
    for _ in range(0, changes, BULK):
        client.call("POST", f"{keys}/$bulk", [{}] * BULK)
    head = client.revision()
    edge = servers.edge(made, origin, "old-edge")
    started = time.perf_counter()
    at_edge = Client(edge, made)
    at_edge.wait_for(head)
    elapsed = time.perf_counter() - started + edge.ready_seconds
    for one in (client, at_edge):
        one.close()
    edge.stop()
    table = Table(
        "An edge comes back after an hour",
        ("changes meanwhile", "in step after, s", "changes/s"),
        notes=[
            f"{CHANGES_PER_SECOND} changes a second for an hour. From the start of the edge's command. Its replica has "
            f"{size_name(made.keys)} besides; meanwhile and before, it answers from that."
        ],
    )
    table.add(f"{changes:,}", number(elapsed), number(changes / elapsed))
    return table
