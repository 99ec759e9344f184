"""A service that the tests of a file share, since none of them may change what another one sees."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from origin.api.world import make_names
from support import service as services
from support.postgres import Postgres
from support.service import Service


@pytest.fixture(scope="module")
def quick_dir() -> Iterator[Path]:
    """A directory in memory where there is such a place: thousands of requests need not wait for a disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as made:
        yield Path(made)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shared(quick_dir: Path) -> AsyncIterator[Service]:
    """A whole service on the embedded default, one for all tests of a file."""
    async with services.running(services.settings_for(quick_dir / "shared")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=["sqlite", "postgresql"])
async def shared_on_both(request: pytest.FixtureRequest, quick_dir: Path) -> AsyncIterator[Service]:
    """A whole service, one on each engine for all tests of a file."""
    url = None
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        url = server.new_database()
    async with services.running(services.settings_for(quick_dir / request.param, url)) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def names(shared: Service) -> dict[str, str]:
    return await make_names(shared)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def names_on_both(shared_on_both: Service) -> dict[str, str]:
    return await make_names(shared_on_both)
