"""WebSockets that end with the key that opened them: deleted, rolled, or over its end, by itself or with its consumer.

A handshake is checked once, by gateway or policy alike; from then on it is the application that has to let go.
"""

import asyncio
import contextlib
import os
import time
from collections import deque
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from fastapi import FastAPI, WebSocket

from keywright.policy import Credential, Ended, SharedReplica, User
from keywright.policy.asgi import ApiKeyPolicy

BUCKET = os.environ.get("BUCKET_NAME", "my-project-production")
KEY_ENDED = 4401
"""A close code of this application's own."""
HANDSHAKE_SECONDS = 10

# EmbeddedReplica has the same subscription; see docs/reference/policy.md.
source = SharedReplica(os.environ.get("KEYWRIGHT_DATA_DIR", "keywright-data"))


class OpenSockets:
    """Whose socket is open, and until when."""

    def __init__(self) -> None:
        self._open: dict[asyncio.Timeout, User] = {}
        self._ended: deque[tuple[float, Ended]] = deque(maxlen=10_000)

    async def watch(self) -> None:
        """End what has to end, for as long as this runs."""
        with source.endings() as endings:
            async for ended in endings:
                self._ended.append((time.monotonic(), ended))
                for timeout, user in self._open.items():
                    if ended.concerns(user, BUCKET):
                        timeout.reschedule(asyncio.get_running_loop().time())

    @contextlib.asynccontextmanager
    async def while_valid(self, user: User, key: Credential) -> AsyncIterator[None]:
        """Raises TimeoutError in the block when the key has ended."""
        left = None if key.expires_at is None else (key.expires_at - datetime.now(UTC)).total_seconds()
        async with asyncio.timeout(left) as timeout:
            self._open[timeout] = user
            # It may have ended between the check of the handshake and here.
            since = time.monotonic() - HANDSHAKE_SECONDS
            if any(at > since and ended.concerns(user, BUCKET) for at, ended in self._ended):
                timeout.reschedule(asyncio.get_running_loop().time())
            try:
                yield
            finally:
                del self._open[timeout]


sockets = OpenSockets()


@contextlib.asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    watching = asyncio.create_task(sockets.watch())
    yield
    watching.cancel()


api = FastAPI(title="An API with WebSockets", lifespan=lifespan)


@api.websocket("/clock")
async def clock(socket: WebSocket) -> None:
    try:
        async with sockets.while_valid(socket.scope["user"], socket.scope["auth"]):
            await socket.accept()
            while True:
                await socket.send_json({"for": socket.scope["user"].sub, "time": datetime.now(UTC).isoformat()})
                await asyncio.sleep(0.5)
    except TimeoutError:
        await socket.close(KEY_ENDED, "The key has ended.")


app = ApiKeyPolicy(api, source, bucket_name=BUCKET)
