"""Owns telling how much usage waits on this machine to be taken by an origin."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.core import Metric

    from keywright.edge.usage.spool import Spool
    from keywright.runtime.metrics.worker_counts import Counts


class SpoolSource:
    """A source of metrics."""

    families = ()

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    def count(self) -> Counts:
        return {}

    def gauges(self) -> Iterable[Metric]:
        with contextlib.suppress(OSError):
            spool = self._spool.status()
            age = 0.0 if spool.oldest_at is None else max(time.time() - spool.oldest_at, 0.0)
            yield GaugeMetricFamily(
                "keywright_usage_spool_files", "Batches of usage that no origin has taken.", spool.files
            )
            yield GaugeMetricFamily("keywright_usage_spool_bytes", "How large these are.", spool.size)
            yield GaugeMetricFamily(
                "keywright_usage_spool_age_seconds", "Since the oldest of these was begun; 0: none.", age
            )
