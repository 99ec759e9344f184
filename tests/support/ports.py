"""Free ports for servers of tests: below those that the kernel gives to connections, so that none of these takes one
between the moment that it is found free and the server's start.
"""

from __future__ import annotations

import os
import random
import socket
from itertools import count

FIRST, LAST = 10_240, 32_000
# Where each process begins is its own affair: several runs of tests may go on at once.
_numbers = count(random.Random(os.getpid()).randrange(LAST - FIRST))


def free_port() -> int:
    """Found free, on all addresses; no second time in this process while there are others."""
    for number in _numbers:
        port = FIRST + number % (LAST - FIRST)
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return port
    raise AssertionError("unreachable")
