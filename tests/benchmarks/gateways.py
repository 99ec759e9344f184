"""Section: requests through each gateway with and without the policy, in one run: the price of protection, as a ratio.

A gateway is started from its file in gateways/, and once more from the same file without the lines that check. Envoy's
own `api_key_auth`, which knows its keys from its configuration and no revocation, stands beside ours.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import load
import record
import report
import servers
from candidate import Candidate
from machine import SERVER_CORES, on_cores
from plan import SMALL, Plan, progress
from processes import ServerProcess
from record import BUCKET
from report import Table, number

from support.ports import free_port

FILES = Path(__file__).resolve().parents[2] / "gateways"
TITLE = "Requests through gateways, with the policy and without it"
_RATIO_OF_LATENCY_LOAD = 0.5


@dataclass(frozen=True, slots=True)
class Kind:
    """A gateway: how it is started, the file that checks, and how the checking is taken out of that file."""

    name: str
    folder: str
    command: list[str]
    file: str
    without: Callable[[str], str]
    is_own_judge: bool = False
    is_grpc: bool = False


def _between(first: str, last: str) -> Callable[[str], str]:
    """Takes out from one line to another, the second one not included."""

    def without(text: str) -> str:
        start = text.index(first)
        return text[:start] + text[text.index(last, start) :]

    return without


_ENVOY = ["envoy", "--concurrency", "1", "--use-dynamic-base-id", "-l", "error", "-c"]
_TYPE = "type.googleapis.com/envoy.extensions.filters.http"
_ENVOY_FILTER = "                  - name: envoy.filters.http."


def _without_ext_authz(text: str) -> str:
    text = _between(f"{_ENVOY_FILTER}ext_authz", f"{_ENVOY_FILTER}router")(text)
    # Its name stands in the filter.
    return text.replace("*key-header", "authorization")


def _without_ext_authz_route(text: str) -> str:
    return _between("                      typed_per_filter_config:", "                      routes:")(
        _without_ext_authz(text)
    )


def _without_auth_request(text: str) -> str:
    text = re.sub(r"^ +auth_request(_set)? .*\n", "", text, flags=re.MULTILINE)
    # What it would have set; an argument that nobody sends is as empty.
    return re.sub(r"\$(consumer_\w+|key_id|check_\w+)", "$arg_none", text)


def _without_forward_auth(text: str) -> str:
    return text.replace("[keywright, without-key]", "[without-key]")


_NGINX = ["nginx", "-e", "stderr", "-p", ".", "-c", "nginx.conf", "-g", "daemon off; pid nginx.pid;"]
_CADDY = ["caddy", "run", "--config", "Caddyfile", "--adapter", "caddyfile"]
KINDS = [
    Kind("nginx, auth_request", "nginx", _NGINX, "nginx.conf", _without_auth_request),
    Kind(
        "Traefik, forwardAuth",
        "traefik",
        ["traefik", "--configFile=traefik.yml"],
        "keywright.yml",
        _without_forward_auth,
    ),
    Kind(
        "Caddy, forward_auth",
        "caddy",
        _CADDY,
        "Caddyfile",
        _between("\t\tforward_auth ", "\t\tvars is_checked yes"),
    ),
    Kind("Envoy, ext_authz over HTTP", "envoy", [*_ENVOY, "envoy.yaml"], "envoy.yaml", _without_ext_authz),
    Kind(
        "Envoy, ext_authz over gRPC",
        "envoy",
        [*_ENVOY, "envoy-grpc.yaml"],
        "envoy-grpc.yaml",
        _without_ext_authz_route,
        is_grpc=True,
    ),
    Kind(
        "HAProxy, its own maps",
        "haproxy",
        ["haproxy", "-f", "haproxy.cfg"],
        "haproxy.cfg",
        _between("    # The edge writes how long", "    # The API has no need"),
        is_own_judge=True,
    ),
]


def run(plan: Plan) -> list[Table]:
    if load.find_wrk() is None or servers.find_nginx() is None:
        return [Table.not_measured(TITLE, "wrk or nginx is not installed (Debian: `apt-get install wrk nginx-light`).")]
    table = Table(
        TITLE,
        ("gateway", "requests/s without", "with", "+-", "with / without", "p99 without, ms", "p99 with, ms"),
        notes=[
            "Gateway, Keywright and the API behind it (nginx `return 200`) share one core, the load generator has "
            "another; 32 connections. Latency at half of the protected rate, for both alike."
        ],
    )
    made = record.make(plan.directory / "gateway-keys", keys=min(SMALL, plan.sizes[0]), sample=1000)
    with ExitStack() as stack, on_cores(SERVER_CORES):
        directory = plan.directory / "gateways"
        directory.mkdir()
        world = World(plan, stack, made, directory)
        for kind in KINDS:
            if find_program(kind.command[0]) is None:
                table.add(kind.name, report.NOT_MEASURED)
                continue
            without, with_policy = world.start(kind, is_checked=False), world.start(kind, is_checked=True)
            _measure(plan, table, without, with_policy)
            if kind.folder == "envoy" and not kind.is_grpc:
                _measure(plan, table, without, world.start_api_key_auth(kind))
    return [table]


def _measure(plan: Plan, table: Table, without: Candidate, with_policy: Candidate) -> None:
    pair = (without, with_policy)
    for one in pair:
        one.rates, one.latencies = [], []
        load.highest_rate(one.server, one.requests, seconds=3)
    for turn in range(plan.rounds):
        progress(f"{with_policy.name}, round {turn + 1} of {plan.rounds}")
        for one in pair:
            one.rates.append(load.highest_rate(one.server, one.requests, seconds=plan.seconds))
    rate = median(with_policy.per_second) * _RATIO_OF_LATENCY_LOAD
    for _ in range(plan.rounds):
        for one in pair:
            one.latencies.append(load.latency(one.server, one.requests, rate=rate, seconds=plan.seconds))
    table.add(
        with_policy.name,
        number(median(without.per_second)),
        number(median(with_policy.per_second)),
        report.spread(with_policy.per_second),
        number(report.median_ratio(with_policy.per_second, without.per_second)),
        *(number(median([latency.p99_ms for latency in one.latencies])) for one in pair),
    )


class World:
    """The API, Keywright, and what starts a gateway before them. Everything ends with the stack."""

    def __init__(self, plan: Plan, stack: ExitStack, made: record.Record, directory: Path) -> None:
        """`directory` is a fresh one."""
        self.plan = plan
        self.stack = stack
        self.made = made
        self.api = ending_with(stack, servers.nginx({}, directory))
        self._grpc_port = free_port()
        with servers.environment({"KEYWRIGHT_GRPC_PORT": str(self._grpc_port)}):
            self.keywright = ending_with(stack, servers.keywright(made.data_dir, ready_timeout=300))
        self.requests = self._requests_with("GET / HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {}\r\n\r\n", "keys")

    def start(self, kind: Kind, *, is_checked: bool) -> Candidate:
        directory = self._copy(kind, "checked" if is_checked else "bare")
        if not is_checked:
            file = directory / kind.file
            file.write_text(kind.without(file.read_text()))
        return self._run(kind, kind.name, directory, self.requests, is_kept=is_checked and kind.is_own_judge)

    def start_api_key_auth(self, kind: Kind) -> Candidate:
        directory = self._copy(kind, "own")
        file = directory / kind.file
        credentials = ", ".join(f"{{ key: {key}, client: c{at} }}" for at, key in enumerate(self.made.sample))
        own = (
            f"{_ENVOY_FILTER}api_key_auth\n"
            "                    typed_config:\n"
            f'                      "@type": {_TYPE}.api_key_auth.v3.ApiKeyAuth\n'
            f"                      credentials: [{credentials}]\n"
            "                      key_sources: [{ header: x-api-key }]\n"
            "                      forwarding: { header: x-consumer-name, hide_credentials: true }\n"
        )
        router = f"{_ENVOY_FILTER}router"
        file.write_text(_without_ext_authz(file.read_text()).replace(router, own + router))
        requests = self._requests_with("GET / HTTP/1.1\r\nHost: bench\r\nX-Api-Key: {}\r\n\r\n", "own-keys")
        return self._run(kind, "Envoy, its own api_key_auth (1,000 keys)", directory, requests, is_kept=False)

    def _requests_with(self, form: str, name: str) -> Path:
        file = self.plan.directory / f"gateway-{name}.requests"
        return load.write_requests(file, (form.format(secret).encode() for secret in self.made.sample))

    def _copy(self, kind: Kind, name: str) -> Path:
        directory = self.plan.directory / f"{kind.name.split(',')[0]}-{name}-{free_port()}"
        shutil.copytree(FILES / kind.folder, directory)
        ports = {"8001": free_port(), "8080": self.keywright.port, "8090": self._grpc_port, "9000": self.api.port}
        for file in directory.iterdir():
            text = file.read_text(encoding="utf-8").replace("my-project-production", BUCKET)
            file.write_text(re.sub(r"\b(8001|8080|8090|9000)\b", lambda match: str(ports[match[0]]), text))
        return directory

    def _run(self, kind: Kind, name: str, directory: Path, requests: Path, *, is_kept: bool) -> Candidate:
        port = free_port()
        for file in directory.iterdir():
            file.write_text(re.sub(r"\b8000\b", str(port), file.read_text(encoding="utf-8")))
        program = find_program(kind.command[0])
        assert program is not None
        pepper = (self.made.data_dir / "pepper.key").read_text(encoding="ascii").strip()
        # `env` moves into the directory first: the files name each other without a path.
        command: list[str | Path] = ["env", "-C", str(directory), "HOME=.", program]
        with servers.environment({"KEYWRIGHT_PEPPER": pepper}):
            server = ending_with(
                self.stack,
                ServerProcess([*command, *kind.command[1:]], port=port, log=directory / "log", ready_path="/"),
            )
        if is_kept:
            self._keep(directory)
        wait_until_it_answers(server, requests)
        return Candidate(name, server, requests)

    def _keep(self, directory: Path) -> None:
        """An edge that keeps HAProxy's maps."""
        port = free_port()
        data_dir = directory.with_name(f"{directory.name}-edge")
        variables = [
            f"KEYWRIGHT_EDGE_TOKEN={self.made.root_key}",
            f"KEYWRIGHT_PEPPER_FILE={self.made.data_dir / 'pepper.key'}",
        ]
        arguments = ["--origin", f"http://127.0.0.1:{self.keywright.port}", "--data-dir", str(data_dir)]
        command: list[str | Path] = ["env", *variables, servers.COMMAND, "edge", "--port", str(port), *arguments]
        log = directory / "edge.log"
        edge = ServerProcess(
            [*command, "--haproxy", directory / "haproxy.sock"], port=port, log=log, ready_path="/readyz"
        )
        ending_with(self.stack, edge).wait_until_ready()


def wait_until_it_answers(server: ServerProcess, requests: Path) -> None:
    """Until the first of the requests is answered with 200. Raises RuntimeError."""
    request = requests.read_bytes().split(b"\1")[0]
    deadline = time.monotonic() + 60
    answer = b""
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
                connection.sendall(request)
                answer = connection.recv(64)
            if answer.startswith(b"HTTP/1.1 200"):
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise RuntimeError(f"{server.process.args!r} answers {answer!r}:\n{server.output()}")


def ending_with(stack: ExitStack, server: ServerProcess | None) -> ServerProcess:
    assert server is not None
    stack.callback(server.stop)
    return server


def find_program(program: str) -> str | None:
    return shutil.which(program, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin")
