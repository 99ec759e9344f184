"""What each worker process of `keywright serve` runs: the origin's doors and an embedded edge, on one port.

All workers share one replica on disk. The worker that commits a change brings the replica up to it before it answers,
so the next request sees it on whichever worker it lands. A worker starts, and goes on answering validations, while
the database is away.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

from prometheus_client import CollectorRegistry

from keywright import server
from keywright.core.changes import Batch, Change
from keywright.edge.app import EdgeApp, new_signer
from keywright.edge.feeds import Snapshot, SnapshotNeeded
from keywright.edge.replica import Replica
from keywright.edge.sync import Follower
from keywright.edge.validator import Validator
from keywright.origin.app import create_app as create_origin
from keywright.origin.http import NotAppliedHere, RateLimiter, Services
from keywright.origin.store import logs
from keywright.origin.store.database import Database
from keywright.origin.store.logs import Deployment
from keywright.serve.first_start import make_tools
from keywright.settings import OriginSettings
from keywright.telemetry import configure_logs

log = logging.getLogger("keywright.serve")

BATCH_SIZE = 1000
REFUSALS_LOGGED_PER_SECOND = 5
FIRST_LOOK_SECONDS = 30

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class RecordFeed:
    """The feed of an edge that sits beside the record: it reads the change log itself."""

    batch_size = BATCH_SIZE

    def __init__(self, database: Database) -> None:
        self._database = database

    async def deployment_id(self) -> str:
        async with self._database.read() as tx:
            found = await logs.find_deployment(tx)
            return _known(found).id

    async def changes(self, after: int) -> Batch:
        async with self._database.read() as tx:
            head = _known(await logs.find_deployment(tx)).revision
            rows = await logs.list_changes(tx, after=after, limit=self.batch_size)
        if after > head or (not rows and after < head) or (rows and rows[0][0] != after + 1):
            raise SnapshotNeeded(f"the record can't lead on from revision {after}")
        return Batch(after, [change for _, change in rows])

    async def snapshot(self) -> Snapshot:
        stack = AsyncExitStack()
        try:
            tx = await stack.enter_async_context(self._database.read(is_snapshot=True))
            found = _known(await logs.find_deployment(tx))
        except BaseException:
            await stack.aclose()
            raise
        pages = _Pages(logs.stream_snapshot(tx), stack)
        return Snapshot(found.id, found.pepper_check, found.revision, pages)


class _Pages:
    """The pages of a snapshot with the transaction that they are read in, which ends however few of them are read."""

    def __init__(self, pages: AsyncIterator[Sequence[Change]], transaction: AsyncExitStack) -> None:
        self._pages = pages
        self._transaction = transaction

    def __aiter__(self) -> AsyncIterator[Sequence[Change]]:
        return self

    async def __anext__(self) -> Sequence[Change]:
        return await anext(self._pages)

    async def aclose(self) -> None:
        await self._transaction.aclose()


class EmbeddedApp:
    """ASGI: validations go to the edge, everything else to the origin."""

    def __init__(self, settings: OriginSettings) -> None:
        tools = make_tools(settings)
        self._database = Database(settings.database_url)
        self._replica = Replica.open_or_replace(settings.replica_dir, tools.digester.pepper_check())
        self._follower = Follower(self._replica, RecordFeed(self._database))
        self._edge = EdgeApp(
            Validator(self._replica, tools.digester),
            self._follower,
            registry=CollectorRegistry(),
            token_required=settings.validation_token_required,
            auth_header=settings.forward_auth_header,
            auth_scheme=settings.forward_auth_scheme,
            signer=new_signer(settings, tools.digester),
        )
        self._origin = create_origin(
            Services(
                self._database,
                tools,
                self._apply,
                RateLimiter(settings.management_rate_limit),
                RateLimiter(REFUSALS_LOGGED_PER_SECOND),
            )
        )
        self._grpc = self._edge.new_grpc_server(settings.host, settings.grpc_port) if settings.grpc_port else None
        self._stop = asyncio.Event()
        self._following: asyncio.Task[None] | None = None
        self._is_worker = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await server.live(receive, send, start=self._start_worker, stop=self.stop, log=log)
        else:
            # Found first, then awaited from here: the hot path makes no call more than it must.
            door = self._edge.find_door(scope["path"])
            if door is None:
                door = self._origin
                if self._is_worker:
                    self._is_worker = False
                    server.when_stopping(self._end_streams)
            await door(scope, receive, send)

    async def start(self) -> None:
        """In step with the record if it can be reached; if not, the replica answers for what it has."""
        try:
            await asyncio.wait_for(self._follower.catch_up(), FIRST_LOOK_SECONDS)
        except Exception as error:  # noqa: BLE001
            log.warning("started without the record: %s", error)
        self._following = asyncio.create_task(self._follower.run(self._stop))
        if self._grpc is not None:
            await self._grpc.start()

    async def stop(self) -> None:
        if self._grpc is not None:
            await self._grpc.stop()
        self._stop.set()
        self._origin.state.feed.stop()
        if self._following is not None:
            await self._following
        await self._follower.close()
        self._replica.close()
        await self._database.close()

    async def _apply(self, revision: int) -> None:
        """The bell: a committed change is in this machine's replica before its answer goes out."""
        try:
            await self._follower.catch_up()
        except Exception as error:
            log.exception("revision %d is committed but not applied here", revision)
            raise NotAppliedHere from error

    def _end_streams(self) -> None:
        self._loop.call_soon_threadsafe(self._origin.state.feed.stop)

    async def _start_worker(self) -> None:
        self._loop, self._is_worker = asyncio.get_running_loop(), True
        await self.start()


def create_app() -> EmbeddedApp:
    """Built in the worker, after the fork: an LMDB environment must not be carried through one."""
    settings = OriginSettings.load()
    configure_logs(settings.log_level)
    return EmbeddedApp(settings)


def _known(found: Deployment | None) -> Deployment:
    if found is None:
        raise RuntimeError("the record has no deployment: it was not bootstrapped")
    return found
