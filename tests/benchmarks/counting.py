"""Section: what counting costs by key: validations in process and over HTTP with it beside without it."""

from __future__ import annotations

import base64
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import load
import servers
from machine import SERVER_CORES, on_cores
from plan import Plan
from powers import KEYS, PEPPER, _fill, _get, _nanos, _post
from processes import ServerProcess
from report import Aim, Table, number

from keywright.domain import keyformat
from keywright.domain.keyformat import Digester
from keywright.edge.identity import Identity
from keywright.edge.usage.edge_usage import EdgeUsage
from keywright.edge.validator import Validator
from keywright.runtime.clock import Clock
from support.ports import free_port

MOST_NANOS = 150
MOST_SHARE = 1.03
WORKERS = (1, 4)


def run(plan: Plan) -> list[Table]:
    secrets = [keyformat.generate("zpka", random.randbytes).reveal() for _ in range(KEYS)]
    tables = [_in_process(secrets, plan.rounds)]
    if load.find_wrk() is None:
        why = "wrk is not installed (Debian: `apt-get install wrk`)."
        return [*tables, Table.not_measured("Counting over HTTP", why)]
    return [*tables, *(_over_http(secrets, plan, workers) for workers in WORKERS)]


def _in_process(secrets: Sequence[str], rounds: int) -> Table:
    table = Table(
        "Counting in process: nanoseconds of processor time for one `validate()`",
        ("keys in turn", "without", "with", "more", "a dict update alone"),
        notes=[
            "Without and with it take turns; medians. What is more with many keys is memory that the processor has not "
            "at hand: so it is for `dict[key_id] += 1` in the place of it."
        ],
    )
    for keys in (50, 500, len(secrets)):
        without, counted, updated = _take_turns(secrets[:keys], rounds)
        aims = [Aim(counted - without, MOST_NANOS, is_at_most=True)] if keys <= 500 else []
        more = [number(each - without) for each in (counted, updated)]
        table.add(f"{keys:,}", number(without), number(counted), *more, aims=aims)
    return table


def _take_turns(secrets: Sequence[str], rounds: int) -> tuple[float, float, float]:
    """Nanoseconds without counting, with it, and with no more than a dict update."""
    with tempfile.TemporaryDirectory() as directory:
        replica = _fill(Path(directory) / "replica", secrets, has_powers=False)
        digester, clock = Digester(PEPPER), Clock()
        usage = EdgeUsage.of_edge(Path(directory), Identity("edge", "", "0" * 32), replica, clock, spool_mib=256)
        assert usage is not None
        without = Validator(replica, digester, clock.millis).validate
        counting = Validator(replica, digester, clock.millis, None, usage.counter).validate
        totals: dict[str, int] = {}

        def ask_and_update(secret: str) -> None:
            key_id = without(secret, "plain")[1][0]  # type: ignore[index]
            totals[key_id] = totals.get(key_id, 0) + 1

        asked = (lambda secret: without(secret, "plain"), lambda secret: counting(secret, "plain"), ask_and_update)
        found: list[list[float]] = [[], [], []]
        for turn in range(12 * rounds + 12):
            for each, ask in zip(found, asked, strict=True):
                nanos = min(_nanos(ask, secrets) for _ in range(max(1, 500 // len(secrets))))
                if turn >= 12:
                    each.append(nanos)
        replica.close()
    first, second, third = map(median, found)
    return first, second, third


def _over_http(secrets: Sequence[str], plan: Plan, workers: int) -> Table:
    kinds = {
        "POST /v1/validate": [_post("/v1/validate/plain", {"key": secret}) for secret in secrets],
        "forward-auth": [_get("plain", secret) for secret in secrets],
    }
    found: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as name, on_cores(SERVER_CORES):
        base = Path(name)
        files = {kind: load.write_requests(base / f"{n}.raw", asked) for n, (kind, asked) in enumerate(kinds.items())}
        running = {told: _edge(base / told, secrets, mib, workers) for told, mib in (("no", 0), ("yes", 256))}
        try:
            for turn in range(4 * plan.rounds):
                for kind, file in files.items():
                    for told in list(running) if turn % 2 else list(running)[::-1]:
                        round_ = load.highest_rate(running[told], file, seconds=plan.seconds)
                        found.setdefault((kind, told), []).append(round_.cpu_micros)
        finally:
            for server in running.values():
                server.stop()
    table = Table(
        f"Counting over HTTP, {workers} worker{'s' * (workers > 1)}: microseconds of processor time for one request",
        ("question", "counted", "median", "least", "/ without"),
        notes=["Servers take turns. What is counted is written once a minute; the origin is away."],
    )
    for (kind, told), micros in sorted(found.items()):
        ratio = median(micros) / median(found[kind, "no"])
        aims = [Aim(ratio, MOST_SHARE, is_at_most=True)] if told == "yes" else []
        table.add(kind, told, number(median(micros)), number(min(micros)), f"{ratio:.3f}", aims=aims)
    return table


def _edge(directory: Path, secrets: Sequence[str], spool_mib: int, workers: int) -> ServerProcess:
    """An edge that answers from its disk; there is no origin."""
    _fill(directory / "replica", secrets, has_powers=False).close()
    port = free_port()
    variables = [
        "KEYWRIGHT_EDGE_TOKEN=token-of-the-edge-of-a-benchmark",
        f"KEYWRIGHT_PEPPER={base64.b64encode(PEPPER).decode()}",
        f"KEYWRIGHT_USAGE_SPOOL_MIB={spool_mib}",
    ]
    arguments = ["edge", "--origin", "http://127.0.0.1:1/", "--data-dir", str(directory), "--port", str(port)]
    asked = ["env", *variables, str(servers.COMMAND), *arguments, "--workers", str(workers)]
    return ServerProcess(asked, port=port, log=directory / "log", ready_path="/readyz").wait_until_ready()
