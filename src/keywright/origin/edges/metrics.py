"""Owns what the origin tells in its metrics of edges: how far each is behind the record, by what it said last.

An edge reports to one process of one origin. So the rows that all of them keep are read from time to time, and any
worker tells the same, to within the seconds in which a row is written.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily

from keywright.origin.db.engine import DatabaseUnavailable
from keywright.origin.edges import store as rows
from keywright.origin.edges.rules import Reported, list_visible
from keywright.protocol.reports import EdgeState
from keywright.runtime import tasks

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from prometheus_client.core import Metric

    from keywright.origin.db.transaction import Database
    from keywright.origin.edges.registry import Edges
    from keywright.runtime.metrics.families import Family
    from keywright.runtime.metrics.worker_counts import Counts

log = logging.getLogger("keywright.origin")

LOOK_SECONDS = 5.0
MOST_EDGES = 500
"""That are told by name. Those beyond, by name, are told as one: as the one that is furthest behind."""
OTHER = "_other"
SILENT = "silent"


class EdgeSource:
    """A source of metrics; `run` it, so that there is something to tell."""

    families: tuple[Family, ...] = ()

    def __init__(
        self,
        database: Database,
        edges: Edges,
        *,
        most: int = MOST_EDGES,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._edges = edges
        self._most = most
        self._monotonic = monotonic
        self._head: int | None = None
        """The record's newest revision at the last look; None where that failed: then nothing is told."""
        self._found: list[Reported] = []
        self._looked_at = 0.0

    def count(self) -> Counts:
        return {}

    def gauges(self) -> Iterable[Metric]:
        if self._head is None:
            return
        yield GaugeMetricFamily("keywright_record_revision", "The newest of the record, some seconds ago.", self._head)
        states = GaugeMetricFamily(
            "keywright_edges", "Edges by what they said last; silent ones said nothing lately.", labels=["state"]
        )
        counted = Counter(one.report.state.value if one.is_connected else SILENT for one in self._found)
        for state in (*(state.value for state in EdgeState if state is not EdgeState.GONE), SILENT):
            states.add_metric([state], counted[state])
        yield states
        seconds = GaugeMetricFamily(
            "keywright_edge_lag_seconds",
            "Since when an edge is not known to be in step, by its reports; +Inf if that was never known.",
            labels=["edge", "region"],
        )
        revisions = GaugeMetricFamily(
            "keywright_edge_lag_revisions",
            "Changes of the record that an edge had not applied when it reported.",
            labels=["edge", "region"],
        )
        for (name, region), (lag, missing) in self._list_lags(self._head).items():
            seconds.add_metric([name, region], lag)
            revisions.add_metric([name, region], missing)
        yield seconds
        yield revisions

    def _list_lags(self, head: int) -> dict[tuple[str, str], tuple[float, int]]:
        """Seconds and revisions, by name and region: of several edges of one name the worst."""
        since_look = self._monotonic() - self._looked_at
        names = sorted({one.report.name for one in self._found})[: self._most]
        told, lags = set(names), dict[tuple[str, str], tuple[float, int]]()
        for one in self._found:
            report = one.report
            label = (report.name, report.region) if report.name in told else (OTHER, "")
            lag = math.inf if report.lag is None else report.lag / 1000 + one.age + since_look
            missing = max(head - (report.revision or 0), 0)
            before = lags.get(label, (0.0, 0))
            lags[label] = max(before[0], lag), max(before[1], missing)
        return lags

    async def run(self, stop: asyncio.Event) -> None:
        """Look, until `stop` is set."""
        while not stop.is_set():
            try:
                await self.look()
            except DatabaseUnavailable as error:
                self._head = None
                log.debug("what edges reported is not known: %s", error)
            except Exception:
                self._head = None
                log.exception("what edges reported can't be looked up")
            await tasks.pause(stop, LOOK_SECONDS)

    async def look(self) -> None:
        """Learn what all edges said last. Raises DatabaseUnavailable."""
        async with self._database.read() as tx:
            kept = await rows.list_all(tx)
            head = await rows.find_head(tx)
        entries, now = self._edges.entries()
        accounts = {one.account_id for one in kept} | {account_id for account_id, _ in entries}
        self._found = list_visible(entries, kept, accounts, now)
        self._looked_at = self._monotonic()
        self._head = 0 if head is None else head.revision
