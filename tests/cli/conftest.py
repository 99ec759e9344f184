"""A Developer API for the command line to talk to: a real HTTP server whose answers each test writes down."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from typer.testing import CliRunner, Result

from keywright.cli.app import app

SECRET = "zpka_d67b7e241bb948758f415b79aa8ec822_2efb7009"


@pytest.fixture(autouse=True)
def collecting() -> Iterator[None]:
    """`serve` and `edge` put garbage collection off until workers have started, which here none does."""
    yield
    gc.enable()


@dataclass(frozen=True)
class Request:
    """`path` is as it was sent, still percent-encoded."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass
class DeveloperApi:
    """Answers each request with the next answer of its method and path, and the last one for good. Else 404."""

    url: str = ""
    requests: list[Request] = field(default_factory=list)
    answers: dict[tuple[str, str], list[tuple[int, Any]]] = field(default_factory=dict)

    def answer(self, method: str, path: str, value: Any = None, *, status: int = 200) -> None:
        self.answers.setdefault((method, path), []).append((status, value))

    def next_answer(self, request: Request) -> tuple[int, Any]:
        self.requests.append(request)
        if request.path == "/v1/who-am-i":
            return 200, {"sub": "csmr_1", "account": "my-account"}
        known = self.answers.get((request.method, request.path))
        if not known:
            return 404, {"title": "Not Found", "status": 404, "detail": "There is no such thing."}
        return known.pop(0) if len(known) > 1 else known[0]

    @property
    def last(self) -> Request:
        return self.requests[-1]


@dataclass
class CommandLine:
    """Runs the command line in this process, as the holder of SECRET who works in bucket `my-bucket`."""

    api: DeveloperApi

    def __call__(self, *arguments: str, stdin: str | bytes = "", env: dict[str, str | None] | None = None) -> Result:
        environment = {
            "KEYWRIGHT_ACCOUNT": None,
            "KEYWRIGHT_API_KEY": None,
            "KEYWRIGHT_URL": self.api.url,
            "KEYWRIGHT_MANAGEMENT_KEY": SECRET,
            "KEYWRIGHT_BUCKET": "my-bucket",
        }
        return CliRunner(env={**environment, **(env or {})}).invoke(
            app, arguments, input=stdin, prog_name="keywright", catch_exceptions=False
        )


@pytest.fixture
def developer_api() -> Iterator[DeveloperApi]:
    api = DeveloperApi()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            length = int(self.headers.get("content-length", 0))
            content = self.rfile.read(length)
            parts = urlsplit(self.path)
            request = Request(
                self.command,
                parts.path,
                dict(parse_qsl(parts.query)),
                {name.lower(): value for name, value in self.headers.items()},
                json.loads(content) if content else None,
            )
            status, value = api.next_answer(request)
            body = b"" if value is None else json.dumps(value).encode()
            self.send_response(status)
            if status != 204:
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    api.url = f"http://127.0.0.1:{server.server_port}"
    yield api
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def keywright(developer_api: DeveloperApi) -> CommandLine:
    return CommandLine(developer_api)
