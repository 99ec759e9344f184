"""A process that takes no more connections of a socket leaves them to the others that listen on it."""

from __future__ import annotations

import socket
import subprocess
import sys

CHILD = """
import socket, sys
from keywright.runtime.processes.accepting import stop_accepting
listening = socket.socket(fileno=int(sys.argv[1]))
held = listening.dup()
first, _ = listening.accept()
stop_accepting(listening)
print("stopped", flush=True)
sys.stdin.readline()
for one in (listening, held):
    try:
        one.accept()
    except BlockingIOError:
        print("nothing", flush=True)
first.sendall(b"answered")
"""


def test_connections_are_left_to_other_processes_and_what_was_taken_is_answered() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
        descriptor = listening.fileno()
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(descriptor)],
            pass_fds=[descriptor], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        with child, socket.create_connection(address, timeout=20) as early:
            assert child.stdin is not None
            assert child.stdout is not None
            assert child.stdout.readline() == "stopped\n"
            with socket.create_connection(address, timeout=20) as late:
                child.stdin.write("\n")
                child.stdin.flush()
                assert child.stdout.read() == "nothing\n" * 2
                listening.settimeout(20)
                taken, _ = listening.accept()
                with taken:
                    assert taken.getpeername() == late.getsockname()
            assert early.recv(100) == b"answered"
        assert child.returncode == 0
