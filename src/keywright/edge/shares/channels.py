from __future__ import annotations

from typing import TYPE_CHECKING

from keywright.edge.origin_calls import BrokerCall, HttpCall, NotTaken
from keywright.protocol.shares import MAX_BYTES, SharesError, SharesSigner

if TYPE_CHECKING:
    import httpx2

    from keywright.domain.keyformat import Digester
    from keywright.protocol.shares import ShareAnswer, UseReport
    from keywright.runtime.clock import Clock
    from keywright.runtime.nats_options import NatsOptions


class _Channel:
    """Authenticated by a MAC. `close` it when it is not needed."""

    def __init__(self, call: HttpCall | BrokerCall, digester: Digester) -> None:
        self._call = call
        self._signer = SharesSigner(digester)

    async def ask(self, report: UseReport) -> ShareAnswer:
        try:
            return self._signer.decode_answer(await self._call.ask(self._signer.encode_report(report)), report)
        except SharesError as error:
            raise NotTaken(str(error)) from error

    async def close(self) -> None:
        await self._call.close()


class HttpShareChannel(_Channel):
    """To the origin."""

    def __init__(self, client: httpx2.AsyncClient, digester: Digester) -> None:
        """`client` is closed with this."""
        super().__init__(HttpCall(client, "/v1/feed/shares", MAX_BYTES), digester)


class NatsShareChannel(_Channel):
    """To any origin at the broker."""

    def __init__(self, options: NatsOptions, digester: Digester, clock: Clock, *, edge_name: str) -> None:
        super().__init__(BrokerCall(options, clock, f"{edge_name} shares", lambda subjects: subjects.shares), digester)


class NoShareChannel:
    """Of an edge that follows nobody."""

    async def ask(self, report: UseReport) -> ShareAnswer:
        raise NotTaken("there is no origin")

    async def close(self) -> None: ...
