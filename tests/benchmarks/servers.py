"""The servers that are compared, each a real process: Keywright, the bare server, nginx."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from processes import ServerProcess
from record import Record

from support.ports import free_port

COMMAND = Path(sys.executable).with_name("keywright")
# What a server says of itself, or of the connection; the rest of the headers is the answer's.
_OWN_HEADERS = {"server", "date", "connection", "content-length", "keep-alive"}


@dataclass(frozen=True, slots=True)
class Answer:
    """A 200 that the baselines repeat: headers that the endpoint sets, and the body."""

    headers: Sequence[tuple[str, str]]
    body: str

    @classmethod
    def of(cls, headers: Sequence[tuple[str, str]], body: str) -> Answer:
        return cls([(name, value) for name, value in headers if name.lower() not in _OWN_HEADERS], body)


def keywright(data_dir: Path, *, ready_timeout: float = 60) -> ServerProcess:
    """`keywright serve --workers 1`, with everything at its default."""
    port = free_port()
    command: list[str | Path] = [COMMAND, "serve", "--data-dir", data_dir, "--port", str(port), "--workers", "1"]
    log = data_dir.with_name(f"{data_dir.name}.{port}.log")
    return ServerProcess(command, port=port, log=log, ready_path="/readyz").wait_until_ready(ready_timeout)


def edge(
    made: Record, origin: ServerProcess, name: str, *, snapshot: Path | None = None, ready_timeout: float = 60
) -> ServerProcess:
    """`keywright edge` behind an origin over HTTP, with everything at its default. It follows all there is."""
    source: list[str | Path] = ["--origin", f"http://127.0.0.1:{origin.port}"]
    if snapshot is not None:
        source += ["--snapshot", snapshot]
    return _edge(source, made, name, {"KEYWRIGHT_EDGE_TOKEN": made.root_key}, ready_timeout)


def edge_at(broker_url: str, made: Record, name: str, variables: Mapping[str, str]) -> ServerProcess:
    """`keywright edge` that follows a broker. It is ready once it has heard all there is."""
    return _edge(["--nats", broker_url], made, name, variables, 120)


def _edge(
    source: Sequence[str | Path], made: Record, name: str, variables: Mapping[str, str], ready_timeout: float
) -> ServerProcess:
    port = free_port()
    data_dir = made.data_dir.with_name(name)
    command = [COMMAND, "edge", *source, "--data-dir", data_dir, "--port", str(port)]
    with environment({"KEYWRIGHT_PEPPER_FILE": str(made.data_dir / "pepper.key"), **variables}):
        server = ServerProcess(command, port=port, log=data_dir.with_name(f"{name}.{port}.log"), ready_path="/readyz")
    return server.wait_until_ready(ready_timeout)


@contextmanager
def without_rate_limit() -> Iterator[None]:
    """For servers that are started meanwhile."""
    with environment({"KEYWRIGHT_MANAGEMENT_RATE_LIMIT": "0"}):
        yield


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """For servers that are started meanwhile."""
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]


def bare(answers: Mapping[str, Answer], directory: Path) -> ServerProcess:
    port = free_port()
    file = directory / "answers.json"
    wanted = {
        path: {"headers": [*answer.headers, ("content-length", str(len(answer.body)))], "body": answer.body}
        for path, answer in answers.items()
    }
    wanted["/"] = {"headers": [("content-length", "0")], "body": ""}
    file.write_text(json.dumps(wanted), encoding="utf-8")
    command: list[str | Path] = [sys.executable, Path(__file__).with_name("bare_server.py"), str(port), file]
    return ServerProcess(command, port=port, log=directory / "bare.log").wait_until_ready()


def nginx(answers: Mapping[str, Answer], directory: Path) -> ServerProcess | None:
    """One worker, `return 200`; None where no nginx is installed."""
    program = find_nginx()
    if program is None:
        return None
    port = free_port()
    base = directory / "nginx"
    base.mkdir()
    file = base / "nginx.conf"
    file.write_text(_nginx_configuration(answers, port, base), encoding="utf-8")
    command: list[str | Path] = [program, "-p", base, "-c", file, "-e", base / "error.log"]
    return ServerProcess(command, port=port, log=directory / "nginx.log").wait_until_ready()


def find_nginx() -> str | None:
    # Debian keeps it where only root looks.
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


def _nginx_configuration(answers: Mapping[str, Answer], port: int, base: Path) -> str:
    places = []
    for path, answer in answers.items():
        lines = []
        for name, value in answer.headers:
            # nginx sets the content type itself, and would send a second one.
            lines.append(f"default_type {value};" if name == "content-type" else f"add_header {name} '{value}';")
        lines.append(f"return 200 '{answer.body}';")
        places.append(f"location = {path} {{ {' '.join(lines)} }}")
    temporary = "\n".join(
        f"{name}_temp_path {base}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""
daemon off;
worker_processes 1;
pid {base}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    server_tokens off;
    keepalive_requests 1000000000;
    {temporary}
    server {{
        listen 127.0.0.1:{port};
        location = / {{ return 200; }}
        {" ".join(places)}
    }}
}}
"""
