"""Section: the unit costs that docs/reference/scale.md multiplies, on PostgreSQL, with real edges behind a real wire.

What a change costs: bytes on the feed to each edge, rows and bytes of the database, its log, and processor time of both
PostgreSQL and the origin. And what an edge costs while nothing happens. The wire is a proxy that counts.
"""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

import servers
from client import CONSUMERS, Client
from machine import LOAD_CORES, SERVER_CORES, on_cores
from plan import Plan, progress
from processes import ServerProcess
from record import Record
from report import Table, number

from support import postgres
from support.postgres import Postgres
from support.proxy import Proxy

EDGES = 2
METADATA = {"plan": "gold", "customerId": 10_000_000}
_TICKS = os.sysconf("SC_CLK_TCK")
_TABLES = ("audit_logs", "changes", "consumers", "edges", "keys")
_ROWS = " UNION ALL ".join(
    f"SELECT '{name}', count(*), pg_total_relation_size('{name}') FROM {name}" for name in _TABLES
)
_WAL = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')"


@dataclass(frozen=True, slots=True)
class Spent:
    """Since the start: processor seconds, bytes, and each table's bytes (indexes included) and rows."""

    at: float
    postgres_seconds: float
    origin_seconds: float
    wal_bytes: float
    to_edges_bytes: int
    from_edges_bytes: int
    revision: int
    sizes: dict[str, int]
    rows: dict[str, int]


@dataclass
class World:
    server: Postgres
    database: str
    origin: ServerProcess
    made: Record
    wire: Proxy

    def new_client(self) -> Client:
        """For a while: one that is idle for long has its connection ended."""
        return Client(self.origin, self.made)

    def spent(self, *, is_end: bool) -> Spent:
        """What is asked of PostgreSQL for this must cost it nothing: at an end its time is read before, else behind."""
        read_first = self._read_time() if is_end else None
        wal_bytes = float(self.server.run(_WAL, self.database))
        client = self.new_client()
        revision = client.revision()
        client.close()
        found = [line.split("|") for line in self.server.run(_ROWS, self.database).split()]
        at, postgres_seconds, origin_seconds, to_edges, from_edges = read_first or self._read_time()
        return Spent(
            at=at,
            postgres_seconds=postgres_seconds,
            origin_seconds=origin_seconds,
            wal_bytes=wal_bytes,
            to_edges_bytes=to_edges,
            from_edges_bytes=from_edges,
            revision=revision,
            sizes={name: int(size) for name, _, size in found},
            rows={name: int(rows) for name, rows, _ in found},
        )

    def _read_time(self) -> tuple[float, float, float, int, int]:
        wire = self.wire
        spent = _cpu_seconds(self.server), self.origin.cpu_seconds()
        return time.monotonic(), *spent, wire.answer_bytes, wire.request_bytes


def run(plan: Plan) -> list[Table]:
    with postgres.running() as server:
        database = server.new_database()
        data_dir = plan.directory / "scale"
        made = Record(data_dir, f"root-{secrets.token_hex(16)}", 0, [])
        variables = {"KEYWRIGHT_DATABASE_URL": database, "KEYWRIGHT_BOOTSTRAP_KEY": made.root_key}
        with on_cores(SERVER_CORES), servers.environment(variables), servers.without_rate_limit():
            origin = servers.keywright(data_dir, ready_timeout=120)
        edges: list[ServerProcess] = []
        try:
            with Proxy(origin.port) as wire:
                world = World(server, database.rpartition("/")[2], origin, made, wire)
                return _measure(plan, world, edges)
        finally:
            for one in edges:
                one.stop()
            origin.stop()


def _measure(plan: Plan, world: World, edges: list[ServerProcess]) -> list[Table]:
    seconds, calls = plan.seconds_of(15), plan.seconds_of(750)
    progress("scale: an origin alone")
    # What is done once, after a start, is over by then.
    time.sleep(5 if plan.seconds > 1 else 1)
    alone = _pass(world, seconds)
    proxied = _Through(world.wire.port)
    with on_cores(LOAD_CORES):
        edges += [servers.edge(world.made, proxied, f"scale-edge-{one}") for one in range(EDGES)]  # type: ignore[arg-type]
    progress(f"scale: {EDGES} edges, quiet")
    time.sleep(5 if plan.seconds > 1 else 1)
    quiet = _pass(world, seconds)
    progress(f"scale: {calls} keys made, each with a consumer")
    paths: list[str] = []
    before, client = world.spent(is_end=False), world.new_client()
    for one in range(calls):
        name = f"customer-{10_000_000 + one}"
        consumer = client.call("POST", CONSUMERS, {"name": name, "metadata": METADATA, "apiKeys": [{}]})
        paths.append(f"{CONSUMERS}/{name}/keys/{consumer['apiKeys'][0]['id']}")
    made_all = world.spent(is_end=True)
    progress("scale: all of them revoked")
    between = world.spent(is_end=False)
    for path in paths:
        client.call("DELETE", path)
    revoked_all = world.spent(is_end=True)
    return [
        _of_edges(alone, quiet),
        _of_changes(quiet, (before, made_all, calls), (between, revoked_all, calls)),
        _of_rows(before, made_all, revoked_all, calls),
    ]


@dataclass
class _Through:
    """Where edges find the origin: behind the wire that counts."""

    port: int


def _pass(world: World, seconds: float) -> tuple[Spent, Spent]:
    before = world.spent(is_end=False)
    time.sleep(seconds)
    return before, world.spent(is_end=True)


def _of_edges(alone: tuple[Spent, Spent], quiet: tuple[Spent, Spent]) -> Table:
    table = Table(
        "An edge over HTTP while nothing happens, for each second",
        ("what", "origin alone", f"with {EDGES} edges", "each edge"),
        notes=["PostgreSQL, one origin process of one worker; edges report and ask for shares. CPU in ms a second."],
    )
    for name, of in (
        ("PostgreSQL, CPU ms", lambda one: one.postgres_seconds * 1000),
        ("origin, CPU ms", lambda one: one.origin_seconds * 1000),
        ("PostgreSQL, WAL bytes", lambda one: one.wal_bytes),
        ("to the edges, bytes", lambda one: one.to_edges_bytes),
        ("from the edges, bytes", lambda one: one.from_edges_bytes),
    ):
        rates = [(of(after) - of(before)) / (after.at - before.at) for before, after in (alone, quiet)]
        table.add(name, number(rates[0]), number(rates[1]), number((rates[1] - rates[0]) / EDGES))
    return table


def _of_changes(quiet: tuple[Spent, Spent], *steps: tuple[Spent, Spent, int]) -> Table:
    table = Table(
        "A change, by one call each",
        ("what", "a key made with its consumer", "a key revoked"),
        notes=[
            f"{steps[0][2]:,} calls, one after the other; what passes while nothing happens is taken off. Feed: what "
            "goes to one edge, compressed, with the frames and the answers to its reports."
        ],
    )
    begun, ended = quiet
    for name, of, shared in (
        ("changes (revisions)", lambda one: one.revision, 1),
        ("PostgreSQL, CPU us", lambda one: one.postgres_seconds * 1e6, 1),
        ("origin, CPU us", lambda one: one.origin_seconds * 1e6, 1),
        ("PostgreSQL, WAL bytes", lambda one: one.wal_bytes, 1),
        ("feed to an edge, bytes", lambda one: one.to_edges_bytes, EDGES),
        ("from an edge, bytes", lambda one: one.from_edges_bytes, EDGES),
    ):
        rate = (of(ended) - of(begun)) / (ended.at - begun.at)
        cells = [
            (of(after) - of(before) - rate * (after.at - before.at)) / calls / shared for before, after, calls in steps
        ]
        table.add(name, *(number(cell) for cell in cells))
    return table


def _of_rows(before: Spent, made: Spent, revoked: Spent, calls: int) -> Table:
    table = Table(
        "Rows and bytes of PostgreSQL, indexes included",
        ("table", "rows, a key made", "bytes, a key made", "rows, a key revoked", "bytes, a key revoked"),
    )
    for name in sorted(before.sizes):
        steps = [
            (after.rows[name] - earlier.rows[name], after.sizes[name] - earlier.sizes[name])
            for earlier, after in ((before, made), (made, revoked))
        ]
        if any(rows for rows, _ in steps):
            table.add(name, *(number(value / calls) for step in steps for value in step))
    return table


def _cpu_seconds(server: Postgres) -> float:
    """User and system time of all processes of the server, those that have ended included."""
    assert server.process is not None
    parent, spent = server.process.pid, 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text(errors="replace").rpartition(") ")[2].split()
            except OSError:
                continue
            if int(entry.name) == parent:
                spent += sum(int(field) for field in fields[11:15])
            elif int(fields[1]) == parent:
                spent += int(fields[11]) + int(fields[12])
    return spent / _TICKS
