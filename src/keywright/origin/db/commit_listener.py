"""Owns hearing of the commits of other processes: LISTEN and NOTIFY of PostgreSQL. A bell, and nothing but a bell.

Who subscribes is rung after every commit of changes, of any process on the record; what was committed it reads itself.
A bell that is lost costs the time of a poll, so every subscriber polls, too: slowly while commits are heard, else fast.

SQLite has no such thing, nor has a pooler that gives each transaction another connection. Whether a connection hears is
therefore tried out, with a note to itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import SQLAlchemyError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

log = logging.getLogger("keywright.origin")

CHANNEL = "keywright"
SLOW_POLL_SECONDS = 1.0
"""How often a subscriber looks by itself while commits are heard."""
ECHO_SECONDS = 5.0
CHECK_SECONDS = 10.0
"""How often the connection is asked whether it lives: a cut that nobody tells of would be silence for ever."""
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 10.0
DEAF_PAUSE_SECONDS = 60.0


class Deaf(Exception):
    """The database, or what stands before it, takes LISTEN and NOTIFY and brings nothing, or doesn't take them."""


class Commits:
    """Those of all processes on one record. One for each engine, on one event loop."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._rings: list[Callable[[], None]] = []
        self._is_deaf = False
        self.is_heard = False
        self.can_notify = False
        """Whether a transaction may ring: where NOTIFY is not known, it would fail."""

    def subscribe(self, ring: Callable[[], None]) -> None:
        self._rings.append(ring)

    def poll_seconds(self, unheard: float) -> float:
        """How long a subscriber waits before it looks by itself, that looks so often while nothing is heard."""
        return max(SLOW_POLL_SECONDS, unheard) if self.is_heard else unheard

    async def listen(self) -> None:
        """Ring the subscribers until cancelled, whatever becomes of the connection. Returns at once on SQLite."""
        if self._engine.dialect.name != "postgresql":
            return
        import asyncpg

        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                await self._hear()
                pause = FIRST_PAUSE_SECONDS
            except (Deaf, asyncpg.FeatureNotSupportedError, asyncpg.SyntaxOrAccessError) as error:
                pause = DEAF_PAUSE_SECONDS
                if not self._is_deaf:
                    self._is_deaf = True
                    log.warning("commits of other processes are found by polling alone: %s", error)
            except (SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                # Without a connection nothing else works either, and is louder.
                log.debug("commits of other processes are not heard: %s", error)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311

    async def _hear(self) -> None:
        """Ring until the connection is lost. Raises if it could not be made, or brings nothing."""
        async with self._engine.connect() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            lost = asyncio.Event()
            driver.add_termination_listener(lambda _: lost.set())
            try:
                await self._try(driver)
                await driver.add_listener(CHANNEL, self._ring)
                self.is_heard, self._is_deaf = True, False
                # For what was committed before.
                self._ring()
                await _until_lost(driver, lost)
            finally:
                self.is_heard = False
                # What LISTENs must not be used for anything else.
                await connection.invalidate()

    async def _try(self, driver: Any) -> None:
        """Have the connection hear a note to itself. Raises Deaf."""
        echoed = asyncio.Event()
        own = f"{CHANNEL}_{secrets.token_hex(8)}"
        await driver.add_listener(own, lambda *_: echoed.set())
        await driver.execute(f"NOTIFY {own}")
        self.can_notify = True
        try:
            async with asyncio.timeout(ECHO_SECONDS):
                await echoed.wait()
        except TimeoutError:
            raise Deaf("LISTEN brings nothing here, as behind a pooler that keeps no sessions") from None
        await driver.execute(f"UNLISTEN {own}")

    def _ring(self, *_: object) -> None:
        for ring in self._rings:
            ring()


async def _until_lost(driver: Any, lost: asyncio.Event) -> None:
    while not lost.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CHECK_SECONDS):
                await lost.wait()
                return
        await driver.execute("SELECT 1", timeout=ECHO_SECONDS)
