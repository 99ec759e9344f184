"""Rows of the ledger: periods, leases, what was added, and what edges were last told."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from keywright.domain.limits import Quota
from keywright.domain.periods import PeriodTimes
from keywright.origin.db.tables import (
    buckets,
    consumers,
    plans,
    quota_edges,
    quota_leases,
    quota_losses,
    quota_periods,
    quota_top_ups,
)
from keywright.origin.db.transaction import Transaction
from keywright.origin.quotas.ledger import Lease, Period

RETENTION_MILLIS = 2 * 86_400_000
"""How long a period is kept that has ended: for who looks back, and who tries a top-up again."""


class Holder(NamedTuple):
    """Who holds a lease: one start of an edge, of an account or of the deployment (""), as in the table of edges."""

    account_id: str
    instance: str
    start: int


class PeriodKey(NamedTuple):
    """Of which quota of whom a period is, and by which calendar."""

    consumer_number: int
    quota: str
    schedule: str


@dataclass(frozen=True, slots=True)
class Holding:
    """A consumer and the quotas that hold for it: its own, or its plan's."""

    number: int
    bucket_number: int
    quotas: Mapping[str, Quota]


@dataclass(frozen=True, slots=True)
class LastQuestion:
    """Of an edge: of which start, its number there, what its answer told, and what the edge knew then."""

    start: int
    number: int
    place: str
    known_place: str


@dataclass(frozen=True, slots=True)
class Loss:
    """When it was found out that the record went back. It stays known when the bucket lends again: edges that were away
    may tell of the same loss later.
    """

    lost_at: int
    is_reopened: bool

    def concerns(self, times: PeriodTimes) -> bool:
        """Whether nobody knows what of this period was lent."""
        return not self.is_reopened and times.begins_at < self.lost_at


class LedgerTotals(NamedTuple):
    """Units that are lent, and of these those in leases that have ended; and buckets in which no more is lent."""

    lent: int
    unaccounted: int
    shut: int


@dataclass(frozen=True, slots=True)
class TopUp:
    period_number: int
    units: int


async def hold_consumers(tx: Transaction, numbers: Collection[int]) -> dict[int, Holding]:
    """These consumers and what holds for them, which nobody changes until the transaction ends."""
    columns = (consumers.c.number, consumers.c.bucket_number, consumers.c.plan_number, consumers.c.quotas)
    wanted = sa.select(*columns).where(consumers.c.number.in_(numbers)).order_by(consumers.c.number)
    rows = await tx.all(wanted.with_for_update(read=True))
    plan_numbers = {row.plan_number for row in rows if row.quotas is None and row.plan_number is not None}
    of_plans: dict[int, Sequence[Quota] | None] = {}
    if plan_numbers:
        wanted = sa.select(plans.c.number, plans.c.quotas).where(plans.c.number.in_(plan_numbers))
        held = await tx.all(wanted.order_by(plans.c.number).with_for_update(read=True))
        of_plans = {row.number: row.quotas for row in held}
    found = {}
    for row in rows:
        quotas = of_plans.get(row.plan_number) if row.quotas is None else row.quotas
        found[row.number] = Holding(row.number, row.bucket_number, {quota.name: quota for quota in quotas or ()})
    return found


async def find_newest(tx: Transaction, consumer_numbers: Collection[int]) -> dict[PeriodKey, Period]:
    """The newest period of each quota of these consumers that has one, ended or not."""
    wanted = sa.select(quota_periods).where(quota_periods.c.consumer_number.in_(consumer_numbers))
    # A later row takes the place of an earlier one.
    return {_key_of(row): _period(row) for row in await tx.all(wanted.order_by(quota_periods.c.begins_at))}


async def open_periods(tx: Transaction, times: Mapping[PeriodKey, PeriodTimes], now: int) -> None:
    """Periods that begin to count, unless another transaction has just opened them; long ended ones go."""
    if not times:
        return
    # In one order, so that two that open the same wait for each other rather than for ever.
    rows = [{**key._asdict(), **times[key]._asdict()} for key in sorted(times)]
    await tx.execute(_insert(tx, quota_periods).on_conflict_do_nothing(), rows)
    of = quota_periods.c.consumer_number.in_({key.consumer_number for key in times})
    await tx.execute(sa.delete(quota_periods).where(of, quota_periods.c.ends_at < now - RETENTION_MILLIS))


async def list_period_numbers(tx: Transaction, lease_numbers: Collection[int]) -> set[int]:
    """The periods that these leases are of."""
    if not lease_numbers:
        return set()
    wanted = sa.select(quota_leases.c.period_number).where(quota_leases.c.number.in_(lease_numbers)).distinct()
    return {row.period_number for row in await tx.all(wanted)}


async def list_earlier(tx: Transaction, holder: Holder, *, limit: int) -> dict[int, int]:
    """Leases of earlier starts of an edge: their periods, by their numbers."""
    is_its = (quota_leases.c.account_id == holder.account_id, quota_leases.c.instance == holder.instance)
    wanted = sa.select(quota_leases.c.number, quota_leases.c.period_number)
    earlier = wanted.where(*is_its, quota_leases.c.start < holder.start).order_by(quota_leases.c.number)
    return {row.number: row.period_number for row in await tx.all(earlier.limit(limit))}


async def hold_periods(tx: Transaction, numbers: Collection[int], now: int) -> dict[int, Period]:
    """These periods, held against other writers with their leases."""
    wanted = sa.select(quota_periods).where(quota_periods.c.number.in_(numbers)).order_by(quota_periods.c.number)
    found = {row.number: _period(row) for row in await tx.all(wanted.with_for_update())}
    living = sa.select(quota_leases.c.period_number, sa.func.count().label("holders"))
    living = living.where(quota_leases.c.period_number.in_(found), quota_leases.c.ends_at > now)
    for row in await tx.all(living.group_by(quota_leases.c.period_number)):
        found[row.period_number].holders = row.holders
    return found


async def list_leases(tx: Transaction, period_numbers: Collection[int], holder: Holder) -> list[tuple[int, Lease]]:
    """The leases of an edge, with the start that has them: the running one and earlier ones."""
    is_its = (quota_leases.c.account_id == holder.account_id, quota_leases.c.instance == holder.instance)
    wanted = sa.select(quota_leases).where(quota_leases.c.period_number.in_(period_numbers), *is_its)
    return [(row.start, _lease(row)) for row in await tx.all(wanted)]


async def insert_leases(tx: Transaction, leases: Sequence[Lease], holder: Holder) -> None:
    """New leases of this holder; they get their numbers."""
    if not leases:
        return
    rows = [{**holder._asdict(), **_lease_values(lease), "period_number": lease.period_number} for lease in leases]
    await tx.execute(sa.insert(quota_leases), rows)
    numbers = sa.select(quota_leases.c.period_number, quota_leases.c.number).where(
        *(quota_leases.c[name] == value for name, value in holder._asdict().items()),
        quota_leases.c.period_number.in_([lease.period_number for lease in leases]),
    )
    by_period = {row.period_number: row.number for row in await tx.all(numbers)}
    for lease in leases:
        lease.number = by_period[lease.period_number]


async def write_leases(tx: Transaction, leases: Iterable[Lease]) -> None:
    rows = [{"of": lease.number, **_lease_values(lease)} for lease in leases]
    if rows:
        await tx.execute(_update_by_number(quota_leases, rows[0]), rows)


async def delete_leases(tx: Transaction, numbers: Collection[int]) -> None:
    if numbers:
        await tx.execute(sa.delete(quota_leases).where(quota_leases.c.number.in_(numbers)))


async def write_periods(tx: Transaction, periods: Iterable[Period]) -> None:
    rows = [
        {"of": one.number, "spent": one.spent, "lent": one.lent, "added": one.added, "overspent": one.overspent}
        for one in periods
    ]
    if rows:
        await tx.execute(_update_by_number(quota_periods, rows[0]), rows)


async def list_ended_leases(tx: Transaction, period_numbers: Collection[int], now: int) -> list[Lease]:
    """Leases that live no more and are not accounted for."""
    of = quota_leases.c.period_number.in_(period_numbers)
    return [_lease(row) for row in await tx.all(sa.select(quota_leases).where(of, quota_leases.c.ends_at <= now))]


async def list_last_ends(tx: Transaction, period_numbers: Collection[int]) -> dict[int, int]:
    """When the last of the leases of each of these periods ends."""
    ends = sa.select(quota_leases.c.period_number, sa.func.max(quota_leases.c.ends_at).label("ends_at"))
    of = quota_leases.c.period_number.in_(period_numbers)
    rows = await tx.all(ends.where(of).group_by(quota_leases.c.period_number))
    return {row.period_number: row.ends_at for row in rows}


async def add_up(tx: Transaction, now: int) -> LedgerTotals:
    """Of all periods that run."""
    periods, leases = quota_periods.c, quota_leases.c
    runs = sa.or_(periods.ends_at.is_(None), periods.ends_at > now)
    lent = await tx.scalar(sa.select(sa.func.coalesce(sa.func.sum(periods.lent), 0)).where(runs))
    held = leases.granted - leases.spent - leases.returned
    ended = sa.select(sa.func.coalesce(sa.func.sum(held), 0)).select_from(quota_leases).join(quota_periods)
    unaccounted = await tx.scalar(ended.where(leases.ends_at <= now, runs))
    shut = await tx.scalar(
        sa.select(sa.func.count()).select_from(quota_losses).where(sa.not_(quota_losses.c.is_reopened))
    )
    return LedgerTotals(int(lent), int(unaccounted), int(shut))


async def list_quota_names(tx: Transaction, period_numbers: Collection[int]) -> dict[int, str]:
    """Of which quota each of these periods is."""
    wanted = sa.select(quota_periods.c.number, quota_periods.c.quota).where(quota_periods.c.number.in_(period_numbers))
    return {row.number: row.quota for row in await tx.all(wanted)}


async def find_top_up(tx: Transaction, consumer_number: int, idempotency_key: str) -> TopUp | None:
    of = (quota_top_ups.c.consumer_number == consumer_number, quota_top_ups.c.idempotency_key == idempotency_key)
    row = await tx.first(sa.select(quota_top_ups.c.period_number, quota_top_ups.c.units).where(*of))
    return TopUp(row.period_number, row.units) if row else None


async def insert_top_up(tx: Transaction, consumer_number: int, idempotency_key: str, top_up: TopUp) -> None:
    """Raises UniqueViolation where the consumer has one by that key."""
    values = {"period_number": top_up.period_number, "units": top_up.units}
    key = {"consumer_number": consumer_number, "idempotency_key": idempotency_key}
    await tx.execute(sa.insert(quota_top_ups).values(**key, **values))


async def hold_last_question(tx: Transaction, holder: Holder) -> LastQuestion | None:
    """The last question of an edge, which has no other one answered until the transaction ends."""
    of = {"account_id": holder.account_id, "instance": holder.instance}
    nothing = {"start": 0, "question_number": 0, "place": "", "known_place": "", "asked_at": 0}
    await tx.execute(_insert(tx, quota_edges).values(**of, **nothing).on_conflict_do_nothing())
    wanted = sa.select(quota_edges).where(*(quota_edges.c[name] == value for name, value in of.items()))
    row = await tx.first(wanted.with_for_update())
    if row is None or not row.asked_at:
        return None
    return LastQuestion(row.start, row.question_number, row.place, row.known_place)


async def write_question(tx: Transaction, holder: Holder, last: LastQuestion, now: int) -> None:
    """The question that is answered now."""
    of = (quota_edges.c.account_id == holder.account_id, quota_edges.c.instance == holder.instance)
    values = {"start": last.start, "question_number": last.number, "place": last.place, "asked_at": now}
    await tx.execute(sa.update(quota_edges).where(*of).values(**values, known_place=last.known_place))


async def forget_edges(tx: Transaction, *, silent_since: int) -> None:
    """Edges that asked nothing since then."""
    await tx.execute(sa.delete(quota_edges).where(quota_edges.c.asked_at < silent_since))


async def find_losses(tx: Transaction, bucket_numbers: Collection[int]) -> dict[int, Loss]:
    """Of those of these buckets in which it is not known, or was not, what was lent."""
    wanted = sa.select(quota_losses).where(quota_losses.c.bucket_number.in_(bucket_numbers))
    return {row.bucket_number: Loss(row.lost_at, row.is_reopened) for row in await tx.all(wanted)}


async def put_losses(tx: Transaction, bucket_numbers: Collection[int], now: int) -> None:
    rows = [{"bucket_number": number, "lost_at": now, "is_reopened": False} for number in sorted(bucket_numbers)]
    if rows:
        insert = _insert(tx, quota_losses)
        again = {name: insert.excluded[name] for name in ("lost_at", "is_reopened")}
        await tx.execute(insert.on_conflict_do_update(index_elements=["bucket_number"], set_=again), rows)


async def reopen(tx: Transaction) -> list[str]:
    """Have buckets lend again; the names of those that did not."""
    is_shut = sa.not_(quota_losses.c.is_reopened)
    found = [row.name for row in await tx.all(sa.select(buckets.c.name).join(quota_losses).where(is_shut))]
    await tx.execute(sa.update(quota_losses).where(is_shut).values(is_reopened=True))
    return sorted(found)


def _insert(tx: Transaction, table: sa.Table) -> Any:
    return (postgresql if tx.is_postgresql else sqlite).insert(table)


def _update_by_number(table: sa.Table, row: Mapping[str, Any]) -> sa.Update:
    values: dict[str, Any] = {name: sa.bindparam(name) for name in row if name != "of"}
    return sa.update(table).where(table.c.number == sa.bindparam("of")).values(values)


def _key_of(row: Any) -> PeriodKey:
    return PeriodKey(row.consumer_number, row.quota, row.schedule)


def _period(row: Any) -> Period:
    times = PeriodTimes(row.begins_at, row.ends_at)
    return Period(row.number, row.consumer_number, row.quota, times, row.spent, row.lent, row.added, row.overspent)


def _lease(row: Any) -> Lease:
    return Lease(row.number, row.period_number, row.granted, row.spent, row.returned, row.overspent, row.ends_at)


def _lease_values(lease: Lease) -> dict[str, Any]:
    names = ("granted", "spent", "returned", "overspent", "ends_at")
    return {name: getattr(lease, name) for name in names}
