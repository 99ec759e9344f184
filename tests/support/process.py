"""A real `keywright serve`, as a stranger starts it: a process with a port, to be spoken to, signalled and killed."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx2

from support.postgres import free_port

COMMAND = str(Path(sys.executable).with_name("keywright"))


class ServeProcess:
    """`keywright serve` on a port of its own; everything that it printed is in `log`."""

    def __init__(self, data_dir: Path, *arguments: str, port: int | None = None, **variables: str) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = data_dir.with_name(f"{data_dir.name}.{self.port}.{time.monotonic_ns()}.log")
        clean = {name: value for name, value in os.environ.items() if not name.startswith("KEYWRIGHT_")}
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [COMMAND, "serve", "--data-dir", str(data_dir), "--port", str(self.port), *arguments],
                env={**clean, **variables},
                stdout=output,
                stderr=subprocess.STDOUT,
                # A group of its own, so that all workers can be killed at once.
                start_new_session=True,
            )

    def wait_until_ready(self, timeout: float = 30) -> ServeProcess:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                if httpx2.get(f"{self.url}/readyz", timeout=1).status_code == 200:
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

    def __enter__(self) -> ServeProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
