"""Owns borrowing for an edge: one process asks the origin, about all quotas that are used here, for all others.

It asks ahead of need, and at once when a process rings (bell.py): then in one question for all that wait (asking.py).
What is answered is written down first, and only then put into the table from which all processes spend (holdings.py).
How much is asked for, and when, is in holding.py.

Whoever begins takes over: what was lent to those before is spent no more from that moment on, and is accounted for and
given back, to whichever origin answers.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from typing import TYPE_CHECKING

from keywright.edge.note_file import NoteFile
from keywright.edge.quotas.bell import HeardBell, Rung
from keywright.edge.quotas.borrowing.asking import Asking, SetBack
from keywright.edge.quotas.borrowing.holdings import Holdings
from keywright.edge.quotas.borrowing.notes import NOTES_DIRECTORY, Notes, has_notes
from keywright.edge.quotas.status import NOTE, QuotasStatus
from keywright.edge.quotas.table import Overtaken
from keywright.edge.replica.freshness import find_boot_id
from keywright.runtime.tasks import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from keywright.edge.quotas.borrowing.asking import LeaseChannel
    from keywright.edge.quotas.borrowing.holding import Holding
    from keywright.edge.quotas.table import QuotaTable

_log = logging.getLogger(__name__)

LOOK_SECONDS = 0.25
"""How often the table is looked at, if that does not take long."""
LOOK_SHARE = 20
"""Looking takes one of so many parts of the time at most."""
FAILED_PAUSE_SECONDS = 0.1
TELL_SECONDS = 1.0
PAUSE_SECONDS = 1.0
FIRST_LOOK_SECONDS = 3.0
"""How often it is looked whether there are quotas, while there are none."""
OVERTAKEN_SECONDS = 2.0
GOODBYE_SECONDS = 2.0
"""For how long the last process on a replica tries to give back what is left."""


class Borrowing:
    """`run` it, until it is cancelled, in the one process that follows."""

    def __init__(
        self,
        table: QuotaTable,
        channel: LeaseChannel,
        directory: Path,
        edge: str,
        elapsed: Callable[[], float],
        *,
        deployment_id: Callable[[], str],
        cursor: Callable[[], str],
        has_quotas: Callable[[], bool] = lambda: False,
    ) -> None:
        """`directory` is the replica's, `edge` the edge's instance. `elapsed` counts as `Clock.elapsed` does.
        `deployment_id` is "" and `cursor` "" while the replica has no snapshot. `has_quotas` is whether any key of it
        may have some: then all is made ready, so that the first question waits for the origin alone.
        """
        self._table = table
        self._channel = channel
        self._notes_directory = directory / NOTES_DIRECTORY
        self._edge = edge
        self._elapsed = elapsed
        self._deployment_id = deployment_id
        self._cursor = cursor
        self._has_quotas = has_quotas
        self._holdings: Holdings | None = None
        self._note = NoteFile(directory / NOTE, _log, so="metrics tell nothing of quotas")
        self._told: QuotasStatus | None = None
        self._rung = asyncio.Event()
        self._rings: dict[tuple[int, str], Rung] = {}

    async def run(self) -> None:
        bell: HeardBell | None = None
        rung = self._rung = asyncio.Event()
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    if bell is None:
                        bell = HeardBell(self._table.directory)
                        loop.add_reader(bell.file, self._hear, bell)
                    await self._run(rung)
                except Overtaken:
                    # Two at once would take it from each other for ever; one of them is about to be told.
                    _log.warning("another process borrows quotas for this edge by now")
                    await asyncio.sleep(OVERTAKEN_SECONDS)
                except SetBack as error:
                    await self._become_another(error)
                except Exception as error:  # noqa: BLE001
                    # What the disk refuses is said in a line; the rest is a bug, which must not end this for good.
                    if isinstance(error, OSError):
                        _log.error("can't borrow quotas: %s", error)
                    else:
                        _log.exception("can't borrow quotas")
                await asyncio.sleep(PAUSE_SECONDS)
        finally:
            # No thread is at work on them: each was waited for.
            self._close()
            if bell is not None:
                loop.remove_reader(bell.file)
                bell.close()

    async def give_back_all(self) -> None:
        """What is left, at once and for good, in a few seconds at most: nobody spends here any more.

        By the last process on a replica, whichever has borrowed, when none runs. What can't be told now stays noted,
        and the next start tells it.
        """
        if not self._deployment_id() or not await in_thread(self._has_work):
            return
        try:
            async with asyncio.timeout(GOODBYE_SECONDS):
                asking = await self._begin(self._deployment_id())
                if await asking.ask([]):
                    await asking.holdings.empty()
                    await in_thread(self._tell, QuotasStatus())
        except (OSError, Overtaken, SetBack, TimeoutError) as error:
            _log.warning("what is left of quotas is not given back yet: %s", error or "no answer in time")
        finally:
            self._close()

    async def _run(self, rung: asyncio.Event) -> None:
        """One start: until something fails, or another deployment is followed."""
        while not self._deployment_id():  # noqa: ASYNC110
            await asyncio.sleep(LOOK_SECONDS)
        while not (rung.is_set() or self._has_quotas() or await in_thread(self._has_work)):
            await _wait(rung, FIRST_LOOK_SECONDS)
        asking = await self._begin(self._deployment_id())
        holdings = asking.holdings
        looked_at, told_at, pause = -math.inf, -math.inf, 0.0
        while True:
            await _wait(rung, max(looked_at + pause - self._elapsed(), 0.0) if holdings.held else PAUSE_SECONDS)
            if self._deployment_id() != holdings.deployment_id:
                return
            rung.clear()
            now, needed = self._elapsed(), self._list_rung(holdings)
            is_look = now >= looked_at + pause
            seen = list(holdings.held.values()) if is_look else needed
            began = time.perf_counter()
            await holdings.see(seen)
            if is_look:
                looked_at, pause = now, max(LOOK_SECONDS, (time.perf_counter() - began) * LOOK_SHARE)
                await holdings.end(holdings.list_unused())
            await holdings.note([one for one in seen if one.is_noted_too_little()])
            due = [one for one in seen if one.lacks(now) or one.is_due(now)]
            for one in needed:
                # Else what is noted by now will do.
                one.need = one.need if one.lacks(now) else 0
            if (due or holdings.closing) and not await asking.ask(due):
                await asyncio.sleep(FAILED_PAUSE_SECONDS)
            if is_look and now - told_at >= TELL_SECONDS:
                told_at = now
                await in_thread(self._tell_of, holdings, asking.failing_since)

    def _tell_of(self, holdings: Holdings, failing_since: float | None) -> None:
        self._tell(holdings.status(failing_since))

    def _tell(self, status: QuotasStatus) -> None:
        if status != self._told:
            self._told = status
            self._note.write(status.to_json(find_boot_id()))

    def _has_work(self) -> bool:
        return has_notes(self._notes_directory) or self._table.exists()

    async def _begin(self, deployment_id: str) -> Asking:
        if self._holdings is not None:
            self._holdings.close()
        return Asking(self._channel, await in_thread(self._take_over, deployment_id), self._elapsed, self._cursor)

    def _take_over(self, deployment_id: str) -> Holdings:
        notes = Notes(self._notes_directory, self._edge, after=self._table.generation)
        # Kept before anything can fail, so that it is closed.
        holdings = self._holdings = Holdings(self._table, notes, deployment_id, self._elapsed)
        holdings.take_over()
        return holdings

    async def _become_another(self, error: SetBack) -> None:
        _log.warning("this edge's disk was set back (%s): from now on it borrows quotas as another edge", error)
        if self._holdings is not None:
            await in_thread(self._holdings.notes.forget)

    def _close(self) -> None:
        if self._holdings is not None:
            self._holdings.close()
        self._table.close()

    def _hear(self, bell: HeardBell) -> None:
        for ring in bell.hear():
            place = ring.consumer_number, ring.quota
            self._rings[place] = self._rings.get(place, Rung(*place)).and_also(ring)
        self._rung.set()

    def _list_rung(self, holdings: Holdings) -> list[Holding]:
        """The quotas of which units are lacking, each with how many."""
        rings, self._rings = self._rings, {}
        return [holdings.want(rung) for rung in rings.values()]


async def _wait(rung: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await rung.wait()
    except TimeoutError:
        pass
