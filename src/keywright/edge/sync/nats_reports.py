"""Owns reporting over a NATS broker what this edge has applied. A report's MAC says whose it is (reports.py)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from keywright.edge.origin_calls import NotTaken
from keywright.edge.sync.reporting import Exchange, ignore_time
from keywright.nats.connection import BrokerRefused, BrokerUnavailable, Connection, connect
from keywright.runtime.nats_options import NatsOptions

if TYPE_CHECKING:
    from keywright.domain.keyformat import Digester
    from keywright.edge.sync.reporting import OnTime
    from keywright.protocol.reports import Report
    from keywright.runtime.clock import Clock


class NatsReports:
    """On a connection of its own, so that what is wrong with reports does not hold up the feed. `close` it."""

    def __init__(
        self, options: NatsOptions, digester: Digester, clock: Clock, *, edge_name: str, on_time: OnTime = ignore_time
    ) -> None:
        self._options = options
        self._edge_name = edge_name
        self._clock = clock
        self._exchange = Exchange(digester, clock, on_time)
        self._connection: Connection | None = None

    async def send(self, report: Report) -> float:
        try:
            if self._connection is None:
                self._connection = await connect(self._options, f"{self._edge_name} reports", self._clock)
            return await self._exchange.hold(report, self._ask)
        except (BrokerUnavailable, BrokerRefused) as error:
            await self.close()
            raise NotTaken(str(error)) from error

    async def _ask(self, data: bytes) -> Any:
        connection = self._connection
        if connection is None:
            raise NotTaken("the connection to the broker was given up")
        try:
            told = json.loads(await connection.request(connection.subjects.reports, data))
            if "refused" in told:
                raise NotTaken(f"the origin refuses the report: {str(told['refused'])[:200]}")
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise NotTaken("the answer is none to a report") from error
        return told

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
