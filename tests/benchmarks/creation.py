"""Section: keys created through the Developer API, one by one and in bulk, beside bare SQLite on the same disk."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from statistics import median

import record
import report
import servers
from load import Throughput
from machine import LOAD_CORES, SERVER_CORES, on_cores
from plan import Plan, progress
from processes import ServerProcess
from record import ACCOUNT, BUCKET, Record
from report import Table, number

BULK = 1000
CLIENTS = 16
CONSUMERS = f"/v1/accounts/{ACCOUNT}/key-buckets/{BUCKET}/consumers"
ROW_BYTES = 300


@dataclass
class Way:
    """One way to create keys, and what its rounds gave."""

    name: str
    path: str
    body: bytes
    clients: int
    keys_per_call: int
    rates: list[Throughput] = field(default_factory=list)


def run(plan: Plan) -> list[Table]:
    table = Table(
        "Keys created through the Developer API",
        ("how", "keys/s", "+-", "CPU us/key", "SQLite, rows/s", "/ SQLite", "memory, MiB"),
        notes=[
            "One worker on one core, clients on another. Each call is committed (SQLite, WAL, synchronous=FULL), "
            "logged for the edges, audited and in the replica before it is answered. SQLite: one row of 300 bytes a "
            "commit, or 1000 rows a commit for bulk, by one Python process on the same disk in the same rounds."
        ],
    )
    progress("creating keys: starting")
    made = record.make(plan.directory / "creation", keys=1)
    with on_cores(SERVER_CORES), servers.without_rate_limit():
        server = servers.keywright(made.data_dir)
    try:
        with on_cores(LOAD_CORES):
            _measure(plan, server, made, table)
    finally:
        server.stop()
    return [table]


def _measure(plan: Plan, server: ServerProcess, made: Record, table: Table) -> None:
    headers = {"Authorization": f"Bearer {made.root_key}", "Content-Type": "application/json"}
    caller = Caller(server, headers)
    caller.call(CONSUMERS, json.dumps({"name": "bench"}).encode(), 1, seconds=0)
    draft = {"description": "made by make bench"}
    path, one, bulk = f"{CONSUMERS}/bench/keys", json.dumps(draft).encode(), json.dumps([draft] * BULK).encode()
    ways = [
        Way("one by one, 1 client", path, one, 1, 1),
        Way(f"one by one, {CLIENTS} clients at once", path, one, CLIENTS, 1),
        Way(f"in bulk of {BULK:,}, 1 client", f"{path}/$bulk", bulk, 1, BULK),
    ]
    raw: dict[int, list[float]] = {1: [], BULK: []}
    for way in ways:
        # The first call of its kind compiles statements.
        caller.call(way.path, way.body, way.clients, seconds=0)
    for turn in range(plan.rounds):
        progress(f"creating keys, round {turn + 1} of {plan.rounds}")
        for rows, rates in raw.items():
            rates.append(_raw_rows_per_second(plan.directory / "raw.db", rows, plan.seconds / 2))
        for way in ways:
            way.rates.append(caller.call(way.path, way.body, way.clients, seconds=plan.seconds))
    memory = str(server.memory())
    for way in ways:
        rates = [way.keys_per_call * one.per_second for one in way.rates]
        baseline = raw[way.keys_per_call]
        table.add(
            way.name,
            number(median(rates)),
            report.spread(rates),
            number(median(one.cpu_micros for one in way.rates) / way.keys_per_call),
            number(median(baseline)),
            number(report.median_ratio(rates, baseline)),
            memory,
        )


class Caller:
    """Clients of the Developer API, a thread and a connection each. Far from busy: a call takes milliseconds."""

    def __init__(self, server: ServerProcess, headers: Mapping[str, str]) -> None:
        self._server = server
        self._headers = dict(headers)

    def call(self, path: str, body: bytes, clients: int, *, seconds: float) -> Throughput:
        """POSTs until the time is over, at least one from each client. Raises RuntimeError for any answer but 200."""
        cpu, started = self._server.cpu_seconds(), time.perf_counter()
        with ThreadPoolExecutor(clients) as threads:
            counts = [threads.submit(self._repeat, path, body, started + seconds) for _ in range(clients)]
            count = sum(one.result() for one in counts)
        elapsed = time.perf_counter() - started
        return Throughput(count / elapsed, (self._server.cpu_seconds() - cpu) / count * 1e6)

    def _repeat(self, path: str, body: bytes, until: float) -> int:
        connection = HTTPConnection("127.0.0.1", self._server.port, timeout=60)
        count = 0
        while count == 0 or time.perf_counter() < until:
            connection.request("POST", path, body, self._headers)
            response = connection.getresponse()
            text = response.read()
            if response.status != 200:
                raise RuntimeError(f"POST {path}: {response.status} {text[:200]!r}")
            count += 1
        connection.close()
        return count


def _raw_rows_per_second(file: Path, rows_per_commit: int, seconds: float) -> float:
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE IF NOT EXISTS rows (number INTEGER PRIMARY KEY, body BLOB NOT NULL)")
    rows = [(os.urandom(ROW_BYTES),) for _ in range(rows_per_commit)]
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO rows (body) VALUES (?)", rows)
        connection.execute("COMMIT")
        count += rows_per_commit
    elapsed = time.perf_counter() - started
    connection.close()
    return count / elapsed
