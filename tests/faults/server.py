"""A process of ours that is killed and stopped and started again, on a port that it keeps over its lives."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2

from faults import clock
from keywright.edge.heartbeat_lock import HeartbeatLock
from keywright.edge.replica.replica import FOLLOWING
from support.ports import free_port
from support.process import NO_TLS, ServeProcess


class Server:
    """One of our processes, on a port that it keeps over its lives."""

    def __init__(self, command: str, data_dir: Path, variables: Mapping[str, str], *arguments: str) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self._command = command
        self._arguments = arguments
        self._variables = dict(variables)
        self._process: ServeProcess | None = None
        self._is_paused = False
        self._frozen: set[int] = set()
        self.is_shifted = False

    @property
    def is_up(self) -> bool:
        return self._process is not None and self._process.process.poll() is None

    def start(self, offset: int = 0) -> None:
        shift = clock.variables(offset) if offset else {}
        self.is_shifted = bool(offset)
        kind = type("Process", (ServeProcess,), {"command": self._command})
        self._process = kind(self.data_dir, *self._arguments, port=self.port, **self._variables, **shift)

    def stop(self) -> None:
        """Ask it to end; what does not within a moment is killed."""
        if self._process is not None and self.is_up:
            self._signal(signal.SIGCONT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.stop()
            self._process.kill()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def pause(self) -> None:
        self._is_paused = True
        self._signal(signal.SIGSTOP)

    def freeze(self, *, is_follower: bool, dice: random.Random) -> int | None:
        """Stop one of its processes, the one that follows the record or another; which one, None if there is none."""
        follower = HeartbeatLock(self.data_dir / "replica" / FOLLOWING).holder
        workers = self.workers()
        others = [pid for pid in workers if pid != follower]
        chosen = dice.choice(
            ([follower] if follower in workers else workers) if is_follower else others or workers or [None]
        )
        if chosen is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(chosen, signal.SIGSTOP)
                self._frozen.add(chosen)
        return chosen

    def thaw(self) -> None:
        for pid in self._frozen & set(self.pids()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self._frozen.clear()

    def workers(self) -> list[int]:
        """The processes that serve; itself where it has no others."""
        pids = self.pids()
        return [pid for pid in pids[1:] if _is_worker(pid)] or pids

    def resume(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self._signal(signal.SIGCONT)

    def pids(self) -> list[int]:
        return [] if self._process is None else [self._process.process.pid, *children_of(self._process.process.pid)]

    def standing(self) -> dict[str, Any]:
        """What `/readyz` says, or what is in the way of asking."""
        try:
            found: dict[str, Any] = httpx2.get(f"http://127.0.0.1:{self.port}/readyz", timeout=3, verify=NO_TLS).json()
        except (httpx2.HTTPError, ValueError) as error:
            return {"ready": False, "synced": False, "revision": None, "reason": f"{type(error).__name__}: {error}"}
        return found

    def output(self) -> str:
        return "" if self._process is None else self._process.output()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.process.pid, number)


def _is_worker(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return b"keywright.edge.replica.integrity" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def children_of(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if int((entry / "stat").read_text(errors="replace").rpartition(") ")[2].split()[1]) == pid:
                    found.append(int(entry.name))
    return found
