"""The record without its endpoints, and services that the tests of a file share, on both engines.

None of those tests may change what another one sees: what they do, they do to consumers and sessions of their own.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

if TYPE_CHECKING:
    from support.postgres import Postgres
    from support.record import Record
    from support.service import Service


@pytest.fixture
async def record(migrated_url: str) -> AsyncIterator[Record]:
    from support import record as records

    async with records.opened(migrated_url) as opened:
        yield opened


@pytest.fixture(scope="module")
def quick_dir() -> Iterator[Path]:
    """A directory in memory where there is such a place: thousands of requests need not wait for a disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as made:
        yield Path(made)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shared(quick_dir: Path) -> AsyncIterator[Service]:
    """A whole service on the embedded default, one for all tests of a file."""
    from support import service as services

    async with services.running(services.settings_for(quick_dir / "shared")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=["sqlite", "postgresql"])
async def shared_on_both(request: pytest.FixtureRequest, quick_dir: Path) -> AsyncIterator[Service]:
    """A whole service, one on each engine for all tests of a file: for what depends on how rows are held."""
    from support import service as services

    url = None
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        url = server.new_database()
    async with services.running(services.settings_for(quick_dir / request.param, url)) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def names(shared: Service) -> dict[str, str]:
    from origin.world import make_names

    return await make_names(shared)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def names_on_both(shared_on_both: Service) -> dict[str, str]:
    from origin.world import make_names

    return await make_names(shared_on_both)
