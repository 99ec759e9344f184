from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from fastapi import Request, Response

from keywright.domain.keyformat import Digester
from keywright.nats.subjects import part_of
from keywright.origin.auth.actors import Actor
from keywright.origin.edges.scopes import EVERYTHING, EdgeScope
from keywright.origin.pipeline.edge_messages import EdgeMessages
from keywright.origin.pipeline.rate_limit import Meter
from keywright.origin.usage.intake.rules import Intake
from keywright.protocol.usage import UsageError
from keywright.protocol.usage_delivery import MAX_BYTES, MEDIA_TYPE, WISHES_QUESTION, Delivery, UsageSigner


class HttpUsage:
    """Answers edges over HTTP. One for each process."""

    def __init__(self, intake: Intake, digester: Digester) -> None:
        self._intake = intake
        self._signer = UsageSigner(digester)
        self._messages = _messages_of(self._signer)

    async def answer(
        self,
        request: Request,
        authenticate: Callable[[Request], Awaitable[Actor]],
        meter_of: Callable[[Actor], Meter],
    ) -> Response:
        return await self._messages.answer(request, authenticate, meter_of, self._respond)

    async def _respond(self, delivery: Delivery, scope: EdgeScope) -> Response:
        return Response(await _answer(self._intake, self._signer, delivery, scope), media_type=MEDIA_TYPE)


class NatsUsage:
    """Answers edges over a broker. One for each process."""

    def __init__(self, intake: Intake, digester: Digester) -> None:
        self._intake = intake
        self._signer = UsageSigner(digester)
        self._messages = _messages_of(self._signer)

    async def answer(self, part: str, data: bytes) -> bytes | None:
        """What came on the subject of the edge with this part of a name. None while the record can't be asked."""

        async def respond(delivery: Delivery) -> bytes:
            if part_of(delivery.name) != part:
                raise UsageError(f"the edge {delivery.name} delivers on the subject of {part[:64]}")
            return await _answer(self._intake, self._signer, delivery, EVERYTHING)

        return await self._messages.answer_at_broker(data, respond)


def _messages_of(signer: UsageSigner) -> EdgeMessages[Delivery]:
    return EdgeMessages("A delivery of usage", MAX_BYTES, signer.decode_delivery, UsageError)


async def _answer(intake: Intake, signer: UsageSigner, delivery: Delivery, scope: EdgeScope) -> bytes:
    if delivery.content != WISHES_QUESTION:
        return signer.encode_answer(await intake.take(delivery, scope), delivery)
    return signer.encode_wishes(await intake.hear(replace(delivery, content=b""), scope), delivery)
