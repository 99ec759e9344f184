"""Owns connections for one event loop: each is one task's while it asks, and is kept for the next.

No streams are between: a connection is a protocol of the loop, whose future is what a task waits for.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from typing import TYPE_CHECKING, Any, cast

from keywright.http.client.answers import Answer, BadAnswer, BrokenOff
from keywright.http.client.blocking import KEPT_SECONDS

if TYPE_CHECKING:
    import ssl

    from keywright.http.client.server_address import ServerAddress


class WaitingPool:
    """The connections of one event loop to one server. What its methods raise they raise as BlockingPool's do."""

    def __init__(
        self, address: ServerAddress, tls: ssl.SSLContext | None, *, connections: int, most_bytes: int
    ) -> None:
        self._address = address
        self._tls = tls
        self._most_bytes = most_bytes
        self._turns = asyncio.Semaphore(connections)
        self._kept: deque[_Connection] = deque()
        self._is_closed = False

    async def ask(self, question: bytes, deadline: float, *, on_new: bool = False) -> Answer:
        """The answer to a whole request. At `deadline`, of the loop's time(), the caller gives up (asyncio.timeout_at):
        here it only says how long to try an address of several.
        """
        async with self._turns:
            if on_new:
                self._let_go()
            connection = self._find_kept() or await self._connect(deadline)
            answer = Answer(self._most_bytes)
            try:
                await connection.ask(question, answer)
            except BaseException:
                # Cancelled, too: what would come now is the answer to this question.
                connection.abort()
                raise
            self._put_back(connection, answer)
            return answer

    async def close(self) -> None:
        """Those that are in use are closed when they are put back."""
        self._is_closed = True
        self._let_go()
        # For the loop to close what it was told to.
        await asyncio.sleep(0)

    def _put_back(self, connection: _Connection, answer: Answer) -> None:
        now = asyncio.get_running_loop().time()
        if answer.may_be_kept and not self._is_closed:
            connection.kept_since = now
            self._kept.append(connection)
        else:
            connection.close()
        while self._kept and self._kept[0].kept_since < now - KEPT_SECONDS:
            self._kept.popleft().close()

    def _find_kept(self) -> _Connection | None:
        since = asyncio.get_running_loop().time() - KEPT_SECONDS
        while self._kept:
            connection = self._kept.pop()
            if connection.is_open and connection.kept_since >= since:
                return connection
            connection.close()
        return None

    def _let_go(self) -> None:
        while self._kept:
            self._kept.pop().close()

    async def _connect(self, deadline: float) -> _Connection:
        """To the first of the server's addresses that answers; each has its share of the time that is left."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self._address.host, self._address.port, type=socket.SOCK_STREAM)
        failure: OSError = TimeoutError()
        for place, (family, kind, protocol, _, where) in enumerate(found):
            left = deadline - loop.time()
            try:
                async with asyncio.timeout(left / (len(found) - place)):
                    return await self._connect_to(socket.socket(family, kind, protocol), where)
            except OSError as error:
                failure = error
        raise failure

    async def _connect_to(self, connection: socket.socket, where: Any) -> _Connection:
        loop = asyncio.get_running_loop()
        try:
            connection.setblocking(False)
            await loop.sock_connect(connection, where)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            name = self._address.host if self._tls is not None else None
            _, made = await loop.create_connection(_Connection, sock=connection, ssl=self._tls, server_hostname=name)
        except BaseException:
            connection.close()
            raise
        return made


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self.is_open = False
        self.kept_since = 0.0
        self._transport: asyncio.Transport | None = None
        self._answer: Answer | None = None
        self._done: asyncio.Future[None] | None = None

    async def ask(self, question: bytes, answer: Answer) -> None:
        """Raises BrokenOff or BadAnswer."""
        if self._transport is None or not self.is_open:
            raise BrokenOff("the connection has ended")
        self._answer = answer
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(question)
        await self._done

    def close(self) -> None:
        self.is_open = False
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        self.is_open, self._answer, self._done = False, None, None
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # What loops hand over is one that writes, whatever its class: uvloop has its own.
        self._transport, self.is_open = cast("asyncio.Transport", transport), True

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None:
            # Nobody asked for that, and nobody shall take it for an answer.
            self.abort()
            return
        try:
            if answer.feed(data):
                self._settle(None)
        except BadAnswer as error:
            self._settle(error)

    def eof_received(self) -> None:
        self._end("the connection ended before the answer did")

    def connection_lost(self, error: Exception | None) -> None:
        self._end("the connection ended" if error is None else f"{type(error).__name__}: {error}")

    def _end(self, reason: str) -> None:
        self.is_open = False
        if self._answer is None:
            return
        try:
            self._answer.end()
        except BrokenOff:
            self._settle(BrokenOff(reason))
        else:
            self._settle(None)

    def _settle(self, error: Exception | None) -> None:
        done, self._done, self._answer = self._done, None, None
        if done is None or done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)
