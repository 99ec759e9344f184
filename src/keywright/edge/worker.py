"""What each worker process of `keywright edge` runs: the edge's doors on a replica that follows a remote origin.

It answers from its disk from the first moment on, whether the origin can be reached or not.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from keywright.domain.problems import NotFound
from keywright.edge.app import EdgeApp, new_signer
from keywright.edge.haproxy.maps import HaproxyMaps
from keywright.edge.http import endpoint as http
from keywright.edge.identity import Identity
from keywright.edge.replica.freshness import SyncClock
from keywright.edge.replica.replica import Replica
from keywright.edge.sync.wiring import new_election, new_feed, new_reports
from keywright.edge.validator import Validator
from keywright.runtime import secret_files, server
from keywright.runtime.clock import Clock
from keywright.runtime.logging import configure_logs
from keywright.runtime.settings import EdgeSettings

if TYPE_CHECKING:
    from keywright.edge.http.endpoint import Receive, Scope, Send

log = logging.getLogger("keywright.edge")


class EdgeWorker:
    """ASGI: the edge's doors and the pages that tell how it is doing."""

    def __init__(self, settings: EdgeSettings) -> None:
        digester = secret_files.load_digester(settings.pepper, settings.pepper_file)
        clock = Clock()
        sync_clock = SyncClock(settings.sync_clock_file, clock)
        self._replica = Replica.open_or_replace(
            settings.replica_dir, digester.pepper_check(), lag_seconds=sync_clock.lag_seconds
        )
        self._feed = new_feed(settings, digester, clock)
        self._reports = new_reports(settings, digester, clock)
        identity = Identity.load(settings.data_dir, name=settings.name, region=settings.region)
        self._election = new_election(
            self._replica, settings.replica_dir, self._feed, clock, sync_clock, identity, self._reports
        )
        self._edge = EdgeApp(
            Validator(self._replica, digester, clock.millis),
            self._election,
            registry=CollectorRegistry(),
            token_required=settings.validation_token_required,
            auth_header=settings.forward_auth_header,
            auth_scheme=settings.forward_auth_scheme,
            identity_headers=settings.identity_headers,
            min_revision_seconds=settings.min_revision_millis / 1000,
            signer=new_signer(settings, digester),
        )
        self._grpc = self._edge.new_grpc_server(settings.host, settings.grpc_port) if settings.grpc_port else None
        self._haproxy = self._new_haproxy_maps(settings, clock)
        self._stop = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._mirroring: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await server.live(receive, send, start=self.start, stop=self.stop, log=log)
        elif (door := self._edge.find_endpoint(scope["path"])) is not None:
            await door(scope, receive, send)
        else:
            await http.send_problem(scope, send, NotFound("There is nothing at this address."))

    async def start(self) -> None:
        if self._grpc is not None:
            await self._grpc.start()
        self._running = asyncio.create_task(self._election.run(self._stop))
        if self._haproxy is not None:
            self._mirroring = asyncio.create_task(self._haproxy.run(self._stop))

    async def stop(self) -> None:
        if self._grpc is not None:
            await self._grpc.stop()
        self._stop.set()
        for task in (self._mirroring, self._running):
            if task is not None:
                await task
        await self._feed.close()
        await self._reports.close()
        self._replica.close()

    def _new_haproxy_maps(self, settings: EdgeSettings, clock: Clock) -> HaproxyMaps | None:
        if settings.haproxy is None:
            return None
        maps = HaproxyMaps(
            settings.haproxy,
            self._replica,
            is_following=lambda: self._election.is_following,
            lease_seconds=settings.haproxy_lease_seconds,
            clock=clock.millis,
        )
        self._replica.observer = maps
        return maps


def create_app() -> EdgeWorker:
    """Built in the worker, after the fork: an LMDB environment must not be carried through one."""
    settings = EdgeSettings.load()
    configure_logs(settings.log_level)
    return EdgeWorker(settings)
