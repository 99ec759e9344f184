"""nginx and Envoy that judge by themselves, started from the files in gateways/lua before a real edge."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from gateways.conftest import PEPPER
from gateways.gateway import BIN, BUCKET_IN_FILES, ROOT, Reply
from support.ports import free_port
from support.process import until

COMMANDS = {
    "nginx": ["nginx", "-e", "stderr", "-p", ".", "-c", "nginx.conf", "-g", "daemon off; pid nginx.pid;"],
    "envoy": ["envoy", "--concurrency", "2", "--use-dynamic-base-id", "-l", "warning", "-c", "envoy.yaml"],
}
KINDS = list(COMMANDS)
NGINX_LUA = Path("/usr/lib/nginx/modules/ngx_http_lua_module.so")


class LuaGateway:
    """A running gateway; `ask` puts a request to it. `data` is the edge's data directory, `edge` its port.

    It is up when it answers a request without a key with `is_up`.
    """

    def __init__(
        self, kind: str, directory: Path, *, data: Path, api: int, edge: int, bucket: str,
        edits: dict[str, str] | None = None, is_up: int = 401,
    ) -> None:  # fmt: skip
        self.kind = kind
        self.directory = directory
        self.port = free_port()
        self._up = is_up
        directory.mkdir()
        (directory / "keywright-data").symlink_to(data)
        if not (data / "pepper.key").exists():
            (data / "pepper.key").write_text(PEPPER)
            (data / "pepper.key").chmod(0o600)
        (directory / "gateways").mkdir()
        (directory / "gateways" / "lua").symlink_to(ROOT / "gateways" / "lua")
        ports = {"8000": self.port, "8080": edge, "9000": api}
        file = "nginx.conf" if kind == "nginx" else "envoy.yaml"
        text = (ROOT / "gateways" / "lua" / file).read_text().replace(BUCKET_IN_FILES, bucket)
        for old, new in (edits or {}).items():
            assert old in text, "an edit that there is no place for"
            text = text.replace(old, new)
        text = re.sub(r"\b(8000|8080|9000)\b", lambda match: str(ports[match[0]]), text)
        (directory / file).write_text(text)
        self.start()

    def start(self) -> None:
        command = COMMANDS[self.kind]
        program = shutil.which(command[0], path=f"{BIN}:{os.environ['PATH']}:/usr/sbin")
        if program is None or (self.kind == "nginx" and not NGINX_LUA.exists()):
            message = f"{command[0]}, or its Lua, is not installed (Debian: nginx-light libnginx-mod-http-lua liblmdb0)"
            if os.environ.get("CI"):
                pytest.fail(f"{message}: .ci/run installs it")
            pytest.skip(message)
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [program, *command[1:]], cwd=self.directory, stdout=log, stderr=log, start_new_session=True
            )
        try:
            until(self.is_up, 60)
        except BaseException:
            self.kill()
            raise

    def is_up(self) -> bool:
        assert self.process.poll() is None, self.output()
        try:
            return self.ask("GET", "/").status == self._up
        except OSError:
            return False

    def ask(self, method: str, path: str, headers: list[tuple[bytes, bytes]] | None = None, body: bytes = b"") -> Reply:
        """One request on a connection of its own; header values go out byte for byte."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.putrequest(method, path)
            for name, value in headers or []:
                connection.putheader(name, value)
            if body:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body or None)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, found, answer.read())

    def output(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def workers(self) -> list[int]:
        """The processes that answer."""
        if self.kind == "envoy":
            return [self.process.pid]
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def reload(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
