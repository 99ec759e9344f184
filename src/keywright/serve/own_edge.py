"""Owns what the edge beside an origin asks of it: shares of global rate limits, and quotas, in the process itself.

All workers count in the same tables, so one of them asks, whichever has the lock; who dies or stops moving is replaced.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from keywright.domain.problems import Conflict, Problem
from keywright.edge.heartbeat_lock import HeartbeatLock, Held
from keywright.edge.origin_calls import NotTaken
from keywright.edge.quotas.borrowing.asking import NotLent, SetBack
from keywright.origin.db.engine import DatabaseUnavailable
from keywright.origin.db.transaction import Database
from keywright.origin.edges.scopes import EVERYTHING
from keywright.origin.limits.rules import Shares
from keywright.origin.quotas import lending
from keywright.protocol.leases import Answer, Question
from keywright.protocol.shares import ShareAnswer, UseReport
from keywright.runtime import tasks

SHARING_LOCK, BORROWING_LOCK = "sharing.lock", "borrowing.lock"
TRY_SECONDS = 0.75
"""Less than LONGEST_LOOK_SECONDS: who looks more rarely never finds that a holder has stopped moving."""
BEAT_SECONDS = 1.0
"""A third of the lease."""


class OwnShareChannel:
    """To the ledger of this very process."""

    def __init__(self, shares: Shares) -> None:
        self._shares = shares

    async def ask(self, report: UseReport) -> ShareAnswer:
        try:
            return await self._shares.answer(report, EVERYTHING)
        except (Problem, DatabaseUnavailable) as error:
            raise NotTaken(str(error)) from error


class OwnLeaseChannel:
    """To the ledger of this very record."""

    def __init__(self, database: Database, random_bytes: Callable[[int], bytes]) -> None:
        self._database = database
        self._random_bytes = random_bytes

    async def ask(self, question: Question) -> Answer:
        try:
            async with self._database.write() as tx:
                return await lending.answer(tx, lending.OF_DEPLOYMENT, question, self._random_bytes)
        except Conflict as error:
            raise SetBack(str(error)) from error
        except (Problem, DatabaseUnavailable) as error:
            raise NotLent(str(error)) from error


async def run_in_one(path: Path, run: Callable[[], Awaitable[None]], stop: asyncio.Event) -> None:
    """Have `run`, which never ends, go on in one process of those that call this with one lock."""
    lock = HeartbeatLock(path)
    while not stop.is_set():
        with suppress(OSError):
            held = lock.try_acquire() or (lock.take_over() if lock.is_still else None)
            if held is not None:
                try:
                    await _run_while(held, run, stop)
                finally:
                    held.release()
        await tasks.pause(stop, TRY_SECONDS)


async def _run_while(held: Held, run: Callable[[], Awaitable[None]], stop: asyncio.Event) -> None:
    running = asyncio.ensure_future(run())
    try:
        while not stop.is_set() and held.is_current and not running.done():
            held.beat()
            await tasks.pause(stop, BEAT_SECONDS)
    finally:
        await tasks.end(running)
