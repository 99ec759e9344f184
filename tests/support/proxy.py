"""A TCP proxy that a test can make as bad as a network: cut, stalled, deaf in one direction, slow, or dishonest.

Before several servers it is a load balancer: each connection goes to the next one that takes it.
"""

from __future__ import annotations

import contextlib
import itertools
import select
import socket
import threading
import time
from collections.abc import Callable

from support.ports import free_port


class Proxy:
    """Listens on a port of its own for as long as it is entered. What it does may be changed at any moment."""

    def __init__(self, *target_ports: int) -> None:
        self._targets = itertools.cycle(target_ports)
        self._target_count = len(target_ports)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.is_cut = False
        self.holds_requests = False
        self.holds_answers = False
        self.delay_seconds = 0.0
        self.piece_bytes = 65536
        """How much is carried at once, after the delay."""
        self.tamper: Callable[[bytes], bytes] | None = None
        """What is done to the bytes of answers."""
        self.connections = 0
        self._is_over = False
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break every connection, and take no new ones until `heal`."""
        self.is_cut = True
        self._break_all()

    def stall(self) -> None:
        """Let nothing through, and tell nobody."""
        self.holds_requests = self.holds_answers = True

    def heal(self) -> None:
        self.is_cut = self.holds_requests = self.holds_answers = False
        self.delay_seconds = 0.0
        self.tamper = None

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        # Whoever waits in `accept` is not told of a close, and the port would go on taking connections.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._break_all()

    def _break_all(self) -> None:
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def _accept(self) -> None:
        while not self._is_over:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            if self.is_cut:
                near.close()
                continue
            far = self._connect()
            if far is None:
                near.close()
                continue
            self._open += [near, far]
            threading.Thread(target=self._carry, args=(near, far), daemon=True).start()

    def _connect(self) -> socket.socket | None:
        for port in itertools.islice(self._targets, self._target_count):
            with contextlib.suppress(OSError):
                return socket.create_connection(("127.0.0.1", port))
        return None

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        with near, far, contextlib.suppress(OSError):
            while not self._is_over:
                watched = [] if self.holds_requests else [near]
                watched += [] if self.holds_answers else [far]
                for one in _readable(watched, 0.02):
                    # They may have been told to hold since the wait began.
                    if self.holds_requests if one is near else self.holds_answers:
                        continue
                    data = one.recv(self.piece_bytes)
                    if not data:
                        return
                    if self.delay_seconds:
                        time.sleep(self.delay_seconds)
                    if one is near:
                        far.sendall(data)
                    else:
                        near.sendall(self.tamper(data) if self.tamper else data)


def _readable(watched: list[socket.socket], seconds: float) -> list[socket.socket]:
    """By poll: `select` takes no descriptor above 1023, and a whole run of tests may have more open."""
    if not watched:
        time.sleep(seconds)
        return []
    poll = select.poll()
    for one in watched:
        poll.register(one, select.POLLIN)
    ready = {number for number, _ in poll.poll(seconds * 1000)}
    return [one for one in watched if one.fileno() in ready]
