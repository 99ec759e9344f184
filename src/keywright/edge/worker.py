"""Owns what each worker process of `keywright edge` runs: the edge's endpoints on a replica that follows an origin.

It answers from its disk from the first moment on, whether the origin can be reached or not.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from keywright.domain.networks import Networks
from keywright.edge.app import new_edge_app
from keywright.edge.haproxy.maps import HaproxyMaps
from keywright.edge.identity import Identity
from keywright.edge.limits.table import LIMITS_DIRECTORY, LimitTable
from keywright.edge.replica import origin_clock
from keywright.edge.replica.freshness import SyncClock
from keywright.edge.replica.lease import Lease
from keywright.edge.replica.origin_clock import OriginClock
from keywright.edge.replica.replica import ABANDON_SECONDS, Replica
from keywright.edge.sync.wiring import (
    new_borrowing,
    new_delivering,
    new_election,
    new_feed,
    new_lease_channel,
    new_reports,
    new_share_channel,
    new_sharing,
    new_usage_channel,
)
from keywright.edge.usage.edge_usage import EdgeUsage
from keywright.http.client_address import ClientAddresses
from keywright.http.connections import Connections
from keywright.runtime import secret_files, server
from keywright.runtime.clock import Clock
from keywright.runtime.disk import MIB, Disk
from keywright.runtime.logging import configure_logs
from keywright.runtime.settings import EdgeSettings

if TYPE_CHECKING:
    from keywright.edge.http.endpoint import Receive, Scope, Send

log = logging.getLogger("keywright.edge")


class EdgeWorker:
    """ASGI: the edge's endpoints, and the lifespan that begins and ends what goes on beside them."""

    def __init__(self, settings: EdgeSettings) -> None:
        digester = secret_files.load_digester(settings.pepper, settings.pepper_file)
        machine_clock = Clock()
        clock = OriginClock(settings.replica_dir / origin_clock.FILE, machine_clock)
        sync_clock = SyncClock(settings.sync_clock_file, machine_clock)
        self._replica = Replica.open_or_replace(
            settings.replica_dir,
            digester.pepper_check(),
            lag_seconds=sync_clock.lag_seconds,
            abandon_seconds=ABANDON_SECONDS,
        )
        disk = self._replica.disk = Disk([settings.data_dir], settings.disk_reserve_mib * MIB)
        lease = Lease(
            settings.replica_dir / "lease.json",
            machine_clock,
            sync_clock.lag_seconds,
            seconds=settings.refuse_after_seconds,
        )
        self._replica.bind(lease)
        self._feed = new_feed(settings, digester, clock)
        self._reports = new_reports(settings, digester, clock)
        self._share_channel = new_share_channel(settings, digester, clock)
        self._lease_channel = new_lease_channel(settings, digester, clock)
        self._usage_channel = new_usage_channel(settings, digester, clock)
        # Who follows is told what it has of limits of all edges; who follows nobody is taken to be alone.
        table = LimitTable(
            settings.replica_dir / LIMITS_DIRECTORY, clock.elapsed, first_share=0.0 if settings.is_following else 1.0
        )
        identity = Identity.load(settings.data_dir, name=settings.name, region=settings.region)
        self._haproxy = self._new_haproxy_maps(settings, machine_clock)
        spool_mib = settings.usage_spool_mib if settings.is_following else 0
        self._usage = EdgeUsage.of_edge(
            settings.data_dir,
            identity,
            self._replica,
            clock,
            spool_mib=spool_mib,
            interval_seconds=settings.usage_interval_seconds,
        )
        self._delivering = None
        if self._usage is not None:
            self._delivering = new_delivering(self._usage, self._usage_channel, clock.elapsed)

        sharing = None
        if settings.is_following:
            how = self._share_channel, identity, clock.elapsed
            sharing = new_sharing(self._replica, settings.replica_dir, table, *how)
        # Who follows nobody is told so when it asks: what holds then the bucket's owner has said.
        borrowing = new_borrowing(self._replica, settings.replica_dir, self._lease_channel, identity, clock.elapsed)
        self._election = new_election(
            self._replica,
            settings.replica_dir,
            self._feed,
            clock,
            sync_clock,
            identity,
            self._reports,
            lease,
            mirror=self._haproxy,
            # HAProxy goes on believing its maps.
            late_seconds=settings.haproxy_lease_seconds if settings.haproxy is not None else 0.0,
            sharing=sharing,
            borrowing=borrowing,
            delivering=self._delivering,
        )
        self._table, self._is_following = table, settings.is_following
        client_addresses = ClientAddresses(Networks(settings.trusted_proxies), settings.client_address_header)
        self._edge = new_edge_app(
            settings, self._replica, digester, self._election, clock, disk, client_addresses, table, self._usage
        )
        self._disk = disk
        self._connections = Connections(
            server.ceilings(settings.port, settings.grpc_port),
            per_address=settings.connections_per_address,
            is_trusted=client_addresses.is_trusted,
        )
        self._grpc = None
        if settings.grpc_port:
            self._grpc = self._edge.new_grpc_server(settings.host, settings.grpc_port, self._connections.seen.add)
        self._stop = asyncio.Event()
        self._running: list[asyncio.Task[None]] = []
        """What ends when `_stop` is set."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await server.asgi_lifespan(receive, send, start=self.start, stop=self.stop, log=log)
        else:
            # Found first, then awaited from here: the hot path makes no call more than it must.
            self._connections.seen.add(scope.get("client"))
            await (self._edge.find_endpoint(scope["path"]) or self._edge)(scope, receive, send)

    async def start(self) -> None:
        if not self._is_following:
            try:
                self._table.set_fallback_share(1.0)
            except OSError as error:
                log.warning("rate limits can't be counted: %s", error)
        if self._grpc is not None:
            await self._grpc.start()
        runs = [self._election.run, self._edge.run, self._disk.run, self._connections.run]
        if self._haproxy is not None:
            runs.append(self._haproxy.run)
        if self._usage is not None:
            runs.append(self._usage.run)
        self._running = [asyncio.create_task(run(self._stop)) for run in runs]

    async def stop(self) -> None:
        if self._grpc is not None:
            await self._grpc.stop()
        self._stop.set()
        await asyncio.gather(*self._running)
        if self._delivering is not None:
            await self._delivering.deliver_last()
        await self._feed.close()
        await self._reports.close()
        await self._share_channel.close()
        await self._lease_channel.close()
        await self._usage_channel.close()
        self._replica.close()
        self._edge.takers.close()

    def _new_haproxy_maps(self, settings: EdgeSettings, clock: Clock) -> HaproxyMaps | None:
        if settings.haproxy is None:
            return None
        maps = HaproxyMaps(
            settings.haproxy,
            self._replica,
            is_following=lambda: self._election.is_following,
            lease_seconds=settings.haproxy_lease_seconds,
            clock=clock.millis,
            note_path=settings.replica_dir / "haproxy.json",
        )
        self._replica.observer = maps
        return maps


def create_app() -> EdgeWorker:
    """Built in the worker, after the fork: an LMDB environment must not be carried through one."""
    settings = EdgeSettings.load()
    configure_logs(settings.log_level, settings.log_format)
    return EdgeWorker(settings)
