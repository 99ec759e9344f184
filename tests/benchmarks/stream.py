"""Section: changes without a pause: how many an origin takes, whether its edge keeps up, and what validations lose."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
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
BULK = 500
SAMPLE = 20_000


@dataclass
class Stream:
    """Keys made in bulk at a rate, for as long as it is entered. `done` counts them."""

    client: Client
    keys: str
    per_second: float
    done: int = 0
    seconds: float = 0.0
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Stream:
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        started = time.perf_counter()
        while not self._over.is_set():
            self.client.call("POST", f"{self.keys}/$bulk", [{}] * BULK)
            self.done += BULK
            self.seconds = time.perf_counter() - started
            self._over.wait(max(0.0, self.done / self.per_second - self.seconds))


def run(plan: Plan) -> list[Table]:
    progress("stream: starting")
    made = record.make(plan.directory / "stream", keys=SAMPLE, sample=SAMPLE)
    with on_cores(LOAD_CORES), servers.without_rate_limit():
        origin = servers.keywright(made.data_dir)
    edge = None
    try:
        with on_cores(SERVER_CORES):
            edge = servers.edge(made, origin, "stream-edge")
        with on_cores(LOAD_CORES):
            client = Client(origin, made)
            keys = client.new_consumer("bench")
            return [_keeping_up(plan, made, edge, client, keys), _beside(plan, made, edge, client, keys)]
    finally:
        for server in (edge, origin):
            if server is not None:
                server.stop()


def _keeping_up(plan: Plan, made: Record, edge: ServerProcess, client: Client, keys: str) -> Table:
    seconds = plan.seconds_of(30)
    progress(f"changes for {seconds} s, as many as one origin takes, {WANTED_PER_SECOND:,}/s at most")
    at_edge = Client(edge, made)
    lags = []
    before = edge.cpu_seconds()
    with Stream(client, keys, WANTED_PER_SECOND) as stream:
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
            f"Keys made in bulk of {BULK}, committed, logged, audited and sealed by one worker on SQLite, which shares "
            "its core with the client; the edge has the other core. An edge's lag is how long ago it was in step, "
            "asked twice a second."
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
        with Stream(client, keys, BESIDE_PER_SECOND) as stream:
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
