"""What edges borrow of a quota is never overspent, whatever dies or is lost, and what is left over is given back."""

from __future__ import annotations

import asyncio
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from edge.quotas.machines import machines, until
from edge.quotas.world import CONSUMER, Ledger, Machine
from keywright.domain.periods import PeriodTimes
from keywright.domain.verdict import Verdict
from keywright.edge.quotas import waiting
from keywright.edge.quotas.bell import Rung
from keywright.edge.quotas.borrowing import asking as asking_module
from keywright.edge.quotas.borrowing import borrower
from keywright.edge.quotas.borrowing.holding import STEP_REQUESTS
from keywright.edge.quotas.borrowing.notes import NOTES_DIRECTORY, Notes, has_notes
from keywright.protocol.leases import LEASE_MILLIS

VALID, EXCEEDED, UNAVAILABLE = Verdict.VALID, Verdict.QUOTA_EXCEEDED, Verdict.UNAVAILABLE


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a disk of others takes; and who fails begins anew soon."""
    monkeypatch.setattr(waiting, "WAIT_SECONDS", 10.0)
    monkeypatch.setattr(borrower, "PAUSE_SECONDS", 0.05)


async def test_edges_spend_a_quota_to_the_last_unit_and_no_further(tmp_path: Path) -> None:
    async with machines(tmp_path, 3) as (ledger, edges):
        refused = set()
        while len(refused) < len(edges):
            for one in edges:
                if await one.spend() is EXCEEDED:
                    refused.add(one.name)
            # What one has left over, another may need.
            ledger.clock.advance(0.3)
        ledger.clock.advance(10)
        await until(lambda: ledger.period.lent == 0)
        for one in edges:
            await one.spend_all()
        assert sum(one.served for one in edges) == 100
        (state,) = edges[0].last.limits
        assert (state.name, state.limit, state.remaining, state.is_violated) == ("calls", 100, 0, True)
        assert state.retry_seconds is None


async def test_a_used_up_quota_asks_once_a_second_and_nobody_waits(tmp_path: Path) -> None:
    async with machines(tmp_path, 1, limit=1) as (ledger, (edge,)):
        assert [await edge.spend() for _ in range(20)] == [VALID] + [EXCEEDED] * 19
        asked = len(ledger.questions)
        assert asked <= 3
        ledger.period.added += 1
        assert await edge.spend() is EXCEEDED
        ledger.clock.advance(1)
        assert await edge.spend() is VALID
        assert len(ledger.questions) == asked + 1


async def test_all_that_wait_are_one_question(tmp_path: Path) -> None:
    async with machines(tmp_path, 1, limit=1000) as (ledger, (edge,)):
        assert set(await asyncio.gather(*(edge.spend() for _ in range(200)))) == {VALID}
        assert len(ledger.questions) <= 4


async def test_a_peek_takes_nothing_and_a_cost_is_taken_whole(tmp_path: Path) -> None:
    async with machines(tmp_path, 1, limit=10) as (ledger, (edge,)):
        assert [await edge.spend(is_peek=True) for _ in range(20)] == [VALID] * 20
        assert [await edge.spend(4) for _ in range(3)] == [VALID, VALID, EXCEEDED]
        assert await edge.spend(3, is_peek=True) is EXCEEDED
        assert await edge.spend(2) is VALID
        assert edge.served == 10 == ledger.quota.limit


async def test_processes_that_die_hide_nothing_as_long_as_the_machine_runs(tmp_path: Path) -> None:
    async with machines(tmp_path, 1) as (ledger, (edge,)):
        for _ in range(9):
            assert [await edge.spend() for _ in range(10)] == [VALID] * 10
            await edge.kill()
            edge.begin()
        await edge.spend_all()
        assert edge.served == 100
        assert ledger.is_known


@pytest.mark.parametrize("seed", range(4))
async def test_a_machine_that_dies_hides_at_most_a_step(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    async with machines(tmp_path, 1) as (ledger, (edge,)):
        deaths = 4
        for number in range(deaths):
            for _ in range(chance.randrange(1, 20)):
                # So slowly that a step is of requests, and not of seconds.
                ledger.clock.advance(1)
                assert await edge.spend() is VALID
            await edge.kill()
            edge.boots(f"boot-{number}")
            edge.begin()
        await edge.spend_all()
        assert 100 - deaths * STEP_REQUESTS <= edge.served <= 100
        assert ledger.is_known


async def test_a_lease_is_not_spent_beyond_its_end_and_what_is_left_is_lent_again(tmp_path: Path) -> None:
    async with machines(tmp_path, 1) as (ledger, (edge,)):
        assert await edge.spend() is VALID
        ledger.is_away = True
        ledger.clock.advance(LEASE_MILLIS / 1000 - 1.5)
        assert await edge.spend() is VALID
        ledger.clock.advance(0.6)
        assert await edge.spend() is UNAVAILABLE
        ledger.is_away = False
        ledger.clock.advance(2)
        assert await edge.spend_all() is EXCEEDED
        assert edge.served == 100


async def test_what_is_served_without_the_origin_is_counted_and_told(tmp_path: Path) -> None:
    async with machines(tmp_path, 1) as (ledger, (edge,)):
        ledger.is_away = True
        assert [await edge.spend(2, serves=True) for _ in range(3)] == [VALID] * 3
        assert await edge.spend() is UNAVAILABLE
        ledger.is_away = False
        ledger.clock.advance(2)
        assert await edge.spend(1) is VALID
        ledger.clock.advance(6)
        await until(lambda: ledger.period.overspent == 6)
        await edge.kill()
        edge.begin()
        await edge.spend_all()
        ledger.clock.advance(6)
        await until(lambda: ledger.period.spent == 100)
        assert (edge.served, ledger.period.overspent) == (100, 6)


async def test_answers_that_are_lost_take_nothing_along(tmp_path: Path) -> None:
    async with machines(tmp_path, 1) as (ledger, (edge,)):
        ledger.loses_answers = True
        assert [await edge.spend() for _ in range(2)] == [UNAVAILABLE] * 2
        ledger.loses_answers = False
        ledger.clock.advance(2)
        assert await edge.spend_all() is EXCEEDED
        assert edge.served == 100
        ledger.clock.advance(6)
        await until(lambda: ledger.period.spent == 100)


async def test_a_disk_that_was_set_back_is_another_edge(tmp_path: Path) -> None:
    async with machines(tmp_path, 1) as (ledger, (edge,)):
        assert await edge.spend() is VALID
        await edge.kill()
        notes = edge.directory / NOTES_DIRECTORY
        shutil.copytree(notes, tmp_path / "copy")
        for _ in range(2):
            edge.begin()
            ledger.clock.advance(2)
            assert [await edge.spend() for _ in range(20)] == [VALID] * 20
            await edge.kill()
        shutil.rmtree(notes)
        (tmp_path / "copy").rename(notes)
        edge.boots("boot-2")
        edge.begin()
        ledger.clock.advance(2)
        while await edge.spend() is not EXCEEDED:
            ledger.clock.advance(2)
        assert len({question.instance for question in ledger.questions}) == 2
        assert edge.served <= 100


async def test_one_that_was_stopped_and_goes_on_lends_nothing_twice(tmp_path: Path) -> None:
    async with machines(tmp_path, 1) as (ledger, (edge,)):
        assert [await edge.spend() for _ in range(5)] == [VALID] * 5
        other = replace(edge)
        other.begin()
        await until(lambda: ledger.questions[-1].start > 1)
        assert [await edge.spend() for _ in range(9)] == [VALID] * 9
        # It may have tried, in vain; and whoever begins last is the one.
        await other.kill()
        for _ in range(5):
            await edge.spend_all()
            ledger.clock.advance(2)
        await until(lambda: ledger.period.lent == 0)
        assert edge.served == 100
        assert ledger.is_known


async def test_what_the_disk_does_not_take_is_not_spent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    async with machines(tmp_path, 1) as (ledger, (edge,)):
        assert await edge.spend() is VALID
        with monkeypatch.context() as context:
            context.setattr(Notes, "write", refuse)
            context.setattr(waiting, "WAIT_SECONDS", 0.25)
            (row,) = edge.table.rows()
            served = 0
            while await edge.spend() is VALID:
                served += 1
            assert served == row.may_spend - row.spent
        ledger.clock.advance(2)
        assert await edge.spend_all() is EXCEEDED
        assert edge.served == 100


async def test_who_was_not_used_in_an_hour_has_nothing_left(tmp_path: Path) -> None:
    async with machines(tmp_path, 1) as (ledger, (edge,)):
        assert await edge.spend() is VALID
        await until(lambda: ledger.period.lent > 0)
        for _ in range(140):
            ledger.clock.advance(30)
            await asyncio.sleep(0)
        await until(lambda: (ledger.period.lent, ledger.period.spent) == (0, 1))
        ledger.clock.advance(2)
        assert await edge.spend() is VALID


async def test_a_limit_that_is_lowered_holds_when_the_lease_is_renewed(tmp_path: Path) -> None:
    async with machines(tmp_path, 1) as (ledger, (edge,)):
        assert [await edge.spend() for _ in range(5)] == [VALID] * 5
        ledger.quota = replace(ledger.quota, limit=5)
        # Held by what was lent before: the checker of the ledger is told so.
        ledger.period.added = 0
        ledger.clock.advance(LEASE_MILLIS / 1000 * 0.6)
        await until(lambda: ledger.period.lent == 0)
        ledger.clock.advance(2)
        assert await edge.spend_all() is EXCEEDED
        assert ledger.period.spent <= 10


async def test_a_new_period_begins_with_all_of_it(tmp_path: Path) -> None:
    async with machines(tmp_path, 1, limit=20) as (ledger, (edge,)):
        ledger.period.times = PeriodTimes(0, int((ledger.clock.elapsed() + 30) * 1000))
        assert await edge.spend_all() is EXCEEDED
        ledger.clock.advance(31)
        ledger.period = type(ledger.period)(2, ledger.period.consumer_number, "calls", PeriodTimes(0, None))
        assert await edge.spend_all() is EXCEEDED
        assert edge.served == 40


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_no_more_is_served_than_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(waiting, "WAIT_SECONDS", 0.5)
    chance = random.Random(seed)
    async with machines(tmp_path, 3, limit=300) as (ledger, edges):
        deaths = 0
        for number in range(100):
            edge = chance.choice(edges)
            match chance.randrange(14):
                case 0:
                    await edge.kill()
                    edge.begin()
                case 1:
                    deaths += 1
                    await edge.kill()
                    edge.boots(f"boot-{number}")
                    edge.begin()
                case 2:
                    ledger.loses_answers = not ledger.loses_answers
                case 3:
                    ledger.is_away = not ledger.is_away
                case 4:
                    ledger.clock.advance(chance.choice([0.5, 2, 20, 70]))
                case _:
                    await asyncio.gather(*(edge.spend(chance.choice([1, 1, 3])) for _ in range(chance.randrange(1, 9))))
            assert sum(one.served for one in edges) <= 300
        ledger.loses_answers = ledger.is_away = False
        for _ in range(8):
            ledger.clock.advance(3)
            await asyncio.sleep(0.3)
            for edge in edges:
                await edge.spend_all()
        served = sum(one.served for one in edges)
        # A step is what three requests of three units, or two seconds, come to: here all of a burst.
        assert 300 - deaths * 60 <= served <= 300
        assert ledger.is_known


async def test_a_lease_whose_end_is_yet_to_be_told_does_not_begin_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no room for both in one question, the origin still has the one that has ended here."""
    edge = Machine(tmp_path, Ledger())
    asking = await edge.new_borrowing()._begin("dep_1")
    calls = asking.holdings.want(Rung(CONSUMER, "calls", 1, 1))
    assert await asking.ask([calls])
    first = calls.lease
    assert [await edge.spend() for _ in range(3)] == [VALID] * 3
    await asking.holdings.end([calls])
    monkeypatch.setattr(asking_module, "MAX_ASKS", 1)
    monkeypatch.setattr(waiting, "WAIT_SECONDS", 0.2)
    calls.need = 1
    assert await asking.ask([calls])
    assert (first > 0, calls.lease) == (True, 0)
    assert await edge.spend() is UNAVAILABLE
    calls.need = 1
    assert await asking.ask([calls])
    assert calls.lease not in {0, first}
    assert await edge.spend() is VALID
    edge.takers.close()
    asking.holdings.close()
    asking.holdings.table.close()


@pytest.mark.parametrize("has_quotas", [True, False])
async def test_where_there_are_quotas_all_is_ready_before_the_first_question(tmp_path: Path, has_quotas: bool) -> None:
    edge = Machine(tmp_path, Ledger())
    edge.running = asyncio.create_task(edge.new_borrowing(has_quotas=has_quotas).run())
    await until((tmp_path / "quotas" / "bell").exists)
    if has_quotas:
        await until(lambda: has_notes(tmp_path / NOTES_DIRECTORY) and edge.table.generation == 1)
    else:
        await asyncio.sleep(0.1)
        assert not has_notes(tmp_path / NOTES_DIRECTORY)
    # Nothing is asked for before somebody wants it.
    assert edge.ledger.questions == []
    await edge.kill()
    edge.takers.close()
