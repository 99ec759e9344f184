"""Owns /metrics, in Prometheus' text format: counts of validations, how far the replica is, and room on the disk.

The endpoints count in attributes of their own, so that counting costs a request an addition and no lock. The counts
that are told are those of all workers (worker_counts.py). What is told of the replica is what the worker that answers
knows of it: the workers share one.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from keywright.domain.verdict import Verdict
from keywright.edge.http.document import send_document
from keywright.runtime import tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from prometheus_client.core import Metric

    from keywright.edge.http.endpoint import Receive, Scope, Send
    from keywright.edge.http.health import SyncStatus
    from keywright.edge.http.worker_counts import Counts, WorkerCounts
    from keywright.edge.mirror import MirrorStatus
    from keywright.edge.replica.origin_clock import OriginClock
    from keywright.edge.shares.status import SharesStatus
    from keywright.runtime.disk import Disk

REFUSED_WRITES = "refused-writes"
"""Stands for an endpoint in the counts, for the writes that found no room, by what was to be written."""
WRITES = ("record", "replica")
WRITE_SECONDS = 1.0
"""How old the counts may be that a worker tells of the others."""


class CountingEndpoint(Protocol):
    """An endpoint that counts the answers it gave: those to good keys apart, the others by what was wrong."""

    valid_count: int
    counts: dict[str, int]


class Metrics:
    """ASGI for the path. `endpoints` by their name in the label; without `worker_counts` there is but one worker."""

    def __init__(
        self,
        endpoints: Mapping[str, CountingEndpoint],
        status: SyncStatus,
        disk: Disk,
        worker_counts: WorkerCounts | None = None,
        origin_clock: OriginClock | None = None,
    ) -> None:
        self._endpoints = endpoints
        self._status = status
        self._disk = disk
        self._worker_counts = worker_counts
        self._origin_clock = origin_clock
        self.list_old_readers: Callable[[], Sequence[str]] | None = None
        """The names of edges that read an older format than there are keys in; an origin sets it."""
        self.find_shares: Callable[[], SharesStatus | None] = lambda: None
        """How it is going with this edge's shares of global rate limits; None where it never asked for any."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        counts = self.count()
        if self._worker_counts is not None:
            counts = await asyncio.to_thread(self._worker_counts.add_up, self.count)
        scrape = _Scrape(
            counts, self._status, self._disk, self._origin_clock, self.list_old_readers, self.find_shares()
        )
        body = generate_latest(scrape)
        await send_document(scope, send, 200, CONTENT_TYPE_LATEST.encode(), body)

    def count(self) -> Counts:
        """What this worker has counted so far. May be called from any thread."""
        counts: Counts = {}
        for name, endpoint in self._endpoints.items():
            counts[name, Verdict.VALID] = endpoint.valid_count
            for code, count in list(endpoint.counts.items()):
                counts[name, code] = count
        for written, count in list(self._disk.refused.items()):
            counts[REFUSED_WRITES, written] = count
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

    def __init__(
        self,
        counts: Counts,
        status: SyncStatus,
        disk: Disk,
        origin_clock: OriginClock | None,
        list_old_readers: Callable[[], Sequence[str]] | None,
        shares: SharesStatus | None = None,
    ) -> None:
        self._counts = counts
        self._status = status
        self._disk = disk
        self._origin_clock = origin_clock
        self._list_old_readers = list_old_readers
        self._shares = shares

    def collect(self) -> Iterable[Metric]:
        # The label is older than the word that we have for it.
        validations = CounterMetricFamily(
            "keywright_validations",
            "Validations by endpoint and verdict, of all workers.",
            labels=["endpoint", "verdict"],
        )
        refused = CounterMetricFamily(
            "keywright_writes_refused", "Writes that found no room on the disk, of all workers.", labels=["write"]
        )
        for written in WRITES:
            refused.add_metric([written], self._counts.get((REFUSED_WRITES, written), 0))
        for labels, count in self._counts.items():
            if labels[0] != REFUSED_WRITES:
                validations.add_metric(labels, count)
        yield validations
        yield refused
        disk = self._disk
        yield GaugeMetricFamily("keywright_disk_free_bytes", "Room on the fullest disk.", disk.free_bytes)
        yield GaugeMetricFamily(
            "keywright_disk_reserve_bytes", "Room kept back there for revocations; 0 when it is used.", disk.held_bytes
        )
        status = self._status
        yield GaugeMetricFamily("keywright_replica_synced", "1 if the replica is in step.", int(status.is_synced))
        yield GaugeMetricFamily(
            "keywright_replica_lag_seconds", "Time since it was; +Inf if that is not known.", status.lag_seconds
        )
        yield GaugeMetricFamily(
            "keywright_replica_since_timestamp_seconds", "When it came to be so, or not.", status.since.timestamp()
        )
        yield GaugeMetricFamily("keywright_replica_revision", "0 before the first snapshot.", status.revision or 0)
        yield GaugeMetricFamily(
            "keywright_replica_format_unknown",
            "1 if the record can't be followed because this version does not read its format.",
            int(status.is_format_unknown),
        )
        if self._list_old_readers is not None:
            yield _of_old_readers(self._list_old_readers())
        offset = None if self._origin_clock is None else self._origin_clock.offset_seconds
        if offset is not None:
            yield GaugeMetricFamily(
                "keywright_clock_offset_seconds",
                "How far this machine's clock is ahead of the origin's, by which keys are judged.",
                offset,
            )
        if self._shares is not None:
            yield from _of_shares(self._shares)
        if status.mirror is not None:
            yield from _of_mirror(status.mirror)


def _of_old_readers(names: Iterable[str]) -> Metric:
    old = GaugeMetricFamily(
        "keywright_edge_reads_older_format",
        "1 for each edge that refuses keys with powers, now that there are some: it reads an older format of the feed.",
        labels=["edge"],
    )
    for name in names:
        old.add_metric([name], 1)
    return old


def _of_shares(shares: SharesStatus) -> Iterable[Metric]:
    yield GaugeMetricFamily(
        "keywright_shares_limits", "Global rate limits of which it was told a share.", shares.limits
    )
    yield GaugeMetricFamily("keywright_shares_edges", "Edges that such limits are shared by, with it.", shares.edges)
    yield GaugeMetricFamily("keywright_shares_fallback_ratio", "Its part of each other such limit.", shares.fallback)
    yield GaugeMetricFamily(
        "keywright_shares_age_seconds",
        "Since it asked for the shares that it goes by; from 10 on (30 without limits) it has an even part.",
        shares.age_seconds,
    )


def _of_mirror(mirror: MirrorStatus) -> Iterable[Metric]:
    yield GaugeMetricFamily("keywright_haproxy_synced", "1 if its maps hold what the replica does.", mirror.is_synced)
    yield GaugeMetricFamily("keywright_haproxy_answering", "1 while its lease lasts.", mirror.is_believed)
    yield GaugeMetricFamily("keywright_haproxy_lag_seconds", "Time since they did.", mirror.lag_seconds)
    yield GaugeMetricFamily("keywright_haproxy_revision", "0 while it is not known.", mirror.revision or 0)
    yield GaugeMetricFamily("keywright_haproxy_pending_entries", "Entries yet to be written.", mirror.pending)
    yield GaugeMetricFamily(
        "keywright_haproxy_blocked_consumers", "Consumers and buckets without an answer meanwhile.", mirror.blocked
    )
