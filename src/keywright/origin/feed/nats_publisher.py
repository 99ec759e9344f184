"""Owns publishing the log at a NATS broker: each change once, in order, whichever process of the origin does it.

Every process publishes, in each format of the feed for itself: what is wrong with one holds up no other. Each puts what
it sees committed behind the last message that it knows of; the broker takes the first of several and refuses the
others, who read what stands there now and go on from it (publish_session.py). So nobody is elected, nobody is waited
for, and one that was killed in the middle leaves nothing to repair. The record is the truth: a publisher begins at the
last message that it finds, though the broker may have acknowledged later ones and lost them; and a stream that is gone,
or of another past, is begun anew behind a new snapshot (nats_retention.py).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace

from keywright.domain.keyformat import Digester
from keywright.nats.connection import (
    BrokerRefused,
    BrokerUnavailable,
    Connection,
    OtherDeployment,
    StreamMissing,
    connect,
)
from keywright.origin.db.commit_log import NotKept
from keywright.origin.db.engine import DatabaseUnavailable
from keywright.origin.db.transaction import Database
from keywright.origin.deployment.store import find_deployment
from keywright.origin.feed.acknowledgements import NatsAcknowledgements
from keywright.origin.feed.leases import NatsLeases
from keywright.origin.feed.log_tail import LogTail
from keywright.origin.feed.nats_retention import PublishSource
from keywright.origin.feed.publish_session import PublishSession
from keywright.origin.limits.endpoint import NatsShares
from keywright.origin.limits.rules import Shares
from keywright.origin.usage.intake.endpoint import NatsUsage
from keywright.origin.usage.intake.rules import Intake
from keywright.protocol.changes import Cursor
from keywright.protocol.feed_formats import FORMATS, NEWEST
from keywright.protocol.frames import FrameSigner
from keywright.protocol.reports import Report
from keywright.runtime import tasks
from keywright.runtime.backoff import Backoff, Uniform
from keywright.runtime.clock import Clock
from keywright.runtime.failure_log import FailureLog
from keywright.runtime.nats_options import NatsOptions

log = logging.getLogger("keywright.origin")

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 10.0
REFUSED_PAUSE_SECONDS = 30.0
OTHER_DEPLOYMENT_SECONDS = 60.0
"""How often it is said that the stream is another deployment's: this one's edges hear nothing until somebody acts."""


class NatsPublishers:
    """All formats that are published. One for each process. `run` it until it is cancelled."""

    def __init__(
        self,
        tail: LogTail,
        database: Database,
        digester: Digester,
        options: NatsOptions,
        acknowledge: Callable[[Report], Awaitable[float]],
        shares: Shares,
        intake: Intake,
        clock: Clock,
        uniform: Uniform,
        *,
        formats: Collection[int],
        snapshot_changes: int,
    ) -> None:
        """What the broker has in other formats than these is taken away."""
        common = tail, database, digester, options, acknowledge, shares, intake, clock, uniform
        self._publishers = [
            NatsPublisher(
                *common,
                snapshot_changes=snapshot_changes,
                feed_format=feed_format,
                older=[one for one in formats if one < feed_format],
            )
            for feed_format in sorted(formats)
        ]
        # By the first one alone: one is enough.
        self._publishers[0].dropped = [feed_format for feed_format in FORMATS if feed_format not in formats]

    def list_warnings(self) -> list[str]:
        """What an operator should know of the broker now, in sentences."""
        return [warning for publisher in self._publishers for warning in publisher.list_warnings()]

    async def run(self) -> None:
        """Survives everything but being cancelled."""
        running = [asyncio.create_task(publisher.run()) for publisher in self._publishers]
        try:
            await asyncio.gather(*running)
        finally:
            # A cancelled gather waits for the first of them only, and the others still use the record.
            await tasks.end(*running)


class NatsPublisher:
    """One format of one process. `run` it until it is cancelled."""

    def __init__(
        self,
        tail: LogTail,
        database: Database,
        digester: Digester,
        options: NatsOptions,
        acknowledge: Callable[[Report], Awaitable[float]],
        shares: Shares,
        intake: Intake,
        clock: Clock,
        uniform: Uniform,
        *,
        snapshot_changes: int,
        feed_format: int = NEWEST,
        older: Sequence[int] = (),
    ) -> None:
        """`acknowledge` takes a report of an edge; after `snapshot_changes` changes a snapshot is due. `older` formats
        are published, too.
        """
        self.dropped: Sequence[int] = ()
        """Formats that nobody publishes any more: what the broker has in them is taken away."""
        self._tail = tail
        self._options = options
        self._acknowledgements = NatsAcknowledgements(digester, acknowledge, clock.millis)
        self._shares = NatsShares(shares, digester)
        self._leases = NatsLeases(database, digester, secrets.token_bytes)
        self._usage = NatsUsage(intake, digester)
        common = database, FrameSigner(digester), digester.pepper_check(), clock, uniform
        self._source = PublishSource(*common, feed_format, older)
        self._snapshot_changes = snapshot_changes
        self._backoff = Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, uniform)
        self._failures = FailureLog(log, f"can't publish to NATS in format {feed_format}")
        self._furthest: Cursor | None = None
        self._said_other_at = float("-inf")
        self._problem: str | None = None

    def list_warnings(self) -> list[str]:
        """What an operator should know of the broker now, in sentences."""
        feed_format = self._source.feed_format
        relay = [] if self._problem is None else [f"can't publish to NATS in format {feed_format}: {self._problem}"]
        mirrors = sorted(self._source.mirror_problems.items())
        told = f"(format {feed_format})"
        return relay + [f"the mirrors in the domain {domain} {told}: {problem}" for domain, problem in mirrors]

    async def run(self) -> None:
        """Survives everything but being cancelled."""
        clock = self._source.clock
        while True:
            started = clock.elapsed()
            try:
                await self._connect_and_publish()
            except (BrokerRefused, BrokerUnavailable, DatabaseUnavailable, NotKept) as error:
                self._problem = f"{type(error).__name__}: {error}"
                # A stream that is missing is made at the next attempt.
                is_refused = isinstance(error, BrokerRefused) and not isinstance(error, StreamMissing)
                if isinstance(error, OtherDeployment):
                    self._say_other(error)
                else:
                    self._failures.note(error, logging.ERROR if is_refused else logging.WARNING)
                if clock.elapsed() - started > LONGEST_PAUSE_SECONDS:
                    self._backoff.reset()
                pause = self._backoff.spread(REFUSED_PAUSE_SECONDS) if is_refused else self._backoff.next_pause()
            except Exception as error:
                self._problem = type(error).__name__
                log.exception("publishing to NATS failed")
                pause = self._backoff.spread(LONGEST_PAUSE_SECONDS)
            await asyncio.sleep(pause)

    def _say_other(self, error: OtherDeployment) -> None:
        now = self._source.clock.elapsed()
        if now - self._said_other_at >= OTHER_DEPLOYMENT_SECONDS:
            self._said_other_at = now
            log.error("can't publish to NATS in format %d: %s", self._source.feed_format, error)

    async def _connect_and_publish(self) -> None:
        """Returns never: raises what fails."""
        async with self._source.database.read() as tx:
            found = await find_deployment(tx)
        if found is None:
            raise NotKept("there is no deployment here yet")
        connection = await connect(self._options, f"relay {self._source.feed_format}", self._source.clock)
        try:
            session = self._new_session(self._source, connection, found.id)
            await self._drop_others(connection, found.id)
            try:
                await session.run(self._on_caught_up)
            finally:
                self._furthest = session.furthest
        finally:
            await connection.close()

    async def _drop_others(self, connection: Connection, deployment_id: str) -> None:
        while self.dropped:
            feed_format, *rest = self.dropped
            try:
                await self._new_session(
                    replace(self._source, feed_format=feed_format), connection, deployment_id
                ).drop()
            except (BrokerRefused, BrokerUnavailable) as error:
                log.warning("what the broker has in format %d can't be taken away: %s", feed_format, error)
            self.dropped = rest

    def _new_session(self, source: PublishSource, connection: Connection, deployment_id: str) -> PublishSession:
        return PublishSession(
            self._tail,
            source,
            self._acknowledgements,
            self._shares,
            self._leases,
            self._usage,
            connection,
            deployment_id,
            snapshot_changes=self._snapshot_changes,
            furthest=self._furthest,
        )

    def _on_caught_up(self) -> None:
        self._failures.clear()
        self._problem = None
