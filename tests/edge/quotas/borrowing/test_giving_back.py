"""What a machine that is stopped has left is given back at once, whichever of its processes ends last."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from edge.quotas.machines import machines, until
from keywright.domain.verdict import Verdict
from keywright.edge.quotas import waiting
from keywright.edge.quotas.borrowing import borrower
from keywright.edge.quotas.borrowing.holdings import Holdings

if TYPE_CHECKING:
    from pathlib import Path

    from keywright.protocol.leases import Answer, Question

VALID = Verdict.VALID


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "WAIT_SECONDS", 10.0)
    monkeypatch.setattr(borrower, "PAUSE_SECONDS", 0.05)


async def test_what_is_left_is_given_back_when_the_last_process_ends(tmp_path: Path) -> None:
    async with machines(tmp_path, 2) as (ledger, (edge, other)):
        assert [await edge.spend() for _ in range(7)] == [VALID] * 7
        await edge.kill()
        await edge.new_borrowing().give_back_all()
        assert (ledger.period.spent, ledger.period.lent) == (7, 0)
        assert await other.spend(93) is VALID


@pytest.mark.parametrize("reboots", [False, True])
async def test_a_kill_between_gives_nothing_back_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reboots: bool
) -> None:
    """The origin has heard of it, and nothing here says so."""

    async def die(*arguments: object) -> None:
        raise OSError("killed")

    async with machines(tmp_path, 1) as (ledger, (edge,)):
        assert [await edge.spend() for _ in range(7)] == [VALID] * 7
        await edge.kill()
        with monkeypatch.context() as context:
            context.setattr(Holdings, "take", die)
            await edge.new_borrowing().give_back_all()
        assert (ledger.period.spent, ledger.period.lent) == (7, 0)
        if reboots:
            edge.boots("boot-2")
        edge.begin()
        ledger.clock.advance(2)
        await edge.spend_all()
        assert edge.served == 100
        assert ledger.is_known


async def test_what_was_served_without_the_origin_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with machines(tmp_path, 1) as (ledger, (edge,)):
        assert await edge.spend() is VALID
        ledger.is_away = True
        ledger.clock.advance(70)
        monkeypatch.setattr(waiting, "WAIT_SECONDS", 0.1)
        assert await edge.spend(20, serves=True) is VALID
        await edge.kill()
        ledger.is_away = False
        await edge.new_borrowing().give_back_all()
        assert (ledger.period.overspent, ledger.period.lent) == (20, 0)
        monkeypatch.setattr(waiting, "WAIT_SECONDS", 10)
        edge.begin()
        ledger.clock.advance(2)
        await edge.spend_all()
        ledger.clock.advance(6)
        await until(lambda: ledger.period.lent == 0)
        assert (edge.served, ledger.period.overspent) == (100, 20)


async def test_an_origin_that_does_not_answer_is_not_waited_for_and_told_by_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(question: Question) -> Answer:
        await asyncio.sleep(60)
        raise AssertionError

    monkeypatch.setattr(borrower, "GOODBYE_SECONDS", 0.2)
    async with machines(tmp_path, 1) as (ledger, (edge,)):
        assert [await edge.spend() for _ in range(7)] == [VALID] * 7
        await edge.kill()
        began = time.monotonic()
        with monkeypatch.context() as context:
            context.setattr(ledger, "ask", hang)
            await edge.new_borrowing().give_back_all()
        assert time.monotonic() - began < 5
        assert ledger.period.lent > 0
        edge.begin()
        await until(lambda: ledger.period.spent == 7)
        ledger.clock.advance(2)
        await edge.spend_all()
        assert edge.served == 100


async def test_an_edge_without_quotas_has_nothing_to_say(tmp_path: Path) -> None:
    async with machines(tmp_path, 1) as (ledger, (edge,)):
        await edge.kill()
        await edge.new_borrowing().give_back_all()
        assert ledger.questions == []
