"""Owns answering an edge that asks for quotas: one transaction for all asks of a question, on rows that are held.

In this order, in which everybody holds them: the row of the edge, consumers and plans (so that a limit that is lowered
holds from its own commit on for what is not lent yet), periods with their leases. The arithmetic is in ledger.py.

An edge tells what it last heard of the ledger, and where its replica is. What follows for a record that does not know
these, is in losses.py.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from keywright.domain.limits import Quota
from keywright.domain.permissions import Access, Grantee, Permissions
from keywright.domain.problems import Conflict
from keywright.origin.buckets import store as bucket_rows
from keywright.origin.db.database_clock import read_millis
from keywright.origin.db.transaction import Transaction
from keywright.origin.deployment.store import find_deployment_id
from keywright.origin.edges.scopes import DEPLOYMENT, EdgeScope
from keywright.origin.quotas import ledger
from keywright.origin.quotas import store as rows
from keywright.origin.quotas.ledger import Lease, Period
from keywright.origin.quotas.losses import find_lost_revision, note_loss, sees
from keywright.origin.quotas.schedules import find_times, runs, schedule_of
from keywright.origin.quotas.store import Holder, Holding, LastQuestion, Loss, PeriodKey
from keywright.protocol.leases import MAX_ASKS, MEMORY_MILLIS, Answer, Ask, Loan, Outcome, Question

log = logging.getLogger("keywright.origin")

OF_DEPLOYMENT = Grantee(DEPLOYMENT, Permissions(Access.VALIDATE), is_root=True)
"""An edge beside an origin, or at its broker: it sees all that there is."""


async def answer(tx: Transaction, grantee: Grantee, question: Question, random_bytes: Callable[[int], bytes]) -> Answer:
    """What is lent to an edge whose token stands for `grantee`. Raises Conflict for what is not for this record, or
    was answered before.
    """
    if question.deployment_id != await find_deployment_id(tx):
        raise Conflict("This edge follows another deployment's record.")
    now = await read_millis(tx)
    holder = Holder(EdgeScope.of(grantee).account_id, question.instance, question.start)
    place = new_place(now, random_bytes)
    lost = [await _note_question(tx, holder, question, place, now), await find_lost_revision(tx, question.cursor, now)]
    seen_until = max((at for at in lost if at is not None), default=None)
    if seen_until is not None:
        await note_loss(tx, seen_until, now, grantee)
    books = await _open(tx, grantee, holder, question, now)
    if not books.account(question.asks) and seen_until is None:
        # When that was lent, it does not say.
        await note_loss(tx, now, now, grantee)
        books.losses = await rows.find_losses(tx, {one.bucket_number for one in books.holdings.values()})
    kept = [books.answer(ask) for ask in question.asks]
    await books.write(tx)
    return Answer(place, tuple(one.loan(now) for one in kept))


def new_place(now: int, random_bytes: Callable[[int], bytes]) -> str:
    """What an edge will tell to have heard last: when, and a number that no other record has."""
    return f"{now:012x}{random_bytes(10).hex()}"


async def _note_question(tx: Transaction, holder: Holder, question: Question, place: str, now: int) -> int | None:
    """Take down which question is answered. If the edge heard something that this record never said: when."""
    last = await rows.hold_last_question(tx, holder)
    # Also of another start: a question that was long under way knows nothing of what later starts were lent.
    if last is not None and (question.start, question.number) <= (last.start, last.number):
        raise Conflict("This question was answered before, or a later one of the same edge was.")
    await rows.write_question(tx, holder, LastQuestion(question.start, question.number, place, question.place), now)
    if last is None or last.start != question.start:
        await rows.forget_edges(tx, silent_since=now - 2 * MEMORY_MILLIS)
    if question.place == "" or (last is not None and question.place in {last.place, last.known_place}):
        return None
    return min(int(question.place[:12], 16), now)


@dataclass(slots=True)
class _Kept:
    """What is answered to one ask: told when everything is written, since only then a lease has its number."""

    outcome: Outcome
    period: Period | None = None
    lease: Lease | None = None
    quota: Quota | None = None

    def loan(self, now: int) -> Loan:
        if self.period is None or self.lease is None or self.quota is None:
            return Loan(self.outcome)
        return ledger.loan_of(self.outcome, self.period, self.lease, self.quota, now)


@dataclass(slots=True)
class _Books:
    """The rows that a question is about, held."""

    holder: Holder
    now: int
    holdings: Mapping[int, Holding]
    losses: Mapping[int, Loss]
    running: Mapping[tuple[int, str], int]
    """The number of the period that runs, by consumer and quota."""
    periods: Mapping[int, Period]
    leases: dict[int, Lease]
    own: dict[int, Lease]
    """Of this start of the edge, by period; of which some are new."""
    unheard: Collection[int]
    """Leases of earlier starts of which the edge heard nothing."""
    closed: set[int]

    def account(self, asks: Collection[Ask]) -> bool:
        """Take down what is told of leases, before anything is lent. False if an edge has more than was lent."""
        is_known = True
        for ask in asks:
            told = self._find_told(ask)
            if told is None:
                continue
            is_known &= ledger.account(self.periods[told.period_number], told, ask)
            if ask.is_last:
                self.closed.add(told.number)
                self.own = {number: one for number, one in self.own.items() if one is not told}
        for number in {*self.unheard} & {*self.leases} - self.closed:
            lease = self.leases[number]
            period = self.periods[lease.period_number]
            ledger.account(period, lease, Ask(period.consumer_number, period.quota, number, is_last=True))
            self.closed.add(number)
        return is_known

    def answer(self, ask: Ask) -> _Kept:
        if ask.is_last:
            return _Kept(Outcome.CLOSED)
        holding = self.holdings.get(ask.consumer_number)
        quota = None if holding is None else holding.quotas.get(ask.quota)
        number = self.running.get((ask.consumer_number, ask.quota))
        if holding is None or quota is None:
            return _Kept(Outcome.UNKNOWN)
        if number is None:
            # Of its zone nothing is known here.
            return _Kept(Outcome.AWAY)
        period = self.periods[number]
        lease = self.own.get(number) or Lease(0, number)
        loss = self.losses.get(holding.bucket_number)
        is_away = loss is not None and loss.concerns(period.times)
        outcome = ledger.lend(period, lease, ask, quota, self.now, is_away=is_away)
        if lease.number or lease.granted:
            self.own[number] = lease
        return _Kept(outcome, period, lease, quota)

    def _find_told(self, ask: Ask) -> Lease | None:
        """The lease that an ask tells of, if it is one of this edge there."""
        lease = self.leases.get(ask.lease)
        if lease is None:
            return None
        period = self.periods[lease.period_number]
        return lease if (period.consumer_number, period.quota) == (ask.consumer_number, ask.quota) else None

    async def write(self, tx: Transaction) -> None:
        await rows.insert_leases(tx, [one for one in self.own.values() if one.number == 0], self.holder)
        await rows.write_leases(tx, (one for number, one in self.leases.items() if number not in self.closed))
        await rows.delete_leases(tx, self.closed)
        await rows.write_periods(tx, self.periods.values())


async def _open(tx: Transaction, grantee: Grantee, holder: Holder, question: Question, now: int) -> _Books:
    asks = question.asks
    holdings = await rows.hold_consumers(tx, {ask.consumer_number for ask in asks})
    buckets = await bucket_rows.find_all(tx, {one.bucket_number for one in holdings.values()})
    seen = {number for number, bucket in buckets.items() if sees(grantee, bucket, now)}
    holdings = {number: one for number, one in holdings.items() if one.bucket_number in seen}
    running = await _open_running(tx, holdings, asks, now)
    told = {ask.lease for ask in asks if ask.lease}
    earlier = await rows.list_earlier(tx, holder, limit=MAX_ASKS) if question.is_whole else {}
    unheard = earlier.keys() - told
    numbers = {*running.values(), *earlier.values(), *await rows.list_period_numbers(tx, told)}
    periods = await rows.hold_periods(tx, numbers, now)
    # What an edge lost sight of meanwhile it may still give back.
    found = await rows.list_leases(tx, periods, holder)
    own = {lease.period_number: lease for start, lease in found if start == holder.start}
    losses = await rows.find_losses(tx, seen)
    leases = {lease.number: lease for _, lease in found}
    return _Books(holder, now, holdings, losses, running, periods, leases, own, unheard, set())


async def _open_running(
    tx: Transaction, holdings: Mapping[int, Holding], asks: Collection[Ask], now: int
) -> dict[tuple[int, str], int]:
    """The number of the period that runs of each quota that is asked for, which begins to count if it has not."""
    wanted: dict[PeriodKey, Quota] = {}
    for ask in asks:
        quota = holdings[ask.consumer_number].quotas.get(ask.quota) if ask.consumer_number in holdings else None
        if quota is not None and not ask.is_last:
            wanted[PeriodKey(ask.consumer_number, ask.quota, schedule_of(quota))] = quota
    newest = await rows.find_newest(tx, holdings)
    opened = {}
    for key, quota in wanted.items():
        times = find_times(quota, newest[key].times if key in newest else None, now)
        if times is not None:
            opened[key] = times
    if opened:
        await rows.open_periods(tx, opened, now)
        newest = await rows.find_newest(tx, holdings)
    return {
        (key.consumer_number, key.quota): newest[key].number
        for key in wanted
        if key in newest and runs(newest[key].times, now)
    }
