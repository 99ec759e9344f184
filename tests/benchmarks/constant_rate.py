"""A load generator of constant rate: requests are due at fixed moments, whether earlier ones are answered or not.

Latency counts from the moment when a request was due, so that a stall of the server is seen by every request that it
kept waiting (wrk2's way of not leaving them out). Debian has no such tool: wrk and hey wait for an answer before they
send again, and h2load and bombardier know one body only. It turns without sleeping: give it a core of its own.

Run as `python constant_rate.py PORT REQUESTS RATE SECONDS`; prints one JSON object.
"""

from __future__ import annotations

import gc
import json
import re
import select
import socket
import sys
import time
from collections import deque
from pathlib import Path

CONNECTIONS = 64
_LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: (\d+)\r\n")


class ConstantRate:
    """Keep-alive connections, one request at a time on each; a request that finds none free waits in line."""

    def __init__(self, port: int, requests: list[bytes]) -> None:
        self._requests = requests
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        for _ in range(CONNECTIONS):
            connection = socket.create_connection(("127.0.0.1", port))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setblocking(False)
            self._sockets[connection.fileno()] = connection
            self._poll.register(connection, select.EPOLLIN)
        self._parts: dict[int, bytes] = {}

    def run(self, rate: float, seconds: float) -> tuple[list[float], list[float]]:
        """Latencies, and how late requests were sent, both in seconds. Raises RuntimeError for any answer but 200."""
        count = int(rate * seconds)
        free, waiting = deque(self._sockets), deque[float]()
        due_at: dict[int, float] = {}
        latencies: list[float] = []
        late: list[float] = []
        sent = planned = 0
        clock = time.perf_counter
        started = clock()
        while len(latencies) < count:
            now = clock()
            while planned < count and started + planned / rate <= now:
                waiting.append(started + planned / rate)
                planned += 1
            while waiting and free:
                number = free.popleft()
                due = due_at[number] = waiting.popleft()
                late.append(clock() - due)
                self._sockets[number].send(self._requests[sent % len(self._requests)])
                sent += 1
            for number, _ in self._poll.poll(0):
                if self._is_answered(number):
                    latencies.append(clock() - due_at[number])
                    free.append(number)
            if now - started > seconds * 3 + 10:
                raise RuntimeError(f"{count - len(latencies)} requests have no answer")
        return latencies, late

    def _is_answered(self, number: int) -> bool:
        data = self._parts.pop(number, b"") + self._sockets[number].recv(65536)
        head, end, body = data.partition(b"\r\n\r\n")
        length = _LENGTH.search(head + b"\r\n")
        if end and length is not None and len(body) >= int(length[1]):
            if head[9:12] != b"200":
                raise RuntimeError(head.decode("latin-1"))
            return True
        if not data:
            raise RuntimeError("the server closed a connection")
        self._parts[number] = data
        return False


def percentile(values: list[float], part: float) -> float:
    return sorted(values)[min(int(len(values) * part), len(values) - 1)]


def main(port: int, file: Path, rate: float, seconds: float) -> None:
    generator = ConstantRate(port, file.read_bytes().split(b"\1"))
    gc.disable()
    # The first connections and the caches of the processor are nobody's latency.
    generator.run(rate, min(0.3, seconds / 4))
    latencies, late = generator.run(rate, seconds)
    times = (percentile(latencies, 0.5), percentile(latencies, 0.99), percentile(late, 0.99))
    print(json.dumps(dict(zip(("p50_ms", "p99_ms", "late_ms"), (1000 * t for t in times), strict=True))))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))
