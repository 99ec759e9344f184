"""Section: gateways that judge by the replica themselves (gateways/lua), beside those that ask, in one run.

What counts is CPU: of the gateway and of Keywright, for each request, with the policy and without it. Rates stand
beside it, of a gateway, Keywright and an API that share one core.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import load
import record
import report
import servers
from machine import SERVER_CORES, on_cores
from plan import SMALL, Plan, progress, size_name
from processes import ServerProcess
from record import BUCKET
from report import Aim, Table, number

import gateways
from gateways import FILES, KINDS, World
from support.ports import free_port

TITLE = "Gateways that judge by themselves, beside those that ask: CPU of gateway and Keywright for a request"
_COMMANDS = {"nginx.conf": KINDS[0].command, "envoy.yaml": next(k.command for k in KINDS if k.folder == "envoy")}


@dataclass
class _Gateway:
    """A running gateway and what its rounds took: CPU us of all, of Keywright alone, and requests a second."""

    name: str
    server: ServerProcess
    cpu: list[float] = field(default_factory=list)
    asked: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)


def run(plan: Plan) -> list[Table]:
    if load.find_wrk() is None or servers.find_nginx() is None:
        return [Table.not_measured(TITLE, "wrk or nginx is not installed (Debian: `apt-get install wrk nginx-light`).")]
    if not Path("/usr/lib/nginx/modules/ngx_http_lua_module.so").exists():
        return [Table.not_measured(TITLE, "Lua for nginx is not installed (Debian: libnginx-mod-http-lua liblmdb0).")]
    table = Table(
        TITLE,
        (
            "gateway",
            "CPU us without",
            "with",
            "of that Keywright",
            "+-",
            "without / with",
            "requests/s without",
            "with",
        ),
        notes=[
            "The first row is nginx `return 200`, the API behind each gateway too; its CPU is in no other row. "
            "Gateway, Keywright and API share one core, the load generator has another; 32 connections. Ratios are "
            "of the same round."
        ],
    )  # fmt: skip
    with on_cores(SERVER_CORES):
        for keys in dict.fromkeys((min(SMALL, plan.sizes[0]), plan.sizes[1])):
            made = record.make(plan.directory / f"own-judges-{keys}", keys=keys, sample=1000)
            directory = plan.directory / f"own-judges-world-{keys}"
            directory.mkdir()
            with ExitStack() as here:
                _measure_all(plan, table, World(plan, here, made, directory), keys, is_first=not table.rows)
    return [table]


def _measure_all(plan: Plan, table: Table, world: World, keys: int, *, is_first: bool) -> None:
    if is_first:
        api = _Gateway("nginx `return 200`", world.api)
        _take_round(plan, world, [api])
        table.add(api.name, number(median(api.cpu)), "", "", "", "", number(median(api.rates)))
        pairs = [
            _pair(kind.name, world.start(kind, is_checked=False).server, world.start(kind, is_checked=True).server)
            for kind in KINDS
            if kind.folder in ("nginx", "envoy") and gateways.find_program(kind.command[0])
        ]
        for pair in pairs:
            _measure(plan, table, world, pair, None)
    for name, file, limit in (("nginx, Lua", "nginx.conf", 0.80), ("Envoy, Lua", "envoy.yaml", 0.65)):
        if gateways.find_program(_COMMANDS[file][0]) is None:
            table.add(name, report.NOT_MEASURED)
            continue
        pair = _pair(
            f"{name}, {size_name(keys)}",
            _start(world, file, _WITHOUT[file]).server,
            _start(world, file, lambda text: text).server,
        )
        _measure(plan, table, world, pair, limit)


def _pair(name: str, without: ServerProcess, with_policy: ServerProcess) -> list[_Gateway]:
    return [_Gateway(name, without), _Gateway(name, with_policy)]


def _take_round(plan: Plan, world: World, gateways_in_turn: list[_Gateway]) -> None:
    for turn in range(plan.rounds):
        for one in gateways_in_turn if turn % 2 == 0 else reversed(gateways_in_turn):
            before = world.keywright.cpu_seconds()
            found = load.highest_rate(one.server, world.requests, seconds=plan.seconds)
            seconds = max(1, round(plan.seconds))
            asked = (world.keywright.cpu_seconds() - before) / (found.per_second * seconds) * 1e6
            one.cpu.append(found.cpu_micros + asked)
            one.asked.append(asked)
            one.rates.append(found.per_second)


def _measure(plan: Plan, table: Table, world: World, pair: list[_Gateway], limit: float | None) -> None:
    without, with_policy = pair
    progress(f"{with_policy.name}, {plan.rounds} rounds")
    for one in pair:
        load.highest_rate(one.server, world.requests, seconds=1)
    _take_round(plan, world, pair)
    ratio = report.median_ratio(without.cpu, with_policy.cpu)
    table.add(
        with_policy.name,
        number(median(without.cpu)),
        number(median(with_policy.cpu)),
        number(median(with_policy.asked)),
        report.spread(with_policy.cpu),
        number(ratio),
        number(median(without.rates)),
        number(median(with_policy.rates)),
        aims=[] if limit is None else [Aim(ratio, limit)],
    )


def _without_access(text: str) -> str:
    return re.sub(r"^ +access_by_lua_block \{.*?\}\n(?= +proxy_pass)", "", text, flags=re.MULTILINE | re.DOTALL)


_FILTER = "                  - name: envoy.filters.http."
_WITHOUT: dict[str, Callable[[str], str]] = {
    "nginx.conf": _without_access,
    "envoy.yaml": lambda text: text[: text.index(f"{_FILTER}lua")] + text[text.index(f"{_FILTER}router") :],
}


def _start(world: World, file: str, edit: Callable[[str], str]) -> _Gateway:
    directory = world.plan.directory / f"own-{file}-{free_port()}"
    directory.mkdir()
    port = free_port()
    text = edit((FILES / "lua" / file).read_text(encoding="utf-8")).replace("my-project-production", BUCKET)
    text = text.replace("gateways/lua/", f"{FILES / 'lua'}/").replace("keywright-data/", f"{world.made.data_dir}/")
    ports = {"8000": port, "8080": world.keywright.port, "9000": world.api.port}
    (directory / file).write_text(re.sub(r"\b(8000|8080|9000)\b", lambda match: str(ports[match[0]]), text))
    program = gateways.find_program(_COMMANDS[file][0])
    assert program is not None
    command: list[str | Path] = ["env", "-C", str(directory), "HOME=.", program, *_COMMANDS[file][1:]]
    server = gateways.ending_with(world.stack, ServerProcess(command, port=port, log=directory / "log", ready_path="/"))
    gateways.wait_until_it_answers(server, world.requests)
    return _Gateway(file, server)
