"""Owns the address at which edges report what they have applied: POST /v1/feed/acknowledgements.

The body is a report with its MAC (core/reports.py), the caller's edge token says whose edge it is. The answer tells
after how many seconds the next report of a mere change is welcome.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from keywright.core.problems import BadRequest, PayloadTooLarge
from keywright.core.reports import MAX_BYTES, ReportError, ReportSigner
from keywright.origin.http import Services
from keywright.origin.http.refusals import render, to_problem
from keywright.origin.service.actor import Actor
from keywright.origin.service.edges import DEPLOYMENT


class Acknowledgements:
    """One for each process."""

    def __init__(self, services: Services, authenticate: Callable[[Request], Awaitable[Actor]]) -> None:
        self._edges = services.edges
        self._signer = ReportSigner(services.tools.digester)
        self._authenticate = authenticate

    async def answer(self, request: Request) -> Response:
        try:
            actor = await self._authenticate(request)
            report = self._signer.decode(await _body_of(request))
            grantee = actor.grantee
            pause = await self._edges.acknowledge(report, DEPLOYMENT if grantee.is_root else grantee.account_id)
        except ReportError as error:
            return render(BadRequest(f"{str(error)[:1].upper()}{str(error)[1:]}."), request)
        except Exception as error:  # noqa: BLE001
            return render(to_problem(error, request), request)
        return JSONResponse({"pauseSeconds": pause})


async def _body_of(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
            raise PayloadTooLarge(f"A report has at most {MAX_BYTES} bytes.")
    return bytes(body)
