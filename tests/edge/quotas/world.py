"""A ledger in memory that lends as the origin does, and edges that borrow of it, on disks of their own."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from edge.world import DIGESTER, PEPPER_CHECK, at, bucket, consumer, key
from keywright.domain.limits import Period, Quota
from keywright.domain.periods import FOREVER, PeriodTimes
from keywright.domain.powers import Demand, Powers, encode_powers
from keywright.domain.verdict import (
    UNAVAILABLE,
    ConsumerRecord,
    KeyRecord,
    Lacking,
    Reserved,
    Result,
    Verdict,
)
from keywright.edge.limits.table import LimitTable
from keywright.edge.limits.takers import Takers
from keywright.edge.quotas.borrowing.asking import NotLent, SetBack
from keywright.edge.quotas.borrowing.borrower import Borrowing
from keywright.edge.quotas.reservations import Reservations
from keywright.edge.quotas.rows import STEPS_PER_SECOND
from keywright.edge.quotas.table import QUOTAS_DIRECTORY, Put, QuotaTable, quota_id
from keywright.edge.quotas.taker import Quotas
from keywright.edge.quotas.waiting import settled
from keywright.origin.quotas import ledger
from keywright.protocol.leases import Answer, Loan, Outcome, Question
from keywright.runtime.clock import Clock
from support.clock import FakeClock

if TYPE_CHECKING:
    from pathlib import Path

    from keywright.domain.reservations import Reservation, Settlement
    from keywright.edge.replica.replica import Replica

CONSUMER = 7
NOW = 1_800_000_000_000
KEY = "zpka_spending-and-long-enough"
LIMIT = 3
BUCKET = "my-bucket"


@dataclass
class Ledger:
    """The origin's rules (origin/quotas/ledger.py) on one quota, without a database. It is edges' LeaseChannel."""

    quota: Quota = field(default_factory=lambda: Quota("calls", 100, Period.NONE))
    times: PeriodTimes = FOREVER
    clock: FakeClock = field(default_factory=FakeClock)
    period: ledger.Period = field(init=False)
    leases: dict[tuple[str, int, int], ledger.Lease] = field(default_factory=dict)
    """By instance, start and number."""
    last: dict[str, tuple[int, int]] = field(default_factory=dict)
    questions: list[Question] = field(default_factory=list)
    made: int = 0
    is_away: bool = False
    loses_answers: bool = False
    is_known: bool = True

    def __post_init__(self) -> None:
        self.period = ledger.Period(1, CONSUMER, self.quota.name, self.times)

    async def ask(self, question: Question) -> Answer:
        await asyncio.sleep(0)
        if self.is_away:
            raise NotLent("away")
        if (question.start, question.number) <= self.last.get(question.instance, (0, 0)):
            raise SetBack("answered before")
        self.last[question.instance] = question.start, question.number
        self.questions.append(question)
        now = int(self.clock.elapsed() * 1000)
        own = {number: one for (who, start, number), one in self.leases.items() if who == question.instance}
        for ask in question.asks:
            told = own.get(ask.lease)
            if told is not None:
                self.is_known &= ledger.account(self.period, told, ask)
            if ask.is_last:
                self.leases = {place: one for place, one in self.leases.items() if one.number != ask.lease}
        loans = []
        for ask in question.asks:
            if ask.is_last:
                loans.append(Loan(Outcome.CLOSED))
                continue
            lease = next(
                (one for (who, start, _), one in self.leases.items()
                 if (who, start) == (question.instance, question.start) and one.period_number == self.period.number),
                None,
            ) or ledger.Lease(0, self.period.number)  # fmt: skip
            outcome = ledger.lend(self.period, lease, ask, self.quota, now, is_away=False)
            if lease.granted and not lease.number:
                self.made += 1
                lease.number = self.made
                self.leases[question.instance, question.start, lease.number] = lease
            loans.append(ledger.loan_of(outcome, self.period, lease, self.quota, now))
        # Checked where it may never be otherwise, whatever edges say.
        assert self.period.spent - self.period.overspent + self.period.lent <= self.quota.limit + self.period.added
        if self.loses_answers:
            raise NotLent("lost")
        return Answer(f"{now:012x}{secrets.token_hex(10)}", tuple(loans))


@dataclass
class Machine:
    """An edge of one machine: `spend` is what its workers do, `borrowing` what the one that follows does."""

    directory: Path
    ledger: Ledger
    name: str = "edge-1"
    boot: str = "boot-1"
    running: asyncio.Task[None] | None = None
    served: int = 0
    last: Result = UNAVAILABLE

    def __post_init__(self) -> None:
        self.boots(self.boot)

    def boots(self, boot: str) -> None:
        """The machine starts anew: what is in memory only is gone."""
        self.boot, elapsed = boot, self.ledger.clock.elapsed
        self.table = QuotaTable(self.directory / QUOTAS_DIRECTORY, elapsed, boot_id=boot)
        self.quotas = Quotas(self.table, lambda: NOW)
        self.reservations = Reservations(DIGESTER, self.quotas)
        self.takers = Takers(LimitTable(self.directory / "limits", elapsed, boot_id=boot), self.quotas)

    def new_borrowing(self, *, has_quotas: bool = False) -> Borrowing:
        return Borrowing(
            QuotaTable(self.directory / QUOTAS_DIRECTORY, self.ledger.clock.elapsed, boot_id=self.boot),
            self.ledger,
            self.directory,
            self.name,
            self.ledger.clock.elapsed,
            deployment_id=lambda: "dep_1",
            cursor=lambda: "",
            has_quotas=lambda: has_quotas,
        )

    def begin(self) -> None:
        """A process begins to borrow."""
        self.running = asyncio.create_task(self.new_borrowing().run())

    async def kill(self) -> None:
        """Without a word."""
        running, self.running = self.running, None
        if running is not None:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    async def reserve(self, units: int, *, serves: bool = False) -> Reservation:
        """Where it is VALID; what is settled of it counts as served."""
        assert await self.spend(units, serves=serves, is_reserve=True) is Verdict.VALID
        assert isinstance(self.last, Reserved)
        return self.last.reservation

    async def settle(self, reservation: Reservation, cost: int) -> Settlement:
        settlement = await self.reservations.settle(reservation, cost)
        self.served += settlement.taken - reservation.units
        return settlement

    async def spend(
        self, cost: int | None = None, *, is_peek: bool = False, serves: bool = False, is_reserve: bool = False
    ) -> Verdict:
        """As an endpoint does it."""
        key, consumer = KeyRecord("key_1", CONSUMER, None), self._consumer()
        demand = Demand(cost=cost, is_peek=is_peek, is_reserve=is_reserve)

        def take() -> Result:
            return self.takers.take(key, consumer, demand)

        def give_up() -> Result:
            if not serves:
                return UNAVAILABLE
            return self.takers.take(key, consumer, demand, overspends=True)

        found = self.takers.take(key, consumer, demand)
        if type(found) is Lacking:
            found = await settled(found, self.takers, take, give_up)
        self.last = found
        if found.is_valid and not is_peek:
            self.served += cost or self.ledger.quota.default_cost
        return found.verdict

    async def spend_all(self, cost: int | None = None) -> Verdict:
        """Until it is refused: how."""
        while (verdict := await self.spend(cost)) is Verdict.VALID:
            pass
        return verdict

    def _consumer(self) -> ConsumerRecord:
        return ConsumerRecord("csmr_1", "spender", b"{}", Powers(quotas=(self.ledger.quota,)))


def fill(replica: Replica, quota: Quota | None, when_stale: str) -> None:
    kept = replace(
        bucket(1, BUCKET), features=("scopes", "quotas"), refuse_after=3600 if when_stale == "refuse" else None
    )
    owner = replace(consumer(CONSUMER, 1), powers=encode_powers(scopes=["*"], quotas=[quota] if quota else None))
    replica.load("dep_1", PEPPER_CHECK, at((replica.revision or 0) + 1), [kept, owner, key(KEY, 1, CONSUMER)])


def lend(directory: Path) -> Quotas:
    """A table in which 100 units of CONSUMER's "calls" are lent, for long enough, without anybody who borrows."""
    table = QuotaTable(directory, Clock().elapsed)
    table.begin(1)
    life = 3000 * STEPS_PER_SECOND
    table.put(1, [Put(quota_id(CONSUMER, "calls"), 1, 100, 0, table.now(), 0, life)])
    return Quotas(table, lambda: NOW)


def reserve(quotas: Quotas, units: int) -> Reservation:
    """Of what is lent there."""
    owner = ConsumerRecord("csmr_1", "spender", b"{}", Powers(quotas=(Quota("calls", LIMIT, Period.NONE),)))
    taken = quotas.take(KeyRecord("key_1", CONSUMER, None), owner, Demand(cost=units, is_reserve=True))
    assert taken.reservation is not None
    return taken.reservation
