"""Owns /metrics, in Prometheus' text format: what the sources of this process have counted, and how they are doing.

Counting costs a request an addition and no lock. The counts that are told are those of all workers
(runtime/metrics/worker_counts.py). What is told besides is what the worker that answers knows; of the replica that is
the same for all, since they share one.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from keywright.edge.http.document import send_document
from keywright.runtime import tasks
from keywright.runtime.metrics.families import to_metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from prometheus_client.core import Metric

    from keywright.edge.http.endpoint import Receive, Scope, Send
    from keywright.runtime.metrics.families import Source
    from keywright.runtime.metrics.worker_counts import Counts, WorkerCounts

WRITE_SECONDS = 1.0
"""How old the counts may be that a worker tells of the others."""


class Metrics:
    """ASGI for the path. Without `worker_counts` there is but one worker."""

    def __init__(self, sources: Iterable[Source], worker_counts: WorkerCounts | None = None) -> None:
        self.sources = list(sources)
        self._worker_counts = worker_counts
        self.looks: list[Callable[[], None]] = []
        """What some sources look up before each scrape, in a thread."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        for look in self.looks:
            await asyncio.to_thread(look)
        counts = self.count()
        if self._worker_counts is not None:
            counts = await asyncio.to_thread(self._worker_counts.add_up, self.count)
        body = generate_latest(_Scrape(self.sources, counts))
        await send_document(scope, send, 200, CONTENT_TYPE_LATEST.encode(), body)

    def count(self) -> Counts:
        """What this worker has counted so far. May be called from any thread."""
        counts: Counts = {}
        for source in self.sources:
            counts |= source.count()
        return counts

    async def run(self, stop: asyncio.Event) -> None:
        """Let the other workers know this one's counts, every second and at the end, until `stop` is set."""
        if self._worker_counts is None:
            return
        is_over = False
        while not is_over:
            await tasks.pause(stop, WRITE_SECONDS)
            # What is counted while it is written is not in it: an end that comes meanwhile has a write of its own.
            is_over = stop.is_set()
            await asyncio.to_thread(self._worker_counts.write, self.count)


class _Scrape(Collector):
    """What one request for the metrics is told."""

    def __init__(self, sources: Sequence[Source], counts: Counts) -> None:
        self._sources = sources
        self._counts = counts

    def collect(self) -> Iterable[Metric]:
        for source in self._sources:
            yield from to_metrics(source.families, self._counts)
            yield from source.gauges()
