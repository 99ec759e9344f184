"""A client that speaks HTTP/2 without TLS and puts into its frames whatever it is told."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError

Headers = Sequence[tuple[bytes, bytes]]


@dataclass
class Answer:
    """`status` is 0 where the stream was reset or the connection closed instead."""

    status: int = 0
    body: bytes = b""

    @property
    def seen(self) -> list[tuple[str, str]]:
        """The headers that the API behind the gateway got, names in lower case."""
        return [(name.lower(), value) for name, value in json.loads(self.body)["headers"]]


class Http2Connection:
    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._h2 = H2Connection(
            H2Configuration(
                validate_outbound_headers=False, normalize_outbound_headers=False, split_outbound_cookies=False
            )
        )
        self._h2.initiate_connection()

    def ask(self, headers: Headers, body: bytes = b"", trailers: Headers = ()) -> Answer:
        """One request on a stream of its own, one after the other."""
        stream = self._h2.get_next_available_stream_id()
        self._h2.send_headers(stream, list(headers), end_stream=not body and not trailers)
        if body or trailers:
            self._h2.send_data(stream, body, end_stream=not trailers)
        if trailers:
            self._h2.send_headers(stream, list(trailers), end_stream=True)
        answer = Answer()
        with suppress(OSError, ProtocolError):
            self._exchange(answer)
        return answer

    def _exchange(self, answer: Answer) -> None:
        while True:
            self._socket.sendall(self._h2.data_to_send())
            received = self._socket.recv(65536)
            if not received:
                return
            for event in self._h2.receive_data(received):
                match event:
                    case ResponseReceived(headers=headers):
                        answer.status = int(dict(headers or ())[b":status"])
                    case DataReceived(data=data):
                        answer.body += data or b""
                    case StreamEnded() | StreamReset() | ConnectionTerminated():
                        return


@contextmanager
def connect(port: int) -> Iterator[Http2Connection]:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        yield Http2Connection(connection)


def request(*headers: tuple[bytes, bytes], **pseudo: bytes) -> list[tuple[bytes, bytes]]:
    """A GET with these headers; `pseudo` replaces :method, :scheme, :authority and :path, or adds others."""
    given = {"method": b"GET", "scheme": b"http", "authority": b"x", "path": b"/hello", **pseudo}
    return [*((b":" + name.encode(), value) for name, value in given.items()), *headers]
