from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import Request, Response

from keywright.domain.keyformat import Digester
from keywright.origin.auth.actors import Actor
from keywright.origin.edges.scopes import EVERYTHING, EdgeScope
from keywright.origin.limits.rules import Shares
from keywright.origin.pipeline.edge_messages import EdgeMessages
from keywright.origin.pipeline.rate_limit import Meter
from keywright.protocol.shares import MAX_BYTES, MEDIA_TYPE, SharesError, SharesSigner, UseReport


class HttpShares:
    """Answers edges over HTTP. One for each process."""

    def __init__(self, shares: Shares, digester: Digester) -> None:
        self._shares = shares
        self._signer = SharesSigner(digester)
        self._messages = _messages_of(self._signer)

    async def answer(
        self,
        request: Request,
        authenticate: Callable[[Request], Awaitable[Actor]],
        meter_of: Callable[[Actor], Meter],
    ) -> Response:
        return await self._messages.answer(request, authenticate, meter_of, self._respond)

    async def _respond(self, report: UseReport, scope: EdgeScope) -> Response:
        answer = await self._shares.answer(report, scope)
        return Response(self._signer.encode_answer(answer, report), media_type=MEDIA_TYPE)


class NatsShares:
    """Answers edges over a broker. One for each process."""

    def __init__(self, shares: Shares, digester: Digester) -> None:
        self._shares = shares
        self._signer = SharesSigner(digester)
        self._messages = _messages_of(self._signer)

    async def answer(self, data: bytes) -> bytes | None:
        """None while the record can't be asked."""
        return await self._messages.answer_at_broker(data, self._respond)

    async def _respond(self, report: UseReport) -> bytes:
        return self._signer.encode_answer(await self._shares.answer(report, EVERYTHING), report)


def _messages_of(signer: SharesSigner) -> EdgeMessages[UseReport]:
    return EdgeMessages("A report of use", MAX_BYTES, signer.decode_report, SharesError)
