"""Section: a Python app behind the policy, beside itself without it, and beside other libraries for API keys."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import load
import record
import report
import servers
from candidate import Candidate
from machine import SERVER_CORES, on_cores
from plan import Plan, progress, size_name
from processes import ServerProcess, free_port
from record import Record
from report import Aim, Table, number

AIM = 0.95
_HERE = Path(__file__).parent
_FASTAPI = {
    "fastapi": "unprotected",
    "fastapi-embedded": "embedded replica",
    "fastapi-shared": "shared replica",
    "fastapi-dependency": "shared replica, as a dependency",
    "fastapi-remote": "remote, the edge on the same core",
    "fastapi-keyshield": "`keyshield`",
}
_DJANGO = {"drf": "unprotected", "drf-shared": "shared replica", "drf-api-key": "`djangorestframework-api-key`"}
_OF_OTHERS = {"fastapi-keyshield": "keyshield", "drf-api-key": "rest_framework_api_key"}
_SLOW = ("fastapi-keyshield",)
_WITH_AIM = ("fastapi-embedded", "fastapi-shared", "drf-shared")


def run(plan: Plan) -> list[Table]:
    if load.find_wrk() is None:
        return [Table.not_measured("Python apps", "wrk is not installed (Debian: `apt-get install wrk`).")]
    keys = plan.sizes[0]
    made = record.make(plan.directory / "apps", keys=keys, sample=keys)
    tables = []
    for title, kinds in (("FastAPI", _FASTAPI), ("Django REST Framework", _DJANGO)):
        with _running(plan, made, kinds) as candidates:
            for turn in range(plan.rounds):
                progress(f"{title}, round {turn + 1} of {plan.rounds}")
                for one in candidates:
                    # An app that takes a second for an answer is measured longer, with fewer questions at a time.
                    seconds, connections = (10, 4) if one.name in _SLOW else (plan.seconds, load.CONNECTIONS)
                    one.rates.append(
                        load.highest_rate(one.server, one.requests, seconds=seconds, connections=connections)
                    )
            tables.append(_table(f"A {title} app behind the policy, {size_name(keys)}", candidates, kinds))
    return tables


@contextmanager
def _running(plan: Plan, made: Record, kinds: Mapping[str, str]) -> Iterator[list[Candidate]]:
    started: list[ServerProcess] = []
    try:
        with on_cores(SERVER_CORES):
            progress("starting the origin and the apps")
            origin = servers.keywright(made.data_dir)
            started.append(origin)
            candidates = []
            for kind in kinds:
                if kind in _OF_OTHERS and importlib.util.find_spec(_OF_OTHERS[kind]) is None:
                    progress(f"{_OF_OTHERS[kind]} is not installed: `make bench` does that")
                    continue
                server = _start(kind, made, origin, plan.directory)
                started.append(server)
                candidates.append(Candidate(kind, server, _requests(kind, made, plan.directory)))
        yield candidates
    finally:
        for server in reversed(started):
            server.stop()


def _start(kind: str, made: Record, origin: ServerProcess, directory: Path) -> ServerProcess:
    port = free_port()
    arguments = [kind, made.data_dir, f"http://127.0.0.1:{origin.port}", made.root_key]
    command: list[str | Path] = [sys.executable, _HERE / "protected_apps.py", str(port), *map(str, arguments)]
    # Refusing is being ready; an app with no keys to refuse answers 200.
    server = ServerProcess(command, port=port, log=directory / f"{kind}.log", ready_path="/hello", ready_status=b"")
    return server.wait_until_ready(120)


def _requests(kind: str, made: Record, directory: Path) -> Path:
    own = made.data_dir / f"{kind}.keys"
    keys = own.read_text().split() if kind in _OF_OTHERS else made.sample
    scheme = "Api-Key" if kind == "drf-api-key" else "Bearer"
    lines = "GET /hello HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {} {}\r\n\r\n"
    return load.write_requests(directory / f"{kind}.requests", (lines.format(scheme, key).encode() for key in keys))


def _table(title: str, candidates: list[Candidate], kinds: Mapping[str, str]) -> Table:
    table = Table(
        title,
        ("app", "requests/s", "+-", "/ unprotected", "CPU us", "+ us", "memory, MiB"),
        notes=[
            "One route that greets the consumer, on one worker of Granian; each request with a valid key, at random. "
            "Other libraries as their READMEs set them up, on SQLite. CPU: of the app's own process; + us: beyond the "
            "unprotected app's."
        ],
    )
    base = candidates[0]
    for one in candidates:
        ratio = report.median_ratio(one.per_second, base.per_second)
        cpu = median(one.cpu_micros)
        table.add(
            kinds[one.name],
            number(median(one.per_second)),
            report.spread(one.per_second),
            number(ratio),
            number(cpu),
            number(cpu - median(base.cpu_micros)),
            str(one.server.memory()),
            aims=[Aim(ratio, AIM)] if one.name in _WITH_AIM else [],
        )
    return table
