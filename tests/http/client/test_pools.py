"""Connections that are kept, for threads and for event loops alike: nobody gets the answer to another's question."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from keywright.http.client import blocking, waiting
from keywright.http.client.answers import BadAnswer, BrokenOff
from keywright.http.client.blocking import KEPT_SECONDS, BlockingPool
from keywright.http.client.server_address import ServerAddress, head
from keywright.http.client.waiting import WaitingPool
from support.certificates import make_certificate
from support.process import until

Serve = Callable[[socket.socket, "Server"], None]


class Server:
    """One that does with each connection what `serve` says, in a thread; what it has read is in `asked`."""

    def __init__(self, serve: Serve, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.asked: list[tuple[int, bytes]] = []
        """The number of the connection, and the body of the question."""
        self.open = 0
        self.most_open = 0
        self._serve = serve
        self._tls = tls
        self._listening = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._connections: list[socket.socket] = []
        self.address = ServerAddress(host, self._listening.getsockname()[1], "", tls is not None)
        threading.Thread(target=self._accept, daemon=True).start()

    def read(self, connection: socket.socket) -> bytes:
        """The next question's body. Raises ConnectionError when there is none."""
        data = b""
        while b"\r\n\r\n" not in data or len(data.partition(b"\r\n\r\n")[2]) < 4:
            part = connection.recv(4096)
            if not part:
                raise ConnectionError
            data += part
        body = data.partition(b"\r\n\r\n")[2]
        self.asked.append((self._connections.index(connection), body))
        return body

    def close(self) -> None:
        self._listening.close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                accepted = self._listening.accept()[0]
                threading.Thread(target=self._keep, args=(accepted,), daemon=True).start()

    def _keep(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            self._connections.append(connection)
            self.open += 1
            self.most_open = max(self.open, self.most_open)
            self._serve(connection, self)
        self.open -= 1
        connection.close()


def echo(connection: socket.socket, server: Server) -> None:
    while True:
        connection.sendall(answer(server.read(connection)))


def answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def question(body: bytes) -> bytes:
    assert len(body) == 4
    return b"POST / HTTP/1.1\r\n%bcontent-length: 4\r\n\r\n%b" % (head(ServerAddress("x", 80, "", False), {}), body)


@contextlib.contextmanager
def serving(serve: Serve, **options: Any) -> Iterator[Server]:
    server = Server(serve, **options)
    try:
        yield server
    finally:
        server.close()


class OfThreads:
    """A pool, asked from threads."""

    def __init__(self, address: ServerAddress, *, tls: ssl.SSLContext | None = None, connections: int = 10) -> None:
        self._pool = BlockingPool(address, tls, connections=connections, most_bytes=1000)

    def ask(self, body: bytes, seconds: float = 10, *, on_new: bool = False) -> bytes:
        return self._pool.ask(question(body), time.monotonic() + seconds, on_new=on_new).body

    def ask_all(self, bodies: list[bytes]) -> list[bytes]:
        with ThreadPoolExecutor(len(bodies)) as threads:
            return list(threads.map(self.ask, bodies))

    def close(self) -> None:
        self._pool.close()


class OfLoop:
    """A pool, asked from the tasks of an event loop that goes on between the questions."""

    def __init__(self, address: ServerAddress, *, tls: ssl.SSLContext | None = None, connections: int = 10) -> None:
        self._runner = asyncio.Runner()
        self._loop = self._runner.get_loop()
        self._pool = WaitingPool(address, tls, connections=connections, most_bytes=1000)

    def ask(self, body: bytes, seconds: float = 10, *, on_new: bool = False) -> bytes:
        return self._runner.run(self._ask(body, seconds, on_new))

    def ask_all(self, bodies: list[bytes]) -> list[bytes]:
        async def ask() -> list[bytes]:
            return await asyncio.gather(*(self._ask(body) for body in bodies))

        return self._runner.run(ask())

    def close(self) -> None:
        self._runner.run(self._pool.close())
        self._runner.close()

    async def _ask(self, body: bytes, seconds: float = 10, on_new: bool = False) -> bytes:
        # What has come meanwhile is heard first, as in a loop that never stops.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        async with asyncio.timeout(seconds):
            return (await self._pool.ask(question(body), self._loop.time() + seconds, on_new=on_new)).body


@pytest.fixture(params=[OfThreads, OfLoop], ids=["threads", "loop"])
def asking(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    made: list[Any] = []

    def make(*arguments: Any, **options: Any) -> Any:
        made.append(request.param(*arguments, **options))
        return made[-1]

    yield make
    for pool in made:
        pool.close()


def test_an_answer_that_nobody_asked_for_is_nobodys(asking: Any) -> None:
    both_sent = threading.Event()

    def twice(connection: socket.socket, server: Server) -> None:
        body = server.read(connection)
        connection.sendall(answer(body))
        # Later than the answer, so that only the next question could meet it.
        time.sleep(0.05)
        connection.sendall(answer(b"evil"))
        both_sent.set()
        connection.sendall(answer(server.read(connection)))

    with serving(twice) as server:
        pool = asking(server.address)
        assert pool.ask(b"1111") == b"1111"
        assert both_sent.wait(10)
        assert pool.ask(b"2222") == b"2222"
    assert server.asked == [(0, b"1111"), (1, b"2222")]


def test_bytes_after_an_answer_end_its_connection(asking: Any) -> None:
    def more(connection: socket.socket, server: Server) -> None:
        connection.sendall(answer(server.read(connection)) + b"HTTP/1.1 200 OK\r\n")
        server.read(connection)

    with serving(more) as server:
        pool = asking(server.address)
        assert [pool.ask(body) for body in (b"1111", b"2222")] == [b"1111", b"2222"]
    assert [number for number, _ in server.asked] == [0, 1]


def test_what_was_given_up_leaves_nothing_for_the_next(asking: Any) -> None:
    held = threading.Event()

    def slow(connection: socket.socket, server: Server) -> None:
        body = server.read(connection)
        if body == b"slow":
            held.wait(10)
        with contextlib.suppress(OSError):
            connection.sendall(answer(body))

    with serving(slow) as server:
        pool = asking(server.address)
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            pool.ask(b"slow", 0.05)
        assert time.monotonic() - began < 5
        held.set()
        assert pool.ask(b"next") == b"next"
    assert [number for number, _ in server.asked] == [0, 1]


def test_many_questions_at_once_get_their_own_answers_on_no_more_connections_than_said(asking: Any) -> None:
    with serving(echo) as server:
        pool = asking(server.address, connections=3)
        bodies = [b"%04d" % number for number in range(60)]
        assert pool.ask_all(bodies) == bodies
        assert sorted(body for _, body in server.asked) == bodies
        assert server.most_open <= 3


def test_who_waits_for_a_turn_waits_no_longer_than_said(asking: Any) -> None:
    released = threading.Event()

    def hold(connection: socket.socket, server: Server) -> None:
        server.read(connection)
        released.wait(10)

    with serving(hold) as server:
        pool = asking(server.address, connections=1)
        for _ in range(2):
            # The first has given its turn back.
            with pytest.raises(TimeoutError):
                pool.ask(b"1111", 0.05)
        released.set()
    assert len(server.asked) == 2


def test_a_kept_connection_that_has_ended_is_not_used(asking: Any) -> None:
    def once(connection: socket.socket, server: Server) -> None:
        connection.sendall(answer(server.read(connection)))

    with serving(once) as server:
        pool = asking(server.address)
        for body in (b"1111", b"2222", b"3333"):
            assert pool.ask(body) == body
            until(lambda: server.open == 0)
            time.sleep(0.01)
    assert [number for number, _ in server.asked] == [0, 1, 2]


def test_one_that_breaks_off_says_so_and_another_question_on_a_new_one_lets_go_of_all_kept(asking: Any) -> None:
    barrier = threading.Barrier(2)

    def later_away(connection: socket.socket, server: Server) -> None:
        body = server.read(connection)
        if body != b"last":
            # Both are open at a time, so that two are kept.
            barrier.wait(10)
        connection.sendall(answer(body))
        server.read(connection)

    with serving(later_away) as server:
        pool = asking(server.address)
        assert pool.ask_all([b"1111", b"2222"]) == [b"1111", b"2222"]
        with pytest.raises(BrokenOff):
            pool.ask(b"3333")
        assert pool.ask(b"last", on_new=True) == b"last"
        until(lambda: server.open == 1)
    assert [number for number, _ in server.asked][-1] == 2


def test_a_connection_that_nobody_asked_on_for_long_is_closed(asking: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(echo) as server:
        pool = asking(server.address)
        assert pool.ask(b"1111") == b"1111"
        for module in (blocking, waiting):
            monkeypatch.setattr(module, "KEPT_SECONDS", -1.0)
        assert pool.ask(b"2222") == b"2222"
        until(lambda: server.open == 0)
    assert [number for number, _ in server.asked] == [0, 1]
    # The edge's own server closes what is idle after 30 s: whoever comes later meets an end.
    assert KEPT_SECONDS < 30


def test_a_bad_answer_ends_its_connection(asking: Any) -> None:
    def bad(connection: socket.socket, server: Server) -> None:
        server.read(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n")
        server.read(connection)

    with serving(bad) as server:
        pool = asking(server.address)
        for _ in range(2):
            with pytest.raises(BadAnswer):
                pool.ask(b"1111")
        until(lambda: server.open == 0)
    assert [number for number, _ in server.asked] == [0, 1]


def test_a_pool_that_was_closed_keeps_nothing(asking: Any) -> None:
    with serving(echo) as server:
        pool = asking(server.address)
        assert pool.ask(b"1111") == b"1111"
        if isinstance(pool, OfThreads):
            pool.close()
        else:
            pool._runner.run(pool._pool.close())
        assert pool.ask(b"2222") == b"2222"
        until(lambda: server.open == 0)


@pytest.mark.parametrize("asking", [OfThreads, OfLoop], ids=["threads", "loop"])
def test_over_tls_only_who_proves_the_name_is_asked(asking: Any, tmp_path: Path) -> None:
    make_certificate(tmp_path)
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    believing = ssl.create_default_context(cafile=tmp_path / "server.pem")
    with serving(echo, tls=own) as server:
        pools = [
            asking(server.address, tls=believing),
            asking(server.address, tls=ssl.create_default_context()),
            asking(ServerAddress("localhost", server.address.port, "", True), tls=believing),
        ]
        assert [pools[0].ask(body) for body in (b"1111", b"2222")] == [b"1111", b"2222"]
        for pool in pools[1:]:
            with pytest.raises(ssl.SSLCertVerificationError):
                pool.ask(b"3333")
        for pool in pools:
            pool.close()
    assert server.asked == [(0, b"1111"), (0, b"2222")]


def test_of_a_name_with_several_addresses_the_one_that_answers_is_asked(
    asking: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(echo, host="::1") as server:
        port = server.address.port
        found = [
            # Nobody listens at the first.
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        pool = asking(ServerAddress("edge.test", port, "", False))
        assert pool.ask(b"1111") == b"1111"


def test_nobody_there_is_an_error_of_the_system(asking: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        asking(ServerAddress("127.0.0.1", port, "", False)).ask(b"1111")
