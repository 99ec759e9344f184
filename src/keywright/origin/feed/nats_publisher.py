"""Owns publishing the log at a NATS broker: each change once, in order, whichever process of the origin does it.

Every process publishes. Each puts what it sees committed behind the last message that it knows of; the broker takes the
first of several and refuses the others, who read what stands there now and go on from it (publish_session.py). So
nobody is elected, nobody is waited for, and one that was killed in the middle leaves nothing to repair. The record is
the truth: a publisher begins at the last message that it finds, though the broker may have acknowledged later ones and
lost them; and a stream that is gone, or of another past, is begun anew behind a new snapshot (nats_retention.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from keywright.domain.keyformat import Digester
from keywright.nats.connection import BrokerRefused, BrokerUnavailable, OtherDeployment, StreamMissing, connect
from keywright.origin.db.commit_log import NotKept
from keywright.origin.db.engine import DatabaseUnavailable
from keywright.origin.db.transaction import Database
from keywright.origin.deployment.store import find_deployment
from keywright.origin.feed.acknowledgements import NatsAcknowledgements
from keywright.origin.feed.log_tail import LogTail
from keywright.origin.feed.nats_retention import PublishSource
from keywright.origin.feed.publish_session import PublishSession
from keywright.protocol.changes import Cursor
from keywright.protocol.frames import FrameSigner
from keywright.protocol.reports import Report
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


class NatsPublisher:
    """One for each process. `run` it until it is cancelled."""

    def __init__(
        self,
        tail: LogTail,
        database: Database,
        digester: Digester,
        options: NatsOptions,
        acknowledge: Callable[[Report], Awaitable[float]],
        clock: Clock,
        uniform: Uniform,
        *,
        snapshot_changes: int,
    ) -> None:
        """`acknowledge` takes a report of an edge; after `snapshot_changes` changes a snapshot is due."""
        self._tail = tail
        self._options = options
        self._acknowledgements = NatsAcknowledgements(digester, acknowledge, clock.millis)
        self._source = PublishSource(database, FrameSigner(digester), digester.pepper_check(), clock, uniform)
        self._snapshot_changes = snapshot_changes
        self._backoff = Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, uniform)
        self._failures = FailureLog(log, "can't publish to NATS")
        self._furthest: Cursor | None = None
        self._said_other_at = float("-inf")
        self._problem: str | None = None

    def list_warnings(self) -> list[str]:
        """What an operator should know of the broker now, in sentences."""
        relay = [] if self._problem is None else [f"can't publish to NATS: {self._problem}"]
        mirrors = self._source.mirror_problems.items()
        return relay + [f"the mirrors in the domain {domain}: {problem}" for domain, problem in sorted(mirrors)]

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
            log.error("can't publish to NATS: %s", error)

    async def _connect_and_publish(self) -> None:
        """Returns never: raises what fails."""
        async with self._source.database.read() as tx:
            found = await find_deployment(tx)
        if found is None:
            raise NotKept("there is no deployment here yet")
        connection = await connect(self._options, "relay", self._source.clock)
        try:
            session = PublishSession(
                self._tail,
                self._source,
                self._acknowledgements,
                connection,
                found.id,
                snapshot_changes=self._snapshot_changes,
                furthest=self._furthest,
            )
            try:
                await session.run(self._on_caught_up)
            finally:
                self._furthest = session.furthest
        finally:
            await connection.close()

    def _on_caught_up(self) -> None:
        self._failures.clear()
        self._problem = None
