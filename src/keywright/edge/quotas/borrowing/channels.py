"""Owns the ways on which an edge asks for quotas: its origin over HTTP, any origin at a broker, or none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keywright.edge.origin_calls import BrokerCall, HttpCall, NotTaken, Refused
from keywright.edge.quotas.borrowing.asking import NotLent, SetBack
from keywright.protocol.leases import MAX_ANSWER_BYTES, LeaseError, LeaseSigner

if TYPE_CHECKING:
    import httpx2

    from keywright.domain.keyformat import Digester
    from keywright.protocol.leases import Answer, Question
    from keywright.runtime.clock import Clock
    from keywright.runtime.nats_options import NatsOptions

MEDIA_TYPE = "application/octet-stream"


class _Channel:
    """Authenticated by a MAC. `close` it when it is not needed."""

    def __init__(self, call: HttpCall | BrokerCall, digester: Digester) -> None:
        self._call = call
        self._signer = LeaseSigner(digester)

    async def ask(self, question: Question) -> Answer:
        data = self._signer.encode_question(question)
        try:
            return self._signer.decode_answer(data, await self._call.ask(data))
        except LeaseError as error:
            raise NotLent(f"the answer is refused: {error}") from error
        except NotTaken as error:
            is_set_back = isinstance(error, Refused) and error.status == 409
            raise (SetBack if is_set_back else NotLent)(str(error)) from error

    async def close(self) -> None:
        await self._call.close()


class HttpLeaseChannel(_Channel):
    """To the origin."""

    def __init__(self, client: httpx2.AsyncClient, digester: Digester) -> None:
        """`client` is closed with this."""
        super().__init__(HttpCall(client, "/v1/feed/leases", MAX_ANSWER_BYTES), digester)


class NatsLeaseChannel(_Channel):
    """To any origin at the broker."""

    def __init__(self, options: NatsOptions, digester: Digester, clock: Clock, *, edge_name: str) -> None:
        super().__init__(BrokerCall(options, clock, f"{edge_name} leases", lambda subjects: subjects.leases), digester)


class NoLeaseChannel:
    """Of an edge that follows nobody."""

    async def ask(self, question: Question) -> Answer:
        raise NotLent("there is no origin")

    async def close(self) -> None: ...
