"""Owns sending frames to one reader: compressed, each at once, and never faster than the reader takes them.

Nor much slower than LEAST_BYTES_PER_SECOND: a reader that takes its time has others wait, and the database keep what
a snapshot sees.
"""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator, Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from keywright.runtime import tasks

SEND_SECONDS = 30.0
"""A reader that takes nothing for this long has its stream ended, and so has one that is this far behind in all."""
LEAST_BYTES_PER_SECOND = 32 * 1024
"""What a reader takes at least while there is something to take, as it goes over the wire."""
CONTENT_TYPE = "application/vnd.keywright.feed"
_GZIP = 16 + zlib.MAX_WBITS


class FrameStream(Response):
    """An answer of frames. The next one is only asked for when the server has taken the one before."""

    media_type = CONTENT_TYPE

    def __init__(
        self, first: bytes, rest: AsyncIterator[bytes], headers: Mapping[str, str], accept_encoding: str
    ) -> None:
        super().__init__(headers={**headers, "x-accel-buffering": "no"})
        # The length of an empty body, which this is not.
        del self.headers["content-length"]
        self._first = first
        self._rest = rest
        self._patience = Patience()
        self._compressor = None
        if "gzip" in accept_encoding.lower():
            self.headers["content-encoding"] = "gzip"
            # Level 1: most of the bytes are digests, which no level makes smaller.
            self._compressor = zlib.compressobj(1, zlib.DEFLATED, _GZIP)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        # Granian takes what is sent to a reader that has gone; only `receive` tells.
        gone = asyncio.create_task(_until_gone(receive))
        pumping = asyncio.create_task(self._pump(send))
        try:
            await asyncio.wait((gone, pumping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await tasks.end(gone, pumping)
        if not pumping.cancelled():
            pumping.result()

    async def _pump(self, send: Send) -> None:
        try:
            with contextlib.suppress(TimeoutError):
                await self._send(send, self._first)
                async for frame in self._rest:
                    await self._send(send, frame)
                end = b"" if self._compressor is None else self._compressor.flush()
                async with self._patience.waiting(len(end)):
                    await send({"type": "http.response.body", "body": end, "more_body": False})
        finally:
            await self._rest.aclose()  # type: ignore[attr-defined]

    async def _send(self, send: Send, frame: bytes) -> None:
        if self._compressor is not None:
            frame = self._compressor.compress(frame) + self._compressor.flush(zlib.Z_SYNC_FLUSH)
        async with self._patience.waiting(len(frame)):
            await send({"type": "http.response.body", "body": frame, "more_body": True})


class Patience:
    """How long a reader is still waited for: what it took slowly it must make up for by taking the rest faster."""

    def __init__(self) -> None:
        self._seconds = SEND_SECONDS

    @contextlib.asynccontextmanager
    async def waiting(self, size: int) -> AsyncIterator[None]:
        """While the reader takes so many bytes. Raises TimeoutError when it is out of time."""
        clock = asyncio.get_running_loop().time
        begun, due = clock(), size / LEAST_BYTES_PER_SECOND
        async with asyncio.timeout(self._seconds + due):
            yield
        self._seconds = min(SEND_SECONDS, self._seconds + due - (clock() - begun))


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
