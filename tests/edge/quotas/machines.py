"""Several edges that borrow of one ledger."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from edge.quotas.world import Ledger, Machine
from keywright.domain.limits import Period, Quota

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path


@asynccontextmanager
async def machines(base: Path, count: int, limit: int = 100) -> AsyncIterator[tuple[Ledger, list[Machine]]]:
    ledger = Ledger(Quota("calls", limit, Period.NONE))
    made = [Machine(base / f"edge-{number}", ledger, f"edge-{number}") for number in range(count)]
    for one in made:
        one.begin()
    try:
        yield ledger, made
    finally:
        for one in made:
            await one.kill()


async def until(is_so: Callable[[], bool]) -> None:
    """What the one that borrows does, it does by and by."""
    async with asyncio.timeout(10):
        while not is_so():
            await asyncio.sleep(0.01)
