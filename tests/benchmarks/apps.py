"""Section: an app behind the policy, beside itself without it, and beside other libraries for API keys."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import load
import record
import report
import servers
from candidate import Candidate
from machine import SERVER_CORES, on_cores
from plan import Plan, progress, size_name
from processes import ServerProcess
from record import Record
from report import Aim, Table, number

from support import postgres
from support.ports import free_port

AIM = 0.95
_HERE = Path(__file__).parent
_FASTAPI = {
    "fastapi": "unprotected",
    "fastapi-passing": "a middleware that finds the header, and no more",
    "fastapi-embedded": "embedded replica",
    "fastapi-shared": "shared replica",
    "fastapi-dependency": "shared replica, as a dependency",
    "fastapi-remote": "remote, the edge on the same core",
    "fastapi-keyshield": "`keyshield`",
}
_DJANGO = {"drf": "unprotected", "drf-shared": "shared replica", "drf-api-key": "`djangorestframework-api-key`"}
_NODE = {"node": "unprotected", "node-better-auth": "`@better-auth/api-key`"}
_OF_OTHERS = {"fastapi-keyshield": "keyshield", "drf-api-key": "rest_framework_api_key"}
_WITH_OWN_KEYS = {*_OF_OTHERS, "node-better-auth"}
_SLOW = ("fastapi-keyshield",)
_NOTE = (
    "Each request has a valid key, at random. Other libraries as their READMEs set them up. CPU: of the app's own "
    "process; + us: beyond the unprotected app's."
)
_OF_PYTHON = "One route that greets the consumer, on one worker of Granian; the other libraries' keys are in SQLite."
_OF_NODE = (
    "The same route on Node's own HTTP server, the library's keys in PostgreSQL (which has the load's core, and does "
    "not wait for its disk); its limit of 10 requests a day is off."
)
_WITH_AIM = ("fastapi-embedded", "fastapi-shared", "drf-shared")


def run(plan: Plan) -> list[Table]:
    if load.find_wrk() is None:
        return [Table.not_measured("Python apps", "wrk is not installed (Debian: `apt-get install wrk`).")]
    keys = plan.sizes[0]
    made = record.make(plan.directory / "apps", keys=keys, sample=keys)
    tables = []
    for name, kinds in (("FastAPI", _FASTAPI), ("Django REST Framework", _DJANGO)):
        with _running(plan, made, kinds) as candidates:
            _measure(plan, name, candidates)
            tables.append(_table(f"A {name} app behind the policy, {size_name(keys)}", candidates, kinds, _OF_PYTHON))
    title = "A Node.js app behind another library"
    if shutil.which("npm") is None:
        return [*tables, Table.not_measured(title, "npm is not installed (Debian: `apt-get install nodejs npm`).")]
    with _running_on_node(plan) as candidates:
        _measure(plan, "Node.js", candidates)
        tables.append(_table(title, candidates, _NODE, _OF_NODE))
    return tables


def _measure(plan: Plan, name: str, candidates: list[Candidate]) -> None:
    for turn in range(plan.rounds):
        progress(f"{name}, round {turn + 1} of {plan.rounds}")
        for one in candidates:
            # An app that takes a second for an answer is measured longer, with one question at a time: now and then it
            # fails when it is asked for more.
            seconds, connections = (10, 1) if one.name in _SLOW else (plan.seconds, load.CONNECTIONS)
            one.rates.append(load.highest_rate(one.server, one.requests, seconds=seconds, connections=connections))


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
                own = made.data_dir / f"{kind}.keys"
                keys = own.read_text().split() if kind in _WITH_OWN_KEYS else made.sample
                candidates.append(Candidate(kind, server, _requests(kind, keys, plan.directory)))
        yield candidates
    finally:
        for server in reversed(started):
            server.stop()


@contextmanager
def _running_on_node(plan: Plan) -> Iterator[list[Candidate]]:
    """The packages as their lock file says, on the tests' PostgreSQL: Node 20 has no SQLite of its own."""
    directory = shutil.copytree(_HERE / "better_auth", plan.directory / "better-auth")
    progress("installing @better-auth/api-key")
    subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=directory, check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    with ExitStack() as stack:
        database = stack.enter_context(postgres.running()).new_database().replace("+asyncpg", "")
        candidates = []
        with on_cores(SERVER_CORES):
            for kind in _NODE:
                port, keys = free_port(), directory / f"{kind}.keys"
                command: list[str | Path] = ["node", directory / "server.mjs", str(port), kind, database, keys]
                server = ServerProcess(
                    command, port=port, log=directory / f"{kind}.log", ready_path="/hello", ready_status=b""
                )
                stack.callback(server.stop)
                server.wait_until_ready(300)
                secrets = keys.read_text().split() if kind in _WITH_OWN_KEYS else ["none"]
                candidates.append(Candidate(kind, server, _requests(kind, secrets, directory)))
        yield candidates


def _start(kind: str, made: Record, origin: ServerProcess, directory: Path) -> ServerProcess:
    port = free_port()
    arguments = [kind, made.data_dir, f"http://127.0.0.1:{origin.port}", made.root_key]
    command: list[str | Path] = [sys.executable, _HERE / "protected_apps.py", str(port), *map(str, arguments)]
    # Refusing is being ready; an app with no keys to refuse answers 200.
    server = ServerProcess(command, port=port, log=directory / f"{kind}.log", ready_path="/hello", ready_status=b"")
    return server.wait_until_ready(120)


def _requests(kind: str, keys: Sequence[str], directory: Path) -> Path:
    scheme = "Api-Key" if kind == "drf-api-key" else "Bearer"
    lines = "GET /hello HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {} {}\r\n\r\n"
    return load.write_requests(directory / f"{kind}.requests", (lines.format(scheme, key).encode() for key in keys))


def _table(title: str, candidates: list[Candidate], kinds: Mapping[str, str], note: str) -> Table:
    table = Table(
        title,
        ("app", "requests/s", "+-", "/ unprotected", "CPU us", "+ us", "memory, MiB"),
        notes=[f"{note} {_NOTE}"],
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
