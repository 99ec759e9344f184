"""Owns having a worker take no more connections, while it goes on answering those that it has.

A server that ends closes what it has taken and nobody has asked anything on yet: a client that has just connected sees
its first request refused. So a worker that is to end stops taking first, and has a moment until what it took was asked.
"""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress


def stop_accepting(listening: socket.socket) -> None:
    """Have this process take nothing more from that socket, which other processes listen on, too.

    Who waits for its connections here goes on waiting, at a socket that nobody calls. Linux alone; elsewhere it does
    nothing. Raises OSError.
    """
    if sys.platform != "linux":
        return
    mine = os.fstat(listening.fileno())
    with socket.socket(socket.AF_UNIX) as nowhere:
        nowhere.setblocking(False)
        # In no directory: the system draws a name, and nothing of it is left behind.
        nowhere.bind("")
        nowhere.listen(1)
        for descriptor in map(int, os.listdir("/proc/self/fd")):
            with suppress(OSError):
                if os.path.samestat(os.fstat(descriptor), mine):
                    os.dup2(nowhere.fileno(), descriptor, inheritable=False)
