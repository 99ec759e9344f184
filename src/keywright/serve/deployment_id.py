"""Owns what tells which deployment this machine belongs to, and refuses a record that is empty or another's.

An empty database looks like that of a first start: the replica would be emptied after it, and every key unknown. So the
deployment's id is written into the data directory when its record has been made, stands in the replica, and is what
KEYWRIGHT_EXPECT_DEPLOYMENT names where a data directory doesn't last. Pepper and master keys tell nothing: they are
given before the first start, too.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import lmdb
import sqlalchemy as sa

from keywright.edge.replica.replica import Replica, ReplicaBroken
from keywright.origin.db.transaction import Database
from keywright.origin.deployment import rules
from keywright.runtime import atomic_file
from keywright.runtime.server import StartError
from keywright.runtime.settings import OriginSettings

EXPECTED = "KEYWRIGHT_EXPECT_DEPLOYMENT"


async def check(
    database: Database, settings: OriginSettings, *, is_start: bool = False, is_new: bool = False
) -> str | None:
    """The id of the deployment that the record holds; None for an empty one. Raises StartError for the wrong one.

    `is_start` is for who will fill the replica: it must be of this record. With `is_new` only the variable counts. An
    SQLite file that is not there is not made.
    """
    # Before the record: another process that starts now writes its record first, and these after that.
    signs = [(EXPECTED, settings.expect_deployment)] if settings.expect_deployment else []
    if not is_new:
        signs += _signs(settings, is_start=is_start)
    held = None if is_without_file(settings) else await rules.find_id(database)
    for place, id in signs:
        if id != held:
            where = _place_of(settings, database)
            found = "no deployment" if held is None else f"deployment {held}"
            message = f"the database {where} holds {found}, but {place} says that this is deployment {id}"
            if place == EXPECTED:
                raise StartError(f"{message}: check KEYWRIGHT_DATABASE_URL, or restore the database from your backup")
            advice = "check KEYWRIGHT_DATABASE_URL and the data directory, or restore the database from your backup"
            instead = f"`keywright serve --new-deployment` goes on without the keys of {id}"
            raise StartError(f"{message}: {advice}; {instead}")
    return held


def find_marked(settings: OriginSettings) -> str | None:
    """The id in the data directory. Raises StartError where there is something that can't be read."""
    path = _marker(settings)
    try:
        return path.read_text("ascii", "replace").strip() or None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StartError(f"can't read {path}: {(error.strerror or str(error)).lower()}") from None


def mark(settings: OriginSettings, id: str) -> None:
    """Writes the id into the data directory, in one step; a replica of another deployment is dropped before."""
    if find_marked(settings) == id:
        return
    held = _find_in_replica(settings)
    if held is not None and held != id:
        _drop_replica(settings)
    atomic_file.write(_marker(settings), f"{id}\n".encode())


def is_without_file(settings: OriginSettings) -> bool:
    """Whether the database is an SQLite file that is not there, or is empty: to connect would make it."""
    if not settings.is_sqlite:
        return False
    url = sa.make_url(settings.database_url)
    if not url.database or url.database.startswith("file:"):
        return False
    # A database whose pages are all in its log still is none of 0 bytes, but who knows what copied it.
    return not any(_size(Path(url.database + suffix)) for suffix in ("", "-wal"))


def _signs(settings: OriginSettings, *, is_start: bool) -> Iterator[tuple[str, str]]:
    marked = find_marked(settings)
    if marked is not None:
        yield str(_marker(settings)), marked
    # A command beside the running service leaves its files alone, unless they are all that tells.
    if is_start or marked is None:
        found = _find_in_replica(settings)
        if found is not None:
            yield str(settings.replica_dir), found


def _find_in_replica(settings: OriginSettings) -> str | None:
    try:
        with closing(Replica.open_to_read(settings.replica_dir, "")) as replica:
            return replica.followed_id or None
    except (ReplicaBroken, OSError, lmdb.Error):
        # What can't be read is replaced by the worker, and would not have answered.
        return None


def _drop_replica(settings: OriginSettings) -> None:
    directory = settings.replica_dir
    lock = os.open(directory / "in-use.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for name in ("data.mdb", "lock.mdb", "condemned", "in-step.json"):
            (directory / name).unlink(missing_ok=True)
    except BlockingIOError:
        raise StartError(f"another process uses the replica in {directory}: stop it first") from None
    finally:
        os.close(lock)


def _marker(settings: OriginSettings) -> Path:
    return settings.data_dir / "deployment.id"


def _place_of(settings: OriginSettings, database: Database) -> str:
    url = database.engine.url
    return str(url.database) if settings.is_sqlite else f"{url.host or 'localhost'}:{url.port or 5432}/{url.database}"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return 0
