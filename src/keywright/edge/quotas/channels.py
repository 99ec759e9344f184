"""Owns the ways on which an edge asks for quotas: to its origin over HTTP, and to whoever answers at a broker.

What comes back is bounded, and is only believed if it was made for that very question (protocol/leases.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx2

from keywright.edge.quotas.borrowing import NotLent, SetBack
from keywright.protocol.leases import MAX_ANSWER_BYTES, LeaseError, LeaseSigner

if TYPE_CHECKING:
    from keywright.domain.keyformat import Digester
    from keywright.nats.connection import Connection
    from keywright.protocol.leases import Answer, Question
    from keywright.runtime.clock import Clock
    from keywright.runtime.nats_options import NatsOptions

MEDIA_TYPE = "application/octet-stream"


class HttpLeaseChannel:
    """To the origin, authenticated by the edge token and by a MAC. `close` it when it is not needed."""

    def __init__(self, client: httpx2.AsyncClient, digester: Digester) -> None:
        """`client` speaks to the origin as this edge (sync/wiring.py); it is closed with this."""
        self._client = client
        self._signer = LeaseSigner(digester)

    async def ask(self, question: Question) -> Answer:
        data = self._signer.encode_question(question)
        try:
            return self._signer.decode_answer(data, await self._post(data))
        except httpx2.HTTPError as error:
            raise NotLent(f"{type(error).__name__}: {error}") from error
        except LeaseError as error:
            raise NotLent(f"the answer is refused: {error}") from error

    async def _post(self, data: bytes) -> bytes:
        body = bytearray()
        async with self._client.stream("POST", "/v1/feed/leases", content=data) as answer:
            if answer.status_code != 200:
                refused = SetBack if answer.status_code == 409 else NotLent
                raise refused(f"the origin answered {answer.status_code}")
            async for piece in answer.aiter_bytes():
                body += piece
                if len(body) > MAX_ANSWER_BYTES:
                    raise NotLent(f"the answer has more than {MAX_ANSWER_BYTES} bytes")
        return bytes(body)

    async def close(self) -> None:
        await self._client.aclose()


class NatsLeaseChannel:
    """To any origin at the broker, on a connection of its own: what is wrong here holds up nothing else."""

    def __init__(self, options: NatsOptions, digester: Digester, clock: Clock, *, edge_name: str) -> None:
        self._options = options
        self._signer = LeaseSigner(digester)
        self._clock = clock
        self._edge_name = edge_name
        self._connection: Connection | None = None

    async def ask(self, question: Question) -> Answer:
        # Its client is loaded by those who have a broker.
        from keywright.nats.connection import BrokerRefused, BrokerUnavailable, connect

        data = self._signer.encode_question(question)
        try:
            if self._connection is None:
                self._connection = await connect(self._options, f"{self._edge_name} leases", self._clock)
            connection = self._connection
            answer = await connection.request(connection.subjects.leases, data)
        except (BrokerUnavailable, BrokerRefused) as error:
            await self.close()
            raise NotLent(str(error)) from error
        if answer[:1] == b"{":
            refused = SetBack if answer[:14] == b'{"status":409,' else NotLent
            raise refused(f"the origin refuses: {answer[:200].decode(errors='replace')}")
        try:
            return self._signer.decode_answer(data, answer)
        except LeaseError as error:
            raise NotLent(f"the answer is refused: {error}") from error

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


class NoLeaseChannel:
    """Of an edge that follows nobody."""

    async def ask(self, question: Question) -> Answer:
        raise NotLent("there is no origin")

    async def close(self) -> None: ...
