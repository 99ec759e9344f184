"""Real sockets for tests that need a server which they can make as they like: an ASGI application's, or a bad one's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from edge.asgi import call


@contextmanager
def serving(answer: Callable[[BaseHTTPRequestHandler, bytes], None]) -> Iterator[str]:
    """A server that has `answer` answer every request and its body; yields its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            answer(self, self.rfile.read(int(self.headers.get("content-length", 0))))

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that went away is what some tests are about."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def through_asgi(app: Any) -> Callable[[BaseHTTPRequestHandler, bytes], None]:
    """An `answer` that asks an ASGI application."""

    def answer(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        headers = [(name.lower().encode(), value.encode()) for name, value in handler.headers.items()]
        headers = [(name, value) for name, value in headers if name != b"content-length"]
        got = asyncio.run(call(app, handler.command, handler.path, body=body, headers=headers, content_type=None))
        handler.send_response(got.status)
        for name, value in got.headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(got.body)

    return answer
