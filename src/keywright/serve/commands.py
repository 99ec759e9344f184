"""Owns what the commands of the service do: serve, migrate, rotate-master-key, snapshot export. cli/ parses and calls.

What a deployment needs is made in first_start.py; worker.py is what each worker process runs.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path

from keywright.domain.models import ManagementKey
from keywright.edge.app import new_signer
from keywright.origin.management_keys.rules import ManagementKeyMade
from keywright.runtime import server
from keywright.runtime.clock import Clock
from keywright.runtime.logging import configure_logs
from keywright.runtime.metrics import worker_counts
from keywright.runtime.server import StartError
from keywright.runtime.settings import OriginSettings, variables
from keywright.runtime.settings.kinds import Part
from keywright.serve import first_start, key_files, quotas, root_keys, snapshots

__all__ = [
    "StartError",
    "create_root_key",
    "enable_root_key",
    "export_snapshot",
    "list_root_keys",
    "migrate",
    "reopen_quotas",
    "revoke_root_key",
    "rotate_master_key",
    "serve",
]

_log = logging.getLogger("keywright.serve")


def serve(settings: OriginSettings, *, is_new_deployment: bool = False) -> None:
    """Prepares the deployment and serves it until SIGINT or SIGTERM. Raises StartError."""
    _start_logs(settings)
    variables.warn_of_unknown(os.environ, _log)
    server.prepare(settings.host, settings.port, settings.grpc_port)
    server.check_broker(settings.broker)
    _check_private(settings)
    started = asyncio.run(first_start.prepare(settings, is_new_deployment=is_new_deployment))
    try:
        new_signer(settings, key_files.load_digester(settings), Clock())
    except key_files.KeyFileError as error:
        raise StartError(str(error)) from None
    print(first_start.banner(settings, started), flush=True)  # noqa: T201
    variables.hand_on(os.environ, settings.flags)
    # What was shown once has no business in the environment of the workers.
    os.environ.pop("KEYWRIGHT_BOOTSTRAP_KEY", None)

    with worker_counts.shared_by_workers(settings.data_dir):
        server.run(
            "keywright.serve.worker:create_app", settings.host, settings.port, settings.workers, settings.grpc_port
        )


def migrate(settings: OriginSettings) -> None:
    """Brings the database to this version's shape and says what it did. Raises StartError."""
    _prepare_maintenance(settings)
    print(asyncio.run(first_start.migrate(settings)))  # noqa: T201


def rotate_master_key(settings: OriginSettings, *, discard_old: bool) -> None:
    """Seals every bucket's data key under a new master key, beside running traffic. Raises StartError."""
    _prepare_maintenance(settings)
    print(asyncio.run(first_start.rotate_master_key(settings, discard_old=discard_old)))  # noqa: T201


def create_root_key(settings: OriginSettings, account_name: str | None, description: str | None) -> ManagementKeyMade:
    """Makes a root key, beside running traffic. Raises StartError."""
    _prepare_maintenance(settings)
    return asyncio.run(root_keys.create(settings, account_name=account_name, description=description))


def list_root_keys(settings: OriginSettings) -> list[ManagementKey]:
    """Every root key, newest first. Raises StartError."""
    _prepare_maintenance(settings)
    return asyncio.run(root_keys.list_of(settings))


def revoke_root_key(settings: OriginSettings, key_id: str) -> int:
    """Ends a root key, beside running traffic; how many are left. Raises StartError."""
    _prepare_maintenance(settings)
    return asyncio.run(root_keys.revoke(settings, key_id))


def enable_root_key(settings: OriginSettings, key_id: str) -> None:
    """Switches a root key on again, beside running traffic. Raises StartError."""
    _prepare_maintenance(settings)
    asyncio.run(root_keys.enable(settings, key_id))


def reopen_quotas(settings: OriginSettings) -> list[str]:
    """Has quotas be lent again, beside running traffic; in which buckets they were not. Raises StartError."""
    _prepare_maintenance(settings)
    return asyncio.run(quotas.reopen(settings))


def _prepare_maintenance(settings: OriginSettings) -> None:
    os.umask(0o077)
    _start_logs(settings)
    _check_private(settings)


def _check_private(settings: OriginSettings) -> None:
    try:
        key_files.check_private(settings)
    except key_files.KeyFileError as error:
        raise StartError(str(error)) from None


def export_snapshot(
    settings: OriginSettings, path: Path, token_id: str | None, progress: Callable[[int], None], feed_format: int
) -> int:
    """Writes the record to a snapshot file; how many records that are. Raises StartError."""
    _start_logs(settings)
    _check_private(settings)
    return asyncio.run(snapshots.export(settings, path, token_id, progress, feed_format=feed_format))


def _start_logs(settings: OriginSettings) -> None:
    configure_logs(settings.log_level, settings.log_format)
    variables.warn_of_old_names(os.environ, Part.SERVE, _log)
