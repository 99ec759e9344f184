"""Rules of quotas for those who manage a consumer: what is left of each, adding to it, and giving back what is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from keywright.domain.limits import MAX_UNITS, Quota
from keywright.domain.models import Consumer, from_millis
from keywright.domain.periods import PeriodTimes
from keywright.domain.permissions import Access
from keywright.domain.problems import BadRequest, Conflict, NotFound, ServiceUnavailable
from keywright.origin.consumers.access import ConsumerPath, get_consumer
from keywright.origin.db.database_clock import read_millis
from keywright.origin.db.transaction import Transaction
from keywright.origin.pipeline.unit_of_work import UnitOfWork
from keywright.origin.quotas import store as rows
from keywright.origin.quotas.ledger import Period
from keywright.origin.quotas.schedules import find_times, runs, schedule_of
from keywright.origin.quotas.store import PeriodKey, TopUp
from keywright.protocol.leases import LEASE_MILLIS

NEVER_LENT = 0
GRACE_MILLIS = LEASE_MILLIS
"""How long behind the end of a lease it can be given back by hand: an answer may be under way."""


@dataclass(frozen=True, slots=True)
class QuotaView:
    """A quota in the period that runs. `unaccounted` of what is `lent` is in leases that have ended, untold.

    `is_away`: nothing is lent, as the record went back. `in_force_at` is when a lowered limit holds for every edge
    (milliseconds since the epoch), None where it does already.
    """

    quota: Quota
    times: PeriodTimes
    spent: int
    lent: int
    added: int
    overspent: int
    unaccounted: int
    is_away: bool
    in_force_at: int | None

    @property
    def remaining(self) -> int:
        """What can still be spent: free, or lent to an edge that will account for it."""
        return max(0, self.quota.limit + self.added - self.spent - self.unaccounted)

    @property
    def ends_at(self) -> datetime | None:
        return None if self.times.ends_at is None else from_millis(self.times.ends_at)


async def list_of(work: UnitOfWork, path: ConsumerPath) -> list[QuotaView]:
    """All quotas that hold for a consumer, in their order."""
    _, consumer = await get_consumer(work, path, Access.READ)
    return await list_for(work.tx, consumer)


async def list_for(tx: Transaction, consumer: Consumer) -> list[QuotaView]:
    """The same for whoever has shown already that this consumer is theirs to see."""
    now = await read_millis(tx)
    newest = await rows.find_newest(tx, [consumer.number])
    return [await _view(tx, consumer, quota, newest.get(_key(consumer, quota)), now) for quota in quotas_of(consumer)]


async def top_up(work: UnitOfWork, path: ConsumerPath, name: str, *, units: int, idempotency_key: str) -> QuotaView:
    """Adds to the period that runs; what was added is never taken away. The same key adds once.

    Raises NotFound, Conflict where the key added something else before, BadRequest for what would be too much.
    """
    consumer, quota, period, now = await _hold(work, path, name)
    before = await rows.find_top_up(work.tx, consumer.number, idempotency_key)
    if before is not None:
        same = (await rows.list_quota_names(work.tx, [before.period_number])).get(before.period_number) == name
        if before.units != units or not same:
            raise Conflict("This Idempotency-Key was used for another top-up of this consumer.")
    else:
        if period.added + units > MAX_UNITS:
            message = f"would make more than {MAX_UNITS:,} units that were added in one period"
            raise BadRequest("The quota exceeds a limit.", errors=[{"field": "body.units", "message": message}])
        period.added += units
        await rows.insert_top_up(work.tx, consumer.number, idempotency_key, TopUp(period.number, units))
        await rows.write_periods(work.tx, [period])
    work.audit_draft.tells(consumer.id, quota=name, units=units, isRepeated=before is not None)
    return await _view(work.tx, consumer, quota, period, now)


async def give_back(work: UnitOfWork, path: ConsumerPath, name: str) -> QuotaView:
    """Takes what ended leases hid for not spent. Who says so knows that these edges spent nothing more, or accepts it.

    What such an edge tells later of the lease is not counted any more.
    """
    consumer, quota, period, now = await _hold(work, path, name)
    ended = await rows.list_ended_leases(work.tx, [period.number], now - GRACE_MILLIS)
    units = sum(lease.held for lease in ended)
    period.lent -= units
    await rows.delete_leases(work.tx, [lease.number for lease in ended])
    await rows.write_periods(work.tx, [period])
    work.audit_draft.tells(consumer.id, quota=name, units=units)
    return await _view(work.tx, consumer, quota, period, now)


def quotas_of(consumer: Consumer) -> Sequence[Quota]:
    """Its own, else its plan's."""
    if consumer.quotas is not None:
        return consumer.quotas
    return () if consumer.plan is None else consumer.plan.quotas or ()


async def _hold(work: UnitOfWork, path: ConsumerPath, name: str) -> tuple[Consumer, Quota, Period, int]:
    """A quota's running period, held against edges that ask, and the time."""
    _, consumer = await get_consumer(work, path, Access.WRITE, is_for_update=True)
    quota = next((one for one in quotas_of(consumer) if one.name == name), None)
    if quota is None:
        raise NotFound("The consumer has no such quota.")
    now, key = await read_millis(work.tx), _key(consumer, quota)
    newest = (await rows.find_newest(work.tx, [consumer.number])).get(key)
    if newest is None or not runs(newest.times, now):
        times = find_times(quota, None if newest is None else newest.times, now)
        if times is None:
            raise ServiceUnavailable("The time zones of this origin are older than the quota's: none has its name.")
        await rows.open_periods(work.tx, {key: times}, now)
        newest = (await rows.find_newest(work.tx, [consumer.number]))[key]
    held = await rows.hold_periods(work.tx, [newest.number], now)
    return consumer, quota, held[newest.number], now


async def _view(tx: Transaction, consumer: Consumer, quota: Quota, period: Period | None, now: int) -> QuotaView:
    if period is None or not runs(period.times, now):
        times = find_times(quota, None if period is None else period.times, now) or PeriodTimes(now, None)
        period = Period(NEVER_LENT, consumer.number, quota.name, times)
    ended = await rows.list_ended_leases(tx, [period.number], now)
    loss = (await rows.find_losses(tx, [consumer.bucket_number])).get(consumer.bucket_number)
    in_force_at = None
    if period.lent and period.free(quota.limit) < 0:
        last = (await rows.list_last_ends(tx, [period.number])).get(period.number, 0)
        in_force_at = last if last > now else None
    return QuotaView(
        quota,
        period.times,
        period.spent,
        period.lent,
        period.added,
        period.overspent,
        sum(lease.held for lease in ended),
        loss is not None and loss.concerns(period.times),
        in_force_at,
    )


def _key(consumer: Consumer, quota: Quota) -> PeriodKey:
    return PeriodKey(consumer.number, quota.name, schedule_of(quota))
