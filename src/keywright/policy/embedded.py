"""Owns the embedded replica: an application's own process keeps a replica and follows the record. No hop at all.

It is an edge without endpoints. Several processes on one directory (the workers of a server) share its files, and one
of them follows for all and reports for all, as the workers of `keywright edge` do (edge/sync/leader_election.py). That
happens on a thread with an event loop of its own: it is the same for ASGI and WSGI, and no application's loop waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypedDict, Unpack

from keywright.domain.keyformat import Digester, Secret
from keywright.edge.identity import Identity
from keywright.edge.quotas.borrowing.asking import LeaseChannel
from keywright.edge.quotas.borrowing.channels import NatsLeaseChannel, NoLeaseChannel
from keywright.edge.replica.replica import Replica
from keywright.edge.shares.channels import NatsShareChannel
from keywright.edge.shares.sharing import ShareChannel
from keywright.edge.sync.feed import Feed
from keywright.edge.sync.reporting import Reports
from keywright.edge.sync.wiring import (
    new_borrowing,
    new_delivering,
    new_election,
    new_http_feed,
    new_http_lease_channel,
    new_http_reports,
    new_http_share_channel,
    new_http_usage_channel,
    new_sharing,
)
from keywright.edge.usage.channels import NatsUsageChannel
from keywright.edge.usage.delivering import UsageChannel
from keywright.edge.usage.edge_usage import SPOOL_MIB, EdgeUsage
from keywright.policy.source import READY_SECONDS, ReplicaSource
from keywright.protocol.reports import edge_name_of, is_edge_name
from keywright.runtime import extras, tasks

if TYPE_CHECKING:
    import threading
    from pathlib import Path

    from keywright.edge.sync.leader_election import LeaderElection
    from keywright.runtime.nats_options import NatsOptions


class OpenFeed(Feed, Protocol):
    """A feed that holds a connection."""

    async def close(self) -> None: ...


class OpenReports(Reports, Protocol):
    """Reports that go over a connection."""

    async def close(self) -> None: ...


class OpenShareChannel(ShareChannel, Protocol):
    """A way to ask for shares that holds a connection."""

    async def close(self) -> None: ...


class OpenLeaseChannel(LeaseChannel, Protocol):
    """A way to ask for quotas that holds a connection."""

    async def close(self) -> None: ...


NewFeed = Callable[[Digester, str], OpenFeed]
NewReports = Callable[[Digester, str], OpenReports]
NewShares = Callable[[Digester, str], OpenShareChannel]
NewLeases = Callable[[Digester, str], OpenLeaseChannel]
NewUsage = Callable[[Digester, str], UsageChannel]


class Options(TypedDict, total=False):
    """What there is to say of an embedded replica, whatever it follows. See EmbeddedReplica."""

    pepper: str | None
    pepper_file: str | Path | None
    ready_seconds: float
    name: str | None
    region: str
    usage_spool_mib: int


class EmbeddedReplica(ReplicaSource):
    """A source for a policy, kept in `directory` (one of its own: not that of a `keywright edge`)."""

    def __init__(
        self,
        directory: str | Path,
        new_feed: NewFeed,
        new_reports: NewReports | None = None,
        new_shares: NewShares | None = None,
        new_leases: NewLeases | None = None,
        new_usage: NewUsage | None = None,
        *,
        pepper: str | None = None,
        pepper_file: str | Path | None = None,
        ready_seconds: float = READY_SECONDS,
        name: str | None = None,
        region: str = "",
        usage_spool_mib: int = SPOOL_MIB,
    ) -> None:
        """`new_feed` and the others are called with the replica's name in the thread that follows. Without
        `new_reports` no write waits for this replica; without `new_shares` it has all of each rate limit for itself;
        without `new_leases` nothing of a quota. Without `new_usage`, or with 0 MiB for what the origin has yet to take,
        nobody is told of the keys' use.
        The pepper is the origin's, `pepper.key` in the directory unless it is said where else. `name` (that of the
        host) and `region` are what the list of edges shows.

        Raises ValueError. The pepper is read when the replica is opened.
        """
        # Who asks nobody for its share of limits of all edges is taken to be alone.
        first_share = 1.0 if new_shares is None else 0.0
        super().__init__(
            directory, pepper=pepper, pepper_file=pepper_file, ready_seconds=ready_seconds, first_share=first_share
        )
        self._new_shares = new_shares
        self._new_leases = new_leases
        self._new_usage_channel = new_usage
        self._usage_spool_mib = usage_spool_mib
        self._new_feed = new_feed
        self._new_reports = new_reports
        self._name = edge_name_of(socket.gethostname()) if name is None else name
        self._region = region
        for text in (self._name, region or self._name):
            if not is_edge_name(text):
                raise ValueError(f"name and region are 1 to 64 of A-Z, a-z, 0-9, ., _ and -, not {text[:40]!r}")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._election: LeaderElection | None = None

    @classmethod
    def from_origin(
        cls, origin: str, *, token: str, directory: str | Path, **options: Unpack[Options]
    ) -> EmbeddedReplica:
        """Follows the origin at this address over HTTP. `token` is a management key with `feed: true`.

        Raises ValueError.
        """
        if not origin.startswith(("https://", "http://")) or "@" in origin:
            raise ValueError("the origin is an address, such as https://keys.internal")
        secret = Secret(token)
        source = cls(
            directory,
            lambda digester, name: new_http_feed(origin, secret, digester, source._origin_clock, edge_name=name),
            lambda digester, name: new_http_reports(
                origin, secret, digester, source._origin_clock, edge_name=name, on_time=source._origin_clock.hear
            ),
            lambda digester, name: new_http_share_channel(origin, secret, digester, edge_name=name),
            lambda digester, name: new_http_lease_channel(origin, secret, digester, edge_name=name),
            lambda digester, name: new_http_usage_channel(origin, secret, digester, edge_name=name),
            **options,
        )
        return source

    @classmethod
    def from_broker(cls, broker: NatsOptions, *, directory: str | Path, **options: Unpack[Options]) -> EmbeddedReplica:
        """Follows the NATS broker that an origin relays to. Raises ValueError, MissingExtra."""
        extras.require("nats", "nats", "A NATS broker")
        # Its client is loaded by those who use it.
        from keywright.edge.sync.nats_feed import NatsFeed
        from keywright.edge.sync.nats_reports import NatsReports

        source = cls(
            directory,
            lambda digester, name: NatsFeed(broker, digester, source._origin_clock, edge_name=name),
            lambda digester, name: NatsReports(
                broker, digester, source._origin_clock, edge_name=name, on_time=source._origin_clock.hear
            ),
            lambda digester, name: NatsShareChannel(broker, digester, source._origin_clock, edge_name=name),
            lambda digester, name: NatsLeaseChannel(broker, digester, source._origin_clock, edge_name=name),
            lambda digester, name: NatsUsageChannel(broker, digester, source._origin_clock, edge_name=name),
            **options,
        )
        return source

    @property
    def is_synced(self) -> bool:
        """Whether the replica has everything that the record has, as far as is known."""
        election = self._election
        return election is not None and election.is_synced

    @property
    def reason(self) -> str | None:
        """Why the replica is not in step, if it isn't and that is known."""
        election = self._election
        return super().reason if election is None else election.reason

    def _open_replica(self, guard: threading.Lock) -> Replica:
        pepper_check, lag_seconds = self._digester.pepper_check(), self._sync_clock.lag_seconds
        return Replica.open_or_replace(
            self.replica_directory, pepper_check, lag_seconds=lag_seconds, guard=guard, abandon_seconds=0.0
        )

    def _new_usage(self, replica: Replica) -> EdgeUsage | None:
        if self._new_usage_channel is None:
            return None
        identity = Identity.load(self.directory, name=self._name, region=self._region)
        return EdgeUsage.of_edge(self.directory, identity, replica, self._origin_clock, spool_mib=self._usage_spool_mib)

    def _deliver_last(self, usage: EdgeUsage) -> None:
        if self._new_usage_channel is not None:
            asyncio.run(self._deliver(usage, self._new_usage_channel(self._digester, self._name)))

    async def _deliver(self, usage: EdgeUsage, channel: UsageChannel) -> None:
        try:
            await new_delivering(usage, channel, self._clock.elapsed).deliver_last()
        finally:
            await channel.close()

    def _keep(self, replica: Replica) -> None:
        asyncio.run(self._follow(replica))

    async def _follow(self, replica: Replica) -> None:
        stop = self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        if self._stopping.is_set():
            stop.set()
        feed = self._new_feed(self._digester, self._name)
        reports = None if self._new_reports is None else self._new_reports(self._digester, self._name)
        identity = Identity.load(self.directory, name=self._name, region=self._region)
        lender = NoLeaseChannel() if self._new_leases is None else self._new_leases(self._digester, self._name)
        channel = None if self._new_shares is None else self._new_shares(self._digester, self._name)
        usage, usage_channel, delivering = self._usage, None, None
        if usage is not None and self._new_usage_channel is not None:
            usage_channel = self._new_usage_channel(self._digester, self._name)
            delivering = new_delivering(usage, usage_channel, self._clock.elapsed)

        sharing = None
        if channel is not None:
            how = channel, identity, self._clock.elapsed
            sharing = new_sharing(replica, self.replica_directory, self._table, *how)
        # An application closes and opens it as its server has it, also while the origin is away: that is no goodbye.
        self._election = new_election(
            replica,
            self.replica_directory,
            feed,
            self._origin_clock,
            self._sync_clock,
            identity,
            reports,
            self._lease,
            says_goodbye=False,
            sharing=sharing,
            borrowing=new_borrowing(replica, self.replica_directory, lender, identity, self._clock.elapsed),
            delivering=delivering,
        )
        sealing = None if usage is None else asyncio.create_task(usage.run_until(stop))
        try:
            await self._election.run(stop)
        finally:
            if sealing is not None:
                await tasks.end(sealing)
            self._loop = self._election = None
            await feed.close()
            if reports is not None:
                await reports.close()
            if channel is not None:
                await channel.close()
            await lender.close()
            if usage_channel is not None:
                await usage_channel.close()

    def _wake(self) -> None:
        loop = self._loop
        if loop is not None:
            # A loop that has ended meanwhile needs no waking.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._stop.set)
