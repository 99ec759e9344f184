"""Owns what the origin tells of quotas in its metrics: what edges hold, what is lost with some, where nothing is lent.

All origins read the same rows, from time to time.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily

from keywright.origin.db.database_clock import read_millis
from keywright.origin.db.engine import DatabaseUnavailable
from keywright.origin.quotas import store as rows
from keywright.runtime import tasks

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from prometheus_client.core import Metric

    from keywright.origin.db.transaction import Database
    from keywright.origin.quotas.store import LedgerTotals
    from keywright.runtime.metrics.families import Family
    from keywright.runtime.metrics.worker_counts import Counts

log = logging.getLogger("keywright.origin")

LOOK_SECONDS = 30.0


class LedgerSource:
    """A source of metrics; `run` it, so that there is something to tell."""

    families: tuple[Family, ...] = ()

    def __init__(self, database: Database) -> None:
        self._database = database
        self._found: LedgerTotals | None = None
        """None where the last look failed: then nothing is told."""

    def count(self) -> Counts:
        return {}

    def gauges(self) -> Iterable[Metric]:
        if self._found is None:
            return
        lent, unaccounted, shut = self._found
        yield GaugeMetricFamily(
            "keywright_quota_units_lent", "Units of running periods that edges hold, or have not accounted for.", lent
        )
        yield GaugeMetricFamily(
            "keywright_quota_units_unaccounted", "Of these, units of leases that have ended.", unaccounted
        )
        yield GaugeMetricFamily(
            "keywright_quota_buckets_shut", "Buckets where no more is lent, as the record went back.", shut
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Look, until `stop` is set."""
        while not stop.is_set():
            try:
                await self.look()
            except DatabaseUnavailable as error:
                self._found = None
                log.debug("what is lent of quotas is not known: %s", error)
            except Exception:
                self._found = None
                log.exception("what is lent of quotas can't be looked up")
            await tasks.pause(stop, LOOK_SECONDS)

    async def look(self) -> None:
        """Raises DatabaseUnavailable."""
        async with self._database.read() as tx:
            self._found = await rows.add_up(tx, await read_millis(tx))
