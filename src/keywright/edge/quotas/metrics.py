"""Owns what /metrics tells of quotas: what this process has spent and waited for, and what the edge holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily

from keywright.domain.reservations import Outcome
from keywright.edge.quotas.waiting import WaitOutcome
from keywright.runtime.metrics.families import Family

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client.core import Metric

    from keywright.edge.limits.takers import Takers
    from keywright.edge.quotas.reservations import Reservations
    from keywright.edge.quotas.status import QuotasStatus
    from keywright.edge.quotas.taker import Quotas
    from keywright.runtime.metrics.worker_counts import Counts

SPENT = Family("keywright_quota_units_spent", "Units of quotas that verdicts took, reservations whole.")
OVERSPENT = Family("keywright_quota_units_overspent", "Units that were served without being lent.")
WAITS = Family("keywright_quota_waits", "Questions that waited for the origin, by what they came to.", ("outcome",))
SETTLED = Family("keywright_quota_settlements", "Reservations that were settled.", ("code",))


class QuotaSource:
    """A source of metrics."""

    families = (SPENT, OVERSPENT, WAITS, SETTLED)

    def __init__(
        self,
        quotas: Quotas,
        takers: Takers,
        reservations: Reservations,
        find_status: Callable[[], QuotasStatus],
        elapsed: Callable[[], float],
    ) -> None:
        self._quotas = quotas
        self._takers = takers
        self._reservations = reservations
        self._find_status = find_status
        self._elapsed = elapsed

    def count(self) -> Counts:
        counts: Counts = {(SPENT.name,): self._quotas.spent, (OVERSPENT.name,): self._quotas.overspent}
        counts |= {(WAITS.name, str(one)): self._takers.waits.get(one, 0) for one in WaitOutcome}
        return counts | {(SETTLED.name, str(one)): self._reservations.settled.get(one, 0) for one in Outcome}

    def gauges(self) -> Iterable[Metric]:
        status, now = self._find_status(), self._elapsed()
        yield GaugeMetricFamily("keywright_quota_leases", "Leases of quotas that this edge has.", status.leases)
        yield GaugeMetricFamily("keywright_quota_units_held", "Units of these that can be spent here.", status.held)
        yield GaugeMetricFamily("keywright_quota_units_reserved", "Units that are yet to be settled.", status.reserved)
        failing = 0.0 if status.failing_since is None else max(now - status.failing_since, 0.0)
        yield GaugeMetricFamily(
            "keywright_quota_unanswered_seconds",
            "Since the origin does not answer about quotas; 0 if it does.",
            failing,
        )
