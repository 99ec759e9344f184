"""Owns the background work on usage: batches are folded into hours, hours rolled up into days, and the past let go.

Little is folded at once: then it is seen within seconds. What is much waits for the end of its hour, because counts of
one key that meet in memory are one row less to write. All is done in steps that end within a blink, each of them one
transaction: what is killed between two of them goes on where it was, and nothing stops meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import secrets

from keywright.origin.db.engine import DatabaseUnavailable
from keywright.origin.db.transaction import Database, Transaction
from keywright.origin.usage import fold_store, store
from keywright.origin.usage.addresses import store as addresses
from keywright.origin.usage.addresses.store import ADDRESS_DAYS
from keywright.origin.usage.counts import AT_ONCE, DAY_MILLIS, FIRST_USES, PARTS, READY, Counts
from keywright.origin.usage.fold_store import Folding
from keywright.origin.usage.store import Waiting
from keywright.protocol.usage import HOUR_MILLIS
from keywright.runtime import tasks

log = logging.getLogger("keywright.origin")

LOOK_SECONDS = 2.0
HOLD_SECONDS = 60.0
ROWS_OF_STEP = 1000
"""That one transaction writes: SQLite has one writer, and a management request waits for it."""
BATCHES_OF_STEP = 20
MOST_IN_MEMORY = 200_000
"""Counts of one part. Few keys make fewer; with more keys a part is folded in several rounds."""
MOST_WAITING = 10_000_000
"""Rows that wait for their hour; with more the time has come."""
SETTLE_MILLIS = 5 * 60_000
"""After an hour, until it is folded: what edges counted last in it comes later."""
LATE_MILLIS = 2 * HOUR_MILLIS
"""After a day, until it is rolled up. What comes later still is added to hour and day."""
KEYS_OF_ROLL = 500
ROWS_OF_PRUNE = 2000
NUMBERS_OF_PRUNE = 5000


class Folder:
    """One for each process; of all that share a record one folds. `run` it until `stop` is set."""

    def __init__(self, database: Database, *, hours_days: int, days_kept: int) -> None:
        self._database = database
        self._hours_days = hours_days
        self._days_kept = days_kept
        self._holder = secrets.token_hex(8)
        self._pruned_day = 0

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await self.look(stop)
            except (DatabaseUnavailable, FoldedElsewhere) as error:
                # Others say so, louder: it is tried again at once.
                log.debug("usage is folded later: %s", error)
            except Exception:
                log.exception("usage can't be folded")
            await tasks.pause(stop, LOOK_SECONDS)
        try:
            async with self._database.write() as tx:
                await fold_store.release(tx, self._holder)
        except DatabaseUnavailable as error:
            log.debug("another process folds usage a minute later: %s", error)

    async def look(self, stop: asyncio.Event) -> None:
        """Do what is due. Raises DatabaseUnavailable, FoldedElsewhere."""
        waiting, now = await self._database.run_read(_find_waiting)
        parts = list_due(waiting, now)
        day = (now - LATE_MILLIS) // DAY_MILLIS - 1
        if not parts and day == self._pruned_day:
            return
        if not await self._hold():
            return
        for part in parts:
            while not stop.is_set() and await self.fold(part):
                pass
        if day != self._pruned_day and await self._tidy(day, stop):
            self._pruned_day = day

    async def fold(self, part: int) -> bool:
        """A step of a part; whether there may be more of it. What other processes have folded meanwhile is theirs."""
        numbers, counts = await self._gather(part)
        if not numbers:
            return False
        if part == FIRST_USES:
            async with self._database.write() as tx:
                await self._take_out(tx, numbers)
                await fold_store.note_use(tx, counts)
            return True
        if len(counts) <= ROWS_OF_STEP:
            await self._write(numbers, counts)
            return True
        slices = await asyncio.to_thread(list, counts.sliced(ROWS_OF_STEP))
        bodies = await asyncio.to_thread(lambda: [one.pack() for one in slices])
        async with self._database.write() as tx:
            await self._take_out(tx, numbers)
            await store.put_back(tx, slices, bodies)
        while await self.fold(READY):
            pass
        return True

    async def _gather(self, part: int) -> tuple[list[int], Counts]:
        """Counts of a part, added up, and the batches that they are in."""
        numbers: list[int] = []
        counts = Counts()
        # What is ready is one step each.
        limit = 1 if part in {READY, FIRST_USES} else BATCHES_OF_STEP
        while True:
            async with self._database.read() as tx:
                found = await store.list_packed(tx, part, after=numbers[-1] if numbers else 0, limit=limit)
            if not found:
                break
            await asyncio.to_thread(_add_up, counts, [one.body for one in found])
            numbers += [one.number for one in found]
            if len(found) < limit or limit == 1 or len(counts) > MOST_IN_MEMORY:
                break
        return numbers, counts

    async def _write(self, numbers: list[int], counts: Counts) -> None:
        async with self._database.write() as tx:
            of_keys = await fold_store.write(tx, counts, await self._take_out(tx, numbers))
            await addresses.write(tx, counts.addresses, of_keys)

    async def _take_out(self, tx: Transaction, numbers: list[int]) -> Folding:
        folding = await fold_store.hold(tx, self._holder, HOLD_SECONDS)
        if folding is None or not await store.take_out(tx, numbers):
            raise FoldedElsewhere
        return folding

    async def _tidy(self, day: int, stop: asyncio.Event) -> bool:
        """Rolls up to this day, and lets go of what is kept no longer; whether all of it is done."""
        is_more = True
        while is_more and not stop.is_set():
            async with self._database.write() as tx:
                folding = await fold_store.hold(tx, self._holder, HOLD_SECONDS)
                if folding is None:
                    return False
                is_more = await fold_store.roll_up(tx, folding, day, keys_of_step=KEYS_OF_ROLL)
            await asyncio.sleep(0)
        next_number: int | None = 0
        is_more = True
        while (is_more or next_number is not None) and not stop.is_set():
            async with self._database.write() as tx:
                folding = await fold_store.hold(tx, self._holder, HOLD_SECONDS)
                if folding is None:
                    return False
                if is_more:
                    is_more = await fold_store.prune(
                        tx,
                        folding,
                        hours_days=self._hours_days,
                        days_kept=self._days_kept,
                        rows_of_step=ROWS_OF_PRUNE,
                    )
                    first_day = folding.now // DAY_MILLIS - min(self._days_kept, ADDRESS_DAYS)
                    is_more |= await addresses.prune(tx, first_day=first_day, rows_of_step=ROWS_OF_PRUNE)
                if next_number is not None:
                    await addresses.forget_last(tx, first=next_number, end=next_number + NUMBERS_OF_PRUNE)
                    next_number = await fold_store.prune_last_used(
                        tx, folding, days_kept=self._days_kept, first=next_number, numbers_of_step=NUMBERS_OF_PRUNE
                    )
        return not stop.is_set()

    async def _hold(self) -> bool:
        async with self._database.write() as tx:
            return await fold_store.hold(tx, self._holder, HOLD_SECONDS) is not None


class FoldedElsewhere(Exception):
    """Another process folds, or has folded the same batches: nothing of this may be committed."""


def list_due(waiting: list[Waiting], now: int) -> list[int]:
    """The parts that are to be folded now, in their order."""
    by_part = {one.part: one for one in waiting}
    due = [part for part in (FIRST_USES, READY, AT_ONCE) if part in by_part]
    is_much = sum(one.rows for one in waiting) > MOST_WAITING
    settled = (now - SETTLE_MILLIS) // HOUR_MILLIS * HOUR_MILLIS + SETTLE_MILLIS
    due += [part for part in range(PARTS) if part in by_part and (is_much or by_part[part].taken_at < settled)]
    return due


def _add_up(counts: Counts, bodies: list[bytes]) -> None:
    for body in bodies:
        counts.add_all(Counts.unpack(body))


async def _find_waiting(tx: Transaction) -> tuple[list[Waiting], int]:
    return await store.list_waiting(tx), await store.now_millis(tx)
