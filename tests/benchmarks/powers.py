"""Section: what scopes, addresses and rate limits cost: a key without any beside keys that are judged by them.

`python tests/benchmarks/powers.py [COMMAND]` also measures, in the same rounds, another build's keys without powers:
COMMAND is its `keywright`.
"""

from __future__ import annotations

import base64
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import load
import servers
from machine import SERVER_CORES, on_cores
from plan import Plan
from processes import ServerProcess
from report import Aim, Table, number

from keywright.domain import keyformat, models
from keywright.domain.keyformat import Digester
from keywright.domain.limits import MAX_RATE, LimitScope, RateLimit
from keywright.domain.networks import parse_address
from keywright.domain.powers import NO_DEMAND, Demand, encode_powers
from keywright.edge.limits.table import LIMITS_DIRECTORY, LimitTable
from keywright.edge.limits.takers import Takers
from keywright.edge.replica.replica import Replica
from keywright.edge.validator import Validator
from keywright.protocol.changes import BucketPut, Change, ConsumerPut, Cursor, KeyPut
from keywright.runtime.clock import Clock
from support.ports import free_port

KEYS = 5_000
PEPPER = b"pepper of the benchmark, 32 byte"
SCOPES, ADDRESS = ("orders:read", "items:write"), "192.0.2.77"
NETWORKS = ["10.0.0.0/8", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "192.0.2.0/24"]
OF_KEYS = encode_powers(scopes=["orders:*", "items:write", "invoices:read"], allowed_ips=NETWORKS)
OF_CONSUMERS = encode_powers(scopes=["*"])
LIMITS = [RateLimit(name, MAX_RATE, 60, LimitScope.EDGE) for name in ("burst", "hourly", "daily")]
OF_BUCKETS = {
    "plain": (None, None),
    "powered": (OF_CONSUMERS, OF_KEYS),
    "limited": (encode_powers(rate_limits=LIMITS[:1]), None),
    "limited-thrice": (encode_powers(rate_limits=LIMITS), None),
}
"""By bucket: the powers of its consumers and of its keys."""


def run(plan: Plan, before: str | None = None) -> list[Table]:
    secrets = [keyformat.generate("zpka", random.randbytes).reveal() for _ in range(KEYS)]
    tables = [_in_process(secrets, plan.rounds)]
    if load.find_wrk() is None:
        why = "wrk is not installed (Debian: `apt-get install wrk`)."
        return [*tables, Table.not_measured("Powers over HTTP", why)]
    return [*tables, _over_http(secrets, plan, before)]


def _fill(directory: Path, secrets: Sequence[str], *, has_powers: bool) -> Replica:
    digester = Digester(PEPPER)
    replica = Replica.open(directory, digester.pepper_check())
    names = list(OF_BUCKETS) if has_powers else ["plain"]
    made = [_bucket(number, name) for number, name in enumerate(names, 1)]
    made = [replace(one, features=("scopes", "allowedIps", "rateLimits") if one.number > 1 else ()) for one in made]
    numbered = [(bucket.number, *OF_BUCKETS[bucket.name], n) for bucket in made for n in range(len(secrets))]
    consumers: list[Change] = [
        ConsumerPut(at * KEYS + n, _id(models.IdKind.CONSUMER), at, f"consumer-{n:06}", '{"plan":"gold"}', said)
        for at, said, _, n in numbered
    ]
    keys: list[Change] = [
        KeyPut(digester.digest(secrets[n]), at, at * KEYS + n, _id(models.IdKind.KEY), None, said)
        for at, _, said, n in numbered
    ]
    replica.load("dply_1/everything", digester.pepper_check(), Cursor(1, "0" * 16, 1), [*made, *consumers, *keys])
    return replica


def _bucket(number: int, name: str) -> BucketPut:
    return BucketPut(number, _id(models.IdKind.BUCKET), name, "acct_1", {})


def _id(kind: models.IdKind) -> str:
    return models.new_id(kind, random.randbytes)


def _in_process(secrets: Sequence[str], rounds: int) -> Table:
    table = Table(
        "Powers in process: nanoseconds of processor time for one `validate()`",
        ("of a key", "ns", "more than without, ns", "digest alone, ns"),
        notes=[f"{len(SCOPES)} scopes and an address are asked of keys with 3 scopes and {len(NETWORKS)} networks."],
    )
    with tempfile.TemporaryDirectory() as directory:
        replica = _fill(Path(directory), secrets, has_powers=True)
        digester = Digester(PEPPER)
        limits = LimitTable(Path(directory) / LIMITS_DIRECTORY, Clock().elapsed)
        validate = Validator(replica, digester, Clock().millis, Takers(limits)).validate
        demand = Demand(SCOPES, parse_address(ADDRESS))

        def parsed(secret: str) -> object:
            return validate(secret, "powered", Demand(SCOPES, parse_address(ADDRESS)))

        asked: dict[str, Callable[[str], object]] = {
            "the digest": digester.digest,
            "without powers": lambda secret: validate(secret, "plain", NO_DEMAND),
            "with scopes and networks": lambda secret: validate(secret, "powered", demand),
            "the same, the address parsed": parsed,
            "with one rate limit": lambda secret: validate(secret, "limited", NO_DEMAND),
            "with three rate limits": lambda secret: validate(secret, "limited-thrice", NO_DEMAND),
        }
        assert all(validate(secret, "powered", demand).is_valid for secret in secrets)
        for ask in asked.values():
            for _ in range(8):
                _nanos(ask, secrets)
        found = {name: min(_nanos(ask, secrets) for _ in range(3 * rounds)) for name, ask in asked.items()}
        replica.close()
    digest, plain = found.pop("the digest"), found["without powers"]
    for name, nanos in found.items():
        has_aim = name != "without powers" and "limit" not in name
        aims = [Aim(nanos - plain, 500, is_at_most=True)] if has_aim else []
        table.add(name, number(nanos), number(nanos - plain), number(digest), aims=aims)
    return table


def _nanos(ask: Callable[[str], object], secrets: Sequence[str]) -> float:
    began = time.thread_time_ns()
    for secret in secrets:
        ask(secret)
    return (time.thread_time_ns() - began) / len(secrets)


def _over_http(secrets: Sequence[str], plan: Plan, before: str | None) -> Table:
    kinds = {
        "POST /v1, without powers": [_post("/v1/validate/plain", {"key": secret}) for secret in secrets],
        "POST /v2, scopes and `ip`": [
            _post("/v2/validate/powered", {"key": secret, "scopes": SCOPES, "ip": ADDRESS}) for secret in secrets
        ],
        "POST /v1, one rate limit": [_post("/v1/validate/limited", {"key": secret}) for secret in secrets],
        "POST /v1, three rate limits": [_post("/v1/validate/limited-thrice", {"key": secret}) for secret in secrets],
        "forward-auth, one rate limit": [_get("limited", secret) for secret in secrets],
        "forward-auth, without powers": [_get("plain", secret) for secret in secrets],
        "forward-auth, scopes and address": [_get(f"powered;scope={','.join(SCOPES)}", secret) for secret in secrets],
    }
    with tempfile.TemporaryDirectory() as name, on_cores(SERVER_CORES):
        files = {
            kind: load.write_requests(Path(name) / f"{n}.raw", asked) for n, (kind, asked) in enumerate(kinds.items())
        }
        running = {"this": _edge(Path(name) / "this", secrets, str(servers.COMMAND), has_powers=True)}
        if before is not None:
            running["before"] = _edge(Path(name) / "before", secrets, before, has_powers=False)
        try:
            found = _rounds(running, files, plan)
        finally:
            for server in running.values():
                server.stop()
    return _table(found)


def _rounds(
    running: dict[str, ServerProcess], files: dict[str, Path], plan: Plan
) -> dict[tuple[str, str], list[float]]:
    """Processor time of the server for one request, in microseconds, by build and kind of question."""
    found: dict[tuple[str, str], list[float]] = {}
    for turn in range(plan.rounds):
        for kind, file in files.items():
            for build in list(running) if turn % 2 else list(running)[::-1]:
                if build == "this" or "without" in kind:
                    round_ = load.highest_rate(running[build], file, seconds=plan.seconds)
                    found.setdefault((build, kind), []).append(round_.cpu_micros)
    return found


def _table(found: dict[tuple[str, str], list[float]]) -> Table:
    table = Table(
        "Powers over HTTP: microseconds of processor time for one request",
        ("build", "question", "median", "least", "/ without powers"),
        notes=["One worker; the address comes in `X-Real-IP` at forward-auth. Builds and questions take turns."],
    )
    for (build, kind), micros in sorted(found.items(), key=lambda item: item[0][1]):
        plain = ("before" if ("before", kind) in found else "this", kind)
        if "without" not in kind:
            plain = ("this", "POST /v1, without powers" if "POST" in kind else "forward-auth, without powers")
        ratio = median(micros) / median(found[plain])
        limit = 1.15 if "scopes" in kind else 1.05
        aims = [Aim(ratio, limit, is_at_most=True)] if build == "this" and "limit" not in kind else []
        table.add(build, kind, number(median(micros)), number(min(micros)), number(ratio), aims=aims)
    return table


def _edge(directory: Path, secrets: Sequence[str], command: str, *, has_powers: bool) -> ServerProcess:
    """An edge that answers from its disk; there is no origin."""
    _fill(directory / "replica", secrets, has_powers=has_powers).close()
    port = free_port()
    variables = [
        "KEYWRIGHT_EDGE_TOKEN=token-of-the-edge-of-a-benchmark",
        f"KEYWRIGHT_PEPPER={base64.b64encode(PEPPER).decode()}",
        "KEYWRIGHT_TRUSTED_PROXIES=127.0.0.1",
        "KEYWRIGHT_CLIENT_ADDRESS_HEADER=X-Real-IP",
    ]
    arguments = ["edge", "--origin", "http://127.0.0.1:1/", "--data-dir", str(directory), "--port", str(port)]
    log, asked = directory / "log", ["env", *variables, command, *arguments, "--workers", "1"]
    return ServerProcess(asked, port=port, log=log, ready_path="/readyz").wait_until_ready()


def _post(path: str, document: dict[str, object]) -> bytes:
    body = json.dumps(document)
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", body]).encode()


def _get(segment: str, secret: str) -> bytes:
    lines = [f"GET /v1/forward-auth/{segment} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {secret}"]
    return "\r\n".join([*lines, f"X-Real-IP: {ADDRESS}", "", ""]).encode()


if __name__ == "__main__":
    for made in run(Plan.full(Path(), 7), sys.argv[1] if len(sys.argv) > 1 else None):
        print(made.render(), end="\n\n")
