"""Owns hearing of the commits of other processes: LISTEN and NOTIFY of PostgreSQL. It wakes, and does nothing else.

Who subscribes is woken after every commit of changes, of any process on the record; what was committed it reads itself.
A notification that is lost costs the time of a poll, so every subscriber polls, too: slowly while commits are heard,
else fast.

SQLite has no such thing, nor has a pooler that gives each transaction another connection. Whether a connection hears is
therefore tried out, with a note from another one: a note to itself would come even through such a pooler.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import SQLAlchemyError

from keywright.origin.db.engine import DatabaseUnavailable
from keywright.runtime.backoff import Backoff

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from keywright.runtime.backoff import Uniform

log = logging.getLogger("keywright.origin")

CHANNEL = "keywright"
ECHO_CHANNEL = "keywright_echo"
"""One for all who try out: behind a pooler that keeps no sessions nobody can end the listening again."""
SLOW_POLL_SECONDS = 1.0
"""How often a subscriber looks by itself while commits are heard."""
ECHO_SECONDS = 5.0
CHECK_SECONDS = 10.0
"""How often the connection is asked whether it lives: a cut that nobody tells of would be silence for ever."""
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 10.0
UNAVAILABLE_PAUSE_SECONDS = 60.0


class CommitListener:
    """Hears the commits of all processes on one record. One for each engine, on one event loop."""

    def __init__(self, engine: AsyncEngine, uniform: Uniform) -> None:
        self._engine = engine
        self._backoff = Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, uniform)
        self._subscribers: list[Callable[[], None]] = []
        self._has_warned = False
        self.is_listening = False
        """Whether commits are heard at this moment."""
        self.can_notify = False
        """Whether a transaction may notify: where NOTIFY is not known, it would fail."""

    def subscribe(self, wake: Callable[[], None]) -> None:
        self._subscribers.append(wake)

    def poll_seconds(self, otherwise: float) -> float:
        """How long a subscriber waits before it looks by itself: `otherwise`, or longer while commits are heard."""
        return max(SLOW_POLL_SECONDS, otherwise) if self.is_listening else otherwise

    async def listen(self) -> None:
        """Wake the subscribers until cancelled, whatever becomes of the connection. Returns at once on SQLite."""
        if self._engine.dialect.name != "postgresql":
            return
        import asyncpg

        while True:
            try:
                await self._listen_until_lost()
                self._backoff.reset()
                pause = self._backoff.next_pause()
            except (NotifyUnavailable, asyncpg.FeatureNotSupportedError, asyncpg.SyntaxOrAccessError) as error:
                pause = self._backoff.spread(UNAVAILABLE_PAUSE_SECONDS)
                if not self._has_warned:
                    self._has_warned = True
                    log.warning("commits of other processes are found by polling alone: %s", error)
            except (
                DatabaseUnavailable,
                SQLAlchemyError,
                asyncpg.PostgresError,
                asyncpg.InterfaceError,
                OSError,
            ) as error:
                # Without a connection nothing else works either, and is louder.
                log.debug("commits of other processes are not heard: %s", error)
                pause = self._backoff.next_pause()
            await asyncio.sleep(pause)

    async def _listen_until_lost(self) -> None:
        """Wake until the connection is lost. Raises if it could not be made, or brings nothing."""
        async with self._engine.connect() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            lost = asyncio.Event()
            driver.add_termination_listener(lambda _: lost.set())
            try:
                await self._try_out(driver)
                await driver.add_listener(CHANNEL, self._wake)
                self.is_listening, self._has_warned = True, False
                # For what was committed before.
                self._wake()
                await _until_lost(driver, lost)
            finally:
                self.is_listening = False
                # What LISTENs must not be used for anything else.
                await connection.invalidate()

    async def _try_out(self, driver: Any) -> None:
        """Have the connection hear a note of another one. Raises NotifyUnavailable."""
        async with self._engine.connect() as other:
            notifying: Any = (await other.get_raw_connection()).driver_connection
            is_heard = await hears(driver, notifying, ECHO_SECONDS)
            self.can_notify = True
        if not is_heard:
            raise NotifyUnavailable("LISTEN brings nothing here, as behind a pooler that keeps no sessions")

    def _wake(self, *_: object) -> None:
        for wake in self._subscribers:
            wake()


async def hears(listening: Any, notifying: Any, seconds: float) -> bool:
    """Whether one connection of the driver hears what another one notifies of. Raises what the driver raises."""
    heard = asyncio.Event()
    note = secrets.token_hex(8)

    def hear(_connection: object, _pid: int, _channel: str, payload: str) -> None:
        if payload == note:
            heard.set()

    await listening.add_listener(ECHO_CHANNEL, hear)
    await notifying.execute(f"NOTIFY {ECHO_CHANNEL}, '{note}'")
    try:
        async with asyncio.timeout(seconds):
            await heard.wait()
    except TimeoutError:
        return False
    finally:
        if not listening.is_closed():
            await listening.remove_listener(ECHO_CHANNEL, hear)
    return True


class NotifyUnavailable(Exception):
    """The database, or what stands before it, takes LISTEN and NOTIFY and brings nothing, or doesn't take them."""


async def _until_lost(driver: Any, lost: asyncio.Event) -> None:
    while not lost.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CHECK_SECONDS):
                await lost.wait()
                return
        await driver.execute("SELECT 1", timeout=ECHO_SECONDS)
