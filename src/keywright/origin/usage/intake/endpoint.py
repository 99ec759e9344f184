"""Owns hearing edges deliver usage: at POST /v1/feed/usage, or over the broker that they follow.

At the address the caller's edge token says whose edge it is, and so of which buckets it may tell. At a broker edges are
the deployment's, and each has a subject of its own: one delivers in no other's name, where the broker sees to subjects.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

from fastapi import Request, Response

from keywright.domain.keyformat import Digester
from keywright.domain.problems import BadRequest, Problem
from keywright.http.body import read_bounded
from keywright.nats.subjects import part_of
from keywright.origin.auth.actors import Actor
from keywright.origin.db.engine import DatabaseUnavailable
from keywright.origin.edges.scopes import EVERYTHING, EdgeScope
from keywright.origin.pipeline.rate_limit import Meter
from keywright.origin.pipeline.respond import render, to_problem
from keywright.origin.usage.intake.rules import Intake
from keywright.protocol.usage import UsageError
from keywright.protocol.usage_delivery import MAX_BYTES, MEDIA_TYPE, UsageSigner


class HttpUsage:
    """Answers edges over HTTP. One for each process."""

    def __init__(self, intake: Intake, digester: Digester) -> None:
        self._intake = intake
        self._signer = UsageSigner(digester)

    async def answer(
        self,
        request: Request,
        authenticate: Callable[[Request], Awaitable[Actor]],
        meter_of: Callable[[Actor], Meter],
    ) -> Response:
        try:
            actor = await authenticate(request)
            declared = request.headers.get("content-length", "0")
            told = f"A delivery of usage has at most {MAX_BYTES} bytes."
            body = await read_bounded(request.stream(), MAX_BYTES, told, declared)
            try:
                delivery = self._signer.decode_delivery(body)
            except UsageError:
                # Only what is none of an edge's own deliveries counts, as with its reports.
                meter_of(actor).check()
                raise
            answer = await self._intake.take(delivery, EdgeScope.of(actor.grantee))
        except UsageError as error:
            return render(BadRequest(f"{str(error)[:1].upper()}{str(error)[1:]}."), request)
        except Exception as error:  # noqa: BLE001
            return render(to_problem(error, request), request)
        return Response(self._signer.encode_answer(answer, delivery), media_type=MEDIA_TYPE)


class NatsUsage:
    """Answers edges over a broker. One for each process."""

    def __init__(self, intake: Intake, digester: Digester) -> None:
        self._intake = intake
        self._signer = UsageSigner(digester)

    async def answer(self, part: str, data: bytes) -> bytes | None:
        """What came on the subject of the edge with this part of a name. None while the record can't be asked: the edge
        tries again, and may find another origin.
        """
        try:
            delivery = self._signer.decode_delivery(data)
            if part_of(delivery.name) != part:
                raise UsageError(f"the edge {delivery.name} delivers on the subject of {part[:64]}")
            return self._signer.encode_answer(await self._intake.take(delivery, EVERYTHING), delivery)
        except (UsageError, Problem) as error:
            return json.dumps({"refused": str(error)}).encode()
        except DatabaseUnavailable:
            return None
