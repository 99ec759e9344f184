"""Section: from the origin's answer to a revocation until an edge that follows it over HTTP refuses the key."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import record
import report
import servers
from client import Client
from constant_rate import percentile
from plan import Plan, progress
from report import Aim, Table, number

AIM_MS = 20.0


def run(plan: Plan) -> list[Table]:
    table = Table(
        "From the origin's answer to the edge, over HTTP",
        ("what", "p50, ms", "+-", "p99, ms", "+-", "the edge was first"),
        notes=[
            "Origin, one edge and the client share the machine's cores. One change at a time; the client then asks the "
            "edge without a pause, so an answer's own time (below 1 ms) is part of the figure. Sometimes the edge "
            "knows of a change before the caller has its answer: the last column says how often; those count as 0."
        ],
    )
    progress("propagation: starting")
    made = record.make(plan.directory / "propagation", keys=1)
    with servers.without_rate_limit():
        origin = servers.keywright(made.data_dir)
    edge = None
    try:
        edge = servers.edge(made, origin, "propagation-edge")
        at_origin, at_edge = Client(origin, made), Client(edge, made)
        keys = at_origin.new_consumer("bench")
        created: list[list[float]] = []
        revoked: list[list[float]] = []
        count = plan.seconds_of(75)
        for turn in range(plan.rounds):
            progress(f"propagation, round {turn + 1} of {plan.rounds}: {count} keys")
            made_ms, ended_ms = [], []
            for _ in range(count):
                key = at_origin.call("POST", keys, {})
                made_ms.append(_until(lambda secret=key["key"]: at_edge.is_valid(secret)))  # type: ignore[misc]
                at_origin.call("DELETE", f"{keys}/{key['id']}")
                ended_ms.append(_until(lambda secret=key["key"]: not at_edge.is_valid(secret)))  # type: ignore[misc]
            created.append(made_ms)
            revoked.append(ended_ms)
        _add(table, "a revoked key is refused", revoked, has_aim=True)
        _add(table, "a new key is accepted", created)
        at_origin.close()
        at_edge.close()
    finally:
        for server in (edge, origin):
            if server is not None:
                server.stop()
    return [table]


def _until(is_so: Callable[[], bool]) -> float:
    """Milliseconds until an edge said so; 0 if it did at once."""
    started = time.perf_counter()
    if is_so():
        return 0.0
    while not is_so():
        pass
    return (time.perf_counter() - started) * 1000


def _add(table: Table, what: str, rounds: list[list[float]], *, has_aim: bool = False) -> None:
    middle, tail = ([percentile(values, part) for values in rounds] for part in (0.5, 0.99))
    first = sum(value == 0 for values in rounds for value in values) / sum(map(len, rounds))
    aims = [Aim(median(middle), AIM_MS, is_at_most=True, unit=" ms (p50)")] if has_aim else []
    aims += [Aim(median(tail), AIM_MS, is_at_most=True, unit=" ms (p99)")] if has_aim else []
    cells = (number(median(middle)), report.spread(middle), number(median(tail)), report.spread(tail), f"{first:.0%}")
    table.add(what, *cells, aims=aims)
