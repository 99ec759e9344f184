"""The policy in real servers with several workers: a change holds in all of them, and bytes are not heaped up."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.origin import Origin
from support.ports import free_port
from support.process import until

BIN = Path(sys.executable).parent
TESTS = Path(__file__).parents[1]


@contextmanager
def serving(server: str, source: str, origin: Origin, directory: Path, **variables: str) -> Iterator[int]:
    port = free_port()
    bound = ["--host", "127.0.0.1", "--port", str(port), "--workers", "2"]
    command = {
        "granian-asgi": [BIN / "granian", "--interface", "asgi", "--ws", *bound, "policy.apps:ASGI"],
        "granian-wsgi": [BIN / "granian", "--interface", "wsgi", *bound, "policy.apps:WSGI"],
        "gunicorn": [
            BIN / "gunicorn",
            "--preload",
            "--threads",
            "2",
            "-w",
            "2",
            "-b",
            f"127.0.0.1:{port}",
            "policy.apps:WSGI",
        ],
        "gunicorn-gevent": [
            BIN / "gunicorn",
            "--preload",
            "-k",
            "gevent",
            "-b",
            f"127.0.0.1:{port}",
            "policy.apps:WSGI",
        ],
    }[server]
    environment = {
        **os.environ,
        "PYTHONPATH": str(TESTS),
        "APP_SOURCE": source,
        "APP_URL": origin.url,
        "APP_TOKEN": origin.token,
        "APP_PEPPER": str(origin.pepper_file),
        "APP_DIRECTORY": str(origin.data_dir if source == "shared" else directory),
        **variables,
    }
    log = directory / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        until(lambda: process.poll() is not None or _answers(port), timeout=60)
        assert process.poll() is None, log.read_text()
        yield port
        process.terminate()
        if server.startswith("granian"):
            # Now and then Granian 2.8 itself, told to end, waits for itself; `finally` ends it then.
            with contextlib.suppress(subprocess.TimeoutExpired):
                assert process.wait(15) == 0, log.read_text()
        else:
            assert process.wait(40) == 0, log.read_text()
        assert "Traceback" not in log.read_text()
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            return True
    except OSError:
        return False


def ask(port: int, key: str | None, body: Iterable[bytes] = (), path: str = "/") -> tuple[int, list[str]]:
    """Status and words of the answer, on a connection of its own, so on whichever worker takes it."""
    headers = {"x-consumer-name": "admin", **({} if key is None else {"authorization": f"bearer {key}"})}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("PUT", path, body, headers, encode_chunked=True)
        answer = connection.getresponse()
        return answer.status, answer.read().decode().split()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("server", "source"),
    [("granian-asgi", "embedded"), ("granian-wsgi", "remote"), ("gunicorn", "embedded"), ("gunicorn", "shared")],
)
def test_a_change_holds_in_every_worker_of_a_real_server(
    origin: Origin, tmp_path: Path, server: str, source: str
) -> None:
    consumer = origin.api.new_consumer()["name"]
    made = origin.api.new_key(consumer)
    with serving(server, source, origin, tmp_path) as port:
        answers = [ask(port, made["key"]) for _ in range(12)]
        assert {(status, words[0], words[2]) for status, words in answers} == {(200, consumer, "0")}
        assert ask(port, None)[0] == ask(port, "zpka_nobody_has_this")[0] == 401
        keys = f"/v1/accounts/my-account/key-buckets/my-project-production/consumers/{consumer}/keys"
        origin.api.call("DELETE", f"{keys}/{made['id']}", expect=204)
        if source == "embedded":
            until(lambda: ask(port, made["key"])[0] == 401)
            # Workers of one replica see one state.
        assert {ask(port, made["key"])[0] for _ in range(12)} == {401}


def test_granian_refuses_bodies_heads_and_websockets_and_streams_what_it_lets_in(
    origin: Origin, tmp_path: Path
) -> None:
    key = origin.api.new_key(origin.api.new_consumer()["name"])["key"]
    with serving("granian-asgi", "shared", origin, tmp_path) as port:
        before = int(ask(port, key)[1][3])
        megabyte = bytes(1024 * 1024)
        status, words = ask(port, key, (megabyte for _ in range(100)))
        assert (status, words[1]) == (200, str(100 * len(megabyte)))
        assert int(words[3]) - before < 50 * 1024

        assert _handshake(port, None).startswith(b"HTTP/1.1 401")
        assert _handshake(port, "zpka_nobody_has_this").startswith(b"HTTP/1.1 401")
        assert _handshake(port, key).startswith(b"HTTP/1.1 101")

        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("HEAD", "/")
        answer = connection.getresponse()
        assert (answer.status, answer.headers["www-authenticate"]) == (401, 'Bearer realm="my-project-production"')
        assert answer.read() == b""
        connection.close()


def _handshake(port: int, key: str | None) -> bytes:
    shown = "" if key is None else f"Authorization: Bearer {key}\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(
            f"GET /ws HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{shown}"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        return connection.recv(65536)
