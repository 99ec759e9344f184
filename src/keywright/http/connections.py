"""Owns which connections a worker keeps: none that asks for nothing, and of no address so many that others get none.

The server accepts connections by itself and tells the application of requests only. So this looks at the process's own
sockets once a second, and knows from the application which of them asked for something. Those that are to go are shut
down, which the server sees as its client's end. Deadlines of bodies are in body.py, of a head on a kept connection the
server's own. Only Linux tells a process of its sockets this way: elsewhere `run` does nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from keywright.http.client_address import grpc_peer, network_of, plain
from keywright.runtime import tasks

FIRST_SECONDS = 10.0
"""For how long a connection may be open before its first request is there whole, but for a body."""
IDLE_SECONDS = 60.0
"""For how long after its last request it may stay. HTTP/1 is closed by the server after half of that."""
LOOK_SECONDS = 1.0
SLICE = 100
"""Sockets that are looked at before requests have their turn."""
OWN_SOCKETS = "/proc/self/fd"

Peer = tuple[str, int]
"""Address and port, as a socket has them and ASGI should."""


@dataclass(slots=True)
class Connection:
    """One that was accepted at `port`. `inode` tells its socket from a later one with the same descriptor."""

    descriptor: int
    inode: int
    port: int
    peer: Peer
    since: float
    has_asked: bool = False
    last: float = field(default=0.0)
    """When it last asked, or was opened."""
    unsent: int = 0
    """Bytes of an answer that the client had not taken at the last look after its time."""
    taken: float = 0.0
    """When it was seen to take some of them."""

    @property
    def network(self) -> str:
        return network_of(self.peer[0])


class Connections:
    """The connections of one worker. `ceilings` are how many each of its ports may have.

    `per_address` is how many one address may have at a port, 0 for half of the ceiling; `is_trusted` tells proxies,
    which come for many. Connections that ask are told to `seen`, and those that ask for long are `busy` meanwhile.
    """

    def __init__(
        self,
        ceilings: Mapping[int, int],
        *,
        per_address: int = 0,
        is_trusted: Callable[[str], bool] = lambda _: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.seen: set[Peer | str | None] = set()
        """Who asked since the last look, as ASGI has it (`client`), or gRPC. Put in by who answers: it costs little."""
        self._ceilings = dict(ceilings)
        self._per_address = per_address
        self._is_trusted = is_trusted
        self._clock = clock
        self._busy: Counter[Peer | None] = Counter()
        self._open: dict[int, Connection] = {}
        self._others: dict[int, int] = {}
        """Sockets that are none of these, by descriptor: their inodes."""

    @contextlib.contextmanager
    def busy(self, client: Peer | None) -> Iterator[None]:
        """While a request is answered that may take long."""
        self._busy[client] += 1
        try:
            yield
        finally:
            self._busy[client] -= 1
            if not self._busy[client]:
                del self._busy[client]
            self.seen.add(client)

    async def run(self, stop: asyncio.Event) -> None:
        """Looks again and again until `stop` is set."""
        if sys.platform != "linux":
            return
        while not stop.is_set():
            began = self._clock()
            await self.look()
            # However many there are, looking at them is a small part of the work.
            pause = max(LOOK_SECONDS, 20 * (self._clock() - began))
            await tasks.pause(stop, pause)

    async def look(self) -> None:
        """Notes who is there and who asked, and closes those whose time is over or for whom there is no room."""
        await self._find()
        now = self._clock()
        busy = {peer for one in self._busy if (peer := _to_peer(one)) is not None}
        asked = busy | {peer for one in self.seen if (peer := _to_peer(one)) is not None}
        self.seen.clear()
        for connection in self._open.values():
            if connection.peer in asked:
                connection.has_asked, connection.last = True, now
        for connection in self._late(now):
            self._close(connection)
        for connection in list(self._too_many(busy)):
            self._close(connection)

    def _late(self, now: float) -> list[Connection]:
        late = []
        for connection in self._open.values():
            limit = IDLE_SECONDS if connection.has_asked else FIRST_SECONDS
            if now - connection.last >= limit and not _is_taking(connection, now):
                late.append(connection)
        return late

    def _too_many(self, busy: set[Peer]) -> Iterable[Connection]:
        """Those that make room at each port: of an address that has too many any, else the longest idle."""
        for port, ceiling in self._ceilings.items():
            here = [one for one in self._open.values() if one.port == port]
            # Room is made before there is none: what comes when the ceiling is reached waits for the next look.
            spare = max(2, ceiling // 10)
            most = self._per_address or max(1, ceiling // 2)
            if len(here) <= min(most, ceiling - spare):
                continue
            here.sort(key=lambda one: (one.peer in busy, self._is_trusted(one.peer[0]), one.has_asked, one.last))
            counts = Counter(one.network for one in here)
            too_many = len(here) - (ceiling - 2 * spare) if len(here) > ceiling - spare else 0
            for connection in here:
                is_greedy = counts[connection.network] > most and not self._is_trusted(connection.peer[0])
                if is_greedy or (too_many > 0 and connection.peer not in busy):
                    counts[connection.network] -= 1
                    too_many -= 1
                    yield connection

    async def _find(self) -> None:
        """Learns of connections that were accepted, and forgets those that have ended."""
        there = set()
        for number, name in enumerate(os.listdir(OWN_SOCKETS)):
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            descriptor = int(name)
            try:
                found = os.fstat(descriptor)
            except OSError:
                continue
            if not stat.S_ISSOCK(found.st_mode):
                continue
            there.add(descriptor)
            known = self._open.get(descriptor)
            if (known is not None and known.inode == found.st_ino) or self._others.get(descriptor) == found.st_ino:
                continue
            self._forget(descriptor)
            self._learn(descriptor, found.st_ino)
        for descriptor in [*(self._open.keys() - there), *(self._others.keys() - there)]:
            self._forget(descriptor)

    def _learn(self, descriptor: int, inode: int) -> None:
        with _held(descriptor, inode) as held:
            if held is None:
                return
            try:
                port, address = held.getsockname()[1], held.getpeername()
                peer = (plain(address[0]), int(address[1]))
            except (OSError, IndexError, TypeError, ValueError):
                # It listens, or is of another family.
                port = None
            if port not in self._ceilings:
                self._others[descriptor] = inode
                return
        now = self._clock()
        self._open[descriptor] = Connection(descriptor, inode, port, peer, since=now, last=now)

    def _forget(self, descriptor: int) -> None:
        self._open.pop(descriptor, None)
        self._others.pop(descriptor, None)

    def _close(self, connection: Connection) -> None:
        self._forget(connection.descriptor)
        with _held(connection.descriptor, connection.inode) as held:
            if held is not None:
                # The server reads the end that a client would have sent, and closes what is its own.
                with contextlib.suppress(OSError):
                    held.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def _held(descriptor: int, inode: int) -> Iterator[socket.socket | None]:
    """The socket under a descriptor of our own, so that it stays this one; None if it was closed meanwhile."""
    try:
        own = os.dup(descriptor)
    except OSError:
        yield None
        return
    found = os.fstat(own)
    if not stat.S_ISSOCK(found.st_mode):
        # A file came to be there. To close any descriptor of it would take away locks that a database has: it is left.
        yield None
        return
    with socket.socket(fileno=own) as held:
        yield held if found.st_ino == inode else None


def _is_taking(connection: Connection, now: float) -> bool:
    """Whether the client still takes the answer to what it asked, however slowly: some of it in FIRST_SECONDS."""
    unsent = 0
    with _held(connection.descriptor, connection.inode) as held:
        if held is not None:
            unsent = _unsent(held)
    if unsent != connection.unsent:
        connection.unsent, connection.taken = unsent, now
    return unsent > 0 and now - connection.taken < FIRST_SECONDS


def _unsent(held: socket.socket) -> int:
    import fcntl
    import termios

    with contextlib.suppress(OSError):
        return int.from_bytes(fcntl.ioctl(held.fileno(), termios.TIOCOUTQ, bytes(4)), "little")
    return 0


def _to_peer(client: Peer | str | None) -> Peer | None:
    """A peer as sockets tell it, or as gRPC does."""
    if client is None:
        return None
    if not isinstance(client, str):
        # Granian 2 tells the port as text.
        return plain(client[0]), int(client[1])
    return grpc_peer(client)
