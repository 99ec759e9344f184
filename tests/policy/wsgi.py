"""Calls a WSGI application directly: the answer as a value."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote_to_bytes
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

from edge.asgi import Answer


def call(
    app: Any,
    method: str,
    path: str,
    *,
    headers: Sequence[tuple[bytes, bytes]] = (),
    body: Any = None,
    is_checked: bool = True,
    **more: Any,
) -> Answer:
    """`is_checked`: with the standard library's own judgement of what it sees."""
    raw, _, query = path.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "PATH_INFO": unquote_to_bytes(raw).decode("latin-1"),
        "QUERY_STRING": query,
        "wsgi.input": body or io.BytesIO(),
        "SCRIPT_NAME": "",
        **more,
    }
    for name, value in headers:
        variable = f"HTTP_{name.decode().upper().replace('-', '_')}"
        text = value.decode("latin-1")
        # As servers join them.
        environ[variable] = f"{environ[variable]},{text}" if variable in environ else text
    setup_testing_defaults(environ)
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, response_headers: list[tuple[str, str]], exc_info: object = None) -> Any:
        started.append((status, response_headers))
        return lambda _: None

    answer = (validator(app) if is_checked else app)(environ, start_response)
    try:
        content = b"".join(answer)
    finally:
        if hasattr(answer, "close"):
            answer.close()
    status, answered = started[-1]
    return Answer(int(status[:3]), {name.lower(): value for name, value in answered}, content, 0)
