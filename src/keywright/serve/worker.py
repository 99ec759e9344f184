"""Owns what each worker process of `keywright serve` runs: the origin's endpoints and an edge beside them, on one port.

All workers share one replica on disk. The worker that commits a change brings the replica up to it before it answers,
so the next request sees it on whichever worker it lands. A worker starts, and goes on answering validations, while
the database is away.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keywright.domain.networks import Networks
from keywright.edge import state_page
from keywright.edge.app import new_edge_app
from keywright.edge.identity import Identity
from keywright.edge.limits.table import LIMITS_DIRECTORY, LimitTable
from keywright.edge.replica.freshness import SyncClock, find_boot_id
from keywright.edge.replica.replica import ABANDON_SECONDS, Replica, ReplicaBroken
from keywright.edge.state_page import StatePage
from keywright.edge.sync.feed import Snapshot, SnapshotNeeded
from keywright.edge.sync.loop import LONGEST_PAUSE_SECONDS, POLL_SECONDS, SyncLoop
from keywright.edge.sync.presence import Presence
from keywright.edge.sync.wiring import new_borrowing, new_delivering, new_sharing
from keywright.edge.usage.edge_usage import EdgeUsage
from keywright.http.client_address import ClientAddresses
from keywright.http.connections import Connections
from keywright.origin.app import create_app as create_origin
from keywright.origin.auth.end_users import EndUsers
from keywright.origin.auth.oidc.authorization import Client
from keywright.origin.auth.oidc.provider import Provider
from keywright.origin.auth.sessions import Team
from keywright.origin.db import commit_log
from keywright.origin.db.commit_log import NotKept
from keywright.origin.db.engine import DatabaseUnavailable
from keywright.origin.db.metrics import DatabaseSource
from keywright.origin.db.snapshot_stream import stream_snapshot
from keywright.origin.db.transaction import Database
from keywright.origin.deployment.store import Deployment, find_deployment
from keywright.origin.edges.metrics import EdgeSource
from keywright.origin.edges.registry import Edges
from keywright.origin.grants.ends import GrantEnds
from keywright.origin.limits.rules import Shares
from keywright.origin.mail import Mailer, SmtpServer
from keywright.origin.pipeline.publish import NotAppliedHere
from keywright.origin.pipeline.rate_limit import RateLimiter
from keywright.origin.pipeline.services import Services
from keywright.origin.pipeline.wrong_keys import WrongKeys
from keywright.origin.quotas import losses, schedules
from keywright.origin.quotas.metrics import LedgerSource
from keywright.origin.usage.folding import Folder
from keywright.origin.usage.intake.first_uses import FirstUses
from keywright.origin.usage.intake.rules import Intake
from keywright.origin.usage.store import append
from keywright.protocol.changes import Batch, Change, Cursor, decode
from keywright.protocol.reports import Report
from keywright.runtime import server, tasks
from keywright.runtime.backoff import Backoff
from keywright.runtime.clock import Clock
from keywright.runtime.disk import MIB, Disk
from keywright.runtime.logging import configure_logs
from keywright.runtime.settings import EndUserSettings, OriginSettings
from keywright.serve import deployment_id, file_state
from keywright.serve.file_state import FileState
from keywright.serve.first_start import make_dependencies
from keywright.serve.own_edge import BORROWING_LOCK, SHARING_LOCK, OwnLeaseChannel, OwnShareChannel, run_in_one
from keywright.serve.own_usage import OwnUsageChannel

if TYPE_CHECKING:
    from keywright.domain.keyformat import Digester
    from keywright.origin.feed.nats_publisher import NatsPublishers

log = logging.getLogger("keywright.serve")

BATCH_SIZE = 1000
LOOK_SECONDS = 0.25
"""For so long after a look at the record what this process has committed goes to the replica without another."""
REFUSALS_LOGGED_PER_SECOND = 5
FIRST_LOOK_SECONDS = 30

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class WrongRecord(Exception):
    """The database holds another deployment than the one that this process was started for, or none."""


class OwnBatch(Batch):
    """Of what this process has committed. Another one may have committed more."""

    is_newest = False


class RecordFeed:
    """The feed of an edge that sits beside the record: it reads the change log itself.

    `id` is the deployment that this process was started for. A database that is exchanged for another one's while it
    runs must not empty the replica either. What this process has committed itself it need not read, but for a look from
    time to time at what others have.
    """

    def __init__(self, database: Database, id: str | None, elapsed: Callable[[], float]) -> None:
        self._elapsed = elapsed
        self._looked_at = -math.inf
        self._database = database
        self._id = id
        self._nothing_after: Cursor | None = None
        self._unchanged = file_state.UNKNOWN
        """How the database's files were before nothing was found after that cursor."""

    def is_last(self, batch: Batch) -> bool:
        return len(batch.changes) < BATCH_SIZE

    async def deployment_id(self) -> str:
        return self._known(await self._database.run_read(find_deployment)).id

    async def changes(self, after: Cursor) -> Batch:
        own = self._database.recent.after(after)[:BATCH_SIZE]
        if own and self._elapsed() - self._looked_at < LOOK_SECONDS:
            return OwnBatch(after, [decode(body) for _, body in own], own[-1].cursor)
        self._looked_at = self._elapsed()
        # Four times a second a look at two files tells that nothing was committed by anybody.
        state = FileState.of(self._database.file)
        if state.is_known and state == self._unchanged and after == self._nothing_after:
            return Batch(after, [], after)
        try:
            rows = await self._database.run_read(partial(commit_log.lead_on, after=after, limit=BATCH_SIZE))
        except NotKept as error:
            reason = str(error)
        else:
            self._unchanged, self._nothing_after = state, None if rows else after
            cursor = rows[-1].cursor if rows else after
            return Batch(after, [change for _, change in rows], cursor)
        async with self._database.write() as tx:
            self._known(await find_deployment(tx))
            await losses.note_lost_cursor(tx, after)
            if await commit_log.note_loss(tx, after):
                log.error("the record went back to before revision %d: it was restored, or failed over", after.revision)
        raise SnapshotNeeded(reason)

    async def snapshot(self) -> Snapshot:
        stack = AsyncExitStack()
        try:
            tx = await stack.enter_async_context(self._database.read(is_snapshot=True))
            found = self._known(await find_deployment(tx))
        except BaseException:
            await stack.aclose()
            raise
        pages = _Pages(stream_snapshot(tx), stack)
        return Snapshot(found.id, found.pepper_check, found.head, pages)

    def _known(self, found: Deployment | None) -> Deployment:
        if found is None:
            raise WrongRecord("the database holds no deployment")
        if self._id is not None and found.id != self._id:
            raise WrongRecord(f"the database holds deployment {found.id}, but this service is of {self._id}")
        return found


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


def _publish_state(replica_dir: Path) -> None:
    """Say, for readers of the replica that are no Python: the record is here, its clock is this machine's, and it is no
    edge's that promised anything.
    """
    page = StatePage(replica_dir / state_page.FILE, find_boot_id())
    try:
        page.put_clock(None, None)
        page.put_lease(None, None, replica_dir / "lease.json")
    except OSError as error:
        log.warning("can't write the page of state in %s: %s", replica_dir, error.strerror)


class ServeWorker:
    """ASGI: validations go to the edge, everything else to the origin."""

    def __init__(self, settings: OriginSettings) -> None:
        dependencies = make_dependencies(settings)
        self._database = Database(settings.database_url)
        clock = Clock()
        sync_clock = SyncClock(settings.replica_dir / "in-step.json", clock)
        self._replica = Replica.open_or_replace(
            settings.replica_dir,
            dependencies.digester.pepper_check(),
            lag_seconds=sync_clock.lag_seconds,
            abandon_seconds=ABANDON_SECONDS,
        )
        disk = self._disk = Disk(_directories(settings, self._database), settings.disk_reserve_mib * MIB)
        self._replica.disk = disk
        commits = self._database.commits
        self._sync_loop = SyncLoop(
            self._replica,
            RecordFeed(self._database, deployment_id.find_marked(settings), clock.elapsed),
            clock,
            sync_clock,
            Backoff(POLL_SECONDS, LONGEST_PAUSE_SECONDS, random.uniform),
            poll_seconds=lambda: commits.poll_seconds(POLL_SECONDS),
        )
        commits.subscribe(self._sync_loop.wake)
        self._identity = Identity.load(settings.data_dir, name=settings.edge_name, region=settings.region)
        dependencies = replace(dependencies, own_edge=self._identity.instance)
        self._edges = Edges(self._database, self._report, retire_seconds=settings.edge_retire_hours * 3600)
        self._shares = Shares(self._database, clock.elapsed)
        hours_days = settings.usage_hours_days
        self._folder = Folder(self._database, hours_days=hours_days, days_kept=settings.usage_days_kept)
        self._intake = Intake(
            self._database, partial(append, first_uses=FirstUses()), clock.millis, clock.elapsed, hours_days=hours_days
        )
        self._usage = EdgeUsage.of_edge(
            settings.data_dir,
            self._identity,
            self._replica,
            clock,
            spool_mib=settings.usage_spool_mib,
            interval_seconds=settings.usage_interval_seconds,
        )
        self._grant_ends = GrantEnds(self._database, dependencies.clock, self._apply)
        end_users = _end_users(settings.end_users)
        client_addresses = ClientAddresses(Networks(settings.trusted_proxies), settings.client_address_header)
        table = LimitTable(settings.replica_dir / LIMITS_DIRECTORY, clock.elapsed, first_share=0.0)
        self._edge = new_edge_app(
            settings,
            self._replica,
            dependencies.digester,
            self._sync_loop,
            clock,
            disk,
            client_addresses,
            table,
            self._usage,
        )
        self._sharing = new_sharing(
            self._replica,
            settings.replica_dir,
            table,
            OwnShareChannel(self._shares),
            self._identity,
            clock.elapsed,
        )
        self._borrowing = new_borrowing(
            self._replica,
            settings.replica_dir,
            OwnLeaseChannel(self._database, dependencies.random_bytes),
            self._identity,
            clock.elapsed,
        )
        self._delivering = (
            None if self._usage is None else new_delivering(self._usage, OwnUsageChannel(self._intake), clock.elapsed)
        )
        self._replica_dir = settings.replica_dir
        _publish_state(settings.replica_dir)
        self._connections = Connections(
            server.ceilings(settings.port, settings.grpc_port),
            per_address=settings.connections_per_address,
            is_trusted=client_addresses.is_trusted,
        )
        services = Services(
            self._database,
            dependencies,
            (self._apply,),
            RateLimiter(settings.management_rate_limit),
            RateLimiter(REFUSALS_LOGGED_PER_SECOND),
            self._edges,
            self._shares,
            self._intake,
            end_users=end_users,
            team=_team(settings.end_users, end_users),
            end_user_rate=RateLimiter(settings.end_users.rate_limit),
            cors_origins=settings.end_users.cors_origins,
            mailer=_mailer(settings.end_users),
            disk=disk,
            feed_streams_of_token=settings.feed_streams_per_token,
            client_addresses=client_addresses,
            wrong_keys=WrongKeys(settings.wrong_keys_per_minute),
            public_url=settings.end_users.public_url,
        )
        self._origin = create_origin(services, clock)
        self._publisher = self._new_publisher(settings, dependencies.digester, clock)
        self._edge.health.warn_of(self._list_warnings)
        self._edge.health.tell("time_zones", schedules.edition())
        self._database_source = DatabaseSource(self._database)
        self._edge_source = EdgeSource(self._database, self._edges)
        self._ledger_source = LedgerSource(self._database)
        origin_sources = services.request_counts, self._database_source, self._edge_source, self._ledger_source
        self._edge.metrics.sources.extend(origin_sources)
        self._edge.replica_source.list_old_readers = self._edges.list_old_readers
        self._grpc = None
        if settings.grpc_port:
            self._grpc = self._edge.new_grpc_server(settings.host, settings.grpc_port, self._connections.seen.add)
        self._stop = asyncio.Event()
        self._running: list[asyncio.Task[None]] = []
        """What ends when `_stop` is set."""
        self._endless: list[asyncio.Task[None]] = []
        """What ends when it is cancelled."""
        self._is_worker = False
        self._presence = Presence(settings.replica_dir)

    def _new_publisher(self, settings: OriginSettings, digester: Digester, clock: Clock) -> NatsPublishers | None:
        if settings.broker is None:
            return None
        from keywright.origin.feed.nats_publisher import NatsPublishers  # Loads the broker's client.

        return NatsPublishers(
            self._origin.state.feed.tail,
            self._database,
            digester,
            settings.broker,
            self._edges.acknowledge,
            self._shares,
            self._intake,
            clock,
            random.uniform,
            formats=settings.feed_formats,
            snapshot_changes=settings.snapshot_changes,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await server.asgi_lifespan(receive, send, start=self._start_worker, stop=self.stop, log=log)
        else:
            # Found first, then awaited from here: the hot path makes no call more than it must.
            endpoint = self._edge.find_endpoint(scope["path"])
            if endpoint is not None:
                self._connections.seen.add(scope.get("client"))
                await endpoint(scope, receive, send)
                return
            if self._is_worker:
                self._is_worker = False
                server.when_stopping(self._end_streams)
            with self._connections.busy(scope.get("client")):
                await self._origin(scope, receive, send)

    async def start(self) -> None:
        """In step with the record if it can be reached; if not, the replica answers for what it has."""
        await self._presence.enter()
        try:
            await asyncio.wait_for(self._sync_loop.sync_now(), FIRST_LOOK_SECONDS)
        except Exception as error:  # noqa: BLE001
            log.warning("started without the record: %s", error)
        self._running = [
            asyncio.create_task(self._sync_loop.run(self._stop)),
            asyncio.create_task(self._edges.run(self._stop)),
            asyncio.create_task(self._edge.run(self._stop)),
            asyncio.create_task(self._disk.run(self._stop)),
            asyncio.create_task(self._connections.run(self._stop)),
            asyncio.create_task(self._grant_ends.run(self._stop)),
            asyncio.create_task(self._database_source.run(self._stop)),
            asyncio.create_task(self._edge_source.run(self._stop)),
            asyncio.create_task(self._ledger_source.run(self._stop)),
            asyncio.create_task(self._folder.run(self._stop)),
            asyncio.create_task(run_in_one(self._replica_dir / SHARING_LOCK, self._speak_for_all, self._stop)),
            asyncio.create_task(run_in_one(self._replica_dir / BORROWING_LOCK, self._borrowing.run, self._stop)),
        ]
        if self._usage is not None:
            self._running.append(asyncio.create_task(self._usage.run(self._stop)))
        self._endless = [asyncio.create_task(self._database.commits.listen())]
        if self._publisher is not None:
            self._endless.append(asyncio.create_task(self._publisher.run()))
        if self._grpc is not None:
            await self._grpc.start()

    async def stop(self) -> None:
        if self._grpc is not None:
            await self._grpc.stop()
        self._stop.set()
        await tasks.end(*self._endless)
        self._stop_answers()
        await asyncio.gather(*self._running)
        if self._delivering is not None:
            await self._delivering.deliver_last()
        await self._sync_loop.close()
        with self._presence.leave() as is_last:
            if is_last:
                await self._borrowing.give_back_all()
                await self._edges.say_goodbye()
        self._replica.close()
        self._edge.takers.close()
        await self._shares.close()
        await self._database.close()

    async def _apply(self, revision: int) -> None:
        """On commit: the change is in this machine's replica before its answer goes out."""
        try:
            await self._sync_loop.sync_now()
        except (DatabaseUnavailable, ReplicaBroken) as error:
            log.warning("revision %d is committed but not applied here: %s", revision, error)
            raise NotAppliedHere from error
        except Exception as error:
            log.exception("revision %d is committed but not applied here", revision)
            raise NotAppliedHere from error

    def _report(self) -> Report:
        """What the edge beside this origin says of itself."""
        sync_loop = self._sync_loop
        return self._identity.report(
            "",
            cursor=sync_loop.cursor,
            is_synced=sync_loop.is_synced,
            since=sync_loop.since,
            lag_seconds=sync_loop.lag_seconds,
        )

    async def _speak_for_all(self) -> None:
        """What one worker does for all of them, the edge beside this origin."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sharing.run())
            if self._delivering is not None:
                group.create_task(self._delivering.run())

    def _list_warnings(self) -> list[str]:
        """What an operator should know of the broker and of the edges that report here."""
        at_broker = [] if self._publisher is None else self._publisher.list_warnings()
        old = self._edges.list_old_readers()
        told = f"these edges read an older format of the feed, and refuse keys with powers: {', '.join(old)}"
        return [*at_broker, told] if old else at_broker

    def _stop_answers(self) -> None:
        """End what would answer for long: streams of the feed, and writes that wait for edges."""
        self._origin.state.feed.stop()
        self._edges.stop()

    def _end_streams(self) -> None:
        self._loop.call_soon_threadsafe(self._stop_answers)

    async def _start_worker(self) -> None:
        self._loop, self._is_worker = asyncio.get_running_loop(), True
        await self.start()


def create_app() -> ServeWorker:
    """Built in the worker, after the fork: an LMDB environment must not be carried through one."""
    settings = OriginSettings.load()
    configure_logs(settings.log_level, settings.log_format)
    return ServeWorker(settings)


def _directories(settings: OriginSettings, database: Database) -> list[Path]:
    """Where this process, and its database if that is a file, write to."""
    file = database.file
    return [settings.data_dir] if file is None else [settings.data_dir, file.parent]


def _end_users(settings: EndUserSettings) -> EndUsers | None:
    if settings.oidc_issuer is None:
        return None
    provider = Provider(settings.oidc_issuer)
    client = None
    if settings.oidc_client_id is not None:
        client = Client(provider, settings.oidc_client_id, settings.oidc_client_secret)
    audiences = settings.oidc_audiences
    return EndUsers(provider, None if audiences is None else frozenset(audiences), _parties(settings), client)


def _parties(settings: EndUserSettings) -> frozenset[str]:
    own = () if settings.oidc_client_id is None else (settings.oidc_client_id,)
    return frozenset((*settings.oidc_authorized_parties, *own))


def _team(settings: EndUserSettings, end_users: EndUsers | None) -> Team | None:
    if end_users is None or end_users.client is None or not settings.admin_roles:
        return None
    return Team(end_users.client, settings.admin_roles)


def _mailer(settings: EndUserSettings) -> Mailer:
    server = SmtpServer.of(settings.smtp_url.reveal()) if settings.smtp_url is not None else None
    return Mailer(server, settings.mail_from)
