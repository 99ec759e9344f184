"""Calls an ASGI application directly: the answer as a value, and how often the body was asked for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    receives: int

    def json(self) -> Any:
        return json.loads(self.body)


async def call(
    app: Any,
    method: str,
    path: str,
    *,
    body: bytes | Sequence[bytes] = b"",
    headers: Sequence[tuple[bytes, bytes]] | None = None,
    content_type: bytes | None = b"application/json",
    has_raw_path: bool = True,
) -> Answer:
    """`path` is the raw one, percent-encoded. A body in several pieces is sent without a content-length."""
    pieces = [body] if isinstance(body, bytes) else list(body)
    all_headers = list(headers or [])
    if content_type is not None:
        all_headers.append((b"content-type", content_type))
    if isinstance(body, bytes) and body:
        all_headers.append((b"content-length", b"%d" % len(body)))
    scope: dict[str, Any] = {
        "type": "http", "method": method, "path": unquote(path), "query_string": b"", "headers": all_headers,
    }  # fmt: skip
    if has_raw_path:
        scope["raw_path"] = path.encode()
    receives = 0

    async def receive() -> dict[str, Any]:
        nonlocal receives
        receives += 1
        piece = pieces.pop(0) if pieces else b""
        # As Granian does it: that nothing more comes is only said by a message of its own.
        return {"type": "http.request", "body": piece, "more_body": bool(piece)}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start, end = sent
    answered = {name.decode(): value.decode() for name, value in start["headers"]}
    assert len(answered) == len(start["headers"])
    return Answer(start["status"], answered, end["body"], receives)
