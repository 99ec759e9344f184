"""Owns lending to edges: at POST /v1/feed/leases, or over the broker that they follow.

What comes is a question with its MAC, and so is what is answered (protocol/leases.py). At the address the caller's edge
token says whose edge it is, and which buckets it sees; at a broker edges are the deployment's. The commit goes before
the answer: what an edge holds is in the record.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable

from fastapi import Request, Response

from keywright.domain.keyformat import Digester
from keywright.domain.permissions import Grantee
from keywright.domain.problems import BadRequest, Problem
from keywright.http.body import read_bounded
from keywright.origin.auth.actors import Actor
from keywright.origin.db.engine import DatabaseUnavailable
from keywright.origin.db.transaction import Database
from keywright.origin.pipeline.rate_limit import Meter
from keywright.origin.pipeline.respond import render, to_problem
from keywright.origin.pipeline.services import Services
from keywright.origin.quotas import lending
from keywright.protocol.leases import MAX_QUESTION_BYTES, LeaseError, LeaseSigner

log = logging.getLogger("keywright.origin")

MEDIA_TYPE = "application/octet-stream"


class HttpLeases:
    """Answers questions that come over HTTP. One for each process."""

    def __init__(self, services: Services) -> None:
        dependencies = services.dependencies
        self._lender = Lender(services.database, dependencies.digester, dependencies.random_bytes)

    async def answer(
        self,
        request: Request,
        authenticate: Callable[[Request], Awaitable[Actor]],
        meter_of: Callable[[Actor], Meter],
    ) -> Response:
        try:
            actor = await authenticate(request)
            detail = f"A question has at most {MAX_QUESTION_BYTES} bytes."
            body = await read_bounded(request.stream(), MAX_QUESTION_BYTES, detail)
            try:
                answer = await self._lender.answer(body, actor.grantee)
            except (LeaseError, Problem):
                # An edge's own questions come as often as its keys are used: only what is none of them counts.
                meter_of(actor).check()
                raise
        except LeaseError as error:
            return render(BadRequest(f"This is no question of an edge: {error}."), request)
        except Exception as error:  # noqa: BLE001
            return render(to_problem(error, request), request)
        return Response(answer, media_type=MEDIA_TYPE)


class NatsLeases:
    """Answers questions that come over a broker. One for each process."""

    def __init__(self, database: Database, digester: Digester, random_bytes: Callable[[int], bytes]) -> None:
        self._lender = Lender(database, digester, random_bytes)

    async def answer(self, data: bytes) -> bytes | None:
        """None while the record can't be asked: the edge asks anew, and may find another origin."""
        try:
            return await self._lender.answer(data, lending.OF_DEPLOYMENT)
        except (LeaseError, Problem) as error:
            log.warning("a question for quotas over the broker is refused: %s", error)
            status = error.status if isinstance(error, Problem) else BadRequest.status
            return json.dumps({"status": status, "refused": str(error)}, separators=(",", ":")).encode()
        except DatabaseUnavailable as error:
            log.warning("a question for quotas over the broker is not answered: %s", error)
        return None


class Lender:
    """What both have in common: bytes in, one transaction, bytes out."""

    def __init__(self, database: Database, digester: Digester, random_bytes: Callable[[int], bytes]) -> None:
        self._database = database
        self._signer = LeaseSigner(digester)
        self._random_bytes = random_bytes

    async def answer(self, data: bytes, grantee: Grantee) -> bytes:
        """Raises LeaseError, Conflict, DatabaseUnavailable."""
        question = self._signer.decode_question(data)
        async with self._database.write() as tx:
            answer = await lending.answer(tx, grantee, question, self._random_bytes)
        return self._signer.encode_answer(data, answer)
