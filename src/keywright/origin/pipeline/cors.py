"""Owns which web pages of other hosts may call the Self-serve API (CORS): the configured origins, with a token.

It only adds headers to whatever is answered, so that errors can be read by those pages, too. No cookie counts there,
and none is allowed. OPTIONS is answered as any method that an address does not have, without authentication.
"""

from __future__ import annotations

from collections.abc import Collection

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PREFIXES = ("/v1/self-serve/", "/v2/client/")
EVERY_ORIGIN = "*"

_METHODS = b"GET, POST, PATCH, DELETE"
_HEADERS = b"authorization, content-type, prefer, x-request-id"
_EXPOSED = b"x-request-id, retry-after, www-authenticate, preference-applied"
_SECONDS = b"600"


def install(app: FastAPI, origins: Collection[str]) -> None:
    """To be called after everything else that surrounds requests: it adds to what all of that answers."""
    app.add_middleware(Cors, origins=origins)


class Cors:
    """Pure ASGI, around everything."""

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self.app = app
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(PREFIXES):
            await self.app(scope, receive, send)
            return
        sent = {name: value for name, value in scope["headers"] if name.startswith((b"origin", b"access-control-"))}
        origin = sent.get(b"origin", b"")
        extra = [(b"vary", b"origin")]
        if origin and (EVERY_ORIGIN in self._origins or origin.decode("latin-1") in self._origins):
            extra += [(b"access-control-allow-origin", origin), (b"access-control-expose-headers", _EXPOSED)]
            if scope["method"] == "OPTIONS":
                extra += [
                    (b"access-control-allow-methods", _METHODS),
                    (b"access-control-allow-headers", _HEADERS),
                    (b"access-control-max-age", _SECONDS),
                ]

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        await self.app(scope, receive, send_with_headers)
