"""Owns the ways on which an edge's usage goes: to its origin over HTTP, and to whoever answers at a broker.

What comes back is bounded, and is only believed if it was made for that very delivery (protocol/usage_delivery.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx2

from keywright.edge.sync.reporting import NotTaken
from keywright.protocol.usage import UsageError
from keywright.protocol.usage_delivery import UsageSigner

if TYPE_CHECKING:
    from keywright.domain.keyformat import Digester
    from keywright.nats.connection import Connection
    from keywright.protocol.usage_delivery import Delivery, UsageAnswer
    from keywright.runtime.clock import Clock
    from keywright.runtime.nats_options import NatsOptions

_MOST_BYTES = 64 * 1024


class HttpUsageChannel:
    """To the origin, authenticated by the edge token and by a MAC. `close` it when it is not needed."""

    def __init__(self, client: httpx2.AsyncClient, digester: Digester) -> None:
        """`client` speaks to the origin as this edge (sync/wiring.py); it is closed with this."""
        self._client = client
        self._signer = UsageSigner(digester)

    async def deliver(self, delivery: Delivery) -> UsageAnswer:
        try:
            return self._signer.decode_answer(await self._post(self._signer.encode_delivery(delivery)), delivery)
        except httpx2.HTTPError as error:
            raise NotTaken(f"{type(error).__name__}: {error}") from error
        except UsageError as error:
            raise NotTaken(str(error)) from error

    async def _post(self, data: bytes) -> bytes:
        body = bytearray()
        async with self._client.stream("POST", "/v1/feed/usage", content=data) as answer:
            if answer.status_code == 404:
                raise NotTaken("the origin takes no usage: it is of an earlier version")
            if answer.status_code != 200:
                raise NotTaken(f"the origin answered {answer.status_code}")
            async for piece in answer.aiter_bytes():
                body += piece
                if len(body) > _MOST_BYTES:
                    raise NotTaken(f"the answer has more than {_MOST_BYTES} bytes")
        return bytes(body)

    async def close(self) -> None:
        await self._client.aclose()


class NatsUsageChannel:
    """To any origin at the broker, on this edge's own subject and a connection of its own: what is wrong here holds up
    nothing else.
    """

    def __init__(self, options: NatsOptions, digester: Digester, clock: Clock, *, edge_name: str) -> None:
        self._options = options
        self._signer = UsageSigner(digester)
        self._clock = clock
        self._edge_name = edge_name
        self._connection: Connection | None = None

    async def deliver(self, delivery: Delivery) -> UsageAnswer:
        # Its client is loaded by those who have a broker.
        from keywright.nats.connection import BrokerRefused, BrokerUnavailable, connect

        try:
            if self._connection is None:
                self._connection = await connect(self._options, f"{self._edge_name} usage", self._clock)
            connection = self._connection
            subject = connection.subjects.usage_of(self._edge_name)
            data = await connection.request(subject, self._signer.encode_delivery(delivery))
            if data[:1] == b"{":
                raise NotTaken(f"the origin refuses: {data[:200].decode(errors='replace')}")
            return self._signer.decode_answer(data, delivery)
        except (BrokerUnavailable, BrokerRefused) as error:
            await self.close()
            raise NotTaken(str(error)) from error
        except UsageError as error:
            raise NotTaken(str(error)) from error

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


class NoUsageChannel:
    """Of an edge that follows nobody."""

    async def deliver(self, delivery: Delivery) -> UsageAnswer:
        raise NotTaken("there is no origin")

    async def close(self) -> None: ...
