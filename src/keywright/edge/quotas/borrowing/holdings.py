"""Owns what one start of the borrower has: leases, in the table and in the notes on disk, and what is to be closed.

What may be spent is written down first, off the way of requests, and only then put into the table from which all
processes spend. What is closed is spent no more from that moment on, and then told.
"""

from __future__ import annotations

import logging
import math
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from keywright.edge.limits.table import held_id, quota_id
from keywright.edge.quotas.borrowing.holding import Holding
from keywright.edge.quotas.borrowing.notes import Noted, Notes
from keywright.edge.quotas.rows import MOST
from keywright.edge.quotas.status import QuotasStatus
from keywright.edge.quotas.table import Overtaken, Put
from keywright.protocol.leases import Ask, Outcome
from keywright.runtime.failure_log import FailureLog
from keywright.runtime.tasks import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from keywright.edge.quotas.bell import Rung
    from keywright.edge.quotas.rows import QuotaRow
    from keywright.edge.quotas.table import QuotaTable
    from keywright.protocol.leases import Answer, Loan

_log = logging.getLogger(__name__)

UNUSED_MINUTES = 60
MOST_HELD = 100_000
"""Quotas of which an edge is lent something ahead of need."""


class Holdings:
    """`held` are the quotas that are used here, `closing` what is told of leases that have ended, by their numbers."""

    def __init__(self, table: QuotaTable, notes: Notes, deployment_id: str, elapsed: Callable[[], float]) -> None:
        """`take_over` comes first."""
        self.table, self.notes, self.deployment_id = table, notes, deployment_id
        self.held: dict[bytes, Holding] = {}
        self.closing: dict[int, Ask] = {}
        self.failures = FailureLog(_log, "can't borrow quotas")
        self._elapsed = elapsed
        self._begun: set[int] = set()
        """Leases of this start: none of them begins twice, as what was spent of it would be had again."""
        self.place = ""
        """What was heard last of the ledger."""

    def close(self) -> None:
        self.notes.close()

    def take_over(self) -> None:
        """From this moment on what was lent to those before is spent no more. Raises OSError, Overtaken."""
        rows = {row.id: row for row in self.table.begin(self.notes.start)}
        now = self._elapsed()
        left = []
        for noted in self.notes.read_earlier(self.deployment_id):
            id = quota_id(noted.consumer_number, noted.quota)
            row = rows.get(id)
            if row is not None and row.lease == noted.mark:
                # Nobody has died with more than that, as long as the machine runs.
                exact = replace(noted, may_spend=row.spent, overspent=row.overspent)
                one = self.held.setdefault(id, Holding(noted.consumer_number, noted.quota, id))
                one.mark, one.told, one.seen_at = row.lease, row.overspent, now
                one.minutes_unused = row.minutes_unused(self.table.now())
                one.renews_at = now if one.minutes_unused <= UNUSED_MINUTES else math.inf
            else:
                exact = noted
                one = Holding(noted.consumer_number, noted.quota, id, seen_at=now, renews_at=now)
                self.held.setdefault(id, one)
            left.append(exact)
        self.notes.take_over(self.deployment_id, left)
        known = {one.id for one in self.held.values() if one.mark}
        self.table.put(self.notes.start, [_emptied(row, MOST) for row in rows.values() if row.id not in known])
        self.closing = {noted.lease: _closing(noted) for noted in left}
        self.place = self.notes.place

    # -- looking ------------------------------------------------------------------------------------------------------

    def want(self, rung: Rung) -> Holding:
        """The quota of which units are lacking."""
        id = quota_id(rung.consumer_number, rung.quota)
        one = self.held.get(id)
        if one is None:
            one = self.held[id] = Holding(rung.consumer_number, rung.quota, id, seen_at=self._elapsed())
        one.need, one.unit, one.is_peeked = rung.units, rung.unit or one.unit, rung.is_peeked
        return one

    def status(self, failing_since: float | None) -> QuotasStatus:
        held = [one for one in self.held.values() if one.lease]
        left, reserved = sum(max(one.left, 0) for one in held), sum(one.reserved for one in held)
        return QuotasStatus(len(held), left, reserved, failing_since)

    async def see(self, some: Sequence[Holding]) -> None:
        """What processes have spent of these. Raises Overtaken."""
        ids = [(one.id, held_id(one.consumer_number, one.quota)) for one in some]
        found = await in_thread(self._read, [id for pair in ids for id in pair])
        now, steps = self._elapsed(), self.table.now()
        for one, pair in zip(some, ids, strict=True):
            row, held = map(found.get, pair)
            if row is not None:
                one.see(row, held, now, steps)

    def _read(self, ids: Sequence[bytes]) -> dict[bytes, QuotaRow]:
        if self.table.generation != self.notes.start:
            # What stands there then is another's, and its rings are not to be taken away.
            raise Overtaken
        return self.table.read_all(ids)

    def list_unused(self) -> list[Holding]:
        """Those that nobody asked for in an hour, and those of which there are too many."""
        old = [one for one in self.held.values() if one.minutes_unused > UNUSED_MINUTES]
        beyond = len(self.held) - len(old) - MOST_HELD
        if beyond <= 0:
            return old
        idle = (one for one in self.held.values() if not one.is_wanted and one.minutes_unused <= UNUSED_MINUTES)
        return old + sorted(idle, key=lambda one: -one.minutes_unused)[:beyond]

    # -- lending to the processes of this machine ---------------------------------------------------------------------

    async def note(self, some: Sequence[Holding], closed: Iterable[int] = ()) -> None:
        """Write down that more may be spent of these, then let it be. What can't be written is not spent.

        Raises Overtaken, and OSError where the table can't be used.
        """
        if not some and self.place == self.notes.place:
            return
        may_spend = {one.lease: one.noted_next() for one in some if one.lease}
        noted = [one.noted(may_spend[one.lease]) for one in some if one.lease]
        try:
            await in_thread(self.notes.write, noted, closed, self.place)
        except OSError as error:
            self.failures.note(error, logging.WARNING)
        else:
            for one in some:
                one.may_spend = may_spend.get(one.lease, 0)
        await self.put(some)
        for one in some:
            one.told = 0

    async def put(self, some: Sequence[Holding]) -> dict[bytes, QuotaRow]:
        """Have the table say what is known of these; each row as it was before."""
        if not some:
            return {}
        return await in_thread(self.table.put, self.notes.start, [one.put() for one in some])

    async def end(self, some: Sequence[Holding]) -> None:
        """Have nothing more spent of these, and give back what is left. Raises OSError, Overtaken."""
        for one in some:
            one.ends_at = 0.0
        before = await self.put(some)
        dropped = []
        for one in some:
            row = before[one.id]
            if one.lease and row.lease == one.mark:
                told = Ask(one.consumer_number, one.quota, one.lease, row.spent, one.returned, row.overspent)
                self.closing[one.lease] = replace(told, is_last=True)
                one.told = row.overspent
            one.end()
            if one.minutes_unused > UNUSED_MINUTES or len(self.held) > MOST_HELD:
                self.held.pop(one.id, None)
                dropped.append(_emptied(row, row.overspent))
        if dropped:
            await in_thread(self.table.put, self.notes.start, dropped)

    async def empty(self) -> None:
        """All is told: the table has nothing of it any more."""
        told = [Put(one.id, 0, 0, 0, 0, 0, 0, one.told) for one in self.held.values() if one.mark]
        await in_thread(self.table.put, self.notes.start, told)

    async def give_back(self, some: Sequence[Holding]) -> None:
        """What others may need more is not spent here any more, then written down as returned, and then told."""
        excesses = [(one, one.excess()) for one in some if one.lease and one.excess() > 0]
        if not excesses:
            return
        for one, units in excesses:
            one.may_spend = min(one.may_spend, one.grant - units)
        before_returned = [(one, one.returned) for one, _ in excesses]
        before = await self.put([one for one, _ in excesses])
        for one, units in excesses:
            row = before[one.id]
            if row.lease == one.mark:
                one.spent, one.may_spend = row.spent, max(one.may_spend, row.spent)
                one.returned += max(0, min(units, one.grant - one.may_spend))
        try:
            await in_thread(self.notes.write, [one.noted(one.may_spend) for one, _ in excesses])
        except OSError as error:
            self.failures.note(error, logging.WARNING)
            # What may stand there still as not returned is not told to be.
            for one, returned in before_returned:
                one.returned = returned

    # -- what the origin answers --------------------------------------------------------------------------------------

    async def fail(self, some: Sequence[Holding]) -> None:
        """Nobody has answered about these."""
        now = self._elapsed()
        for one in some:
            one.fail(now)
        await self.put(some)

    async def take(self, some: Sequence[Holding], answer: Answer, closing: Sequence[Ask], asked_at: float) -> None:
        """The answer to a question that told of `closing`, and then asked for `some`."""
        self.place = answer.place
        for ask in closing:
            self.closing.pop(ask.lease, None)
        needs = {one.id: one.need for one in some}
        loans = list(zip(some, answer.loans[len(closing) :], strict=True))
        others = [one for one, loan in loans if not one.take(loan, asked_at) and one.lease]
        # Of what was lent before nothing more is spent: how far it was, the table tells then.
        await self.end(others)
        for one, loan in loans:
            self._begin(one, loan)
        for one in some:
            one.need = needs[one.id]
        await self.note(some, [ask.lease for ask in closing])
        for one in some:
            one.need = 0

    def _begin(self, one: Holding, loan: Loan) -> None:
        """Its new lease, if it is one."""
        if one.lease or not loan.lease or loan.outcome not in {Outcome.LENT, Outcome.AWAY}:
            return
        if loan.lease in self._begun:
            # What was spent of it is yet to be told, with its end: then another is lent.
            one.free = None
            return
        self._begun.add(loan.lease)
        one.begin(loan, secrets.randbits(31) + 1)


def _emptied(row: QuotaRow, told: int) -> Put:
    """The row without a lease: nothing is known of it."""
    return Put(row.id, 0, 0, 0, 0, 0, 0, told)


def _closing(noted: Noted) -> Ask:
    return Ask(
        noted.consumer_number, noted.quota, noted.lease, noted.may_spend, noted.returned, noted.overspent, is_last=True
    )
