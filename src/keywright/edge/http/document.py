"""Owns answering a GET with a document that is ready to be sent: its headers, and 405 for another method."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keywright.domain.problems import MethodNotAllowed, Problem
from keywright.edge.http import endpoint
from keywright.http.request_id import request_id_in

if TYPE_CHECKING:
    from keywright.edge.http.endpoint import Scope, Send

JSON = b"application/json"


async def send_document(scope: Scope, send: Send, status: int, content_type: bytes, body: bytes) -> None:
    if scope["method"] not in ("GET", "HEAD"):
        problem: Problem = MethodNotAllowed(headers={"allow": "GET, HEAD"})
        await endpoint.send_problem(scope, send, problem)
        return
    headers = [
        (b"content-type", content_type),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        (b"x-request-id", request_id_in(scope["headers"])),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
