"""One service for all tests of a module: what they do to it, they do to consumers and sessions of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from support import service as services
from support.service import Service


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    async with services.running(services.settings_for(tmp_path_factory.mktemp("shared") / "data")) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["sqlite", "postgresql"])
async def service_of_each(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    """As `shared`, on both engines: for what depends on how they hold rows against each other."""
    if request.param == "sqlite":
        yield request.getfixturevalue("shared")
        return
    url = request.getfixturevalue("postgres").new_database()
    async with services.running(services.settings_for(tmp_path_factory.mktemp("each") / "data", url)) as running:
        yield running
