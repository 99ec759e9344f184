"""Owns speaking with HAProxy's admin socket: its commands for maps, and telling an answer from a complaint.

Each round makes a connection of its own. After a reload the path leads to the new process, while a connection that was
kept would go on to the old one. Commands go out many at a time, since one at a time each would wait for HAProxy's loop
to come round.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import time
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

ANSWER_SECONDS = 30.0
MAX_COMMAND_BYTES = 12_000
"""HAProxy reads a command into one buffer of 16 kB."""
AT_ONCE = 100
"""Commands under way: their answers are far smaller than what a socket holds back for its reader."""
_PROMPT = b"\n> "
_MAP = re.compile(r"^(\d+) \((?:[^)]*/)?(keywright-\w+\.map)\)", re.MULTILINE)


class Map(StrEnum):
    """The maps, by the names of their files."""

    BUCKETS = "keywright-buckets.map"
    CONSUMERS = "keywright-consumers.map"
    KEYS = "keywright-keys.map"
    STATE = "keywright-state.map"
    BLOCKS = "keywright-blocks.map"
    BUCKETS3 = "keywright-buckets3.map"
    CONSUMERS3 = "keywright-consumers3.map"
    KEYS3 = "keywright-keys3.map"


OF_POWERS = frozenset({Map.BUCKETS3, Map.CONSUMERS3, Map.KEYS3})
"""What configurations from before there were powers do not use: all of them or none."""
_OPTIONAL = frozenset({Map.BLOCKS})
"""What configurations of 0.1 do not use."""


class Entry(NamedTuple):
    """A place in a map."""

    map: Map
    name: str


Write = tuple[Entry, str | None]
"""An entry and its value; None: out with it."""


class Written(NamedTuple):
    """What has got its value, and what it took to change entries that were there, or take them out.

    HAProxy 2.8 and older walk through the whole map for each of those, and hold their thread meanwhile.
    """

    writes: list[Write]
    changes: int
    seconds: float


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
        optional = _OPTIONAL if OF_POWERS & set(self._ids) else _OPTIONAL | OF_POWERS
        missing = sorted(set(Map) - optional - set(self._ids))
        if missing:
            raise HaproxyError(f"its configuration uses no {', '.join(missing)}")

    @property
    def has_blocks(self) -> bool:
        """Whether its configuration asks the map of blocked consumers."""
        return Map.BLOCKS in self._ids

    @property
    def has_powers(self) -> bool:
        """Whether its configuration asks the maps of what has powers. What is written there is dropped otherwise."""
        return Map.KEYS3 in self._ids

    def has(self, map_: Map) -> bool:
        return map_ in self._ids

    async def get(self, map_: Map, name: str) -> str | None:
        return (await self._get_all([Entry(map_, name)]))[0]

    async def put(self, map_: Map, name: str, value: str) -> None:
        await self.write([(Entry(map_, name), value)])

    async def delete(self, map_: Map, name: str) -> None:
        await self.write([(Entry(map_, name), None)])

    async def write(self, wanted: Sequence[Write], budget_seconds: float = math.inf) -> Written:
        """Bring entries to these values, None: out. Within the budget, but for one change at least."""
        done = [write for write in wanted if write[0].map not in self._ids]
        wanted = [write for write in wanted if write[0].map in self._ids]
        # `add` doesn't replace, and `set` doesn't add, so it is asked first which of them is right.
        found = await self._get_all([entry for entry, _ in wanted])
        added: list[str] = []
        changed: list[tuple[Write, str]] = []
        for write, former in zip(wanted, found, strict=True):
            entry, value = write
            place = f"map {self._ids[entry.map]} {entry.name}"
            if former == value:
                done.append(write)
            elif former is None:
                added.append(f"add {place} {value}")
                done.append(write)
            else:
                changed.append((write, f"del {place}" if value is None else f"set {place} {value}"))
        await self._do_all(added)
        count, seconds = 0, 0.0
        while count < len(changed) and (not count or seconds < budget_seconds):
            # As many more as have taken a quarter of the budget so far.
            at_once = max(1, int(min(AT_ONCE, budget_seconds / 4 * count / seconds if seconds else AT_ONCE)))
            some = changed[count : count + (at_once if count else 1)]
            began = time.monotonic()
            await self._do_all([command for _, command in some])
            seconds += time.monotonic() - began
            count += len(some)
        return Written([*done, *(write for write, _ in changed[:count])], count, seconds)

    async def prepare(self, map_: Map) -> int:
        """The number of a new version of the map, which is empty and not looked at until it is committed."""
        answer = await self._ask(f"prepare map {self._ids[map_]}")
        found = re.search(r"created: (\d+)", answer)
        if found is None:
            raise HaproxyError(answer[:200])
        return int(found[1])

    async def add_all(self, map_: Map, version: int, lines: Sequence[str]) -> None:
        """Add to a version that was prepared: `name value` on each line."""
        commands: list[str] = []
        waiting: list[str] = []
        size = 0
        head = f"add map @{version} {self._ids[map_]} <<\n"
        for line in lines:
            if waiting and size + len(line) > MAX_COMMAND_BYTES:
                commands.append(head + "\n".join(waiting) + "\n")
                waiting, size = [], 0
            waiting.append(line)
            size += len(line) + 1
        if waiting:
            commands.append(head + "\n".join(waiting) + "\n")
        await self._do_all(commands, at_once=4)

    async def commit(self, map_: Map, version: int) -> None:
        await self._do(f"commit map @{version} {self._ids[map_]}")

    async def _get_all(self, entries: Sequence[Entry]) -> list[str | None]:
        found: list[str | None] = []
        for answer in await self._ask_all([f"get map {self._ids[entry.map]} {entry.name}" for entry in entries]):
            if "found=no" in answer:
                found.append(None)
                continue
            value = re.search(r'value="([^"]*)"', answer)
            if value is None:
                raise HaproxyError(answer[:200])
            found.append(value[1])
        return found

    async def _do(self, command: str) -> None:
        await self._do_all([command])

    async def _do_all(self, commands: Sequence[str], at_once: int = AT_ONCE) -> None:
        """Commands whose success is silent. The names in a complaint could be digests: it is cut short."""
        for answer in await self._ask_all(commands, at_once):
            complaint = answer.replace("+ ", "").strip()
            if complaint:
                raise HaproxyError(complaint[:100])

    async def _ask(self, command: str) -> str:
        return (await self._ask_all([command]))[0]

    async def _ask_all(self, commands: Sequence[str], at_once: int = AT_ONCE) -> list[str]:
        answers: list[str] = []
        for start in range(0, len(commands), at_once):
            under_way = commands[start : start + at_once]
            self._writer.write("".join(f"{command}\n" for command in under_way).encode())
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._writer.drain()
            for _ in under_way:
                async with asyncio.timeout(ANSWER_SECONDS):
                    answer = await self._reader.readuntil(_PROMPT)
                answers.append(answer[: -len(_PROMPT)].decode(errors="replace"))
        return answers


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
