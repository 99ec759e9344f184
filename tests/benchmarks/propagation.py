"""Section: from the origin's answer to a revocation until an edge refuses the key, over HTTP and through a broker."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from statistics import median

import record
import report
import servers
from client import Client
from constant_rate import percentile
from plan import Plan, progress
from processes import ServerProcess
from record import Record
from report import Aim, Table, number

from support import nats

HTTP_AIM_MS, BROKER_AIM_MS = 20.0, 50.0
NOTE = (
    "Origin, one edge and the client share the machine's cores. One change at a time; the client then asks the "
    "edge without a pause, so an answer's own time (below 1 ms) is part of the figure. Sometimes the edge "
    "knows of a change before the caller has its answer: the last column says how often; those count as 0."
)


def run(plan: Plan) -> list[Table]:
    return [
        _table(plan, "From the origin's answer to the edge, over HTTP", HTTP_AIM_MS, _over_http(plan)),
        _table(plan, "From the origin's answer to the edge, through hub and leaf", BROKER_AIM_MS, _over_nats(plan)),
    ]


@contextmanager
def _over_http(plan: Plan) -> Iterator[tuple[Record, ServerProcess, ServerProcess]]:
    with ExitStack() as stack:
        made = record.make(plan.directory / "propagation", keys=1)
        with servers.without_rate_limit():
            origin = servers.keywright(made.data_dir)
        stack.callback(origin.stop)
        edge = servers.edge(made, origin, "propagation-edge")
        stack.callback(edge.stop)
        yield made, origin, edge


@contextmanager
def _over_nats(plan: Plan) -> Iterator[tuple[Record, ServerProcess, ServerProcess]]:
    """Two nats-servers as deploy/nats has them: the origin relays to the hub, and the edge asks the leaf."""
    with ExitStack() as stack:
        hub = stack.enter_context(nats.hub(plan.directory / "hub"))
        leaf = stack.enter_context(nats.leaf(plan.directory / "leaf", "eu", hub.leaf_port))
        made = record.make(plan.directory / "propagation-nats", keys=1)
        places = {"KEYWRIGHT_NATS_DOMAIN": "hub", "KEYWRIGHT_NATS_MIRRORS": "region"}
        at_hub = places | {"KEYWRIGHT_NATS_MIRRORS": "readers,eu"}
        relay = {"KEYWRIGHT_NATS_USER": "relay", "KEYWRIGHT_NATS_PASSWORD": nats.PASSWORDS["RELAY_PASSWORD"]}
        with servers.without_rate_limit(), servers.environment({"KEYWRIGHT_NATS_URL": hub.url, **at_hub, **relay}):
            origin = servers.keywright(made.data_dir)
        stack.callback(origin.stop)
        access = {"KEYWRIGHT_NATS_USER": "edge", "KEYWRIGHT_NATS_PASSWORD": nats.PASSWORDS["EDGE_PASSWORD"]}
        edge = servers.edge_at(leaf.url, made, "propagation-nats-edge", {**places, **access})
        stack.callback(edge.stop)
        yield made, origin, edge


def _table(
    plan: Plan, title: str, aim_ms: float, world: AbstractContextManager[tuple[Record, ServerProcess, ServerProcess]]
) -> Table:
    table = Table(title, ("what", "p50, ms", "+-", "p99, ms", "+-", "the edge was first"), notes=[NOTE])
    progress("propagation: starting")
    with world as (made, origin, edge):
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
        _add(table, "a revoked key is refused", revoked, aim_ms)
        _add(table, "a new key is accepted", created)
        at_origin.close()
        at_edge.close()
    return table


def _until(is_so: Callable[[], bool]) -> float:
    """Milliseconds until an edge said so; 0 if it did at once."""
    started = time.perf_counter()
    if is_so():
        return 0.0
    while not is_so():
        pass
    return (time.perf_counter() - started) * 1000


def _add(table: Table, what: str, rounds: list[list[float]], aim_ms: float | None = None) -> None:
    middle, tail = ([percentile(values, part) for values in rounds] for part in (0.5, 0.99))
    first = sum(value == 0 for values in rounds for value in values) / sum(map(len, rounds))
    both = ((middle, " ms (p50)"), (tail, " ms (p99)"))
    aims = [] if aim_ms is None else [Aim(median(part), aim_ms, is_at_most=True, unit=unit) for part, unit in both]
    cells = (number(median(middle)), report.spread(middle), number(median(tail)), report.spread(tail), f"{first:.0%}")
    table.add(what, *cells, aims=aims)
