"""The shipped nginx in front of Keywright: it tells the client's address, which no client can forge."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.ports import free_port
from support.process import ServeProcess

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "deploy/nginx/nginx.conf"
VARIABLES = dict(re.findall(r"(KEYWRIGHT_[A-Z_]+)=([^\s.]+(?:\.[^\s.]+)*)", FILE.read_text()))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServeProcess, int]]:
    """A service as the file says that it is started, and the port of the proxy in front of it."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin")
    if program is None:
        pytest.skip("nginx is not installed")
    base = tmp_path_factory.mktemp("front")
    port = free_port()
    with ServeProcess(base / "data", **VARIABLES) as serve:
        text = FILE.read_text()
        text = text.replace("127.0.0.1:8000", f"127.0.0.1:{port}").replace("127.0.0.1:8080", f"127.0.0.1:{serve.port}")
        (base / "nginx.conf").write_text(text)
        command = [program, "-e", "stderr", "-p", str(base), "-c", "nginx.conf", "-g", "daemon off; pid nginx.pid;"]
        with (base / "log").open("wb") as log:
            proxy = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            serve.wait_until_ready()
            yield serve, port
        finally:
            proxy.terminate()
            proxy.wait(20)


def ask(port: int, path: str, source: str, key: str, body: str | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20, source_address=(source, 0))
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    headers |= dict.fromkeys(("X-Forwarded-For", "X-Real-IP", "Forwarded"), "192.0.2.66")
    with contextlib.closing(connection):
        connection.request("POST" if body else "GET", path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()


def test_the_audit_log_has_the_client_and_guesses_count_against_it(served: tuple[ServeProcess, int]) -> None:
    serve, port = served
    assert VARIABLES == {"KEYWRIGHT_TRUSTED_PROXIES": "127.0.0.1", "KEYWRIGHT_CLIENT_ADDRESS_HEADER": "X-Real-IP"}
    key = serve.printed("API_KEY")
    account = "/v1/accounts/my-account"
    status, _ = ask(port, f"{account}/key-buckets/my-project-production/consumers", "127.0.0.2", key, '{"name": "a"}')
    assert status == 200
    _, body = ask(port, f"{account}/audit-logs", "127.0.0.2", key)
    assert json.loads(body)["data"][0]["context"]["ipAddress"] == "127.0.0.2"
    statuses = [ask(port, "/v1/who-am-i", "127.0.0.3", f"guess-number-{n}-of-somebody-unknown")[0] for n in range(60)]
    assert 429 in statuses
    assert ask(port, "/v1/who-am-i", "127.0.0.2", "first-mistake-of-somebody-else-here")[0] == 401


def test_one_client_holds_no_more_than_its_connections(served: tuple[ServeProcess, int]) -> None:
    serve, port = served
    with contextlib.ExitStack() as stack:
        for _ in range(150):
            held = http.client.HTTPConnection("127.0.0.1", port, timeout=20, source_address=("127.0.0.4", 0))
            stack.enter_context(contextlib.closing(held))
            held.putrequest("GET", "/livez")
            held.endheaders()
        # nginx counts a connection from its first request on.
        until = time.monotonic() + 10
        assert ask(port, "/livez", "127.0.0.2", serve.printed("API_KEY"))[0] == 200
        assert time.monotonic() < until
