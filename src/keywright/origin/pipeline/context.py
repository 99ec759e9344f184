"""Owns what surrounds every request: its id, whom it comes from, its path as meant, and headers of every answer."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from urllib.parse import quote, unquote

from fastapi import Request, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from keywright.domain.problems import BadRequest, UriTooLong
from keywright.http.client_address import ClientAddresses
from keywright.http.request_id import request_id_in
from keywright.origin.audit.rules import RequestSource
from keywright.origin.pipeline.request_counts import RequestCounts
from keywright.runtime import logging as logs
from keywright.runtime.metrics.histogram import now_ns

MAX_QUERY_BYTES = 32 * 1024
MAX_PARAMETERS = 250
"""More than all that an address knows, the most tags that may be asked for included."""

_NO_NAME = re.compile(r"%(?=2f|[01][0-9a-f]|7f)", re.IGNORECASE)


class RequestContext:
    """Pure ASGI, around everything: the request id, who asks, the address, HEAD, failures, common headers, counts."""

    def __init__(
        self,
        app: ASGIApp,
        on_failure: Callable[[Request, Exception], Awaitable[Response]],
        client_addresses: ClientAddresses,
        counts: RequestCounts,
    ) -> None:
        self.app = app
        self._counts = counts
        self._templates: dict[object, str] = {}
        self._on_failure = on_failure
        self._client_addresses = client_addresses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = now_ns()
        request_id = request_id_in(scope["headers"]).decode()
        is_head = scope["method"] == "HEAD"
        inner = {
            **scope,
            # RFC 9110 section 9.3.2: HEAD is GET, without the content.
            "method": "GET" if is_head else scope["method"],
            "path": _address(scope),
            "state": {**scope.get("state", {}), "request_id": request_id, "client_address": ""},
        }
        has_begun = False
        logs.request_id.set(request_id)

        async def send_with_headers(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                self._counts.note(inner["method"], self._find_template(inner), message["status"], began)
                extra = [(b"x-request-id", request_id.encode()), (b"x-content-type-options", b"nosniff")]
                # Answers hold secrets and what is true only now.
                extra.append((b"cache-control", b"no-store"))
                there = {name for name, _ in message["headers"]}
                extra = [header for header in extra if header[0] not in there]
                message = {**message, "headers": [*message["headers"], *extra]}
            elif is_head:
                message = {**message, "body": b""}
            await send(message)

        try:
            _check_length(scope.get("query_string", b""))
            inner["state"]["client_address"] = self._client_addresses.find(scope)
            await self.app(inner, receive, send_with_headers)
        except Exception as error:
            if has_begun:
                raise
            response = await self._on_failure(Request(inner), error)
            await response(inner, receive, send_with_headers)

    def _find_template(self, scope: Scope) -> str | None:
        """The template of the address that answers; None where nothing does."""
        endpoint = scope.get("endpoint")
        if endpoint is None:
            return None
        if not self._templates:
            # FastAPI tells the route of its own kind only; each of them has an endpoint.
            routes = scope["app"].router.routes
            self._templates = {one.endpoint: one.path for one in routes if hasattr(one, "endpoint")}
        return self._templates.get(endpoint)


def client_address_of(request: Request) -> str:
    """The IP address of whoever asks, behind trusted proxies too; empty if the server does not tell it."""
    address: str = request.state.client_address
    return address


def request_source_of(request: Request, source: str = "api") -> RequestSource:
    """Where a request came from, for the audit log; `source` is what it came in by."""
    user_agent = request.headers.get("user-agent")
    return RequestSource(
        request_id=request.state.request_id,
        address=client_address_of(request) or None,
        user_agent=user_agent[:512] if user_agent is not None else None,
        method=request.method,
        url=path_of(request.scope),
        source=source,
    )


def path_of(scope: Scope) -> str:
    """The path as it was sent: percent-encoded, so that no byte of it can surprise a log or a page."""
    raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    return raw.partition(b"?")[0].decode("latin-1")[:2048]


def _check_length(query: bytes) -> None:
    """Raises UriTooLong, BadRequest for a query that would take long to be read, whoever sends it."""
    if len(query) > MAX_QUERY_BYTES:
        raise UriTooLong(f"The query is {len(query)} bytes long; at most {MAX_QUERY_BYTES} are read.")
    if query.count(b"&") >= MAX_PARAMETERS:
        raise BadRequest(
            "The request is not valid.",
            errors=[{"field": "query", "message": f"has more than {MAX_PARAMETERS} parameters"}],
        )


def _address(scope: Scope) -> str:
    """The path that decides the route: without a trailing slash, and its segments told apart before they are decoded.

    An encoded slash or control character stays encoded. No name has one, so what holds one is not found, rather than
    taken for two segments.
    """
    path: str = scope["path"]
    raw: bytes = scope.get("raw_path") or b""
    if b"%" in raw:
        path = unquote(_NO_NAME.sub("%25", raw.partition(b"?")[0].decode("latin-1")))
    # Collections answer with and without it, never by a redirect.
    return path[:-1] if len(path) > 1 and path.endswith("/") else path
