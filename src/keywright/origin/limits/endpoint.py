"""Owns hearing edges ask for their shares: at POST /v1/feed/shares, or over the broker that they follow.

What comes is a report of use with its MAC (protocol/shares.py), what is answered the shares, with one for that report.
At the address the caller's edge token says whose edge it is, and so of which buckets it may tell; at a broker edges are
the deployment's.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

from fastapi import Request, Response

from keywright.domain.keyformat import Digester
from keywright.domain.problems import BadRequest, Problem
from keywright.http.body import read_bounded
from keywright.origin.auth.actors import Actor
from keywright.origin.db.engine import DatabaseUnavailable
from keywright.origin.edges.scopes import EVERYTHING, EdgeScope
from keywright.origin.limits.rules import Shares
from keywright.origin.pipeline.rate_limit import Meter
from keywright.origin.pipeline.respond import render, to_problem
from keywright.protocol.shares import MAX_BYTES, MEDIA_TYPE, SharesError, SharesSigner


class HttpShares:
    """Answers edges over HTTP. One for each process."""

    def __init__(self, shares: Shares, digester: Digester) -> None:
        self._shares = shares
        self._signer = SharesSigner(digester)

    async def answer(
        self,
        request: Request,
        authenticate: Callable[[Request], Awaitable[Actor]],
        meter_of: Callable[[Actor], Meter],
    ) -> Response:
        try:
            actor = await authenticate(request)
            declared = request.headers.get("content-length", "0")
            told = f"A report of use has at most {MAX_BYTES} bytes."
            body = await read_bounded(request.stream(), MAX_BYTES, told, declared)
            try:
                report = self._signer.decode_report(body)
            except SharesError:
                # Only what is none of an edge's own reports counts, as with those of how far it is.
                meter_of(actor).check()
                raise
            answer = await self._shares.answer(report, EdgeScope.of(actor.grantee))
        except SharesError as error:
            return render(BadRequest(f"{str(error)[:1].upper()}{str(error)[1:]}."), request)
        except Exception as error:  # noqa: BLE001
            return render(to_problem(error, request), request)
        return Response(self._signer.encode_answer(answer, report), media_type=MEDIA_TYPE)


class NatsShares:
    """Answers edges over a broker. One for each process."""

    def __init__(self, shares: Shares, digester: Digester) -> None:
        self._shares = shares
        self._signer = SharesSigner(digester)

    async def answer(self, data: bytes) -> bytes | None:
        """None while the record can't be asked: the edge tries again, and may find another origin."""
        try:
            report = self._signer.decode_report(data)
            return self._signer.encode_answer(await self._shares.answer(report, EVERYTHING), report)
        except (SharesError, Problem) as error:
            return json.dumps({"refused": str(error)}).encode()
        except DatabaseUnavailable:
            return None
