"""Owns connections for threads: each is one thread's while it asks, and is kept for the next.

Nothing is made before the first question, so that sockets and locks are those of the process, and of the kind (gevent),
that asks.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keywright.http.client.answers import Answer, BrokenOff

if TYPE_CHECKING:
    import ssl

    from keywright.http.client.server_address import ServerAddress

KEPT_SECONDS = 15.0
"""For how long a connection is kept that nobody asks on. An edge closes it after 30."""
_PIECE = 64 * 1024


@dataclass(slots=True)
class _Kept:
    socket: socket.socket
    since: float


class BlockingPool:
    """The connections of one process to one server. For any number of threads."""

    def __init__(
        self, address: ServerAddress, tls: ssl.SSLContext | None, *, connections: int, most_bytes: int
    ) -> None:
        """`connections` is how many are in use at most at a time; `most_bytes` is for the body of an answer."""
        self._address = address
        self._tls = tls
        self._most_bytes = most_bytes
        self._turns = threading.Semaphore(connections)
        # What is put back last is used first. Both ends of a deque may be used by any thread.
        self._kept: deque[_Kept] = deque()
        self._is_closed = False

    def ask(self, question: bytes, deadline: float, *, on_new: bool = False) -> Answer:
        """The answer to a whole request, until `deadline` of time.monotonic(). With `on_new` on a new connection: what
        was kept is let go of, since one that has broken off seldom is alone.

        Raises BrokenOff, where asking again may help, BadAnswer, TimeoutError, or OSError where nobody answers there.
        """
        if not self._turns.acquire(timeout=_left(deadline)):
            raise TimeoutError
        try:
            if on_new:
                self._let_go()
            connection = self._find_kept() or self._connect(deadline)
            try:
                answer = self._exchange(connection, question, deadline)
            except BaseException:
                connection.close()
                raise
            self._put_back(connection, answer)
            return answer
        finally:
            self._turns.release()

    def close(self) -> None:
        """Those that are in use are closed when they are put back."""
        self._is_closed = True
        self._let_go()

    def _exchange(self, connection: socket.socket, question: bytes, deadline: float) -> Answer:
        answer = Answer(self._most_bytes)
        try:
            connection.settimeout(_left(deadline))
            connection.sendall(question)
            while True:
                data = connection.recv(_PIECE)
                if not data:
                    answer.end()
                    break
                if answer.feed(data):
                    break
                connection.settimeout(_left(deadline))
        except TimeoutError:
            raise
        except OSError as error:
            raise BrokenOff(f"{type(error).__name__}: {error}") from error
        return answer

    def _put_back(self, connection: socket.socket, answer: Answer) -> None:
        now = time.monotonic()
        if not answer.may_be_kept or self._is_closed or (self._tls is not None and connection.pending()):  # type: ignore[attr-defined]
            connection.close()
        else:
            self._kept.append(_Kept(connection, now))
            if self._is_closed:
                # Since we looked.
                self._let_go()
        with contextlib.suppress(IndexError):
            while self._kept[0].since < now - KEPT_SECONDS:
                self._kept.popleft().socket.close()

    def _find_kept(self) -> socket.socket | None:
        while True:
            try:
                kept = self._kept.pop()
            except IndexError:
                return None
            if kept.since >= time.monotonic() - KEPT_SECONDS and _is_silent(kept.socket):
                return kept.socket
            kept.socket.close()

    def _let_go(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                self._kept.pop().socket.close()

    def _connect(self, deadline: float) -> socket.socket:
        """To the first of the server's addresses that answers; each has its share of the time that is left."""
        host = self._address.host
        found = socket.getaddrinfo(host, self._address.port, type=socket.SOCK_STREAM)
        failure: OSError = TimeoutError()
        for place, (family, kind, protocol, _, where) in enumerate(found):
            connection = socket.socket(family, kind, protocol)
            try:
                connection.settimeout(_left(deadline) / (len(found) - place))
                connection.connect(where)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return connection if self._tls is None else self._tls.wrap_socket(connection, server_hostname=host)
            except OSError as error:
                connection.close()
                failure = error
            except BaseException:
                connection.close()
                raise
        raise failure


def _left(deadline: float) -> float:
    """Raises TimeoutError where nothing is left."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _is_silent(connection: socket.socket) -> bool:
    """Whether nothing waits to be read: neither the end of the connection, nor an answer that nobody asked for."""
    try:
        connection.settimeout(0)
        # Of the socket itself: that of TLS takes no flags.
        socket.socket.recv(connection, 1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
