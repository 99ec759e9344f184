"""A real `keywright serve`, as a stranger starts it: a process with a port, to be spoken to, signalled and killed."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import httpx2

from support import fork_server
from support.fork_server import Forked
from support.ports import free_port

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For each call on its own, which would else read all certificates of this machine: more work than the call is."""
COMMAND = str(Path(sys.executable).with_name("keywright"))


def run_command(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A `keywright` command that ends by itself, with no variables of ours but these."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("KEYWRIGHT_")}
    environment = {**clean, "TERM": "dumb", **variables}
    args = [COMMAND, *arguments]
    server = fork_server.find("serve", environment)
    if server is None:
        return subprocess.run(args, env=environment, capture_output=True, text=True, timeout=60, check=False)
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        forked = server.start(args, environment, output, errors)
        try:
            code = forked.wait(60)
        finally:
            forked.kill()
            forked.wait()
        output.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess(args, code, output.read().decode(), errors.read().decode())


class ServeProcess:
    """`keywright serve` on a port of its own; everything that it printed is in `log`."""

    command = "serve"

    def __init__(
        self,
        data_dir: Path,
        *arguments: str,
        port: int | None = None,
        under: Sequence[str] = (),
        from_nothing: bool = False,
        **variables: str,
    ) -> None:
        """`under` is the command that runs it, where it does not run by itself. `from_nothing` has it load all that it
        needs, as its start does elsewhere (fork_server.py).
        """
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.data_dir = data_dir
        self.log = data_dir.with_name(f"{data_dir.name}.{self.port}.{time.monotonic_ns()}.log")
        clean = {name: value for name, value in os.environ.items() if not name.startswith("KEYWRIGHT_")}
        args = [COMMAND, self.command, "--data-dir", str(data_dir), "--port", str(self.port), *arguments]
        env = {**clean, **variables}
        server = None if under or from_nothing else fork_server.find(self.command, env)
        self.process: subprocess.Popen[bytes] | Forked
        with self.log.open("wb") as output:
            if server is not None:
                self.process = server.start(args, env, output, output)
            else:
                # A group of its own, so that all workers can be killed at once.
                self.process = subprocess.Popen(
                    [*under, *args], env=env, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
                )

    def wait_until_ready(self, timeout: float = 90) -> Self:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                if httpx2.get(f"{self.url}/readyz", timeout=1, verify=NO_TLS).status_code == 200:
                    return self
            except httpx2.TransportError:
                pass
            time.sleep(0.02)
        raise AssertionError(f"not ready:\n{self.output()}")

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def printed(self, name: str) -> str:
        """The value of an `export NAME=...` line that it printed."""
        match = re.search(rf"export {name}=(\S+)", self.output())
        assert match, self.output()
        return match.group(1)

    def kill(self) -> None:
        """kill -9 of every process of it, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self, how: signal.Signals = signal.SIGTERM, timeout: float = 30) -> int:
        """Asks it to end; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def get(self, path: str) -> Any:
        """The parsed answer to a GET, whatever its status."""
        return httpx2.get(f"{self.url}{path}", timeout=5, verify=NO_TLS).json()

    def verdict(self, key: str, bucket: str = "my-project-production") -> str:
        """What this process says of a key: the verdict, or the status of a refusal to answer."""
        answer = httpx2.post(f"{self.url}/v1/validate/{bucket}", json={"key": key}, timeout=5, verify=NO_TLS)
        return str(answer.json()["code"]) if answer.status_code == 200 else str(answer.status_code)


class EdgeProcess(ServeProcess):
    """`keywright edge`, following the origin (or what stands before it) at a URL."""

    command = "edge"

    def __init__(
        self,
        data_dir: Path,
        origin: str,
        token: str,
        pepper_file: Path,
        *arguments: str,
        port: int | None = None,
        under: Sequence[str] = (),
        from_nothing: bool = False,
        **variables: str,
    ) -> None:
        variables |= {"KEYWRIGHT_EDGE_TOKEN": token, "KEYWRIGHT_PEPPER_FILE": str(pepper_file)}
        super().__init__(
            data_dir, "--origin", origin, *arguments, port=port, under=under, from_nothing=from_nothing, **variables
        )


class BrokerEdgeProcess(ServeProcess):
    """`keywright edge`, following a broker."""

    command = "edge"

    def __init__(
        self,
        data_dir: Path,
        broker: str,
        pepper_file: Path,
        *arguments: str,
        port: int | None = None,
        under: Sequence[str] = (),
        **variables: str,
    ) -> None:
        variables = {"KEYWRIGHT_PEPPER_FILE": str(pepper_file), **variables}
        super().__init__(data_dir, "--nats", broker, *arguments, port=port, under=under, **variables)


def until(is_true: Callable[[], object], timeout: float = 15) -> None:
    """Return as soon as something is so; what another process does, only asking it tells.

    The longer it takes the less often it is asked, up to a twentieth too late: what is waited for needs the processor.
    """
    began = time.monotonic()
    while not is_true():
        waited = time.monotonic() - began
        assert waited < timeout, "it did not come to be so in time"
        time.sleep(min(max(0.002, waited / 20), 0.1))
