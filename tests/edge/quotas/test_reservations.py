"""What a reservation takes is settled once, by what was used, and never had twice, whatever dies."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from edge.quotas.machines import machines, until
from keywright.domain.keyformat import Digester
from keywright.domain.reservations import Outcome, Reservation
from keywright.domain.verdict import Reserved, Verdict
from keywright.edge.quotas import waiting
from keywright.edge.quotas.borrowing import borrower
from keywright.edge.quotas.reservation_rows import RESERVATION_SECONDS
from keywright.edge.quotas.reservations import PREFIX, Reservations, UnknownReservation
from keywright.edge.quotas.table import quota_id

if TYPE_CHECKING:
    from pathlib import Path

    from edge.quotas.world import Ledger, Machine

VALID, EXCEEDED = Verdict.VALID, Verdict.QUOTA_EXCEEDED
SETTLED, LAPSED = Outcome.SETTLED, Outcome.LAPSED


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "WAIT_SECONDS", 10.0)
    monkeypatch.setattr(borrower, "PAUSE_SECONDS", 0.05)


async def told(ledger: Ledger, spent: int) -> None:
    """The origin comes to know that so much is spent."""
    ledger.clock.advance(6)
    await until(lambda: ledger.period.spent == spent)


async def test_what_was_not_used_is_given_back_and_told_when_it_is_known(tmp_path: Path) -> None:
    async with machines(tmp_path, 1) as (ledger, (edge,)):
        reservation = await edge.reserve(60)
        assert await edge.spend(50) is EXCEEDED
        assert await edge.spend(5) is VALID
        await told(ledger, 5)
        assert await edge.settle(reservation, 7) == (SETTLED, 7, 60)
        await told(ledger, 12)
        assert await edge.spend_all() is EXCEEDED
        assert edge.served == 100
        await told(ledger, 100)


async def test_a_reservation_is_settled_once_also_by_another_process(tmp_path: Path) -> None:
    async with machines(tmp_path, 1) as (_, (edge,)):
        reservation = await edge.reserve(60)
        edge.takers.close()
        edge.boots(edge.boot)
        found = await asyncio.gather(*(edge.reservations.settle(reservation, cost) for cost in (10, 40, 10, 0)))
        assert found == [(SETTLED, 10, 60)] * 4
        edge.served -= 50
        assert await edge.spend_all() is EXCEEDED
        assert edge.served == 100


async def test_more_than_was_reserved_is_taken_as_far_as_there_is_more(tmp_path: Path) -> None:
    async with machines(tmp_path, 1) as (ledger, (edge,)):
        reservations = [await edge.reserve(10) for _ in range(2)]
        # All of it must be lent first: it waits for that as a question does.
        assert await edge.settle(reservations[0], 70) == (SETTLED, 70, 10)
        assert await edge.settle(reservations[1], 500) == (SETTLED, 30, 10)
        assert await edge.spend() is EXCEEDED
        assert edge.served == 100
        await told(ledger, 100)


async def test_without_the_origin_more_is_taken_of_what_is_lent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with machines(tmp_path, 1, limit=1000) as (ledger, (edge,)):
        reservation = await edge.reserve(2)
        monkeypatch.setattr(waiting, "WAIT_SECONDS", 0.1)
        ledger.is_away = True
        code, taken, _ = await edge.settle(reservation, 900)
        row = edge.table.read(quota_id(reservation.consumer_number, "calls"))
        assert row is not None
        assert (code, taken) == (SETTLED, row.spent)
        assert 2 < taken <= row.may_spend


async def test_what_is_not_settled_in_time_is_spent(tmp_path: Path) -> None:
    async with machines(tmp_path, 1) as (ledger, (edge,)):
        reservation = await edge.reserve(60)
        await told(ledger, 0)
        for _ in range(RESERVATION_SECONDS // 30):
            ledger.clock.advance(30)
            await edge.spend(is_peek=True)
        ledger.clock.advance(10)
        assert await edge.settle(reservation, 1) == (LAPSED, 60, 60)
        for _ in range(RESERVATION_SECONDS // 30):
            ledger.clock.advance(30)
            await edge.spend(is_peek=True)
        await told(ledger, 60)
        await edge.spend_all()
        assert edge.served == 100


@pytest.mark.parametrize("reboots", [False, True])
async def test_what_a_restart_comes_between_is_spent_whole(tmp_path: Path, reboots: bool) -> None:
    async with machines(tmp_path, 1, limit=1000) as (ledger, (edge,)):
        reservation = await edge.reserve(60)
        await edge.kill()
        if reboots:
            edge.boots("boot-2")
        edge.begin()
        await until(lambda: ledger.questions[-1].start > 1)
        ledger.clock.advance(2)
        assert await edge.spend(10) is VALID
        if reboots:
            with pytest.raises(UnknownReservation):
                await edge.settle(reservation, 1)
        else:
            assert await edge.settle(reservation, 1) == (LAPSED, 60, 60)
        await edge.spend_all()
        assert edge.served <= 1000
        assert ledger.is_known


async def test_what_was_served_without_the_origin_stays_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "WAIT_SECONDS", 0.1)
    async with machines(tmp_path, 1) as (ledger, (edge,)):
        ledger.is_away = True
        reservation = await edge.reserve(20, serves=True)
        assert await edge.settle(reservation, 1) == (LAPSED, 20, 20)
        ledger.is_away = False
        ledger.clock.advance(2)
        monkeypatch.setattr(waiting, "WAIT_SECONDS", 10)
        assert await edge.spend() is VALID
        ledger.clock.advance(6)
        await until(lambda: ledger.period.overspent == 20)


def _other(token: str) -> str:
    body = token.removeprefix(PREFIX)
    return PREFIX + body[:-1] + ("A" if body[-1] != "A" else "B")


@pytest.mark.parametrize(
    "change",
    [
        _other, lambda token: token[:-4], lambda token: token + "AAAA", lambda token: "", lambda token: PREFIX,
        lambda token: token.removeprefix(PREFIX), lambda token: PREFIX + "ä" * 80, lambda token: token * 20,
    ],
)  # fmt: skip
async def test_a_token_that_was_not_made_here_is_none(tmp_path: Path, change: object) -> None:
    async with machines(tmp_path, 1) as (_, (edge,)):
        reservation = await edge.reserve(5)
        token = edge.reservations.seal("my-bucket", reservation)
        opened = edge.reservations.open(token)
        assert opened == ("my-bucket", reservation)
        assert callable(change)
        assert edge.reservations.open(change(token)) is None
        assert Reservations(Digester(b"another deployment's pepper, 32 B"), edge.quotas).open(token) is None


async def test_a_reservation_of_another_edge_is_not_known(tmp_path: Path) -> None:
    async with machines(tmp_path, 2) as (_, (edge, other)):
        reservation = await edge.reserve(5)
        with pytest.raises(UnknownReservation):
            await other.settle(reservation, 1)


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_happens_no_more_is_served_than_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """What is settled counts by what it came to, what is not as a whole."""
    monkeypatch.setattr(waiting, "WAIT_SECONDS", 0.3)
    chance = random.Random(seed)
    async with machines(tmp_path, 2, limit=300) as (ledger, edges):
        open_ones: list[tuple[Machine, Reservation]] = []
        for number in range(60):
            edge = chance.choice(edges)
            match chance.randrange(12):
                case 0:
                    await edge.kill()
                    edge.begin()
                case 1:
                    await edge.kill()
                    edge.boots(f"boot-{number}")
                    edge.begin()
                case 2:
                    ledger.loses_answers = not ledger.loses_answers
                case 3:
                    ledger.clock.advance(chance.choice([0.5, 2, 20, 70, 500]))
                case 4 | 5 | 6 if open_ones:
                    maker, reservation = open_ones.pop(chance.randrange(len(open_ones)))
                    with suppress(UnknownReservation):
                        settled = await maker.settle(reservation, chance.randrange(30))
                        # Settled again, it is what it was.
                        assert await maker.reservations.settle(reservation, chance.randrange(30)) == settled
                case _:
                    if await edge.spend(10, is_reserve=True) is VALID:
                        assert isinstance(edge.last, Reserved)
                        open_ones.append((edge, edge.last.reservation))
            assert sum(one.served for one in edges) <= 300
        ledger.loses_answers = False
        for _ in range(6):
            ledger.clock.advance(3)
            await asyncio.sleep(0.2)
            for edge in edges:
                await edge.spend_all()
        assert sum(one.served for one in edges) <= 300
        assert ledger.is_known
