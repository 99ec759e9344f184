"""Owns the ways on which an edge asks for its shares: to its origin over HTTP, and to whoever answers at a broker.

What comes back is bounded, and is only believed if it was made for that very question (protocol/shares.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx2

from keywright.edge.sync.reporting import NotTaken
from keywright.protocol.shares import MAX_BYTES, SharesError, SharesSigner

if TYPE_CHECKING:
    from keywright.domain.keyformat import Digester
    from keywright.nats.connection import Connection
    from keywright.protocol.shares import ShareAnswer, UseReport
    from keywright.runtime.clock import Clock
    from keywright.runtime.nats_options import NatsOptions


class HttpShareChannel:
    """To the origin, authenticated by the edge token and by a MAC. `close` it when it is not needed."""

    def __init__(self, client: httpx2.AsyncClient, digester: Digester) -> None:
        """`client` speaks to the origin as this edge (sync/wiring.py); it is closed with this."""
        self._client = client
        self._signer = SharesSigner(digester)

    async def ask(self, report: UseReport) -> ShareAnswer:
        try:
            return self._signer.decode_answer(await self._post(self._signer.encode_report(report)), report)
        except httpx2.HTTPError as error:
            raise NotTaken(f"{type(error).__name__}: {error}") from error
        except SharesError as error:
            raise NotTaken(str(error)) from error

    async def _post(self, data: bytes) -> bytes:
        body = bytearray()
        async with self._client.stream("POST", "/v1/feed/shares", content=data) as answer:
            if answer.status_code != 200:
                raise NotTaken(f"the origin answered {answer.status_code}")
            async for piece in answer.aiter_bytes():
                body += piece
                if len(body) > MAX_BYTES:
                    raise NotTaken(f"the answer has more than {MAX_BYTES} bytes")
        return bytes(body)

    async def close(self) -> None:
        await self._client.aclose()


class NatsShareChannel:
    """To any origin at the broker, on a connection of its own: what is wrong here holds up nothing else."""

    def __init__(self, options: NatsOptions, digester: Digester, clock: Clock, *, edge_name: str) -> None:
        self._options = options
        self._signer = SharesSigner(digester)
        self._clock = clock
        self._edge_name = edge_name
        self._connection: Connection | None = None

    async def ask(self, report: UseReport) -> ShareAnswer:
        # Its client is loaded by those who have a broker.
        from keywright.nats.connection import BrokerRefused, BrokerUnavailable, connect

        try:
            if self._connection is None:
                self._connection = await connect(self._options, f"{self._edge_name} shares", self._clock)
            connection = self._connection
            data = await connection.request(connection.subjects.shares, self._signer.encode_report(report))
            if data[:1] == b"{":
                raise NotTaken(f"the origin refuses: {data[:200].decode(errors='replace')}")
            return self._signer.decode_answer(data, report)
        except (BrokerUnavailable, BrokerRefused) as error:
            await self.close()
            raise NotTaken(str(error)) from error
        except SharesError as error:
            raise NotTaken(str(error)) from error

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


class NoShareChannel:
    """Of an edge that follows nobody."""

    async def ask(self, report: UseReport) -> ShareAnswer:
        raise NotTaken("there is no origin")

    async def close(self) -> None: ...
