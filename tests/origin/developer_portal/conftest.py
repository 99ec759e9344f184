"""Two services with a developer portal: one sends links through a real SMTP server, one has an identity provider."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest
import pytest_asyncio

from keywright.domain.keyformat import Secret
from keywright.origin.auth.oidc.provider import Provider
from origin.developer_portal.people import LinkPortal, ProviderPortal
from support import identity, mailbox
from support import service as services
from support.identity import IdentityProvider
from support.mailbox import Mailbox


@pytest.fixture(scope="session")
def session_mailbox() -> Iterator[Mailbox]:
    with mailbox.running() as running:
        yield running


@pytest.fixture(scope="session")
def portal_provider() -> Iterator[IdentityProvider]:
    with identity.running() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def links(
    session_mailbox: Mailbox, portal_provider: IdentityProvider, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[LinkPortal]:
    end_users = services.end_users_of(
        portal_provider, oidc_issuer=None, oidc_client_id=None, smtp_url=Secret(session_mailbox.url)
    )
    data_dir = tmp_path_factory.mktemp("links") / "data"
    async with services.running(services.settings_for(data_dir, end_users=end_users)) as running:
        yield LinkPortal(running, session_mailbox)


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def provider_service(
    portal_provider: IdentityProvider, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[services.Service]:
    data_dir = tmp_path_factory.mktemp("provider") / "data"
    settings = services.settings_for(data_dir, end_users=services.end_users_of(portal_provider))
    async with services.running(settings) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def with_provider(
    provider_service: services.Service, portal_provider: IdentityProvider
) -> AsyncIterator[ProviderPortal]:
    state = provider_service.app._origin.state
    provider = Provider(portal_provider.url)
    end_users = state.services.end_users
    client = replace(end_users.client, provider=provider)
    state.services = replace(state.services, end_users=replace(end_users, provider=provider, client=client))
    yield ProviderPortal(provider_service, portal_provider)
    portal_provider.broken.clear()
    portal_provider.id_token_changes.clear()
    portal_provider.answered_issuer = None
    portal_provider.userinfo = None
    portal_provider.user = dict(identity.ADA)
