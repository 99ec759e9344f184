"""A server process under measurement: started, waited for, asked what it has used, and ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Memory:
    """Proportional set size of all processes, in bytes: `own`, and `mapped` files (code, the replica's pages)."""

    own: int
    mapped: int

    def __str__(self) -> str:
        return f"{self.own / 2**20:,.0f} + {self.mapped / 2**20:,.0f}"


class ServerProcess:
    """A command with a port, in a session of its own; `ready_path` answers `ready_status` once it may be measured."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        port: int,
        log: Path,
        ready_path: str = "/",
        ready_status: bytes = b"200",
    ) -> None:
        self.port = port
        self.ready_seconds = 0.0
        self._ready_path = ready_path
        self._ready_status = ready_status
        self._log = log
        self._started_at = time.perf_counter()
        with log.open("wb") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)

    def wait_until_ready(self, timeout: float = 60) -> ServerProcess:
        """Raises RuntimeError with what the process printed."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and self.process.poll() is None:
            if self._is_ready():
                self.ready_seconds = time.perf_counter() - self._started_at
                return self
            time.sleep(0.005)
        self.stop()
        raise RuntimeError(f"{self.process.args!r} is not ready:\n{self.output()}")

    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def cpu_seconds(self) -> float:
        """User and system time of all its processes so far, as /proc/PID/stat has it (in steps of 10 ms)."""
        return sum(int(fields[11]) + int(fields[12]) for _, fields in self._all()) / _TICKS

    def memory(self) -> Memory:
        own = mapped = 0
        for pid, _ in self._all():
            with contextlib.suppress(OSError):
                rows = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
                sizes = {row.split()[0]: int(row.split()[1]) * 1024 for row in rows}
                own += sizes["Pss_Anon:"]
                mapped += sizes["Pss:"] - sizes["Pss_Anon:"]
        return Memory(own, mapped)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _is_ready(self) -> bool:
        """By hand: an HTTP library's own start would count as the server's."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                request = f"GET {self._ready_path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"
                connection.sendall(request.encode())
                return connection.recv(64).startswith(b"HTTP/1.1 " + self._ready_status)
        except OSError:
            return False

    def _all(self) -> Iterator[tuple[int, list[str]]]:
        """Each process of the session, with its fields of /proc/PID/stat from the state on."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                with contextlib.suppress(OSError):
                    fields = (entry / "stat").read_text(errors="replace").rpartition(") ")[2].split()
                    if int(fields[3]) == self.process.pid:
                        yield int(entry.name), fields
