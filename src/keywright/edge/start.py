"""Owns the start of `keywright edge`: what must be right before its workers run, said in one line if it isn't."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from typing import TYPE_CHECKING

import lmdb

from keywright import __version__
from keywright.edge.app import new_signer
from keywright.edge.replica import origin_clock
from keywright.edge.replica.freshness import SyncClock
from keywright.edge.replica.origin_clock import OriginClock
from keywright.edge.replica.replica import Replica, ReplicaBroken
from keywright.edge.sync import snapshot_file_loader
from keywright.edge.sync.feed import OtherPepper
from keywright.edge.sync.wiring import new_feed
from keywright.protocol.snapshot_file import SnapshotFileError
from keywright.runtime import secret_files, server
from keywright.runtime.clock import Clock
from keywright.runtime.logging import configure_logs
from keywright.runtime.metrics import worker_counts
from keywright.runtime.secret_files import KeyFileError
from keywright.runtime.server import StartError
from keywright.runtime.settings import EdgeSettings, variables
from keywright.runtime.settings.kinds import Part

if TYPE_CHECKING:
    from pathlib import Path

    from keywright.domain.keyformat import Digester

_log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0


def run(settings: EdgeSettings) -> None:
    """Serves validations until SIGINT or SIGTERM. Raises StartError."""
    configure_logs(settings.log_level, settings.log_format)
    variables.warn_of_unknown(os.environ, _log)
    variables.warn_of_old_names(os.environ, Part.EDGE, _log)
    server.prepare(settings.host, settings.port, settings.grpc_port)
    server.check_broker(settings.broker)
    _check(settings)
    print(f"Keywright {__version__} edge on {settings.url}, following {settings.followed}", flush=True)  # noqa: T201
    print(f"Data: {settings.data_dir}", flush=True)  # noqa: T201
    variables.hand_on(os.environ, settings.flags)
    with worker_counts.shared_by_workers(settings.data_dir):
        server.run(
            "keywright.edge.worker:create_app", settings.host, settings.port, settings.workers, settings.grpc_port
        )


def _check(settings: EdgeSettings) -> None:
    try:
        # In this order: a directory that was mistyped holds no pepper, and is not made.
        digester = secret_files.load_digester(settings.pepper, settings.pepper_file)
        secret_files.check_private(*settings.private_files)
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(f"can't use the data directory {settings.data_dir}: {str(error.strerror).lower()}") from None
    except KeyFileError as error:
        hint = "" if "by others" in str(error) else "; an edge has the pepper of its origin"
        raise StartError(f"{error}{hint}") from None
    try:
        new_signer(settings, digester, Clock())
    except KeyFileError as error:
        raise StartError(str(error)) from None
    _check_pepper(settings, digester)
    if settings.snapshot is not None:
        _begin_with(settings.snapshot, settings, digester)


def _check_pepper(settings: EdgeSettings, digester: Digester) -> None:
    try:
        asyncio.run(_look(settings, digester))
    except OtherPepper as error:
        # An edge that has answers goes on giving them: what came over the wire doesn't stop it, only the loop's log.
        if not _has_answers(settings, digester.pepper_check()):
            raise StartError(str(error)) from None


def _begin_with(path: Path, settings: EdgeSettings, digester: Digester) -> None:
    """Fill the replica from the snapshot file if that is newer. Raises StartError where there is nothing else."""
    try:
        opened = contextlib.closing(Replica.open_or_replace(settings.replica_dir, digester.pepper_check()))
        with opened as replica, replica.following() as is_ours:
            if not is_ours:
                _log.warning("the snapshot file %s is ignored: another process follows into this replica", path)
                return
            clock = Clock()
            try:
                _log.info(
                    snapshot_file_loader.load(
                        path,
                        digester,
                        replica,
                        SyncClock(settings.sync_clock_file, clock),
                        OriginClock(settings.replica_dir / origin_clock.FILE, clock),
                    )
                )
            except SnapshotFileError as error:
                # It must not take away what there is: the answers on this disk, or the way to the origin.
                if replica.revision is None and not settings.is_following:
                    raise StartError(str(error)) from None
                _log.error("the snapshot file is refused: %s", error)
    except (ReplicaBroken, lmdb.Error) as error:
        raise StartError(f"can't use the replica in {settings.replica_dir}: {error}") from None


async def _look(settings: EdgeSettings, digester: Digester) -> None:
    """Raises OtherPepper. Whatever else is in the way now may be gone later; the follower says it if not."""
    feed = new_feed(settings, digester, Clock())
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
