"""Owns reporting over a NATS broker what this edge has applied. A report's MAC says whose it is (reports.py)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from keywright.edge.sync.reporting import NotTaken, checked_pause
from keywright.nats.connection import BrokerRefused, BrokerUnavailable, Connection, connect
from keywright.protocol.reports import ReportSigner
from keywright.runtime.nats_options import NatsOptions

if TYPE_CHECKING:
    from keywright.domain.keyformat import Digester
    from keywright.protocol.reports import Report
    from keywright.runtime.clock import Clock


class NatsReports:
    """On a connection of its own, so that what is wrong with reports does not hold up the feed. `close` it."""

    def __init__(self, options: NatsOptions, digester: Digester, clock: Clock, *, edge_name: str) -> None:
        self._options = options
        self._edge_name = edge_name
        self._clock = clock
        self._signer = ReportSigner(digester)
        self._connection: Connection | None = None

    async def send(self, report: Report) -> float:
        try:
            if self._connection is None:
                self._connection = await connect(self._options, f"{self._edge_name} reports", self._clock)
            answer = await self._connection.request(self._connection.subjects.reports, self._signer.encode(report))
        except (BrokerUnavailable, BrokerRefused) as error:
            await self.close()
            raise NotTaken(str(error)) from error
        try:
            told = json.loads(answer)
            if "refused" in told:
                raise NotTaken(f"the origin refuses the report: {str(told['refused'])[:200]}")
            return checked_pause(told["pauseSeconds"])
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise NotTaken("the answer is none to a report") from error

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
