"""What our processes need beside them, a database or a broker, as things that are killed and stopped."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from faults.server import children_of
from support.nats import NatsServer
from support.postgres import Postgres
from support.process import until

END_SECONDS = 60.0


class Backing:
    """A server that is not ours, and its children."""

    def __init__(self, server: Postgres | NatsServer) -> None:
        self._server = server
        self._is_up = True

    def kill(self) -> None:
        """kill -9"""
        pids = self._pids()
        self._server.stop(signal.SIGKILL)
        self._is_up = False
        # Its children see that it is gone; as long as one of PostgreSQL lives, no new server starts.
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), END_SECONDS)

    def start(self) -> None:
        if not self._is_up:
            self._server.start()
            self._is_up = True

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for pid in self._pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _pids(self) -> list[int]:
        process = self._server.process
        return [] if process is None else [process.pid, *children_of(process.pid)]
