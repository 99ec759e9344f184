"""A service whose end users come from a real identity provider, and two of them: Ada and Bob."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import pytest_asyncio

from keywright.origin.auth.oidc.provider import Provider
from keywright.origin.auth.oidc.userinfo import UserInfo
from origin.self_serve.world import World
from support import identity
from support import service as services
from support.identity import IdentityProvider
from support.service import Service


@pytest.fixture(scope="session")
def session_provider() -> Iterator[IdentityProvider]:
    with identity.running() as provider:
        yield provider


@pytest.fixture
def provider(session_provider: IdentityProvider) -> Iterator[IdentityProvider]:
    """The identity provider, in good order again after each test."""
    yield session_provider
    session_provider.broken.clear()
    session_provider.asked.clear()
    session_provider.id_token_changes.clear()
    session_provider.answered_issuer = None
    session_provider.userinfo = None
    session_provider.shown.clear()
    session_provider.user = dict(identity.ADA)
    for kid in session_provider.keys.keys() - {"first"}:
        del session_provider.keys[kid]


@pytest_asyncio.fixture(loop_scope="session", scope="session", params=["sqlite", "postgresql"])
async def on_both(
    request: pytest.FixtureRequest, session_provider: IdentityProvider, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    """One service on each engine, for all tests: each of them brings users of its own."""
    url = request.getfixturevalue("postgres").new_database() if request.param == "postgresql" else None
    data_dir = tmp_path_factory.mktemp("self-serve") / "data"
    settings = services.settings_for(data_dir, url, end_users=services.end_users_of(session_provider))
    async with services.running(settings) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def on_default(
    session_provider: IdentityProvider, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    """One service on the embedded default, for what does not depend on the engine."""
    data_dir = tmp_path_factory.mktemp("self-serve") / "data"
    settings = services.settings_for(data_dir, end_users=services.end_users_of(session_provider))
    async with services.running(settings) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def world(on_both: Service, provider: IdentityProvider) -> AsyncIterator[World]:
    """On both engines, with Ada and Bob, whom no other test knows."""
    async with _world(on_both, provider) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def quick(on_default: Service, provider: IdentityProvider) -> AsyncIterator[World]:
    """On the embedded default, with Ada and Bob, whom no other test knows."""
    async with _world(on_default, provider) as made:
        yield made


@asynccontextmanager
async def _world(service: Service, provider: IdentityProvider) -> AsyncIterator[World]:
    # What an earlier test made of the provider is forgotten.
    state = service.app._origin.state
    end_users = replace(state.services.end_users, provider=Provider(provider.url), userinfo=UserInfo())
    state.services = replace(state.services, end_users=end_users)
    yield World(service, provider)
    await service.call("PATCH", service.bucket_url, json={"selfServe": services.DEFAULT_SELF_SERVE})
