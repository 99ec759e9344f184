"""Every shipped gateway tells the client's address from its own connection, to API and edge; no client forges it."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from endpoints import table
from endpoints.table import VALID
from gateways.conftest import PEPPER
from gateways.gateway import CADDY, ENVOY, KINDS, NGINX, TRAEFIK, Gateway, Kind
from gateways.upstream import Upstream

CLIENT = "127.0.0.2"
OWN_HOPS = {"127.0.0.1"}
"""Traefik asks by way of itself."""
FORGERY = "192.0.2.66"
FORGED = ("X-Forwarded-For", "X-Real-IP", "Forwarded")
TOLD = ("x-real-ip", "x-forwarded-for")


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_api_is_told_whose_connection_it_is(kind: Kind, new_gateway: Callable[..., Gateway]) -> None:
    seen = json.loads(_ask(new_gateway(kind)))["headers"]
    told = [value for name, value in seen if name.lower() in TOLD]
    assert FORGERY not in str(seen)
    assert told
    assert _addresses(told) <= {CLIENT, *OWN_HOPS}
    # The nearest stranger, as whoever trusts the gateway reads it.
    assert all(value.split(",")[0].strip() == CLIENT for value in told)


class Recorder:
    """Says yes to every check, and keeps the headers that it came with."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                recorder.seen = [(name.lower(), value) for name, value in self.headers.items()]
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    running = Recorder()
    yield running
    running.close()


@pytest.mark.parametrize("kind", [NGINX, TRAEFIK, CADDY, ENVOY], ids=str)
def test_the_edge_is_told_whose_connection_it_is(
    kind: Kind, tmp_path: Path, upstream: Upstream, recorder: Recorder
) -> None:
    with ExitStack() as stack:
        gateway = stack.enter_context(
            Gateway(
                kind, tmp_path / kind.name, api=upstream.port, edge=recorder.port, bucket=table.BUCKET,
                variables={"KEYWRIGHT_PEPPER": PEPPER},
            )
        )  # fmt: skip
        _ask(gateway)
        told = [value for name, value in recorder.seen if name in TOLD]
        assert FORGERY not in str(recorder.seen)
        assert told, recorder.seen
        assert _addresses(told) <= {CLIENT, *OWN_HOPS}
        assert all(value.split(",")[0].strip() == CLIENT for value in told)


def _ask(gateway: Gateway) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30, source_address=(CLIENT, 0))
    with contextlib.closing(connection):
        headers = {"Authorization": f"Bearer {VALID}", **dict.fromkeys(FORGED, FORGERY)}
        connection.request("GET", "/", headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, (answer.status, body)
    return body


def _addresses(values: list[str]) -> set[str]:
    return {part.strip() for value in values for part in value.split(",")}
