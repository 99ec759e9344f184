"""The arithmetic of a quota, against edges that spend, lose questions and answers, die and come back."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keywright.domain.limits import Period as Kind
from keywright.domain.limits import Quota
from keywright.domain.periods import FOREVER, PeriodTimes
from keywright.origin.quotas.ledger import Lease, Period, account, lend, loan_of
from keywright.protocol.leases import LEASE_MILLIS, Ask, Loan, Outcome

QUOTA = Quota("calls", 100, Kind.MONTH)
NOW = 1_000_000
STEP = 8


def new_period(**values: int) -> Period:
    return Period(1, 7, "calls", FOREVER, **values)


def ask(**values: int | bool) -> Ask:
    return Ask(7, "calls", **{"lease": 1, **values})  # type: ignore[arg-type]


def test_ask_is_lent_what_it_needs_and_of_what_it_wants_a_share_of_what_is_free() -> None:
    period, lease = new_period(), Lease(1, 1)
    assert lend(period, lease, ask(want=1000), QUOTA, NOW, is_away=False) is Outcome.LENT
    assert lease.granted == 25

    lend(period, lease, ask(want=1000, need=60), QUOTA, NOW, is_away=False)
    assert (lease.granted, period.lent, period.free(100)) == (60, 60, 40)


def test_last_units_are_lent_one_by_one() -> None:
    period, granted = new_period(spent=95), []
    for number in range(1, 7):
        lease = Lease(number, 1)
        lend(period, lease, ask(want=1000), QUOTA, NOW, is_away=False)
        granted.append(lease.granted)
        period.holders += 1

    assert granted == [1, 1, 1, 1, 1, 0]


def test_unit_that_is_needed_and_not_free_is_not_lent() -> None:
    period, lease = new_period(spent=100), Lease(1, 1)

    assert lend(period, lease, ask(need=1), QUOTA, NOW, is_away=False) is Outcome.LENT
    assert loan_of(Outcome.LENT, period, lease, QUOTA, NOW).life_millis == 0
    assert lease.granted == 0


def test_answer_that_was_lost_is_given_again_and_not_twice() -> None:
    period, lease = new_period(), Lease(1, 1)
    for _ in range(3):
        lend(period, lease, ask(lease=0, want=20), QUOTA, NOW, is_away=False)

    assert (lease.granted, period.lent) == (20, 20)


def test_lease_ends_with_its_period() -> None:
    period, lease = new_period(), Lease(1, 1)
    period.times = PeriodTimes(0, NOW + 5)
    lend(period, lease, ask(want=1), QUOTA, NOW, is_away=False)

    assert loan_of(Outcome.LENT, period, lease, QUOTA, NOW).life_millis == 5


def test_late_question_takes_nothing_back() -> None:
    period, lease = new_period(lent=50), Lease(1, 1, granted=50)
    assert account(period, lease, ask(spent=20, returned=10))
    assert account(period, lease, ask(spent=5, returned=2))

    assert (period.spent, period.lent, lease.spent, lease.returned) == (20, 20, 20, 10)


def test_edge_that_spent_more_than_the_record_lent_is_believed_and_told_of() -> None:
    period, lease = new_period(lent=10), Lease(1, 1, granted=10)

    assert not account(period, lease, ask(spent=30, returned=5))
    assert (period.spent, period.lent, lease.held) == (30, 0, 0)


def test_overspending_is_spent_and_counted_apart() -> None:
    period, lease = new_period(lent=10), Lease(1, 1, granted=10)
    account(period, lease, ask(spent=10, overspent=4))
    account(period, lease, ask(spent=10, overspent=6))

    assert (period.spent, period.overspent, period.lent) == (16, 6, 0)


def test_last_ask_gives_back_what_a_lost_answer_brought() -> None:
    period, lease = new_period(lent=50), Lease(1, 1, granted=50)
    account(period, lease, ask(spent=7, is_last=True))

    assert (period.spent, period.lent, lease.held) == (7, 0, 0)


def test_lease_is_recalled_while_a_lowered_limit_is_exceeded() -> None:
    period, lease = new_period(), Lease(1, 1)
    lend(period, lease, ask(want=1000, need=80), QUOTA, NOW, is_away=False)
    lowered, later = Quota("calls", 30, Kind.MONTH), NOW + 1000

    assert lend(period, lease, ask(want=90), lowered, later, is_away=False) is Outcome.RECALLED
    assert loan_of(Outcome.RECALLED, period, lease, lowered, later).life_millis == LEASE_MILLIS - 1000

    account(period, lease, ask(spent=10, returned=70))
    assert lend(period, lease, ask(want=90), lowered, later, is_away=False) is Outcome.LENT
    assert (period.spent, lease.held, period.free(30)) == (10, 5, 15)


def test_record_that_went_back_renews_what_it_lent_and_lends_no_more() -> None:
    period, held, other = new_period(lent=10), Lease(1, 1, granted=10, ends_at=NOW - 1), Lease(2, 1)

    assert lend(period, held, ask(want=50), QUOTA, NOW, is_away=True) is Outcome.AWAY
    assert lend(period, other, ask(want=50, need=1), QUOTA, NOW, is_away=True) is Outcome.AWAY
    assert (held.granted, held.ends_at, other.granted, other.ends_at) == (10, NOW + LEASE_MILLIS, 0, 0)


@dataclass
class Edge:
    """An edge as it must be: it spends what it holds, notes ahead of that how far, and dies without notice."""

    ledger: Ledger
    lease: int = 0
    granted: int = 0
    spent: int = 0
    returned: int = 0
    noted: int = 0
    ends_at: int = 0
    left: list[Ask] = field(default_factory=list)
    """Of starts before this one."""

    def spend(self, units: int) -> None:
        if self.ledger.now >= self.ends_at or self.granted - self.spent - self.returned < units:
            return
        if self.spent + units > self.noted:
            self.noted = min(self.spent + units + STEP, self.granted - self.returned)
        self.spent += units
        self.ledger.served(units)

    def exchange(self, chance: random.Random | None, want: int, need: int, *, gives_back: bool) -> None:
        """Without `chance` nothing is lost on the way."""
        asked_at = self.ledger.now
        if gives_back:
            # The note goes first: what it allows to be spent must not be given back.
            self.noted, self.returned = self.spent, self.granted - self.spent
        asks = [Ask(7, "calls", self.lease, self.spent, self.returned, 0, want, need)]
        if self.lease == 0:
            asks = [Ask(7, "calls", want=want, need=need)]
        fate = chance.choice(["good", "good", "question lost", "answer lost", "slow"]) if chance else "good"
        if fate == "question lost":
            return
        loans = [self.ledger.answer(self, one) for one in [*self.left, *asks]]
        if chance and fate == "slow":
            self.ledger.now += chance.randrange(LEASE_MILLIS)
        if fate != "answer lost":
            self.left = []
            self.take(loans[-1], asked_at)

    def take(self, loan: Loan, asked_at: int) -> None:
        if loan.lease != self.lease:
            self.granted = self.spent = self.returned = self.noted = 0
        self.lease, self.granted = loan.lease, loan.granted
        self.ends_at = asked_at + loan.life_millis

    def die(self) -> None:
        if self.lease:
            self.ledger.hidden += self.noted - self.spent
            self.left.append(Ask(7, "calls", self.lease, max(self.noted, self.spent), self.returned, is_last=True))
        self.lease = self.granted = self.spent = self.returned = self.noted = self.ends_at = 0
        self.ledger.starts[id(self)] = self.ledger.starts.get(id(self), 0) + 1


@dataclass
class Ledger:
    """The rows of one period, as origin/quotas/lending.py keeps them."""

    limit: int
    now: int = NOW
    period: Period = field(default_factory=new_period)
    leases: dict[tuple[int, int], Lease] = field(default_factory=dict)
    starts: dict[int, int] = field(default_factory=dict)
    actual: int = 0
    hidden: int = 0
    limits: list[tuple[int, int]] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def answer(self, edge: Edge, said: Ask) -> Loan:
        quota = Quota("calls", self.limit, Kind.NONE)
        known = next((one for one in self.leases.values() if one.number == said.lease), None)
        if known is not None:
            assert account(self.period, known, said)
        if said.is_last:
            self.leases = {key: one for key, one in self.leases.items() if one is not known}
            return Loan(Outcome.CLOSED)
        start = id(edge), self.starts.get(id(edge), 0)
        lease = self.leases.setdefault(start, Lease(next(self.numbers), 1))
        self.period.holders = sum(one.ends_at > self.now for one in self.leases.values())
        outcome = lend(self.period, lease, said, quota, self.now, is_away=False)
        self.check()
        return loan_of(outcome, self.period, lease, quota, self.now)

    def served(self, units: int) -> None:
        self.actual += units
        most = max([self.limit, *(limit for until, limit in self.limits if until > self.now)])
        assert self.actual <= most + self.period.added
        self.check()

    def lower(self, limit: int) -> None:
        self.limits.append((self.now + LEASE_MILLIS, self.limit))
        self.limit = limit

    def check(self) -> None:
        assert self.period.lent == sum(lease.held for lease in self.leases.values())
        assert min(self.period.lent, self.period.spent) >= 0
        assert self.actual <= self.period.spent + self.period.lent


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 400), st.integers(1, 5), st.integers(0, 2**32), st.booleans())
def test_edges_never_serve_more_than_the_limit_and_lose_only_what_kills_hide(
    limit: int, count: int, seed: int, is_lowered: bool
) -> None:
    chance = random.Random(seed)
    ledger = Ledger(limit)
    edges = [Edge(ledger) for _ in range(count)]
    for _ in range(150):
        edge = chance.choice(edges)
        match chance.randrange(12):
            case 0:
                edge.die()
            case 1:
                ledger.now += chance.randrange(2 * LEASE_MILLIS)
            case 2 if is_lowered:
                ledger.lower(chance.randrange(ledger.limit + 1))
            case 3:
                ledger.period.added += chance.randrange(5)
            case 4 | 5 | 6:
                edge.exchange(chance, chance.randrange(100), chance.randrange(10), gives_back=chance.random() < 0.2)
            case _:
                edge.spend(chance.randrange(1, 10))

    # All come back, and give back what they have: what is not free was served, or hidden by a kill.
    for edge in edges:
        edge.die()
        for said in edge.left:
            ledger.answer(edge, said)
    # A lease of which every answer was lost holds units that nobody knows of; the start that asked for it is dead.
    unknown = sum(lease.held for lease in ledger.leases.values())
    assert ledger.period.lent == unknown
    assert ledger.period.spent == ledger.actual + ledger.hidden


@pytest.mark.parametrize("edges", [1, 2, 8, 64])
def test_whole_limit_is_served_by_edges_that_ask_in_line(edges: int) -> None:
    ledger = Ledger(1000)
    all_edges = [Edge(ledger) for _ in range(edges)]
    idle = 0
    while idle < 2 * edges:
        edge = all_edges[(ledger.actual + idle) % edges]
        before = ledger.actual
        edge.spend(1)
        if ledger.actual == before:
            edge.exchange(None, 20, 1, gives_back=False)
            edge.spend(1)
        idle = 0 if ledger.actual > before else idle + 1

    assert ledger.actual == 1000
