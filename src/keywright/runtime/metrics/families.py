"""Owns how counts are written down among workers, and how they become what Prometheus reads.

A count has a key: the name of its family, then the values of the family's labels. A histogram's counts have one part
more, the number of the bucket, or SUM for the nanoseconds of all together: so all are whole numbers, which can be added
up for the workers of a start one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Protocol

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from prometheus_client.core import Metric

    from keywright.runtime.metrics.histogram import Histogram
    from keywright.runtime.metrics.worker_counts import Counts

SUM = "ns"


@dataclass(frozen=True, slots=True)
class Family:
    """A metric that is counted. With `bounds` (seconds) it is a histogram. The name is without `_total`."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()

    def of(self, histogram: Histogram, *labels: str) -> Counts:
        """A histogram's counts, under the values of these labels."""
        counts: Counts = {(self.name, *labels, str(place)): count for place, count in enumerate(histogram.counts)}
        counts[self.name, *labels, SUM] = histogram.total_ns
        return counts


class Source(Protocol):
    """A part of the process that counts, and that knows how it is going."""

    @property
    def families(self) -> Sequence[Family]: ...

    def count(self) -> Counts:
        """What was counted so far in this process. May be called from any thread."""

    def gauges(self) -> Iterable[Metric]:
        """How it is now, as this process knows it."""


def to_metrics(families: Iterable[Family], counts: Counts) -> Iterable[Metric]:
    """Every family, with what was counted of it."""
    of_family: dict[str, dict[tuple[str, ...], int]] = {}
    for (name, *rest), count in counts.items():
        of_family.setdefault(name, {})[tuple(rest)] = count
    for family in families:
        found = of_family.get(family.name, {})
        yield _histogram(family, found) if family.bounds else _counter(family, found)


def _counter(family: Family, found: Mapping[tuple[str, ...], int]) -> Metric:
    metric = CounterMetricFamily(family.name, family.help, labels=family.labels)
    for labels, count in sorted(found.items()):
        metric.add_metric(labels, count)
    return metric


def _histogram(family: Family, found: Mapping[tuple[str, ...], int]) -> Metric:
    metric = HistogramMetricFamily(family.name, family.help, labels=family.labels)
    bounds = [*(str(bound) for bound in family.bounds), "+Inf"]
    for labels in sorted({parts[:-1] for parts in found}):
        counts = (found.get((*labels, str(place)), 0) for place in range(len(bounds)))
        total_ns = found.get((*labels, SUM), 0)
        metric.add_metric(labels, list(zip(bounds, accumulate(counts), strict=True)), total_ns / 1e9)
    return metric
