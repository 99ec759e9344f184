"""Owns what /metrics tells of a replica and what hangs on it: how far it is, its files, the disk, shares, a HAProxy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lmdb
from prometheus_client.core import GaugeMetricFamily

from keywright.edge.replica.replica import ReplicaBroken
from keywright.runtime.metrics.families import Family
from keywright.runtime.metrics.histogram import DISK_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from prometheus_client.core import Metric

    from keywright.edge.http.health import SyncStatus
    from keywright.edge.mirror import MirrorStatus
    from keywright.edge.replica.origin_clock import OriginClock
    from keywright.edge.replica.replica import Replica
    from keywright.edge.shares.status import SharesStatus
    from keywright.runtime.disk import Disk
    from keywright.runtime.metrics.worker_counts import Counts

WRITES = ("record", "replica")
REFUSED = Family("keywright_writes_refused", "Writes that found no room on the disk.", ("write",))
COMMITS = Family(
    "keywright_replica_commit_duration_seconds",
    "To commit to the replica, which ends with an fsync. Where several processes share it, one of them does.",
    (),
    DISK_SECONDS,
)


class ReplicaSource:
    """What one worker tells of the replica that it answers from."""

    families = (REFUSED, COMMITS)

    def __init__(
        self, replica: Replica, status: SyncStatus, disk: Disk, origin_clock: OriginClock | None = None
    ) -> None:
        self._replica = replica
        self._status = status
        self._disk = disk
        self._origin_clock = origin_clock
        self.find_shares: Callable[[], SharesStatus | None] = lambda: None
        """How it is going with this edge's shares of global rate limits; None where it never asked for any."""
        self.list_old_readers: Callable[[], Sequence[str]] | None = None
        """The names of edges that read an older format than there are keys in; an origin sets it."""

    def count(self) -> Counts:
        refused = dict(self._disk.refused)
        counts: Counts = {(REFUSED.name, written): refused.get(written, 0) for written in WRITES}
        return counts | COMMITS.of(self._replica.commits)

    def gauges(self) -> Iterable[Metric]:
        yield from _of_disk(self._disk)
        yield from _of_status(self._status)
        yield from _of_files(self._replica)
        if self.list_old_readers is not None:
            yield _of_old_readers(self.list_old_readers())
        offset = None if self._origin_clock is None else self._origin_clock.offset_seconds
        if offset is not None:
            yield GaugeMetricFamily(
                "keywright_clock_offset_seconds",
                "How far this machine's clock is ahead of the origin's, by which keys are judged.",
                offset,
            )
        shares = self.find_shares()
        if shares is not None:
            yield from _of_shares(shares)
        if self._status.mirror is not None:
            yield from _of_mirror(self._status.mirror)


def _of_disk(disk: Disk) -> Iterable[Metric]:
    yield GaugeMetricFamily("keywright_disk_free_bytes", "Room on the fullest disk.", disk.free_bytes)
    yield GaugeMetricFamily(
        "keywright_disk_reserve_bytes", "Room kept back there for revocations; 0 when it is used.", disk.held_bytes
    )


def _of_status(status: SyncStatus) -> Iterable[Metric]:
    yield GaugeMetricFamily("keywright_replica_synced", "1 if the replica is in step.", int(status.is_synced))
    yield GaugeMetricFamily(
        "keywright_replica_refusing", "1 if no key is answered for, since it is out of step.", int(status.is_refusing)
    )
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


def _of_files(replica: Replica) -> Iterable[Metric]:
    try:
        used, count = replica.used_bytes, replica.count
    except (lmdb.Error, ReplicaBroken):
        # Closed, or broken and about to be replaced: nothing is known of it now.
        return
    yield GaugeMetricFamily("keywright_replica_size_bytes", "Of its file, in use or kept for reuse.", used)
    yield GaugeMetricFamily(
        "keywright_replica_records", "Keys and consumers, with deleted ones that are yet to be swept.", count
    )


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
