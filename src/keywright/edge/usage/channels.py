from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from keywright.edge.origin_calls import BrokerCall, HttpCall, NotTaken, Refused
from keywright.protocol.usage import UsageError
from keywright.protocol.usage_delivery import WISHES_QUESTION, UsageSigner

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

    async def tell(self, delivery: Delivery) -> frozenset[int]:
        question = replace(delivery, content=WISHES_QUESTION)
        try:
            wished = self._signer.decode_wishes(await self._call.ask(self._signer.encode_delivery(question)), question)
        except UsageError as error:
            raise NotTaken(str(error)) from error
        except Refused as refused:
            if refused.status == 404:
                raise NotTaken("the origin takes no usage: it is of an earlier version") from refused
            raise
        if wished is None:
            # An origin of before takes the question for a batch that is none, and hears nothing else of it.
            await self.deliver(delivery)
        return wished or frozenset()

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

    async def tell(self, delivery: Delivery) -> frozenset[int]:
        raise NotTaken("there is no origin")

    async def close(self) -> None: ...
