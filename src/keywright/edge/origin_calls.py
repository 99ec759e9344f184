"""Owns asking an origin one thing and reading its bounded answer: over HTTP, or at a broker.

What is asked, and whether the answer is to be believed, is the caller's affair.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import httpx2

if TYPE_CHECKING:
    from keywright.nats.connection import Connection
    from keywright.nats.subjects import Subjects
    from keywright.runtime.clock import Clock
    from keywright.runtime.nats_options import NatsOptions

_STATUS = re.compile(rb'\{"status":([1-5]\d\d),')


class NotTaken(Exception):
    """What was to be told did not get there, or was refused, or was not answered."""


class Refused(NotTaken):
    """An origin has answered, and not with what was asked for. `status` is that of HTTP, None where none was told."""

    def __init__(self, text: str, status: int | None) -> None:
        super().__init__(text)
        self.status = status


class HttpCall:
    """To the origin, authenticated by the edge token. `close` it when it is not needed."""

    def __init__(self, client: httpx2.AsyncClient, path: str, most_bytes: int) -> None:
        """`client` speaks to the origin as this edge (sync/wiring.py); it is closed with this."""
        self._client = client
        self._path = path
        self._most_bytes = most_bytes

    async def ask(self, data: bytes) -> bytes:
        """Raises NotTaken."""
        body = bytearray()
        try:
            async with self._client.stream("POST", self._path, content=data) as answer:
                if answer.status_code != 200:
                    raise Refused(f"the origin answered {answer.status_code}", answer.status_code)
                async for piece in answer.aiter_bytes():
                    body += piece
                    if len(body) > self._most_bytes:
                        raise NotTaken(f"the answer has more than {self._most_bytes} bytes")
        except httpx2.HTTPError as error:
            raise NotTaken(f"{type(error).__name__}: {error}") from error
        return bytes(body)

    async def close(self) -> None:
        await self._client.aclose()


class BrokerCall:
    """To any origin at the broker, on a connection of its own: what is wrong here holds up nothing else."""

    def __init__(self, options: NatsOptions, clock: Clock, name: str, subject_of: Callable[[Subjects], str]) -> None:
        """`name` is what the broker shows of the connection."""
        self._options = options
        self._clock = clock
        self._name = name
        self._subject_of = subject_of
        self._connection: Connection | None = None

    async def ask(self, data: bytes) -> bytes:
        """Raises NotTaken."""
        # Its client is loaded by those who have a broker.
        from keywright.nats.connection import BrokerRefused, BrokerUnavailable, connect

        try:
            if self._connection is None:
                self._connection = await connect(self._options, self._name, self._clock)
            connection = self._connection
            answer = await connection.request(self._subject_of(connection.subjects), data)
        except (BrokerUnavailable, BrokerRefused) as error:
            await self.close()
            raise NotTaken(str(error)) from error
        if answer[:1] == b"{":
            status = _STATUS.match(answer)
            told = f"the origin refuses: {answer[:200].decode(errors='replace')}"
            raise Refused(told, None if status is None else int(status[1]))
        return answer

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
