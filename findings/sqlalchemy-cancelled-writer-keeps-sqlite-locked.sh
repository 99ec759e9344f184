#!/usr/bin/env bash
# A task is cancelled (a time-out, a client that went away) while SQLite works on a statement inside its transaction.
#
# One would guess: the await ends at once; SQLAlchemy rolls back or closes the connection, and the lock is free.
# What happens: the await ends only when the statement has. Then the pool gives the connection up, but the SQLite connection
#   behind it is not closed: it hangs in a reference cycle, with its transaction open. Every other writer is told "database
#   is locked" until Python's garbage collector comes by, which in a quiet process may be minutes away; `gc.collect()` frees
#   it at once. A task that is cancelled between statements leaves nothing behind.
# Consequence: one cancelled write can stop all writing. Shield transactions from cancellation, or give aiosqlite a
#   connection of one's own, as Keywright does (its engine does not leave the lock); not `asyncio.timeout` around a write.
#
# SQLAlchemy 2.1.9, aiosqlite 0.22.1. Run on 2026-11-28.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "sqlalchemy[asyncio]==2.1.9" aiosqlite==0.22.1

cat >"$folder/probe.py" <<'PYTHON'
import asyncio
import gc
import sqlite3
import sys
import time

from sqlalchemy.ext.asyncio import create_async_engine

SLOW = "WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < {}) SELECT count(*) FROM r"
AT_LEAST = 1.5


def is_locked(file):
    connection = sqlite3.connect(file, timeout=0)
    try:
        connection.execute("BEGIN IMMEDIATE")
        return False
    except sqlite3.OperationalError:
        return True
    finally:
        connection.close()


def rows_for(seconds):
    """How many rows keep this machine busy for so long."""
    begun = time.monotonic()
    sqlite3.connect(":memory:").execute(SLOW.format(500_000)).fetchall()
    return int(500_000 * seconds / (time.monotonic() - begun))


async def cancel_in(file, work):
    """Seconds that the cancelled await went on, and whether the file is locked then, 5 s later, and after a collection."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{file}")
    async with engine.begin() as connection:
        await connection.exec_driver_sql("CREATE TABLE keys (id)")

    async def write():
        async with engine.begin() as connection:
            await connection.exec_driver_sql("INSERT INTO keys VALUES (1)")
            await work(connection)

    task = asyncio.create_task(write())
    await asyncio.sleep(0.3)
    begun = time.monotonic()
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        pass
    del task
    waited = time.monotonic() - begun
    await asyncio.sleep(0.5)
    locked = [is_locked(file)]
    await asyncio.sleep(5)
    locked.append(is_locked(file))
    gc.collect()
    locked.append(is_locked(file))
    await engine.dispose()
    return waited, locked


async def main():
    folder = sys.argv[1]
    slow = SLOW.format(rows_for(AT_LEAST * 2))
    waited, locked = await cancel_in(f"{folder}/a.db", lambda connection: connection.exec_driver_sql(slow))
    print(f"cancelled in a statement: the await went on for {waited:.1f} s; locked then, 5 s later, collected: {locked}")
    waited_between, free = await cancel_in(f"{folder}/b.db", lambda connection: asyncio.sleep(60))
    print(f"cancelled between two: the await went on for {waited_between:.1f} s; locked: {free}")
    if locked != [True, True, False] or waited < AT_LEAST / 2 or any(free) or waited_between > 0.5:
        sys.exit("this is no longer what was seen on 2026-11-28")


asyncio.run(asyncio.wait_for(main(), 80))
PYTHON
timeout 90 "$folder/venv/bin/python" "$folder/probe.py" "$folder"
echo "as described"
