"""The record without its doors, on both engines."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from support import record as records
from support.record import Record


@pytest.fixture
async def record(migrated_url: str) -> AsyncIterator[Record]:
    async with records.opened(migrated_url) as opened:
        yield opened
