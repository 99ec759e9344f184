"""Owns running an application in worker processes: the port, the server's settings, and hearing of the end."""

from __future__ import annotations

import errno
import gc
import logging
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from importlib import import_module
from importlib.util import find_spec
from types import FrameType
from typing import Any

from keywright.runtime import extras
from keywright.runtime.extras import MissingExtra
from keywright.runtime.logging import SERVER_LOGS
from keywright.runtime.nats_options import NatsOptions
from keywright.runtime.processes import readiness
from keywright.runtime.processes.parent import DRAIN_SECONDS as ORPHAN_SECONDS
from keywright.runtime.processes.parent import end_with_parent
from keywright.runtime.processes.port_holder import find_holder

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Step = Callable[[], Awaitable[None]]

MAX_CONNECTIONS = 20_000
"""Of each worker. Idle connections are cheap; a limit near their usual number would let a stranger use it up."""
RESERVED_FILES = 256
"""Of each worker, for all that is no client: the database, the replica, the broker, the origin."""
GRPC_SHARE = 4
"""One connection in so many may be at the gRPC port, if there is one: it is for Envoys, which need few."""
IDLE_SECONDS = 30
"""For how long HTTP/1 waits for a whole head, on a new connection and on one that is kept."""
MAX_HEAD_BYTES = 128 * 1024
MAX_STREAMS = 100
DRAIN_SECONDS = 15
"""How long requests in flight may take to finish after SIGTERM."""


class StartError(Exception):
    """Why the service can't start, in one line for whoever runs it."""


async def asgi_lifespan(receive: Receive, send: Send, *, start: Step, stop: Step, log: logging.Logger) -> None:
    """The ASGI lifespan of a worker: `start` before its first request, `stop` after its last."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await start()
            _resume_gc()
            await send({"type": "lifespan.startup.complete"})
            readiness.tell()
            log.info("worker %d is ready", os.getpid())
        elif message["type"] == "lifespan.shutdown":
            await stop()
            await send({"type": "lifespan.shutdown.complete"})
            return


def defer_gc() -> None:
    """Collect no garbage until workers have started. What is imported and built until then is hundreds of thousands of
    objects that stay, and to look through them again and again took a tenth of the start.
    """
    gc.disable()


def _resume_gc() -> None:
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def prepare(host: str, port: int, grpc_port: int | None) -> None:
    """What comes before all else where workers will run: what they make is nobody else's, and the ports are there.

    Raises StartError, in words.
    """
    os.umask(0o077)
    _raise_file_limit()
    check_port(host, port)
    check_grpc(host, grpc_port)


def run(target: str, host: str, port: int, workers: int, grpc_port: int | None = None) -> None:
    """Serves what the factory `module:function` makes, in each worker its own, until SIGINT or SIGTERM.

    SIGHUP replaces the workers one after the other (processes/rolling.py).
    """
    from granian.constants import HTTPModes, Interfaces, Loops
    from granian.http import HTTP1Settings, HTTP2Settings
    from granian.log import LogLevels

    from keywright.runtime.processes.rolling import RollingServer, serve_worker

    server = RollingServer(
        target,
        address=host,
        port=port,
        interface=Interfaces.ASGI,
        workers=workers,
        http=HTTPModes.auto,
        websockets=False,
        loop=Loops.asyncio,
        factory=True,
        log_level=LogLevels.warning,
        log_dictconfig=SERVER_LOGS,
        respawn_failed_workers=True,
        respawn_interval=0.1,
        workers_kill_timeout=DRAIN_SECONDS,
        backpressure=ceilings(port, grpc_port)[port],
        http1_settings=HTTP1Settings(header_read_timeout=IDLE_SECONDS * 1000, max_buffer_size=MAX_HEAD_BYTES),
        http2_settings=HTTP2Settings(max_concurrent_streams=MAX_STREAMS, max_headers_size=MAX_HEAD_BYTES),
    )
    server.serve(serve_worker, _load)


def _load(target: str) -> Callable[..., Any]:
    """In the worker: the application."""
    end_with_parent()
    module, _, function = target.partition(":")
    made: Callable[..., Any] = getattr(import_module(module), function)()
    return made


def ceilings(port: int, grpc_port: int | None) -> dict[int, int]:
    """How many connections a worker may have at each of its ports, by its limit of open files."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Of a low limit the reserve takes no more than three quarters.
    most = MAX_CONNECTIONS if files == resource.RLIM_INFINITY else max(files - RESERVED_FILES, files // 4, 4)
    most = min(most, MAX_CONNECTIONS)
    if grpc_port is None:
        return {port: most}
    return {port: most - most // GRPC_SHARE, grpc_port: most // GRPC_SHARE}


def _raise_file_limit() -> None:
    """Every connection is an open file: take as many as the system allows without being asked."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + RESERVED_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def check_port(host: str, port: int, option: str = "--port") -> None:
    """Raises StartError, in words, when nobody could listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            if sys.platform != "win32":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        holder = find_holder(port) if error.errno == errno.EADDRINUSE else None
        advice = f"choose another {option} or --host"
        if holder is not None:
            reason += f" by pid {holder.id} ({holder.name})"
            if holder.is_orphan:
                reason += (
                    f", a worker whose main process has ended, and which ends by itself within {ORPHAN_SECONDS:.0f} s"
                )
                advice = "try again then"
            else:
                advice = f"stop that one (kill {holder.id}), or {advice}"
        raise StartError(f"can't listen on {host}:{port}: {reason}; {advice}") from None


def check_grpc(host: str, port: int | None) -> None:
    """Raises StartError, in words, when there could be no gRPC server there. Without a port there is to be none."""
    if port is None:
        return
    if find_spec("grpc") is None or find_spec("google.protobuf") is None:
        raise StartError("--grpc-port needs grpcio and protobuf: pip install 'keywright[grpc]'")
    check_port(host, port, "--grpc-port")


def check_broker(options: NatsOptions | None) -> None:
    """Raises StartError, in words, when nobody could speak to the broker. Without one nothing is needed."""
    if options is None:
        return
    try:
        extras.require("nats", "nats", "KEYWRIGHT_NATS_URL (--nats)")
        if options.credentials is not None:
            extras.require("nkeys", "nats", "KEYWRIGHT_NATS_CREDENTIALS_FILE")
    except MissingExtra as error:
        raise StartError(str(error)) from None


def when_stopping(call: Callable[[], None]) -> None:
    """Have `call` called when this worker is told to end. Its server waits for answers under way before it says so,
    and an answer that has no end must be told by somebody. `call` runs in the signal handler: it may only leave a note.

    To be called while requests are answered: the server sets its own handlers after the application's start, and
    these go on being called. Off the main thread, where there are no signals, it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _before(signal.getsignal(number), call))
        signal.siginterrupt(number, False)


def _before(
    earlier: Callable[[int, FrameType | None], object] | int | None, call: Callable[[], None]
) -> Callable[[int, FrameType | None], None]:
    def handle(number: int, frame: FrameType | None) -> None:
        call()
        if callable(earlier):
            earlier(number, frame)

    return handle
