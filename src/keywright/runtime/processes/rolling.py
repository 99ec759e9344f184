"""Owns replacing the workers on SIGHUP: one after the other, each by one that is ready, with no connection refused.

Granian starts a new worker and ends the old one a fixed time later, ready or not; and as each worker has a socket of
its own, the connections that wait at the old one's are reset with it. So here the main process waits for the new
worker's word, and all workers take connections from one socket, which outlives each of them. That has another good
side: connections are taken by those who can, so that none waits at a worker that is stopped while another is idle.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from granian import _signals
from granian._granian import SocketHolder, WorkerSignal

from keywright.runtime.processes.accepting import stop_accepting
from keywright.runtime.processes.readiness import load_told_by
from keywright.runtime.processes.supervised import SupervisedServer

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

_log = logging.getLogger(__name__)

READY_SECONDS = 60.0
BACKLOG = 1024
"""Connections that wait to be taken, as Granian has it; the system may allow fewer."""
LOOK_SECONDS = 0.1
STOP_ACCEPTING = signal.SIGUSR1
"""Tells a worker to take no more connections."""
ASK_SECONDS = 1.0
"""So long a client may take from its connection to its first request without seeing that a worker is replaced."""


class RollingServer(SupervisedServer):
    """Granian's server, but for how workers are replaced and where their connections come from."""

    _ssp: Any
    _sso: socket.socket | None

    def _init_shared_socket(self) -> None:
        super()._init_shared_socket()  # type: ignore[no-untyped-call]
        holder, self._ssp = self._ssp.build(), None
        # A socket of Python's own finds its way into workers, however they are started.
        self._sso = socket.socket(fileno=os.dup(holder.get_fd()))

    def _spawn_worker(  # type: ignore[override]
        self, idx: int, target: Any, callback_loader: Callable[[], Any]
    ) -> Any:
        told, teller = multiprocessing.Pipe(duplex=False)
        worker: Any = super()._spawn_worker(idx, target, partial(load_told_by, teller, callback_loader))
        worker.told, worker.teller = told, teller
        return worker

    def _respawn_workers(self, workers: list[int], spawn_target: Any, target_loader: Any, delay: float = 0) -> None:
        for idx in workers:
            old: Any = self.wrks[idx]
            new = self._spawn_worker(idx, spawn_target, target_loader)
            is_replacing = old.is_alive()
            # Until it is ready its end is no crash of a worker that served.
            new.interrupt_by_parent = is_replacing
            new.start()
            new.teller.close()
            if is_replacing:
                if not self._wait_until_ready(new):
                    if not self.interrupt_signal:
                        _log.error("the new worker did not get ready: the workers that there are go on")
                    self._end(new)
                    return
                # The old one may have died meanwhile, and has its successor.
                self.interrupt_children[:] = [one for one in self.interrupt_children if one != idx]
                new.interrupt_by_parent = False
            self.wrks[idx] = new
            if is_replacing:
                self._have_it_answer_what_it_took(old)
            self._end(old)
        self._metrics.incr_spawn(len(workers))

    def _wait_until_ready(self, worker: Any) -> bool:
        deadline = time.monotonic() + READY_SECONDS
        while worker.is_alive() and not self.interrupt_signal and time.monotonic() < deadline:
            if worker.told.poll(LOOK_SECONDS):
                try:
                    return bool(worker.told.recv())
                except EOFError:
                    return False
        return False

    def _have_it_answer_what_it_took(self, worker: Any) -> None:
        """Returns when a worker has taken no connection for a moment, so that each has had time for its request."""
        # One that has just been started does not hear it yet, and ends by it.
        worker.interrupt_by_parent = True
        with suppress(ProcessLookupError):
            os.kill(worker.inner.pid, STOP_ACCEPTING)
            worker.join(ASK_SECONDS)

    def _end(self, worker: Any) -> None:
        """Returns when its requests in flight have been answered, and it is gone."""
        worker.terminate()
        worker.join(self.workers_kill_timeout)
        if worker.is_alive():
            worker.kill()
            worker.join()
        worker.told.close()


def serve_worker(worker_id: int, name: str | None, load: Callable[[], Any], sockets: Any, *arguments: Any) -> None:
    """In a worker: what Granian runs there, on the shared socket. To be given to `RollingServer.serve`."""
    signal.signal(STOP_ACCEPTING, lambda *_: _stop_accepting(sockets[1]))
    _signals.set_loop_signals = end_once
    new_holder: Any = SocketHolder
    held = ((None, new_holder(sockets[1].fileno(), False, BACKLOG)), None)
    RollingServer._spawn_asgi_lifespan_worker(worker_id, name, load, held, *arguments)


def _stop_accepting(listening: socket.socket) -> None:
    try:
        stop_accepting(listening)
    except OSError as error:
        _log.warning("connections that are taken just now may be closed unanswered: %s", error)


def end_once(loop: asyncio.AbstractEventLoop) -> Any:
    """What Granian waits for in a worker, which SIGTERM and SIGINT set: only the first of them.

    Granian 2.8's own handler sets it again at each: while the end is under way the two wait for each other, and the
    worker is still there after all its deadlines, with the interpreter's lock. Two come at once from a terminal and
    from whoever stops every process of a service, as systemd does: theirs, and the main process's.
    """
    new_signal: Any = WorkerSignal
    end = new_signal()
    is_set = False

    def handle() -> None:
        nonlocal is_set
        if not is_set:
            is_set = True
            end.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, handle)
    return end
