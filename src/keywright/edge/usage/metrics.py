"""Owns telling how much usage waits on this machine to be taken by an origin."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client.core import Metric

    from keywright.edge.usage.spool import SpoolStatus
    from keywright.runtime.metrics.worker_counts import Counts


class SpoolSource:
    """A source of metrics."""

    families = ()

    def __init__(self, find_status: Callable[[], SpoolStatus]) -> None:
        """`find_status` may raise OSError."""
        self._find_status = find_status
        self._found: SpoolStatus | None = None

    def look(self) -> None:
        """See what is there, which may take a while after days without an origin."""
        try:
            self._found = self._find_status()
        except OSError:
            self._found = None

    def count(self) -> Counts:
        return {}

    def gauges(self) -> Iterable[Metric]:
        spool = self._found
        if spool is not None:
            age = 0.0 if spool.oldest_at is None else max(time.time() - spool.oldest_at, 0.0)
            yield GaugeMetricFamily(
                "keywright_usage_spool_files", "Batches of usage that no origin has taken.", spool.files
            )
            yield GaugeMetricFamily("keywright_usage_spool_bytes", "How large these are.", spool.size)
            yield GaugeMetricFamily(
                "keywright_usage_spool_age_seconds", "Since the oldest of these was begun; 0: none.", age
            )
