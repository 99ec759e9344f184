"""Owns speaking with HAProxy's admin socket: its commands for maps, and telling an answer from a complaint.

Each round makes a connection of its own. After a reload the path leads to the new process, while a connection that was
kept would go on to the old one.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

ANSWER_SECONDS = 30.0
MAX_COMMAND_BYTES = 12_000
"""HAProxy reads a command into one buffer of 16 kB."""
_PROMPT = b"\n> "
_MAP = re.compile(r"^(\d+) \((?:[^)]*/)?(keywright-\w+\.map)\)", re.MULTILINE)


class Map(StrEnum):
    """The maps, by the names of their files."""

    BUCKETS = "keywright-buckets.map"
    CONSUMERS = "keywright-consumers.map"
    KEYS = "keywright-keys.map"
    STATE = "keywright-state.map"


class HaproxyError(Exception):
    """HAProxy answered, and not as it should."""


class Socket:
    """One conversation. Every method may raise OSError, EOFError, TimeoutError or HaproxyError."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Use `connect`."""
        self._reader = reader
        self._writer = writer
        self._ids: dict[str, str] = {}

    async def open(self) -> None:
        await self._ask("prompt")
        self._ids = {name: f"#{number}" for number, name in _MAP.findall(await self._ask("show map"))}
        missing = sorted(set(Map) - set(self._ids))
        if missing:
            raise HaproxyError(f"its configuration uses no {', '.join(missing)}")

    async def get(self, map_: Map, name: str) -> str | None:
        answer = await self._ask(f"get map {self._ids[map_]} {name}")
        if "found=no" in answer:
            return None
        found = re.search(r'value="([^"]*)"', answer)
        if found is None:
            raise HaproxyError(answer[:200])
        return found[1]

    async def put(self, map_: Map, name: str, value: str) -> None:
        # `add` doesn't replace, and `set` walks through the whole map, so it is asked first which of them is right.
        command = "add" if await self.get(map_, name) is None else "set"
        await self._do(f"{command} map {self._ids[map_]} {name} {value}")

    async def delete(self, map_: Map, name: str) -> None:
        if await self.get(map_, name) is not None:
            await self._do(f"del map {self._ids[map_]} {name}")

    async def prepare(self, map_: Map) -> int:
        """The number of a new version of the map, which is empty and not looked at until it is committed."""
        answer = await self._ask(f"prepare map {self._ids[map_]}")
        found = re.search(r"created: (\d+)", answer)
        if found is None:
            raise HaproxyError(answer[:200])
        return int(found[1])

    async def add_all(self, map_: Map, version: int, lines: Sequence[str]) -> None:
        """Add to a version that was prepared: `name value` on each line."""
        waiting: list[str] = []
        size = 0
        for line in lines:
            if waiting and size + len(line) > MAX_COMMAND_BYTES:
                await self._add(map_, version, waiting)
                waiting, size = [], 0
            waiting.append(line)
            size += len(line) + 1
        if waiting:
            await self._add(map_, version, waiting)

    async def commit(self, map_: Map, version: int) -> None:
        await self._do(f"commit map @{version} {self._ids[map_]}")

    async def _add(self, map_: Map, version: int, lines: Sequence[str]) -> None:
        await self._do(f"add map @{version} {self._ids[map_]} <<\n" + "\n".join(lines) + "\n")

    async def _do(self, command: str) -> None:
        """A command whose success is silent. The names in a complaint could be digests: it is cut short."""
        answer = (await self._ask(command)).replace("+ ", "").strip()
        if answer:
            raise HaproxyError(answer[:100])

    async def _ask(self, command: str) -> str:
        self._writer.write(f"{command}\n".encode())
        async with asyncio.timeout(ANSWER_SECONDS):
            await self._writer.drain()
            return (await self._reader.readuntil(_PROMPT))[: -len(_PROMPT)].decode(errors="replace")


@contextlib.asynccontextmanager
async def connect(path: Path) -> AsyncIterator[Socket]:
    reader, writer = await asyncio.open_unix_connection(str(path), limit=1024 * 1024)
    try:
        socket = Socket(reader, writer)
        await socket.open()
        yield socket
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
