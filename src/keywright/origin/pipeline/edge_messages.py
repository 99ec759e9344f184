"""Owns the way of what edges tell with a MAC of their own, and are answered: over HTTP and at a broker.

At an address the caller's edge token says whose edge it is, and so of which buckets it may tell. What is none of an
edge's own messages counts as a request; edges' own come as often as they need.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from fastapi import Request, Response

from keywright.domain.problems import BadRequest, Problem
from keywright.http.body import read_bounded
from keywright.origin.auth.actors import Actor
from keywright.origin.db.engine import DatabaseUnavailable
from keywright.origin.edges.scopes import EdgeScope
from keywright.origin.pipeline.rate_limit import Meter
from keywright.origin.pipeline.respond import render, to_problem

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class EdgeMessages(Generic[T]):
    """One kind of messages: `decode` raises `wrong` for what is none, which says in words what is wrong with it.

    `name` begins a sentence, as "A report".
    """

    name: str
    max_bytes: int
    decode: Callable[[bytes], T]
    wrong: type[ValueError]

    async def answer(
        self,
        request: Request,
        authenticate: Callable[[Request], Awaitable[Actor]],
        meter_of: Callable[[Actor], Meter],
        respond: Callable[[T, EdgeScope], Awaitable[Response]],
    ) -> Response:
        """What `respond` makes of a message, and of what its sender sees; else a problem document."""
        try:
            actor = await authenticate(request)
            declared = request.headers.get("content-length", "0")
            told = f"{self.name} has at most {self.max_bytes} bytes."
            body = await read_bounded(request.stream(), self.max_bytes, told, declared)
            try:
                message = self.decode(body)
            except self.wrong:
                meter_of(actor).check()
                raise
            return await respond(message, EdgeScope.of(actor.grantee))
        except self.wrong as error:
            return render(BadRequest(f"{str(error)[:1].upper()}{str(error)[1:]}."), request)
        except Exception as error:  # noqa: BLE001
            return render(to_problem(error, request), request)

    async def answer_at_broker(self, data: bytes, respond: Callable[[T], Awaitable[bytes]]) -> bytes | None:
        """What `respond` makes of a message, or why it is refused. None while the record can't be asked: the edge tries
        again, and may find another origin.
        """
        try:
            return await respond(self.decode(data))
        except (self.wrong, Problem) as error:
            return json.dumps({"refused": str(error)}).encode()
        except DatabaseUnavailable:
            return None
