"""Applications that real servers run in the tests, on a source that the variables name."""

from __future__ import annotations

import os
import resource
import subprocess
from typing import Any

from keywright.policy import asgi, wsgi
from keywright.policy.embedded import EmbeddedReplica
from keywright.policy.remote import RemoteEdge
from keywright.policy.shared import SharedReplica
from support.api import BUCKET


def _source() -> Any:
    kind, url, directory = (os.environ[f"APP_{name}"] for name in ("SOURCE", "URL", "DIRECTORY"))
    if kind == "embedded":
        pepper, token = os.environ["APP_PEPPER"], os.environ["APP_TOKEN"]
        seconds = float(os.environ.get("APP_READY_SECONDS", "30"))
        return EmbeddedReplica.from_origin(
            url, token=token, directory=directory, pepper_file=pepper, ready_seconds=seconds
        )
    return RemoteEdge(url, timeout_seconds=30) if kind == "remote" else SharedReplica(directory, ready_seconds=30)


async def _count_async(scope: Any, receive: Any, send: Any) -> None:
    """Says who asks, how many bytes came, and how much memory this process has ever had, in KiB."""
    if scope["type"] != "http":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})
        return
    length, more = 0, True
    while more:
        message = await receive()
        length += len(message["body"])
        more = message["more_body"]
    forged = sum(name.startswith(b"x-consumer") for name, _ in scope["headers"])
    body = _told(scope["user"], length, forged)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


def _count(environ: Any, start_response: Any) -> list[bytes]:
    if environ["PATH_INFO"] == "/command":
        subprocess.run(["true"], check=True)
    length = 0
    while part := environ["wsgi.input"].read(65536):
        length += len(part)
    forged = sum(name.startswith("HTTP_X_CONSUMER") for name in environ)
    body = _told(environ["keywright.user"], length, forged)
    start_response("200 OK", [("content-length", str(len(body)))])
    return [body]


def _told(user: Any, length: int, forged: int) -> bytes:
    return f"{user.sub} {length} {forged} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss} {os.getpid()}".encode()


# Made at the import, which servers that fork do before it.
SOURCE = _source()
ASGI = asgi.ApiKeyPolicy(_count_async, SOURCE, bucket_name=BUCKET)
WSGI = wsgi.ApiKeyPolicy(_count, SOURCE, bucket_name=BUCKET, exempt_paths=["/health"])
