"""Owns making a snapshot file from the record: what it shows, and that a file is there whole or not at all."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path

from keywright.domain.permissions import Grantee, Permissions
from keywright.origin.db.snapshot_stream import stream_snapshot
from keywright.origin.db.transaction import Transaction
from keywright.origin.deployment.store import find_deployment
from keywright.origin.feed import scope_filter
from keywright.origin.feed.scope_filter import ScopeFilter
from keywright.origin.keys import store as key_rows
from keywright.protocol import feed_formats
from keywright.protocol.snapshot_file import TITLE, SnapshotHead, SnapshotWriter
from keywright.runtime import atomic_file
from keywright.runtime.server import StartError
from keywright.runtime.settings import OriginSettings
from keywright.serve import first_start, key_files
from keywright.serve.key_files import KeyFileError

EVERYTHING = Grantee("", Permissions(), is_root=True)


async def export(
    settings: OriginSettings,
    path: Path,
    token_id: str | None,
    progress: Callable[[int], None],
    *,
    feed_format: int = feed_formats.NEWEST,
) -> int:
    """Writes the record as of now to a file; how many records that are. Beside running traffic. Raises StartError.

    With `token_id` it holds what the management key of this id may see, and an edge that has that key follows on from
    it. `progress` is told now and then how many records have been written. An edge that reads an older `feed_format`
    takes none but that.
    """
    _check_place(path)
    try:
        digester = key_files.load_digester(settings)
    except KeyFileError as error:
        raise StartError(f"{error}; a snapshot file is made with the deployment's pepper") from None
    async with first_start.reading(settings) as database, database.read(is_snapshot=True) as tx:
        deployment = await find_deployment(tx)
        if deployment is None:
            raise StartError("there is no deployment here yet; `keywright serve` makes one")
        if deployment.pepper_check != digester.pepper_check():
            raise StartError(
                "the pepper is not the one that this deployment was made with: no edge would take the file"
            )
        grantee = EVERYTHING if token_id is None else await _grantee_of(tx, token_id)
        shown = feed_formats.scope_in(scope_filter.scope_id(grantee), feed_format)
        head = SnapshotHead(deployment.id, shown, deployment.head, time.time_ns() // 1_000_000, feed_format)
        writer = SnapshotWriter(digester, head, secrets.token_urlsafe(24))
        scope = ScopeFilter(grantee)
        count = 0
        try:
            with atomic_file.replacing(path) as file:
                file.write(writer.begin())
                async for page in stream_snapshot(tx):
                    viewed = (scope.view(put) for put in page)
                    seen = feed_formats.puts_in((put for put in viewed if put is not None), feed_format)
                    for part in writer.add(seen):
                        file.write(part)
                    count += len(seen)
                    progress(count)
                file.write(writer.end())
        except OSError as error:
            raise StartError(f"can't write {path}: {(error.strerror or str(error)).lower()}") from None
        return count


def _check_place(path: Path) -> None:
    """Raises StartError where a file can't be, and where one is that is no snapshot: a slip must not destroy it."""
    try:
        with path.open("rb") as file:
            is_other = file.read(len(TITLE)) != TITLE
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise StartError(f"can't write {path}: there is no directory {path.parent}") from None
        return
    except OSError as error:
        raise StartError(f"can't write {path}: {(error.strerror or str(error)).lower()}") from None
    if is_other:
        raise StartError(f"{path} is there already, and is no snapshot file: choose another name")


async def _grantee_of(tx: Transaction, token_id: str) -> Grantee:
    metadata = await key_rows.find_management_metadata(tx, token_id)
    if metadata is None:
        raise StartError(f"there is no management key with the id {token_id!r}")
    grantee = Grantee.from_json(metadata)
    if not scope_filter.may_follow(grantee):
        raise StartError(f"the management key {token_id} may not follow the feed: its permissions lack feed")
    return grantee
