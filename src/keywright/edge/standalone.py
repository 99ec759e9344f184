"""What each worker process of `keywright edge` runs: the edge's doors on a replica that follows a remote origin.

It answers from its disk from the first moment on, whether the origin can be reached or not.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from keywright import secretfiles, server
from keywright.core.problems import NotFound
from keywright.edge import http
from keywright.edge.app import EdgeApp
from keywright.edge.following import new_feed, new_reports
from keywright.edge.identity import Identity
from keywright.edge.in_step import InStep
from keywright.edge.membership import new_member
from keywright.edge.replica import Replica
from keywright.edge.validator import Validator
from keywright.settings import EdgeSettings
from keywright.telemetry import configure_logs

if TYPE_CHECKING:
    from keywright.edge.http import Receive, Scope, Send

log = logging.getLogger("keywright.edge")


class StandaloneApp:
    """ASGI: the edge's doors and the pages that tell how it is doing."""

    def __init__(self, settings: EdgeSettings) -> None:
        digester = secretfiles.load_digester(settings.pepper, settings.pepper_file)
        in_step = InStep(settings.in_step_file)
        self._replica = Replica.open_or_replace(
            settings.replica_dir, digester.pepper_check(), lag_seconds=in_step.lag_seconds
        )
        self._feed = new_feed(settings, digester)
        self._reports = new_reports(settings, digester)
        identity = Identity.load(settings.data_dir, name=settings.name, region=settings.region)
        self._member = new_member(self._replica, settings.replica_dir, self._feed, in_step, identity, self._reports)
        self._edge = EdgeApp(
            Validator(self._replica, digester),
            self._member,
            registry=CollectorRegistry(),
            token_required=settings.validation_token_required,
            auth_header=settings.forward_auth_header,
            auth_scheme=settings.forward_auth_scheme,
            min_revision_seconds=settings.min_revision_millis / 1000,
        )
        self._stop = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await server.live(receive, send, start=self.start, stop=self.stop, log=log)
        elif (door := self._edge.find_door(scope["path"])) is not None:
            await door(scope, receive, send)
        else:
            await http.send_problem(scope, send, NotFound("There is nothing at this address."))

    async def start(self) -> None:
        self._running = asyncio.create_task(self._member.run(self._stop))

    async def stop(self) -> None:
        self._stop.set()
        if self._running is not None:
            await self._running
        await self._feed.close()
        await self._reports.close()
        self._replica.close()


def create_app() -> StandaloneApp:
    """Built in the worker, after the fork: an LMDB environment must not be carried through one."""
    settings = EdgeSettings.load()
    configure_logs(settings.log_level)
    return StandaloneApp(settings)
