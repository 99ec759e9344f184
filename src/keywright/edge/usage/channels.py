from __future__ import annotations

from typing import TYPE_CHECKING

from keywright.edge.origin_calls import BrokerCall, HttpCall, NotTaken, Refused
from keywright.protocol.usage import UsageError
from keywright.protocol.usage_delivery import UsageSigner

if TYPE_CHECKING:
    import httpx2

    from keywright.domain.keyformat import Digester
    from keywright.protocol.usage_delivery import Delivery, UsageAnswer
    from keywright.runtime.clock import Clock
    from keywright.runtime.nats_options import NatsOptions

_MOST_BYTES = 64 * 1024


class _Channel:
    """Authenticated by a MAC. `close` it when it is not needed."""

    def __init__(self, call: HttpCall | BrokerCall, digester: Digester) -> None:
        self._call = call
        self._signer = UsageSigner(digester)

    async def deliver(self, delivery: Delivery) -> UsageAnswer:
        try:
            return self._signer.decode_answer(await self._call.ask(self._signer.encode_delivery(delivery)), delivery)
        except UsageError as error:
            raise NotTaken(str(error)) from error
        except Refused as refused:
            if refused.status == 404:
                raise NotTaken("the origin takes no usage: it is of an earlier version") from refused
            raise

    async def close(self) -> None:
        await self._call.close()


class HttpUsageChannel(_Channel):
    """To the origin."""

    def __init__(self, client: httpx2.AsyncClient, digester: Digester) -> None:
        """`client` is closed with this."""
        super().__init__(HttpCall(client, "/v1/feed/usage", _MOST_BYTES), digester)


class NatsUsageChannel(_Channel):
    """To any origin at the broker, on this edge's own subject."""

    def __init__(self, options: NatsOptions, digester: Digester, clock: Clock, *, edge_name: str) -> None:
        super().__init__(
            BrokerCall(options, clock, f"{edge_name} usage", lambda subjects: subjects.usage_of(edge_name)), digester
        )


class NoUsageChannel:
    """Of an edge that follows nobody."""

    async def deliver(self, delivery: Delivery) -> UsageAnswer:
        raise NotTaken("there is no origin")

    async def close(self) -> None: ...
