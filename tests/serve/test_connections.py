"""Strangers who only hold connections keep nobody else out."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import httpx2

from support.process import ServeProcess

IDLE = 1500


def test_validations_go_on_beside_1500_idle_connections(tmp_path: Path) -> None:
    with ServeProcess(tmp_path / "data").wait_until_ready() as served, contextlib.ExitStack() as stack:
        bucket = served.printed("BUCKET_NAME")
        for _ in range(IDLE):
            held = stack.enter_context(socket.create_connection(("127.0.0.1", served.port), timeout=10))
            held.sendall(b"POST /v1/validate/x HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        answer = httpx2.post(f"{served.url}/v1/validate/{bucket}", json={"key": "x" * 20}, timeout=10)
        assert answer.json() == {"valid": False, "code": "UNKNOWN"}
