"""Owns the start of `keywright edge`: what must be right before its workers run, said in one line if it isn't."""

from __future__ import annotations

import asyncio
import contextlib
import os

from keywright import __version__, secretfiles, server
from keywright.edge.app import new_signer
from keywright.edge.feeds import OtherPepper
from keywright.edge.http_feed import HttpFeed
from keywright.edge.replica import Replica, ReplicaBroken
from keywright.secretfiles import KeyFileError
from keywright.server import StartError
from keywright.settings import EdgeSettings
from keywright.telemetry import configure_logs

LOOK_SECONDS = 2.0


def run(settings: EdgeSettings) -> None:
    """Serves validations until SIGINT or SIGTERM. Raises StartError."""
    os.umask(0o077)
    server.raise_file_limit()
    configure_logs(settings.log_level)
    server.check_port(settings.host, settings.port)
    server.check_grpc(settings.host, settings.grpc_port)
    _check(settings)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    print(f"Keywright {__version__} edge on http://{host}:{settings.port}, following {settings.origin}", flush=True)  # noqa: T201
    print(f"Data: {settings.data_dir}", flush=True)  # noqa: T201
    os.environ.update(settings.environment)
    server.run("keywright.edge.standalone:create_app", settings.host, settings.port, settings.workers)


def _check(settings: EdgeSettings) -> None:
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        digester = secretfiles.load_digester(settings.pepper, settings.pepper_file)
    except OSError as error:
        raise StartError(f"can't use the data directory {settings.data_dir}: {str(error.strerror).lower()}") from None
    except KeyFileError as error:
        raise StartError(f"{error}; an edge has the pepper of its origin") from None
    try:
        new_signer(settings, digester)
    except KeyFileError as error:
        raise StartError(str(error)) from None
    feed = HttpFeed(settings.origin, settings.token, digester, edge_name=settings.name)
    try:
        asyncio.run(_look(feed))
    except OtherPepper as error:
        # An edge that has answers goes on giving them: what came over the wire doesn't stop it, only the loop's log.
        if not _has_answers(settings, digester.pepper_check()):
            raise StartError(str(error)) from None


async def _look(feed: HttpFeed) -> None:
    """Raises OtherPepper. Whatever else is in the way now may be gone later; the follower says it if not."""
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            await feed.deployment_id()
    except OtherPepper:
        raise
    except Exception:  # noqa: BLE001, S110
        pass
    finally:
        await feed.close()


def _has_answers(settings: EdgeSettings, pepper_check: str) -> bool:
    with contextlib.suppress(ReplicaBroken):
        replica = Replica.open(settings.replica_dir, pepper_check)
        try:
            return replica.revision is not None
        finally:
            replica.close()
    return False
