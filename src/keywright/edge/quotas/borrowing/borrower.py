"""Owns borrowing for an edge: one process asks the origin, about all quotas that are used here, for all others.

It asks ahead of need, and at once when a process rings (bell.py): then in one question for all that wait. What is
answered is written down first (notes.py), off the way of requests, and only then put into the table from which all
processes spend. How much is asked for, and when, is in holding.py; what the origin makes of it in protocol/leases.py.

Whoever begins takes over: what was lent to those before is spent no more from that moment on, and is accounted for and
given back, to whichever origin answers.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from keywright.edge.quotas.bell import HeardBell
from keywright.edge.quotas.borrowing.holding import Holding
from keywright.edge.quotas.borrowing.notes import NOTES_DIRECTORY, Noted, Notes, has_notes
from keywright.edge.quotas.rows import MOST
from keywright.edge.quotas.table import Overtaken, Put, quota_id
from keywright.protocol.leases import MAX_ASKS, Ask, Outcome, Question

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from keywright.edge.quotas.rows import QuotaRow
    from keywright.edge.quotas.table import QuotaTable
    from keywright.protocol.leases import Answer

_log = logging.getLogger(__name__)

LOOK_SECONDS = 0.25
"""How often the table is looked at, if that does not take long."""
LOOK_SHARE = 20
"""Looking takes one of so many parts of the time at most."""
ANSWER_SECONDS = 5.0
FAILED_PAUSE_SECONDS = 0.1
PAUSE_SECONDS = 1.0
OVERTAKEN_SECONDS = 2.0
UNUSED_MINUTES = 60
MOST_CONFLICTS = 3
MOST_HELD = 100_000
"""Quotas of which an edge is lent something ahead of need."""


class NotLent(Exception):
    """The question did not get there, or was not answered."""


class SetBack(NotLent):
    """The origin has answered a later question of this edge: what is on this disk is of before."""


class LeaseChannel(Protocol):
    """The way to the origin."""

    async def ask(self, question: Question) -> Answer:
        """Raises NotLent."""
        ...


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
    ) -> None:
        """`directory` is the replica's, `edge` the edge's instance. `elapsed` counts as `Clock.elapsed` does.
        `deployment_id` is "" and `cursor` "" while the replica has no snapshot.
        """
        self._table = table
        self._channel = channel
        self._notes_directory = directory / NOTES_DIRECTORY
        self._edge = edge
        self._elapsed = elapsed
        self._deployment_id = deployment_id
        self._cursor = cursor
        self._deployment = ""
        self._notes: Notes | None = None
        self._held: dict[bytes, Holding] = {}
        self._closing: dict[int, Ask] = {}
        self._begun: set[int] = set()
        """Leases of this start: none of them begins twice, as what was spent of it would be had again."""
        self._place = ""
        self._number = 0
        self._has_answered = False
        """Whether any question of this start was."""
        self._has_failed = False
        self._conflicts = 0
        self._rung = asyncio.Event()
        self._rings: dict[tuple[int, str], tuple[int, int, bool]] = {}
        """How many units are lacking since they were asked for last, the most of one question, and if one peeks."""

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
            if self._notes is not None:
                self._notes.close()
            self._table.close()
            if bell is not None:
                loop.remove_reader(bell.file)
                bell.close()

    async def _run(self, rung: asyncio.Event) -> None:
        """One start: until something fails, or another deployment is followed."""
        while not self._deployment_id():  # noqa: ASYNC110
            await asyncio.sleep(LOOK_SECONDS)
        while not (rung.is_set() or await asyncio.to_thread(self._has_work)):
            await _wait(rung, PAUSE_SECONDS)
        await self._begin(self._deployment_id())
        looked_at, pause = -math.inf, 0.0
        while True:
            await _wait(rung, max(looked_at + pause - self._elapsed(), 0.0) if self._held else PAUSE_SECONDS)
            if self._deployment_id() != self._deployment:
                return
            rung.clear()
            now, needed = self._elapsed(), self._list_rung()
            is_look = now >= looked_at + pause
            seen = list(self._held.values()) if is_look else needed
            began = time.perf_counter()
            await self._see(seen)
            if is_look:
                looked_at, pause = now, max(LOOK_SECONDS, (time.perf_counter() - began) * LOOK_SHARE)
                await self._close([one for one in seen if one.minutes_unused > UNUSED_MINUTES])
                await self._close(self._find_beyond())
            await self._note([one for one in seen if one.is_noted_too_little()])
            due = [one for one in seen if one.lacks(now) or one.is_due(now)]
            for one in needed:
                # Else what is noted by now will do.
                one.need = one.need if one.lacks(now) else 0
            if (due or self._closing) and not await self._ask(due):
                await asyncio.sleep(FAILED_PAUSE_SECONDS)

    def _has_work(self) -> bool:
        return has_notes(self._notes_directory) or self._table.exists()

    # -- beginning ----------------------------------------------------------------------------------------------------

    async def _begin(self, deployment_id: str) -> None:
        if self._notes is not None:
            self._notes.close()
        self._held, self._closing, self._number, self._has_answered = {}, {}, 0, False
        self._begun = set()
        self._deployment = deployment_id
        await asyncio.to_thread(self._take_over, deployment_id)

    def _take_over(self, deployment_id: str) -> None:
        notes = self._notes = Notes(self._notes_directory, self._edge, after=self._table.generation)
        rows = {row.id: row for row in self._table.begin(notes.start)}
        now = self._elapsed()
        left = []
        for noted in notes.read_earlier(deployment_id):
            id = quota_id(noted.consumer_number, noted.quota)
            row = rows.get(id)
            if row is not None and row.lease == noted.mark:
                # Nobody has died with more than that, as long as the machine runs.
                exact = replace(noted, may_spend=row.spent, overspent=row.overspent)
                one = self._held.setdefault(id, Holding(noted.consumer_number, noted.quota, id))
                one.mark, one.told, one.seen_at = row.lease, row.overspent, now
                one.minutes_unused = row.minutes_unused(self._table.now())
                one.renews_at = now if one.minutes_unused <= UNUSED_MINUTES else math.inf
            else:
                exact = noted
                one = Holding(noted.consumer_number, noted.quota, id, seen_at=now, renews_at=now)
                self._held.setdefault(id, one)
            left.append(exact)
        notes.take_over(deployment_id, left)
        known = {one.id for one in self._held.values() if one.mark}
        self._table.put(notes.start, [_emptied(row, MOST) for row in rows.values() if row.id not in known])
        self._closing = {noted.lease: _closing(noted) for noted in left}
        self._place = notes.place

    async def _become_another(self, error: SetBack) -> None:
        _log.warning("this edge's disk was set back (%s): from now on it borrows quotas as another edge", error)
        if self._notes is not None:
            await asyncio.to_thread(self._notes.forget)

    # -- looking ------------------------------------------------------------------------------------------------------

    def _hear(self, bell: HeardBell) -> None:
        for ring in bell.hear():
            place = ring.consumer_number, ring.quota
            units, unit, is_peeked = self._rings.get(place, (0, 0, False))
            self._rings[place] = (units + ring.units, max(unit, ring.units), is_peeked or not ring.units)
        self._rung.set()

    def _list_rung(self) -> list[Holding]:
        """The quotas of which units are lacking, each with how many."""
        rings, self._rings = self._rings, {}
        found = []
        for (consumer_number, quota), (units, unit, is_peeked) in rings.items():
            id = quota_id(consumer_number, quota)
            one = self._held.get(id)
            if one is None:
                one = self._held[id] = Holding(consumer_number, quota, id, seen_at=self._elapsed())
            one.need, one.unit, one.is_peeked = units, unit or one.unit, is_peeked
            found.append(one)
        return found

    async def _see(self, some: Sequence[Holding]) -> None:
        found = await asyncio.to_thread(self._read, [one.id for one in some])
        now, steps = self._elapsed(), self._table.now()
        for one in some:
            row = found.get(one.id)
            if row is not None:
                one.see(row, now, steps)

    def _read(self, ids: Sequence[bytes]) -> dict[bytes, QuotaRow]:
        """Raises Overtaken: what stands there then is another's, and its rings are not to be taken away."""
        if self._table.generation != self._open_notes().start:
            raise Overtaken
        return self._table.read_all(ids)

    def _find_beyond(self) -> list[Holding]:
        """Those that an edge holds too many of: the ones that were not used for the longest."""
        beyond = len(self._held) - MOST_HELD
        if beyond <= 0:
            return []
        idle = (one for one in self._held.values() if not one.is_wanted)
        return sorted(idle, key=lambda one: -one.minutes_unused)[:beyond]

    # -- lending to the processes of this machine ---------------------------------------------------------------------

    async def _note(self, some: Sequence[Holding], closed: Iterable[int] = (), place: str | None = None) -> None:
        """Write down that more may be spent of these, then let it be. What can't be written is not spent.

        Raises Overtaken, and OSError where the table can't be used.
        """
        if not some and place is None:
            return
        may_spend = {one.lease: one.noted_next() for one in some if one.lease}
        noted = [one.noted(may_spend[one.lease]) for one in some if one.lease]
        notes = self._open_notes()
        try:
            await asyncio.to_thread(notes.write, noted, closed, place)
        except OSError as error:
            self._say(error)
        else:
            for one in some:
                one.may_spend = may_spend.get(one.lease, 0)
        if some:
            await asyncio.to_thread(self._table.put, notes.start, [one.put() for one in some])
            for one in some:
                one.told = 0

    async def _close(self, some: Sequence[Holding]) -> None:
        """Have nothing more spent of these, and give back what is left. Raises OSError, Overtaken."""
        if not some:
            return
        for one in some:
            one.ends_at = 0.0
        before = await asyncio.to_thread(self._table.put, self._open_notes().start, [one.put() for one in some])
        dropped = []
        for one in some:
            row = before[one.id]
            self._end(one, row)
            if one.minutes_unused > UNUSED_MINUTES or len(self._held) > MOST_HELD:
                self._held.pop(one.id, None)
                dropped.append(_emptied(row, row.overspent))
        if dropped:
            await asyncio.to_thread(self._table.put, self._open_notes().start, dropped)

    def _end(self, one: Holding, row: QuotaRow) -> None:
        """Its lease is to be closed, of which the table's row tells the last."""
        if one.lease and row.lease == one.mark:
            closing = Ask(one.consumer_number, one.quota, one.lease, row.spent, one.returned, row.overspent)
            self._closing[one.lease] = replace(closing, is_last=True)
            one.told = row.overspent
        one.end()

    def _open_notes(self) -> Notes:
        if self._notes is None:
            raise RuntimeError("nothing has begun")
        return self._notes

    # -- asking -------------------------------------------------------------------------------------------------------

    async def _ask(self, due: list[Holding]) -> bool:
        """Account for what is closed, and ask for these; whether all was answered.

        Raises OSError, Overtaken, SetBack.
        """
        due.sort(key=lambda one: not one.need)
        while due or self._closing:
            some, due = due[:MAX_ASKS], due[MAX_ASKS:]
            closing = list(self._closing.values())[: MAX_ASKS - len(some)]
            is_whole = len(closing) == len(self._closing)
            await self._give_back(some)
            if not await self._ask_for(some, closing, is_whole=is_whole):
                for one in due:
                    one.fail(self._elapsed())
                return False
        return True

    async def _give_back(self, some: Sequence[Holding]) -> None:
        """What others may need more is not spent here any more, then written down as returned, and then told."""
        excesses = [(one, one.excess()) for one in some if one.lease and one.excess() > 0]
        if not excesses:
            return
        for one, units in excesses:
            one.may_spend = min(one.may_spend, one.grant - units)
        before_returned = [(one, one.returned) for one, _ in excesses]
        puts = [one.put() for one, _ in excesses]
        before = await asyncio.to_thread(self._table.put, self._open_notes().start, puts)
        for one, units in excesses:
            row = before[one.id]
            if row.lease == one.mark:
                one.spent, one.may_spend = row.spent, max(one.may_spend, row.spent)
                one.returned += max(0, min(units, one.grant - one.may_spend))
        try:
            await asyncio.to_thread(self._open_notes().write, [one.noted(one.may_spend) for one, _ in excesses])
        except OSError as error:
            self._say(error)
            # What may stand there still as not returned is not told to be.
            for one, returned in before_returned:
                one.returned = returned

    async def _ask_for(self, some: Sequence[Holding], closing: Sequence[Ask], *, is_whole: bool) -> bool:
        notes, asked_at = self._open_notes(), self._elapsed()
        self._number += 1
        question = Question(
            self._deployment,
            notes.instance,
            notes.start,
            self._number,
            self._place,
            self._cursor(),
            is_whole,
            (*closing, *(one.ask() for one in some)),
        )
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await self._channel.ask(question)
            if len(answer.loans) != len(question.asks):
                raise NotLent("the answer is to another question")
        except (NotLent, TimeoutError) as error:
            self._conflicts += isinstance(error, SetBack)
            if isinstance(error, SetBack) and (not self._has_answered or self._conflicts > MOST_CONFLICTS):
                raise
            self._say(error)
            now = self._elapsed()
            for one in some:
                one.fail(now)
            await asyncio.to_thread(self._table.put, notes.start, [one.put() for one in some])
            return False
        self._has_answered, self._has_failed, self._conflicts = True, False, 0
        await self._take(some, answer, closing, asked_at)
        return True

    async def _take(self, some: Sequence[Holding], answer: Answer, closing: Sequence[Ask], asked_at: float) -> None:
        self._place = answer.place
        for ask in closing:
            self._closing.pop(ask.lease, None)
        needs = {one.id: one.need for one in some}
        loans = answer.loans[len(closing) :]
        others = [
            (one, loan) for one, loan in zip(some, loans, strict=True) if not one.take(loan, asked_at) and one.lease
        ]
        # Of what was lent before nothing more is spent: how far it was, the table tells then.
        await self._close([one for one, _ in others])
        for one, loan in zip(some, loans, strict=True):
            if one.lease or not loan.lease or loan.outcome not in {Outcome.LENT, Outcome.AWAY}:
                continue
            if loan.lease in self._begun:
                # What was spent of it is yet to be told, with its end: then another is lent.
                one.free = None
                continue
            self._begun.add(loan.lease)
            one.begin(loan, secrets.randbits(31) + 1)
        for one in some:
            one.need = needs[one.id]
        await self._note(some, [ask.lease for ask in closing], self._place)
        for one in some:
            one.need = 0

    def _say(self, error: Exception) -> None:
        if not self._has_failed:
            self._has_failed = True
            _log.warning("can't borrow quotas: %s", error if str(error) else "no answer in time")


def _emptied(row: QuotaRow, told: int) -> Put:
    """The row without a lease: nothing is known of it."""
    return Put(row.id, 0, 0, 0, 0, 0, 0, told)


async def _wait(rung: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await rung.wait()
    except TimeoutError:
        pass


def _closing(noted: Noted) -> Ask:
    return Ask(
        noted.consumer_number, noted.quota, noted.lease, noted.may_spend, noted.returned, noted.overspent, is_last=True
    )
