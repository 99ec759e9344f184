"""The API behind the gateways: it tells which headers it got, counts the bytes of bodies as they come, and upgrades."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WEBSOCKET = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Upstream:
    """Answers each request with the headers that it came with; `received` grows while a body is still on its way."""

    def __init__(self) -> None:
        self.requests = 0
        self.received = 0
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except ConnectionError:
                    self.close_connection = True

            def parse_request(self) -> bool:
                # What this server finds fault with has reached it, too.
                upstream.requests += 1
                return super().parse_request()

            def answer(self) -> None:
                if self.headers.get("Upgrade"):
                    self.upgrade()
                    return
                if self.path == "/stream":
                    self.stream()
                    return
                left = int(self.headers.get("Content-Length", 0))
                while left:
                    piece = self.rfile.read1(min(left, 65536))
                    if not piece:
                        self.close_connection = True
                        return
                    left -= len(piece)
                    upstream.received += len(piece)
                body = json.dumps({"path": self.path, "headers": self.headers.items()}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = answer  # noqa: N815

            def stream(self) -> None:
                """Has something to say all the time, and never an end."""
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                with contextlib.suppress(OSError):
                    while True:
                        self.wfile.write(b"9\r\ndata: 1\n\n\r\n")
                        time.sleep(0.05)
                self.close_connection = True

            def upgrade(self) -> None:
                """Speaks no protocol but gives back what comes, after the name of the consumer."""
                self.send_response(101)
                self.send_header("Upgrade", self.headers["Upgrade"])
                self.send_header("Connection", "Upgrade")
                # RFC 6455 section 4.2.2; HAProxy lets nothing through without it.
                proof = hashlib.sha1(self.headers["Sec-WebSocket-Key"].encode() + WEBSOCKET).digest()
                self.send_header("Sec-WebSocket-Accept", base64.b64encode(proof).decode())
                self.end_headers()
                self.wfile.write(f"{self.headers.get('X-Consumer-Name')}:".encode())
                while piece := self.rfile.read1(65536):
                    self.wfile.write(piece)
                self.close_connection = True

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
