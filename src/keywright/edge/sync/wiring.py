"""Owns how an edge follows the record: the putting together of its feed, its reports, the loop and the election.

The same for a worker of `keywright edge` (edge/worker.py) and for an application's own process (policy/embedded.py).
What speaks to a NATS broker is loaded by those who have one.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from typing import TYPE_CHECKING

import httpx2
import lmdb

from keywright import __version__
from keywright.edge.note_file import NoteFile
from keywright.edge.quotas.borrowing.borrower import Borrowing
from keywright.edge.quotas.borrowing.channels import MEDIA_TYPE as LEASES_MEDIA_TYPE
from keywright.edge.quotas.borrowing.channels import HttpLeaseChannel, NatsLeaseChannel, NoLeaseChannel
from keywright.edge.quotas.table import QUOTAS_DIRECTORY, QuotaTable
from keywright.edge.replica.freshness import find_boot_id
from keywright.edge.replica.replica import ReplicaBroken
from keywright.edge.shares.channels import HttpShareChannel, NatsShareChannel, NoShareChannel
from keywright.edge.shares.sharing import Sharing, Teller
from keywright.edge.shares.status import NOTE
from keywright.edge.sync.feed import NoFeed, NotifyingFeed
from keywright.edge.sync.http_feed import CONNECT_SECONDS, SILENCE_SECONDS, HttpFeed
from keywright.edge.sync.leader_election import LeaderElection
from keywright.edge.sync.loop import SyncLoop
from keywright.edge.sync.promise import Promises
from keywright.edge.sync.reporting import SEND_SECONDS, HttpReports, NoReports, Reporter, ignore_time
from keywright.edge.usage.channels import HttpUsageChannel, NatsUsageChannel, NoUsageChannel
from keywright.edge.usage.delivering import ANSWER_SECONDS as DELIVERY_SECONDS
from keywright.edge.usage.delivering import Delivering
from keywright.edge.usage.edge_usage import draw_nonce
from keywright.protocol.reports import UNFILLED
from keywright.protocol.shares import ANSWER_SECONDS, MEDIA_TYPE
from keywright.protocol.usage_delivery import MEDIA_TYPE as USAGE_MEDIA_TYPE
from keywright.runtime.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from keywright.domain.keyformat import Digester, Secret
    from keywright.edge.identity import Identity
    from keywright.edge.limits.table import LimitTable
    from keywright.edge.mirror import Mirror
    from keywright.edge.quotas.borrowing.asking import LeaseChannel
    from keywright.edge.replica.freshness import SyncClock
    from keywright.edge.replica.lease import Lease
    from keywright.edge.replica.origin_clock import OriginClock
    from keywright.edge.replica.replica import Replica
    from keywright.edge.shares.sharing import ShareChannel
    from keywright.edge.sync.feed import Feed
    from keywright.edge.sync.nats_feed import NatsFeed
    from keywright.edge.sync.nats_reports import NatsReports
    from keywright.edge.sync.reporting import OnTime, Reports
    from keywright.edge.usage.delivering import UsageChannel
    from keywright.edge.usage.edge_usage import EdgeUsage
    from keywright.protocol.changes import Cursor
    from keywright.protocol.reports import Report
    from keywright.runtime.clock import Clock
    from keywright.runtime.settings import EdgeSettings

_log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 10.0


def new_feed(settings: EdgeSettings, digester: Digester, clock: Clock) -> HttpFeed | NatsFeed | NoFeed:
    """What an edge follows: its origin over HTTP, a broker, or nothing."""
    if settings.broker is not None:
        from keywright.edge.sync.nats_feed import NatsFeed

        return NatsFeed(settings.broker, digester, clock, edge_name=settings.name)
    if settings.origin is None:
        return NoFeed()
    return new_http_feed(settings.origin, _token_in(settings), digester, clock, edge_name=settings.name)


def new_reports(
    settings: EdgeSettings, digester: Digester, clock: OriginClock
) -> HttpReports | NatsReports | NoReports:
    """Where it reports: there, too. The answers set the clock."""
    if settings.broker is not None:
        from keywright.edge.sync.nats_reports import NatsReports

        return NatsReports(settings.broker, digester, clock, edge_name=settings.name, on_time=clock.hear)
    if settings.origin is None:
        return NoReports()
    token = _token_in(settings)
    return new_http_reports(settings.origin, token, digester, clock, edge_name=settings.name, on_time=clock.hear)


def new_share_channel(
    settings: EdgeSettings, digester: Digester, clock: Clock
) -> HttpShareChannel | NatsShareChannel | NoShareChannel:
    """Where it asks for its shares of global limits: there, too."""
    if settings.broker is not None:
        return NatsShareChannel(settings.broker, digester, clock, edge_name=settings.name)
    if settings.origin is None:
        return NoShareChannel()
    return new_http_share_channel(settings.origin, _token_in(settings), digester, edge_name=settings.name)


def new_http_share_channel(origin: str, token: Secret, digester: Digester, *, edge_name: str) -> HttpShareChannel:
    headers = {"content-type": MEDIA_TYPE, "accept-encoding": "identity"}
    return HttpShareChannel(
        new_client(origin, token, edge_name=edge_name, headers=headers, timeout=ANSWER_SECONDS), digester
    )


def new_usage_channel(
    settings: EdgeSettings, digester: Digester, clock: Clock
) -> HttpUsageChannel | NatsUsageChannel | NoUsageChannel:
    """Where its usage goes: there, too."""
    if settings.broker is not None:
        return NatsUsageChannel(settings.broker, digester, clock, edge_name=settings.name)
    if settings.origin is None:
        return NoUsageChannel()
    return new_http_usage_channel(settings.origin, _token_in(settings), digester, edge_name=settings.name)


def new_http_usage_channel(origin: str, token: Secret, digester: Digester, *, edge_name: str) -> HttpUsageChannel:
    headers = {"content-type": USAGE_MEDIA_TYPE, "accept-encoding": "identity"}
    timeout = httpx2.Timeout(DELIVERY_SECONDS, connect=CONNECT_SECONDS)
    return HttpUsageChannel(new_client(origin, token, edge_name=edge_name, headers=headers, timeout=timeout), digester)


def new_delivering(usage: EdgeUsage, channel: UsageChannel, elapsed: Callable[[], float]) -> Delivering:
    """Delivering the usage of an edge, for the one of its processes that follows."""
    return Delivering(usage.spool, channel, usage.counting, elapsed, random.uniform, draw_nonce, usage.wishes)


def new_sharing(
    replica: Replica,
    replica_dir: Path,
    table: LimitTable,
    channel: ShareChannel,
    identity: Identity,
    elapsed: Callable[[], float],
) -> Sharing:
    """Asking for the shares of an edge, for the one of its processes that follows."""
    return Sharing(
        table,
        channel,
        Teller(identity.instance, secrets.token_hex(8), lambda: replica.find_followed_id() or UNFILLED),
        elapsed,
        NoteFile(replica_dir / NOTE, _log, so="a start of the machine has this edge wait for its shares"),
        boot_id=find_boot_id(),
        has_limits=_Feature(replica, "rateLimits").is_there,
    )


def new_lease_channel(
    settings: EdgeSettings, digester: Digester, clock: Clock
) -> HttpLeaseChannel | NatsLeaseChannel | NoLeaseChannel:
    """Where it asks for quotas: there, too."""
    if settings.broker is not None:
        return NatsLeaseChannel(settings.broker, digester, clock, edge_name=settings.name)
    if settings.origin is None:
        return NoLeaseChannel()
    return new_http_lease_channel(settings.origin, _token_in(settings), digester, edge_name=settings.name)


def new_http_lease_channel(origin: str, token: Secret, digester: Digester, *, edge_name: str) -> HttpLeaseChannel:
    headers = {"content-type": LEASES_MEDIA_TYPE, "accept-encoding": "identity"}
    return HttpLeaseChannel(
        new_client(origin, token, edge_name=edge_name, headers=headers, timeout=ANSWER_SECONDS), digester
    )


def new_borrowing(
    replica: Replica,
    replica_dir: Path,
    channel: LeaseChannel,
    identity: Identity,
    elapsed: Callable[[], float],
) -> Borrowing:
    """Borrowing quotas for an edge, by the one of its processes that follows."""

    def cursor() -> str:
        found = replica.find_cursor() if replica.is_open else None
        return "" if found is None or not found.stamp else str(found)

    return Borrowing(
        QuotaTable(replica_dir / QUOTAS_DIRECTORY, elapsed),
        channel,
        replica_dir,
        identity.instance,
        elapsed,
        deployment_id=lambda: replica.find_followed_id() or "",
        cursor=cursor,
        has_quotas=_Feature(replica, "quotas").is_there,
    )


class _Feature:
    """Whether any key of the replica may have a power of this name: looked for again where the replica has moved, as it
    is asked often, and there may be thousands of buckets.
    """

    def __init__(self, replica: Replica, name: str) -> None:
        self._replica = replica
        self._name = name
        self._at: Cursor | None = None
        self._is_there = False

    def is_there(self) -> bool:
        at = self._replica.find_cursor() if self._replica.is_open else None
        if at is None or at != self._at:
            self._is_there, self._at = self._find(), at
        return self._is_there

    def _find(self) -> bool:
        try:
            return self._replica.is_open and any(self._name in put.features for put in self._replica.buckets())
        except (lmdb.Error, ReplicaBroken, ValueError):
            return False


def new_http_feed(origin: str, token: Secret, digester: Digester, clock: Clock, *, edge_name: str) -> HttpFeed:
    timeout = httpx2.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS)
    client = new_client(origin, token, edge_name=edge_name, headers={"accept-encoding": "gzip"}, timeout=timeout)
    return HttpFeed(client, digester, clock)


def new_http_reports(
    origin: str, token: Secret, digester: Digester, clock: Clock, *, edge_name: str, on_time: OnTime = ignore_time
) -> HttpReports:
    headers = {"content-type": "application/vnd.keywright.report"}
    client = new_client(origin, token, edge_name=edge_name, headers=headers, timeout=SEND_SECONDS)
    return HttpReports(client, digester, clock, on_time)


def new_client(
    origin: str, token: Secret, *, edge_name: str, headers: Mapping[str, str], timeout: float | httpx2.Timeout
) -> httpx2.AsyncClient:
    """A client for the origin's addresses that is led nowhere else, with these headers beside its own. `aclose` it."""
    return httpx2.AsyncClient(
        base_url=origin,
        headers={
            "authorization": f"Bearer {token.reveal()}",
            "user-agent": f"keywright-edge/{__version__} ({edge_name})",
            **headers,
        },
        timeout=timeout,
        follow_redirects=False,
    )


def new_sync_loop(
    replica: Replica, feed: Feed, clock: Clock, sync_clock: SyncClock, on_change: Callable[[], None]
) -> SyncLoop:
    """The loop of an edge that is away from the record: after a failure it may try again at once."""
    sync_loop = SyncLoop(
        replica,
        feed,
        clock,
        sync_clock,
        Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, random.uniform, least=0.0),
        poll_seconds=lambda: FIRST_PAUSE_SECONDS,
        on_change=on_change,
    )
    if isinstance(feed, NotifyingFeed):
        feed.on_message = sync_loop.wake
    return sync_loop


def new_election(
    replica: Replica,
    replica_dir: Path,
    feed: Feed,
    clock: OriginClock,
    sync_clock: SyncClock,
    identity: Identity,
    reports: Reports | None,
    lease: Lease,
    *,
    mirror: Mirror | None = None,
    late_seconds: float = 0.0,
    says_goodbye: bool = True,
    sharing: Sharing | None = None,
    borrowing: Borrowing | None = None,
    delivering: Delivering | None = None,
) -> LeaderElection:
    """The part of this process. Without reports nobody hears of the edge, and no write waits for it.

    What the edge has applied, `mirror` has applied, too. `late_seconds` is for how long somebody believes what this
    edge said after it said so; such an edge can't say goodbye. Nor does one with `says_goodbye=False`, which may be
    used again from its disk with the origin away. `sharing` asks for shares of global limits, `borrowing`
    asks for quotas, and gives them back when the last process has ended, `delivering` brings usage to the origin.
    """

    def new_report() -> Report:
        promised = promise_of(replica, lease.seconds, now=clock.elapsed())
        told = lease.offer(promised)
        cursor = election.cursor
        return identity.report(
            deployment_id(),
            cursor=cursor if mirror is None else mirror.reached(cursor),
            is_starting=cursor is None,
            is_synced=election.is_synced,
            since=election.since,
            lag_seconds=election.lag_seconds,
            refuses_after_seconds=None if told is None else told + late_seconds,
            is_leased=lease.seconds is not None,
            clock_offset_seconds=clock.offset_seconds,
            is_format_unknown=election.is_format_unknown,
        )

    def deployment_id() -> str:
        return replica.followed_id or UNFILLED

    def on_taken(report: Report, sent_at: float, is_back: bool) -> None:
        seconds = None if report.refuses_after is None else report.refuses_after / 1000 - late_seconds
        lease.taken(seconds, sent_at)
        election.origin_seen(is_back=is_back)

    async def say_goodbye() -> None:
        if borrowing is not None:
            await borrowing.give_back_all()
        if reporter is None or late_seconds or not says_goodbye:
            return
        # A later process on this replica must not answer from what it has by then: nobody waits for it.
        earlier = lease.end()
        if earlier is not None and not await reporter.say_goodbye(identity.goodbye(deployment_id(), election.since)):
            lease.restore(earlier)

    promise_of = Promises()
    reporter = None
    if reports is not None:
        reporter = Reporter(reports, new_report, random.uniform, on_taken=on_taken, elapsed=clock.elapsed)
    runs = [] if reporter is None else [reporter.run]
    if sharing is not None:
        runs.append(sharing.run)
    if borrowing is not None:
        runs.append(borrowing.run)
    if delivering is not None:
        runs.append(delivering.run)

    async def run_all() -> None:
        # Before anything is heard or told: readers of the page go by what this process knows from here on.
        lease.publish()
        clock.publish()
        async with asyncio.TaskGroup() as group:
            for run in runs:
                group.create_task(run())

    on_change = (lambda: None) if reporter is None else reporter.wake
    if mirror is not None:
        mirror.on_change = on_change
    election = LeaderElection(
        replica,
        replica_dir / "standing.json",
        lambda: new_sync_loop(replica, feed, clock, sync_clock, on_change),
        clock,
        sync_clock,
        report=run_all if runs else None,
        lease=lease,
        mirror_status=None if mirror is None else mirror.status,
        say_goodbye=say_goodbye,
    )
    return election


def _token_in(settings: EdgeSettings) -> Secret:
    if settings.token is None:
        raise ValueError("neither a broker nor a token")
    return settings.token
