"""Owns hearing what edges have applied: at POST /v1/feed/acknowledgements, or over the broker that they follow.

What comes is a report with its MAC (reports.py). The answer tells after how many seconds the next report of a mere
change is welcome, which format of reports is read, and what time it is here, by which the edge judges keys. At the
address the caller's edge token says whose edge it is; at a broker edges are the deployment's.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from keywright.domain.keyformat import Digester
from keywright.domain.models import to_millis
from keywright.origin.auth.actors import Actor
from keywright.origin.edges.scopes import EdgeScope
from keywright.origin.pipeline.edge_messages import EdgeMessages
from keywright.origin.pipeline.rate_limit import Meter
from keywright.origin.pipeline.services import Services
from keywright.protocol.reports import FORMAT_VERSION, MAX_BYTES, Report, ReportError, ReportSigner


class HttpAcknowledgements:
    """Answers reports that come over HTTP. One for each process."""

    def __init__(self, services: Services) -> None:
        self._edges = services.edges
        self._clock = services.dependencies.clock
        self._signer = ReportSigner(services.dependencies.digester)
        self._messages = _messages_of(self._signer)

    async def answer(
        self,
        request: Request,
        authenticate: Callable[[Request], Awaitable[Actor]],
        meter_of: Callable[[Actor], Meter],
    ) -> Response:
        return await self._messages.answer(request, authenticate, meter_of, self._respond)

    async def _respond(self, report: Report, scope: EdgeScope) -> Response:
        pause = await self._edges.acknowledge(report, scope)
        return JSONResponse(_answer(self._signer, report, pause, to_millis(self._clock())))


class NatsAcknowledgements:
    """Answers reports that come over a broker. One for each process."""

    def __init__(
        self, digester: Digester, acknowledge: Callable[[Report], Awaitable[float]], millis: Callable[[], int]
    ) -> None:
        """`millis` is the time of day (`Clock.millis`)."""
        self._signer = ReportSigner(digester)
        self._messages = _messages_of(self._signer)
        self._acknowledge = acknowledge
        self._millis = millis

    async def answer(self, data: bytes) -> bytes | None:
        """None while the record can't be asked."""
        return await self._messages.answer_at_broker(data, self._respond)

    async def _respond(self, report: Report) -> bytes:
        pause = await self._acknowledge(report)
        return json.dumps(_answer(self._signer, report, pause, self._millis())).encode()


def _messages_of(signer: ReportSigner) -> EdgeMessages[Report]:
    return EdgeMessages("A report", MAX_BYTES, signer.decode, ReportError)


def _answer(signer: ReportSigner, report: Report, pause: float, millis: int) -> dict[str, object]:
    return {"pauseSeconds": pause, "reads": FORMAT_VERSION, "time": millis, "proof": signer.sign_time(report, millis)}
