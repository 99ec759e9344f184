"""Owns what is measured of the database: how long it takes to have a connection and to commit, how large it is, and
whether it can be reached.

Its size is looked up from time to time beside the requests: a scrape must not wait for a database that is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

import sqlalchemy as sa
from prometheus_client.core import GaugeMetricFamily

from keywright.origin.db.engine import DatabaseUnavailable
from keywright.runtime import tasks
from keywright.runtime.metrics.families import Family
from keywright.runtime.metrics.histogram import DISK_SECONDS, Histogram

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from prometheus_client.core import Metric

    from keywright.origin.db.transaction import Database
    from keywright.runtime.metrics.worker_counts import Counts

log = logging.getLogger("keywright.origin")

LOOK_SECONDS = 10.0

COMMITS = Family("keywright_database_commit_duration_seconds", "To commit a transaction.", (), DISK_SECONDS)
WAITS = Family(
    "keywright_database_connection_wait_seconds",
    "For a connection out of the pool, or a new one, and on SQLite for the turn to write, before a transaction.",
    (),
    DISK_SECONDS,
)
UNAVAILABLE = Family(
    "keywright_database_unavailable", "Transactions that failed because the database was away, locked or full."
)


class DatabaseMeasures:
    """What transactions note as they go. From the event loop's thread."""

    def __init__(self) -> None:
        self.commits = Histogram(DISK_SECONDS)
        self.waits = Histogram(DISK_SECONDS)
        self.unavailable = 0

    @contextlib.contextmanager
    def counting_failures(self) -> Iterator[None]:
        try:
            yield
        except DatabaseUnavailable:
            self.unavailable += 1
            raise


class DatabaseSource:
    """A source of metrics; `run` it, so that the size is known."""

    families = (COMMITS, WAITS, UNAVAILABLE)

    def __init__(self, database: Database) -> None:
        self._database = database
        self._size_bytes: int | None = None
        self._is_up: bool | None = None
        """None before the first look."""

    def count(self) -> Counts:
        measures = self._database.measures
        counts: Counts = {(UNAVAILABLE.name,): measures.unavailable}
        return counts | COMMITS.of(measures.commits) | WAITS.of(measures.waits)

    def gauges(self) -> Iterable[Metric]:
        if self._is_up is not None:
            yield GaugeMetricFamily(
                "keywright_database_up", "1 if it could be asked, some seconds ago.", int(self._is_up)
            )
        if self._size_bytes is not None:
            yield GaugeMetricFamily(
                "keywright_database_size_bytes", "Of the whole database, some seconds ago.", self._size_bytes
            )
        in_use, idle = self._database.count_connections()
        connections = GaugeMetricFamily(
            "keywright_database_pool_connections", "Of the worker that answers.", labels=["state"]
        )
        connections.add_metric(["in_use"], in_use)
        connections.add_metric(["idle"], idle)
        yield connections

    async def run(self, stop: asyncio.Event) -> None:
        """Look, until `stop` is set."""
        while not stop.is_set():
            await self.look()
            await tasks.pause(stop, LOOK_SECONDS)

    async def look(self) -> None:
        """Learn how large the database is, and whether it is there."""
        try:
            self._size_bytes = await self._find_size()
            self._is_up = True
        except DatabaseUnavailable as error:
            self._size_bytes, self._is_up = None, False
            log.debug("the size of the database is not known: %s", error)
        except Exception:
            self._size_bytes = None
            log.exception("the size of the database can't be looked up")

    async def _find_size(self) -> int:
        async with self._database.read() as tx:
            if tx.is_postgresql:
                size: int = await tx.scalar(sa.text("SELECT pg_database_size(current_database())"))
                return size
            await tx.scalar(sa.text("SELECT 1 FROM sqlite_master LIMIT 1"))
        file = self._database.file
        return 0 if file is None else await asyncio.to_thread(_size_of, file)


def _size_of(file: Path) -> int:
    """Of a SQLite database, what is yet to be written back into it included."""
    found = 0
    for path in (file, file.with_name(f"{file.name}-wal")):
        with contextlib.suppress(FileNotFoundError):
            found += path.stat().st_size
    return found
