"""Strangers who only hold connections keep nobody else out: at every port, whatever they have begun."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import h2.connection
import httpx2
import pytest

from support.ports import free_port
from support.process import NO_TLS, EdgeProcess, ServeProcess

IDLE = 1500
FIRST_SECONDS = 1.0
IDLE_SECONDS = 3.0
FILES = 128
"""The limit of open files: 32 connections of a worker."""
CHECK = ("POST", "/envoy.service.auth.v3.Authorization/Check", ("content-type", "application/grpc"))
VALIDATE = ("POST", "/v1/validate/x", ("content-type", "application/json"))
BODY = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Type: %b\r\nContent-Length: 50\r\n\r\n{"


def http2(*request: str | tuple[str, str]) -> bytes:
    """The beginning of an HTTP/2 connection, and of a request whose body does not come."""
    connection = h2.connection.H2Connection()
    connection.initiate_connection()
    if request:
        method, path, *more = request
        headers = [(":method", str(method)), (":path", str(path)), (":scheme", "http"), (":authority", "x")]
        connection.send_headers(1, [*headers, *[one for one in more if isinstance(one, tuple)]])
    return connection.data_to_send()


BEGUN: dict[str, bytes] = {
    "nothing": b"",
    "one letter": b"P",
    "HTTP/2's first line": b"PRI * HTTP/2.0\r\n",
    "headers": b"GET /livez HTTP/1.1\r\nHos",
    "HTTP/2, no request": http2(),
    "HTTP/2, a body": http2(*VALIDATE),
    "a body for the edge": BODY % (b"/v1/validate/x", b"application/json"),
    "a form": BODY % (b"/admin/sign-in", b"application/x-www-form-urlencoded"),
    "a kept connection": b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
}
BEGUN_GRPC = {"nothing": b"", "one letter": b"P", "HTTP/2, no request": http2(), "HTTP/2, a body": http2(*CHECK)}


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A directory that has every process of a service wait less long. Read as each starts."""
    site = tmp_path_factory.mktemp("site")
    lines = [
        "from keywright.http import body, connections",
        f"connections.FIRST_SECONDS, connections.IDLE_SECONDS = {FIRST_SECONDS}, {IDLE_SECONDS}",
        "body.PIECE_SECONDS = 1.0",
        "connections.LOOK_SECONDS = 0.3",
        "from keywright.runtime import server",
        "server.IDLE_SECONDS = 3",
    ]
    (site / "sitecustomize.py").write_text("\n".join(lines) + "\n")
    return str(site)


@pytest.fixture(scope="module", params=["serve", "edge"])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, quick: str
) -> Iterator[tuple[ServeProcess, int]]:
    """A service with few connections and quick deadlines, and its gRPC port."""
    base = tmp_path_factory.mktemp("served")
    under, grpc_port = ("prlimit", f"--nofile={FILES}"), free_port()
    ports = ("--grpc-port", str(grpc_port))
    with contextlib.ExitStack() as stack:
        origin = stack.enter_context(
            ServeProcess(base / "data", *ports, under=under, PYTHONPATH=quick).wait_until_ready()
        )
        if request.param == "serve":
            yield origin, grpc_port
            return
        edge_port = free_port()
        edge = EdgeProcess(
            base / "edge",
            origin.url,
            origin.printed("API_KEY"),
            base / "data" / "pepper.key",
            "--grpc-port",
            str(edge_port),
            under=under,
            PYTHONPATH=quick,
        )
        yield stack.enter_context(edge).wait_until_ready(), edge_port


def opened(port: int, begun: bytes, host: str = "127.0.0.1") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(host, 0))
    connection.sendall(begun)
    return connection


def seconds_until_closed(connections: list[socket.socket], timeout: float) -> float:
    """How long until the other side has closed all of them; whatever it answers before is passed over."""
    began, left = time.monotonic(), list(connections)
    while left and time.monotonic() - began < timeout:
        for connection in select.select(left, [], [], 0.1)[0]:
            with contextlib.suppress(ConnectionError):
                if connection.recv(65536):
                    continue
            left.remove(connection)
    assert not left, f"{len(left)} stayed open"
    return time.monotonic() - began


def test_no_silence_is_kept_at_any_port(served: tuple[ServeProcess, int]) -> None:
    service, grpc_port = served
    begun = [(service.port, data) for data in BEGUN.values()] + [(grpc_port, data) for data in BEGUN_GRPC.values()]
    with contextlib.ExitStack() as stack:
        # One of each, so that there is room for all.
        held = [stack.enter_context(opened(port, data)) for port, data in begun]
        assert seconds_until_closed(held, 12) > FIRST_SECONDS / 2
    assert "Traceback" not in service.output(), service.output()


@pytest.mark.parametrize("begun", ["nothing", "headers", "HTTP/2, no request", "a body for the edge"])
def test_others_are_answered_beside_60_who_say_nothing(served: tuple[ServeProcess, int], begun: str) -> None:
    service, _ = served
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(opened(service.port, BEGUN[begun], "127.0.0.2"))
        answer = httpx2.get(f"{service.url}/livez", timeout=FIRST_SECONDS + 3, verify=NO_TLS)
        assert answer.status_code == 200


def test_one_address_has_no_more_than_its_share(served: tuple[ServeProcess, int]) -> None:
    service, _ = served
    # Of 24 beside a gRPC port, the half.
    answers = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(opened(service.port, answers, "127.0.0.3")) for _ in range(20)]
        time.sleep(1.2)
        assert len(_still_open(held)) <= 12
        assert httpx2.get(f"{service.url}/livez", timeout=3, verify=NO_TLS).status_code == 200


def test_who_goes_on_asking_is_not_closed(served: tuple[ServeProcess, int]) -> None:
    service, _ = served
    with httpx2.Client(verify=NO_TLS) as client:
        ended = time.monotonic() + IDLE_SECONDS + 2
        streams = set()
        while time.monotonic() < ended:
            answer = client.get(f"{service.url}/livez")
            assert answer.status_code == 200
            streams.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
            time.sleep(0.5)
    assert len(streams) == 1


def test_an_answer_that_nobody_takes_is_let_go_of(quick: str, tmp_path: Path) -> None:
    asked = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 40
    serve = ServeProcess(tmp_path / "data", PYTHONPATH=quick)
    with serve as service, socket.socket() as deaf, socket.socket() as slow:
        service.wait_until_ready()
        for connection in (deaf, slow):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", service.port))
            connection.sendall(asked)
        began = time.monotonic()
        while time.monotonic() - began < IDLE_SECONDS + 3 * FIRST_SECONDS:
            assert slow.recv(20_000)
            time.sleep(0.1)
        slow.settimeout(5)
        assert slow.recv(100), "who takes it slowly goes on getting it"
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            _send_on(deaf)


def _send_on(connection: socket.socket) -> None:
    for _ in range(50):
        connection.sendall(b"x")
        time.sleep(0.1)


def _still_open(connections: list[socket.socket]) -> list[socket.socket]:
    for connection in connections:
        connection.setblocking(False)
    return [connection for connection in connections if _is_open(connection)]


def _is_open(connection: socket.socket) -> bool:
    try:
        while connection.recv(65536):
            pass
    except BlockingIOError:
        return True
    except ConnectionError:
        return False
    return False


def test_validations_go_on_beside_1500_idle_connections(tmp_path: Path) -> None:
    with ServeProcess(tmp_path / "data").wait_until_ready() as served, contextlib.ExitStack() as stack:
        bucket = served.printed("BUCKET_NAME")
        for _ in range(IDLE):
            held = stack.enter_context(socket.create_connection(("127.0.0.1", served.port), timeout=10))
            held.sendall(b"POST /v1/validate/x HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        answer = httpx2.post(f"{served.url}/v1/validate/{bucket}", json={"key": "x" * 20}, timeout=10, verify=NO_TLS)
        assert answer.json() == {"valid": False, "code": "UNKNOWN"}
