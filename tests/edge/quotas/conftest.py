"""Keys with a quota at a replica, and beside it the process that borrows for all of its machine."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from edge.quotas.world import LIMIT, NOW, Ledger, Machine, fill
from edge.world import DIGESTER, PEPPER_CHECK
from keywright.domain.limits import Period, Quota
from keywright.edge.quotas import waiting
from keywright.edge.replica.replica import Replica
from keywright.edge.usage.counter import UsageCounter
from keywright.edge.validator import Validator

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Borrower(threading.Thread):
    """The process that follows, with a loop of its own: an application of threads holds up its own."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(daemon=True)
        self._machine = machine
        self._loop = asyncio.new_event_loop()

    def run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.call_soon(self._machine.begin)
        self._loop.run_forever()

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._machine.kill(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self.join(10)
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(Quota("calls", LIMIT, Period.NONE))


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[Replica]:
    opened = Replica.open(tmp_path / "replica", PEPPER_CHECK, lag_seconds=lambda: 0.0)
    yield opened
    opened.close()


@pytest.fixture
def counter(replica: Replica) -> UsageCounter:
    """Of what the validator counts by key."""
    begun = UsageCounter(lambda name: (found := replica.find_bucket(name)) and found.number)
    begun.take(NOW)
    return begun


@pytest.fixture
def validator(
    tmp_path: Path, ledger: Ledger, replica: Replica, counter: UsageCounter, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Validator]:
    monkeypatch.setattr(waiting, "WAIT_SECONDS", 5.0)
    fill(replica, ledger.quota, "refuse")
    machine = Machine(tmp_path / "edge", ledger)
    borrower = Borrower(machine)
    borrower.start()
    yield Validator(replica, DIGESTER, lambda: NOW, machine.takers, counter)
    borrower.stop()
    machine.takers.close()
