"""Section: changes without a pause: how many an origin takes, whether its edge keeps up, and what validations lose."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from statistics import median

import load
import record
import report
import servers
from client import Client
from http_doors import validate_request
from machine import LOAD_CORES, SERVER_CORES, on_cores
from plan import Plan, progress
from processes import ServerProcess
from record import Record
from report import Aim, Table, number

WANTED_PER_SECOND = 5000
BESIDE_PER_SECOND = 1000
AIM_RATIO = 0.8
AIM_LAG_SECONDS = 1.0
BULK = 1000
SAMPLE = 20_000


class Stream:
    """Keys made in bulk at a rate, by one client or several, for as long as it is entered. `done` counts them."""

    def __init__(self, clients: Sequence[Client], keys: str, per_second: float) -> None:
        self.seconds = 0.0
        self._keys = keys
        self._per_second = per_second / len(clients)
        self._done = dict.fromkeys(range(len(clients)), 0)
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=one) for one in enumerate(clients)]

    @property
    def done(self) -> int:
        return sum(self._done.values())

    def __enter__(self) -> Stream:
        self._started = time.perf_counter()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        self.seconds = time.perf_counter() - self._started

    def _run(self, number: int, client: Client) -> None:
        while not self._over.is_set():
            client.call("POST", f"{self._keys}/$bulk", [{}] * BULK)
            self._done[number] += BULK
            due = self._started + self._done[number] / self._per_second
            self._over.wait(max(0.0, due - time.perf_counter()))


def run(plan: Plan) -> list[Table]:
    progress("stream: starting")
    made = record.make(plan.directory / "stream", keys=SAMPLE, sample=SAMPLE)
    with _running(made, origin_on=SERVER_CORES, edge_on=LOAD_CORES) as (origin, edge, client, keys):
        tables = [_keeping_up(plan, made, origin, edge, client, keys)]
    with _running(made, origin_on=LOAD_CORES, edge_on=SERVER_CORES) as (_, edge, client, keys):
        return [*tables, _beside(plan, made, edge, client, keys)]


@contextmanager
def _running(
    made: Record, *, origin_on: set[int], edge_on: set[int]
) -> Iterator[tuple[ServerProcess, ServerProcess, Client, str]]:
    """An origin, its edge, and a client of the origin on the load's core, with the address of a consumer's keys."""
    with ExitStack() as stack:
        with on_cores(origin_on), servers.without_rate_limit():
            origin = servers.keywright(made.data_dir)
        stack.callback(origin.stop)
        with on_cores(edge_on):
            edge = servers.edge(made, origin, "stream-edge")
        stack.callback(edge.stop)
        with on_cores(LOAD_CORES):
            client = Client(origin, made)
            yield origin, edge, client, client.new_consumer(f"bench-{origin.port}")


def _keeping_up(
    plan: Plan, made: Record, origin: ServerProcess, edge: ServerProcess, client: Client, keys: str
) -> Table:
    seconds = plan.seconds_of(30)
    progress(f"changes for {seconds} s, as many as one origin takes, {WANTED_PER_SECOND:,}/s at most")
    at_edge = Client(edge, made)
    lags = []
    before = edge.cpu_seconds()
    # The second one's request is read while the first one's is committed.
    with closing(Client(origin, made)) as another, Stream((client, another), keys, WANTED_PER_SECOND) as stream:
        started = time.perf_counter()
        while time.perf_counter() - started < seconds:
            time.sleep(0.5)
            lags.append(float(at_edge.call("GET", "/readyz")["lag_seconds"]))
    ended = time.perf_counter()
    at_edge.wait_for(client.revision())
    lag = time.perf_counter() - ended
    used = (edge.cpu_seconds() - before) / stream.done * 1e6
    at_edge.close()
    rate = stream.done / stream.seconds
    table = Table(
        f"Changes for {seconds} s without a pause, one origin and one edge",
        ("what", "figure"),
        notes=[
            f"Keys made in bulk of {BULK:,} by two clients, committed, logged, audited and sealed by one worker on "
            "SQLite, which has a core for itself; its clients and the edge share the other. An edge's lag is how long "
            "ago it was in step, asked twice a second."
        ],
    )
    table.add("changes/s", number(rate), aims=[Aim(rate, WANTED_PER_SECOND, unit="/s")])
    table.add("largest lag of the edge meanwhile, s", number(max(lags)))
    table.add(
        "in step after the last answer, s", number(lag), aims=[Aim(lag, AIM_LAG_SECONDS, is_at_most=True, unit=" s")]
    )
    table.add("the edge's CPU for one change, us", number(used))
    return table


def _beside(plan: Plan, made: Record, edge: ServerProcess, client: Client, keys: str) -> Table:
    title = f"Validations at an edge while {BESIDE_PER_SECOND:,} changes/s stream in"
    if load.find_wrk() is None:
        return Table.not_measured(title, "wrk is not installed (Debian: `apt-get install wrk`).")
    file = load.write_requests(Path(plan.directory / "stream.requests"), map(validate_request, made.sample))
    load.highest_rate(edge, file, seconds=1)
    quiet, busy, done = [], [], []
    for turn in range(plan.rounds):
        progress(f"validations beside changes, round {turn + 1} of {plan.rounds}")
        quiet.append(load.highest_rate(edge, file, seconds=plan.seconds))
        with Stream((client,), keys, BESIDE_PER_SECOND) as stream:
            busy.append(load.highest_rate(edge, file, seconds=plan.seconds))
        done.append(stream.done / stream.seconds)
    table = Table(
        title,
        ("meanwhile", "requests/s", "+-", "/ quiet", "CPU us", "changes/s"),
        notes=[
            "The edge has one core; origin, its client and wrk share the other, so it is in part the load that is less "
            "while changes are made: the edge's CPU for one request, with the changes' own in it, tells what they cost."
        ],
    )
    rates = {"nothing": (quiet, "0"), "changes": (busy, number(median(done)))}
    for name, (rounds, changes) in rates.items():
        per_second, cost = [one.per_second for one in rounds], [one.cpu_micros for one in rounds]
        ratio = report.median_ratio(per_second, [one.per_second for one in quiet])
        aims = [Aim(ratio, AIM_RATIO, unit=" of quiet")] if rounds is busy else []
        cells = (number(median(per_second)), report.spread(per_second), number(ratio), number(median(cost)), changes)
        table.add(name, *cells, aims=aims)
    return table
