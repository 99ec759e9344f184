"""The baseline: the same Granian as `keywright serve` has, answering fixed bytes without any work.

Run as `python bare_server.py PORT ANSWERS`; ANSWERS is a JSON file: {path: {"headers": [[name, value]], "body": text}}.
The settings of the server are those of keywright/serve/__init__.py; they have to be changed together.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from granian.constants import HTTPModes, Interfaces, Loops
from granian.log import LogLevels
from granian.server import Server

ANSWERS_VARIABLE = "BENCH_ANSWERS"

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class BareApp:
    """ASGI. Reads the body of a POST, because the endpoint that it stands for has to."""

    def __init__(self, answers: Path) -> None:
        self._answers: dict[str, tuple[list[tuple[bytes, bytes]], bytes]] = {}
        for path, answer in json.loads(answers.read_text(encoding="utf-8")).items():
            headers = [(name.encode(), value.encode()) for name, value in answer["headers"]]
            self._answers[path] = headers, answer["body"].encode()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        headers, body = self._answers[scope["path"]]
        if scope["method"] == "POST":
            await receive()
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def create_app() -> BareApp:
    return BareApp(Path(os.environ[ANSWERS_VARIABLE]))


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def main(port: int, answers: str) -> None:
    os.environ[ANSWERS_VARIABLE] = answers
    serve("bare_server:create_app", port)


def serve(factory: str, port: int, interface: Interfaces = Interfaces.ASGI) -> None:
    """One worker, as `keywright serve --workers 1` has it."""
    server = Server(
        factory,
        address="127.0.0.1",
        port=port,
        interface=interface,
        workers=1,
        http=HTTPModes.auto,
        websockets=False,
        loop=Loops.asyncio,
        factory=True,
        log_level=LogLevels.warning,
        respawn_failed_workers=True,
        respawn_interval=0.1,
        workers_kill_timeout=15,
    )
    server.serve()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
