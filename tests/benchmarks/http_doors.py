"""Section: validations over HTTP on one worker, at the highest rate and at half of it, beside the two baselines."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import load
import record
import report
import servers
from candidate import Candidate
from machine import SERVER_CORES, on_cores
from plan import Plan, progress, size_name
from processes import ServerProcess
from record import BUCKET, Record
from report import NOT_MEASURED, Aim, Table, number
from servers import Answer

VALIDATE = f"/v1/validate/{BUCKET}"
FORWARD_AUTH = f"/v1/forward-auth/{BUCKET}"
BILLION_A_DAY = 11_574
SAMPLE = 100_000
NGINX, BARE = "nginx `return 200`", "bare Granian"


@dataclass(frozen=True, slots=True)
class World:
    """The servers of this section: Keywright by number of keys."""

    keywright: Mapping[int, ServerProcess]
    records: Mapping[int, Record]
    bare: ServerProcess
    nginx: ServerProcess | None
    rebuild: Table


def run(plan: Plan) -> list[Table]:
    if load.find_wrk() is None:
        return [Table.not_measured("Validations over HTTP", "wrk is not installed (Debian: `apt-get install wrk`).")]
    with _servers(plan) as world:
        validate = _candidates(plan, world, VALIDATE, validate_request)
        forward_auth = _candidates(plan, world, FORWARD_AUTH, _forward_auth_request)
        _measure_rates(plan, [*validate, *forward_auth])
        _measure_latencies(plan, validate)
        _check_verdicts(world)
        tables = [
            _rates_table(f"`POST {VALIDATE}`", validate),
            _rates_table(f"`{FORWARD_AUTH}`", forward_auth),
            _latency_table(validate),
            world.rebuild,
        ]
    tables[0].notes.append(
        "One worker on one core, the load generator on another; 32 connections; a valid key, drawn from "
        f"{min(SAMPLE, plan.sizes[1]):,} at random. CPU: user and system time of the server for one request. Memory: "
        "own + mapped files (the replica's pages among them), proportional set size after the load."
    )
    if world.nginx is None:
        tables[0].notes.append("nginx is not installed (Debian: `apt-get install nginx-light`).")
    return tables


@contextmanager
def _servers(plan: Plan) -> Iterator[World]:
    running: list[ServerProcess] = []
    try:
        records = {}
        for keys in plan.sizes:
            progress(f"writing a record of {size_name(keys)}")
            records[keys] = record.make(plan.directory / f"keys-{keys}", keys=keys, sample=SAMPLE)
        rebuild = Table(
            "Filling a new replica from the record",
            ("with", "ready after, s", "ready after a restart, s", "records/s"),
            notes=["A record is a key or its consumer. On the worker's one core, from the start of `serve`."],
        )
        keywright = {}
        with on_cores(SERVER_CORES):
            for keys in plan.sizes:
                progress(f"starting on {size_name(keys)}, with no replica yet")
                first = servers.keywright(records[keys].data_dir, ready_timeout=300)
                running.append(first)
                first.stop()
                keywright[keys] = servers.keywright(records[keys].data_dir)
                running.append(keywright[keys])
                again = keywright[keys].ready_seconds
                filling = first.ready_seconds - again
                # A difference of two starts says nothing about less than that.
                rate = f"{2 * keys / filling:,.0f}" if filling > 2 else "too short to tell"
                rebuild.add(size_name(keys), number(first.ready_seconds), number(again), rate)
            answers = _answers(keywright[plan.sizes[0]], records[plan.sizes[0]])
            bare = servers.bare(answers, plan.directory)
            running.append(bare)
            nginx = servers.nginx(answers, plan.directory)
            if nginx is not None:
                running.append(nginx)
        yield World(keywright, records, bare, nginx, rebuild)
    finally:
        for server in running:
            server.stop()


def _answers(server: ServerProcess, made: Record) -> dict[str, Answer]:
    """What Keywright answers to a valid key, for the baselines to repeat. Raises RuntimeError if it isn't valid."""
    url, secret = f"http://127.0.0.1:{server.port}", made.sample[0]
    answers = {}
    body = json.dumps({"key": secret}).encode()
    asked = {
        VALIDATE: urllib.request.Request(url + VALIDATE, body, {"Content-Type": "application/json"}),
        FORWARD_AUTH: urllib.request.Request(url + FORWARD_AUTH, headers={"Authorization": f"Bearer {secret}"}),
    }
    for path, request in asked.items():
        with urllib.request.urlopen(request, timeout=10) as response:
            headers = [(name.lower(), value) for name, value in response.headers.items()]
            answers[path] = Answer.of(headers, response.read().decode())
    if not json.loads(answers[VALIDATE].body)["valid"]:
        raise RuntimeError(f"the key of the record is not valid: {answers[VALIDATE].body}")
    return answers


def validate_request(secret: str) -> bytes:
    body = json.dumps({"key": secret})
    lines = [f"POST {VALIDATE} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", body]).encode()


def _forward_auth_request(secret: str) -> bytes:
    return f"GET {FORWARD_AUTH} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {secret}\r\n\r\n".encode()


def _candidates(plan: Plan, world: World, path: str, request: object) -> list[Candidate]:
    """nginx (if there is one), the bare server, then Keywright with few and with many keys."""
    files = {}
    for keys, made in world.records.items():
        file = plan.directory / f"{path.split('/')[2]}-{keys}.requests"
        files[keys] = load.write_requests(file, (request(secret) for secret in made.sample))  # type: ignore[operator]
    few = files[plan.sizes[0]]
    found = [] if world.nginx is None else [Candidate(NGINX, world.nginx, few)]
    found.append(Candidate(BARE, world.bare, few))
    found += [Candidate(f"Keywright, {size_name(n)}", world.keywright[n], files[n]) for n in plan.sizes]
    return found


def _measure_rates(plan: Plan, candidates: list[Candidate]) -> None:
    for candidate in candidates:
        # Connections, decoded records and pages that are read for the first time belong to no round.
        load.highest_rate(candidate.server, candidate.requests, seconds=1)
    for turn in range(plan.rounds):
        progress(f"highest rate, round {turn + 1} of {plan.rounds}, {len(candidates)} candidates")
        for candidate in candidates:
            candidate.rates.append(load.highest_rate(candidate.server, candidate.requests, seconds=plan.seconds))


def _measure_latencies(plan: Plan, candidates: list[Candidate]) -> None:
    rate = _half_rate(candidates)
    for turn in range(plan.rounds):
        progress(f"latency at {rate:,.0f}/s, round {turn + 1} of {plan.rounds}")
        for candidate in candidates:
            candidate.latencies.append(
                load.latency(candidate.server, candidate.requests, rate=rate, seconds=plan.seconds)
            )


def _half_rate(candidates: list[Candidate]) -> float:
    """Half of what Keywright managed with few keys; the same for all, so that they can be compared."""
    return median(candidates[-2].per_second) / 2


def _rates_table(title: str, candidates: list[Candidate]) -> Table:
    table = Table(title, ("server", "requests/s", "+-", "/ bare", "/ nginx", "CPU us", "CPU / bare", "memory, MiB"))
    *_, bare, few, many = candidates
    nginx = candidates[0] if candidates[0].name == NGINX else None
    for one in candidates:
        rate, ratio = median(one.per_second), report.median_ratio(one.per_second, bare.per_second)
        aims = [Aim(ratio, 0.85, unit=" of bare")] if one is few or one is many else []
        if one is few:
            aims.append(Aim(rate, BILLION_A_DAY, unit="/s"))
        table.add(
            one.name,
            number(rate),
            report.spread(one.per_second),
            number(ratio),
            number(report.median_ratio(one.per_second, nginx.per_second)) if nginx else NOT_MEASURED,
            number(median(one.cpu_micros)),
            number(report.median_ratio(one.cpu_micros, bare.cpu_micros)),
            str(one.server.memory()),
            aims=aims,
        )
    cost = report.median_ratio(many.cpu_micros, few.cpu_micros)
    slower = report.median_ratio(few.per_second, many.per_second)
    table.add("cost, many / few", number(slower), "", "", "", number(cost), aims=[Aim(cost, 1.2, is_at_most=True)])
    return table


def _latency_table(candidates: list[Candidate]) -> Table:
    table = Table(
        f"Latency of `POST {VALIDATE}` at {_half_rate(candidates):,.0f} requests/s, half of Keywright's highest rate",
        ("server", "p50, ms", "+-", "/ bare", "p99, ms", "+-", "/ bare", "sent late (p99), ms"),
        notes=[
            "From the moment when a request was due, at a constant rate over 64 connections (a client of our own: no "
            "tool in Debian sends many different bodies without waiting for answers). The last column is the client's "
            "own lateness, which is in the figures."
        ],
    )
    bare = next(one for one in candidates if one.name == BARE)
    for one in candidates:
        middle, tail = _column(one, "p50_ms"), _column(one, "p99_ms")
        table.add(
            one.name,
            number(median(middle)),
            report.spread(middle),
            number(report.median_ratio(middle, _column(bare, "p50_ms"))),
            number(median(tail)),
            report.spread(tail),
            number(report.median_ratio(tail, _column(bare, "p99_ms"))),
            number(median(_column(one, "late_ms"))),
        )
    return table


def _column(candidate: Candidate, name: str) -> list[float]:
    return [getattr(one, name) for one in candidate.latencies]


def _check_verdicts(world: World) -> None:
    """Raises RuntimeError unless every validation of the run was VALID: a refusal is quicker, and also a 200."""
    for server in world.keywright.values():
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10) as response:
            rows = response.read().decode().splitlines()
        counts = [row for row in rows if row.startswith("keywright_validations_total{")]
        refused = [row for row in counts if 'verdict="VALID"' not in row and float(row.split()[-1])]
        if refused or not counts:
            raise RuntimeError(f"not every key was valid: {refused or rows}")
