"""Owns the integrity check: looking through a replica's files for damage, in a process of its own.

Of its own, because reading a damaged page may end a process. LMDB keeps no checksums and trusts what it reads. Records
carry one each (records.py), which a look-up checks; but a record that nobody asks for, or that can't be found because
its name or the way to it is damaged, only this finds: to say UNKNOWN of its key would be wrong.

Run as `python -m keywright.edge.replica.integrity DIRECTORY`: exit code 23 for damage. It ends when its parent does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

from keywright.edge.replica import in_use, records
from keywright.edge.replica.files import BROKEN, MAP_SIZE, Files, ReplicaBroken, WriterStopped

STEP_RECORDS = 2000
PAUSE_SECONDS = 0.02
DAMAGED = 23
"""No code that Python ends with by itself: what merely keeps the check from its work is no damage."""
_CRASHES = {-signal.SIGSEGV, -signal.SIGBUS, -signal.SIGABRT, -signal.SIGFPE, -signal.SIGILL}


class IntegrityCheck:
    """One look through the open files, in steps: all pages first, then every record in order."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._databases = (*files.records, files.endings)
        self._has_walked = False
        self._database = 0
        """The index of the database that the next step looks at."""
        self._name = b""
        """The name that the next step begins with, there."""

    def step(self, limit: int) -> bool:
        """Look at up to `limit` records, going on where the last step stopped; whether all have been looked at.

        Raises ReplicaBroken, or lmdb.Error, for damage.
        """
        files = self._files
        if not self._has_walked:
            self._has_walked = True
            files.walk()
        if self._database == len(self._databases):
            return True
        db, count, last = self._databases[self._database], 0, b""
        with files.read() as tx, tx.cursor(db) as cursor:
            if cursor.set_range(self._name):
                for name, kept in cursor:
                    if count == limit:
                        self._name = name
                        return False
                    records.checked(name, kept)
                    # In its place, and found from above: so are the pages between.
                    if name <= last or tx.get(name, db=db) != kept:
                        raise ReplicaBroken("a record is not in its place")
                    count, last = count + 1, name
        self._database, self._name = self._database + 1, b""
        return False


def probe(files: Files) -> None:
    """Read the first and the last record of each kind, at each opening; raises one of BROKEN if they are none."""
    with files.begin(files.meta) as tx:
        revision = tx.get(b"revision")
        if revision is not None and len(revision) != 8:
            raise ValueError("a revision of another length")
        records.decode_stamp(tx.get(b"stamp", b""))
        for name, kept in tx.cursor(files.buckets):
            records.read_bucket(name, kept)
        for db, decode in (
            (files.consumers, records.consumer_put), (files.keys, records.key_put),
            (files.consumers3, records.consumer_put3), (files.keys3, records.key_put3),
            (files.plans3, records.plan_put),
        ):  # fmt: skip
            if db is None:
                continue
            with tx.cursor(db) as cursor:
                for move in (cursor.first, cursor.last):
                    if move():
                        name, kept = cursor.item()
                        decode(name, records.checked(name, kept))


async def is_damaged(path: Path) -> bool:
    """Whether the integrity check of the files in this directory found damage, or died of it."""
    import asyncio  # The process that looks has no use for it, and half of its start would be this.

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __spec__.name, str(path), stdin=asyncio.subprocess.DEVNULL
    )
    try:
        code = await process.wait()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    return code == DAMAGED or code in _CRASHES


def main(path: Path) -> int:
    parent = os.getppid()
    # It takes the time that others leave.
    os.nice(10)
    try:
        with (
            contextlib.closing(Files.open(path, MAP_SIZE, probe)) as files,
            in_use.alone_at(path, "audit.lock") as is_ours,
        ):
            # Another process's check is as good.
            check = IntegrityCheck(files)
            while is_ours and not check.step(STEP_RECORDS) and os.getppid() == parent:
                time.sleep(PAUSE_SECONDS)
    except WriterStopped:
        # It is no damage, and whoever wants to write sees to it.
        return 0
    except (ReplicaBroken, *BROKEN) as error:
        print(f"the replica in {path} is damaged: {error}", file=sys.stderr, flush=True)  # noqa: T201
        return DAMAGED
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
