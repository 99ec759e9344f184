"""Processes that are stopped (SIGSTOP), and questions that wait for them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from support.api import BUCKET
from support.process import ServeProcess

TESTS = Path(__file__).parents[1]
ANSWER_SECONDS = 0.5
CONNECTIONS = 16
MAX_CONNECTIONS = 2000
IN_A_WRITE = """
    import os, signal, sys
    from pathlib import Path
    from keywright.edge.replica import integrity
    from keywright.edge.replica.files import MAP_SIZE, Files
    files = Files.open(Path(sys.argv[1]), MAP_SIZE, integrity.probe)
    with files.write() as tx:
        os.kill(os.getpid(), signal.SIGSTOP)
        tx.put(b"written-after-all", b"yes", db=files.meta)
    print("done", flush=True)
"""


class Connection:
    """A connection that is kept, and so stays with one worker: one that is stopped answers when it goes on."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._told = b""

    def __del__(self) -> None:
        self._socket.close()

    def is_held_by(self, pid: int) -> bool:
        """Whether a worker has taken it: its sockets are among its open files."""
        return _server_side(self._socket) in _sockets_of(pid)

    def ask(self, key: str) -> None:
        body = json.dumps({"key": key}).encode()
        head = f"POST /v1/validate/{BUCKET} HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n"
        self._socket.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)

    def answer(self, seconds: float) -> str | None:
        """The verdict, or the status if that isn't 200; None if none comes in time."""
        self._socket.settimeout(seconds)
        try:
            while (found := _answer_in(self._told)) is None:
                piece = self._socket.recv(65536)
                if not piece:
                    return "closed"
                self._told += piece
        except TimeoutError:
            return None
        self._told = b""
        return found


def _answer_in(told: bytes) -> str | None:
    head, end, body = told.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    if not end or length is None or len(body) < int(length[1]):
        return None
    status = head.split()[1].decode()
    return str(json.loads(body)["code"]) if status == "200" else status


def ask(port: int, key: str) -> str | None:
    """What is answered on a new connection, which is taken by a worker that moves."""
    connection = Connection(port)
    connection.ask(key)
    return connection.answer(ANSWER_SECONDS)


def ask_until(port: int, key: str, expected: str, seconds: float) -> None:
    """Ask until a worker gives this answer. Fails if it takes too long."""
    deadline = time.monotonic() + seconds
    while (answer := ask(port, key)) != expected:
        assert time.monotonic() < deadline, f"still {answer}"
        time.sleep(0.05)


def keep_connections(port: int, key: str, workers: Sequence[int]) -> list[Connection]:
    """So many that each worker has some, all of them in use. Which worker takes one is up to the system."""
    connections: list[Connection] = []
    while len(connections) < MAX_CONNECTIONS:
        more = [Connection(port) for _ in range(CONNECTIONS)]
        for connection in more:
            connection.ask(key)
            assert connection.answer(10) == "VALID"
        connections += more
        if all(any(one.is_held_by(worker) for one in connections) for worker in workers):
            return connections
    raise AssertionError(f"of {MAX_CONNECTIONS} connections one worker took all")


def ask_stopped(connections: list[Connection], key: str, pid: int) -> list[Connection]:
    """Ask on all of them; those of the worker that is stopped, which get no answer. All others get one."""
    of_stopped = [connection for connection in connections if connection.is_held_by(pid)]
    for connection in connections:
        connection.ask(key)
    for connection in connections:
        if connection not in of_stopped:
            assert connection.answer(10) is not None
    assert all(connection.answer(0.01) is None for connection in of_stopped)
    return of_stopped


def _server_side(client: socket.socket) -> str:
    """The other end of a connection on this machine, as /proc names it."""
    near, far = (f"0100007F:{port:04X}" for port in (client.getsockname()[1], client.getpeername()[1]))
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        columns = line.split()
        if columns[1:3] == [far, near]:
            return f"socket:[{columns[9]}]"
    raise AssertionError("the connection is gone")


def _sockets_of(pid: int) -> set[str]:
    links = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        # Files are closed while one looks.
        with contextlib.suppress(OSError):
            links.add(str(file.readlink()))
    return links


def workers_of(served: ServeProcess) -> list[int]:
    children: list[str] = []
    for task in Path(f"/proc/{served.process.pid}/task").iterdir():
        # Threads come and go while one looks, and so do processes.
        with contextlib.suppress(OSError):
            children += (task / "children").read_text().split()
    return [int(pid) for pid in children if _is_worker(pid)]


def _is_worker(pid: str) -> bool:
    try:
        return b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def followers_in(log: str) -> list[int]:
    return [int(pid) for pid in re.findall(r"process (\d+) follows the record(?! and)", log)]


@contextlib.contextmanager
def stopped(pid: int, replica_dir: Path) -> Iterator[None]:
    """The process is stopped, but not in the middle of a write."""
    while True:
        os.kill(pid, signal.SIGSTOP)
        with (replica_dir / "writing.lock").open("a+b") as lock, contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.05)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def stopped_in_a_write(replica_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process on this replica, stopped in the middle of a transaction that writes."""
    command = [sys.executable, "-c", textwrap.dedent(IN_A_WRITE), str(replica_dir)]
    process = subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(TESTS)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 30
        while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield process
    finally:
        process.kill()
        process.communicate()
