"""Owns /.well-known/jwks.json: the public keys by which backends verify X-Consumer-Token (edge/identity_token.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keywright.edge.http.document import JSON, send_document

if TYPE_CHECKING:
    from keywright.edge.http.endpoint import Receive, Scope, Send


class Jwks:
    """ASGI for the path. `document` is the key set, as JSON."""

    def __init__(self, document: bytes) -> None:
        self._document = document

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send_document(scope, send, 200, JSON, self._document)
