"""Both planes on one machine, in one command: starts, migrates and re-keys a deployment.

This is the one place that sees origin and edge. `first_start` makes what a deployment needs, `embedded` is what each
worker process runs.
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import sys

from keywright.serve import first_start
from keywright.serve.first_start import StartError
from keywright.settings import OriginSettings
from keywright.telemetry import configure_logs

__all__ = ["StartError", "migrate", "rotate_master_key", "serve"]

MAX_CONNECTIONS = 20_000
"""Of each worker. Idle connections are cheap; a limit near their usual number would let a stranger use it up."""
DRAIN_SECONDS = 15
"""How long requests in flight may take to finish after SIGTERM."""


def serve(settings: OriginSettings) -> None:
    """Prepares the deployment and serves it until SIGINT or SIGTERM. Raises StartError."""
    os.umask(0o077)
    _raise_file_limit()
    configure_logs(settings.log_level)
    _check_port(settings.host, settings.port)
    started = asyncio.run(first_start.prepare(settings))
    print(first_start.banner(settings, started), flush=True)  # noqa: T201
    os.environ.update(settings.environment)
    # What was shown once has no business in the environment of the workers.
    os.environ.pop("KEYWRIGHT_BOOTSTRAP_KEY", None)

    from granian.constants import HTTPModes, Interfaces, Loops
    from granian.log import LogLevels
    from granian.server import Server

    server = Server(
        "keywright.serve.embedded:create_app",
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGI,
        workers=settings.workers,
        http=HTTPModes.auto,
        websockets=False,
        loop=Loops.asyncio,
        factory=True,
        log_level=LogLevels.warning,
        respawn_failed_workers=True,
        respawn_interval=0.1,
        workers_kill_timeout=DRAIN_SECONDS,
        backpressure=MAX_CONNECTIONS,
    )
    server.serve()


def migrate(settings: OriginSettings) -> None:
    """Brings the database to this version's shape and says what it did. Raises StartError."""
    os.umask(0o077)
    configure_logs(settings.log_level)
    print(asyncio.run(first_start.migrate(settings)))  # noqa: T201


def rotate_master_key(settings: OriginSettings, *, discard_old: bool) -> None:
    """Seals every bucket's data key under a new master key, beside running traffic. Raises StartError."""
    os.umask(0o077)
    configure_logs(settings.log_level)
    print(asyncio.run(first_start.rotate_master_key(settings, discard_old=discard_old)))  # noqa: T201


def _raise_file_limit() -> None:
    """Every connection is an open file: take as many as the system allows without being asked."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + 1000
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            if sys.platform != "win32":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StartError(f"can't listen on {host}:{port}: {reason}; choose another --port or --host") from None
