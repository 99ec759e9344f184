"""Fixtures that every room shares: the two databases, a whole service on each, a broker, and a browser.

What a fixture is made of is loaded for those who ask for it: tests of pure rules start at once.
"""

from __future__ import annotations

import itertools
import logging
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from keywright.runtime.nats_options import NatsOptions
    from support.nats import NatsServer
    from support.origin import Origin
    from support.postgres import Postgres
    from support.service import Service

pytest_plugins = ["support.progress", "support.spread"]

# A line for each request would bury what a failed test is about.
logging.getLogger("httpx2").setLevel(logging.WARNING)

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    from support import postgres as postgres_server

    with postgres_server.running() as server:
        yield server


@pytest.fixture(scope="session")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    """A real `keywright serve` that many tests share: they make consumers and keys, and end only their own."""
    from support import origin as origins

    with origins.running(tmp_path_factory.mktemp("origin") / "data") as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a new, empty database: a test that asks for it runs on both engines."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/keywright.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite database as migrations make it. It is copied for each test, which is sooner done than all of them."""
    from support import record

    file = tmp_path_factory.mktemp("migrated") / "keywright.db"
    record.migrate(f"sqlite+aiosqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def migrated_database(postgres: Postgres) -> str:
    """The name of a PostgreSQL database as migrations make it."""
    from support import record

    url = postgres.new_database()
    record.migrate(url)
    return url.rpartition("/")[2]


@pytest.fixture(params=["sqlite", "postgresql"])
def migrated_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """As `database_url`, of a database that is migrated and has nothing in it."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("migrated_file"), tmp_path)
        return f"sqlite+aiosqlite:///{tmp_path}/keywright.db"
    template = request.getfixturevalue("migrated_database")
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database(template)


@pytest.fixture
async def service(migrated_url: str, tmp_path: Path) -> AsyncIterator[Service]:
    """A whole service in this process, on both engines."""
    from support import service as services

    async with services.running(services.settings_for(tmp_path / "data", migrated_url)) as running:
        yield running


@pytest.fixture
async def embedded(migrated_file: Path, tmp_path: Path) -> AsyncIterator[Service]:
    """A whole service in this process on the embedded default, for what does not depend on the engine."""
    from support import service as services

    (tmp_path / "data").mkdir(mode=0o700)
    shutil.copy(migrated_file, tmp_path / "data")
    async with services.running(services.settings_for(tmp_path / "data")) as running:
        yield running


@pytest.fixture(scope="session")
def shared_nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A broker that no test harms."""
    from support.nats import NatsServer

    with NatsServer(tmp_path_factory.mktemp("nats") / "server") as server:
        yield server


@pytest.fixture
def options(shared_nats: NatsServer) -> NatsOptions:
    """A deployment of its own on the shared broker."""
    from keywright.runtime.nats_options import NatsOptions

    return NatsOptions((shared_nats.url,), prefix=f"test-{next(_numbers)}")


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsServer]:
    """A broker that a test may harm."""
    from support.nats import NatsServer

    with NatsServer(tmp_path / "nats") as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from support import browser as browsers

    with browsers.running() as running:
        yield running
