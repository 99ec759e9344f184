"""/metrics of an edge: what was spent and waited for, and what it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.core import Metric

from edge.quotas.machines import machines, until
from keywright.domain.verdict import Verdict
from keywright.edge.quotas import waiting
from keywright.edge.quotas.metrics import QuotaSource
from keywright.edge.quotas.status import NOTE, QuotasStatus
from keywright.edge.replica.freshness import find_boot_id

if TYPE_CHECKING:
    from pathlib import Path

    from edge.quotas.world import Machine


def source_of(edge: Machine) -> QuotaSource:
    return QuotaSource(
        edge.quotas,
        edge.takers,
        edge.reservations,
        lambda: QuotasStatus.read(edge.directory / NOTE, find_boot_id()),
        edge.ledger.clock.elapsed,
    )


def counted(edge: Machine) -> dict[str, int]:
    """By name, or the value of the one label."""
    return {str(key[-1]).removeprefix("keywright_quota_"): count for key, count in source_of(edge).count().items()}


def gauges(edge: Machine) -> dict[str, float]:
    found: list[Metric] = list(source_of(edge).gauges())
    return {one.name.removeprefix("keywright_quota_"): one.samples[0].value for one in found}


async def test_what_is_spent_and_waited_for_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "WAIT_SECONDS", 5.0)
    async with machines(tmp_path, 1, limit=20) as (ledger, (edge,)):
        nothing = dict.fromkeys(
            ["units_spent", "units_overspent", "lent", "refused", "unanswered", "SETTLED", "LAPSED"], 0
        )
        assert counted(edge) == nothing
        assert await edge.spend(3) is Verdict.VALID
        await edge.spend(is_peek=True)
        reservation = await edge.reserve(5)
        await edge.settle(reservation, 1)
        # What the origin said last is too old to go by.
        ledger.clock.advance(2)
        assert await edge.spend(100) is Verdict.QUOTA_EXCEEDED
        found = counted(edge)
        assert (found["units_spent"], found["SETTLED"], found["refused"]) == (8, 1, 1)
        assert found["lent"] >= 1
        ledger.is_away = True
        ledger.clock.advance(70)
        monkeypatch.setattr(waiting, "WAIT_SECONDS", 0.1)
        assert await edge.spend(2, serves=True) is Verdict.VALID
        assert await edge.spend(2) is Verdict.UNAVAILABLE
        found = counted(edge)
        assert (found["units_spent"], found["units_overspent"], found["unanswered"]) == (8, 2, 2)


async def test_what_is_held_is_told_and_since_when_nobody_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "WAIT_SECONDS", 5.0)
    async with machines(tmp_path, 1) as (ledger, (edge,)):
        none = {"leases": 0, "units_held": 0, "units_reserved": 0, "unanswered_seconds": 0}
        assert gauges(edge) == none
        await edge.reserve(5)
        ledger.clock.advance(2)
        await until(lambda: gauges(edge)["units_reserved"] == 5)
        told = gauges(edge)
        assert (told["leases"], told["unanswered_seconds"]) == (1, 0)
        assert 0 < told["units_held"] <= 95
        ledger.is_away = True
        for _ in range(4):
            ledger.clock.advance(20)
            await edge.spend(is_peek=True)
        await until(lambda: 20 <= gauges(edge)["unanswered_seconds"] <= 80)
        ledger.is_away = False
        await edge.kill()
        await edge.new_borrowing().give_back_all()
        assert gauges(edge) == none


@pytest.mark.parametrize("note", [b"", b"{}", b"[1]", b'{"boot": "another", "leases": 7}'])
def test_what_nobody_wrote_since_the_machine_started_is_nothing(tmp_path: Path, note: Any) -> None:
    (tmp_path / NOTE).write_bytes(note)
    assert QuotasStatus.read(tmp_path / NOTE, "boot-1") == QuotasStatus()
