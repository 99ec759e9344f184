"""Who the caller is: a management key, or an end user with a token of the identity provider."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from support import identity
from support import service as services
from support.identity import ADA, IdentityProvider
from support.service import Service

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    with identity.running() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def service(provider: IdentityProvider, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    data_dir = tmp_path_factory.mktemp("who") / "data"
    settings = services.settings_for(data_dir, end_users=services.end_users_of(provider))
    async with services.running(settings) as running:
        yield running


async def ask(service: Service, token: str, expect: int = 200) -> dict[str, str]:
    answer = await service.client.get("/v1/who-am-i", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == expect, answer.text
    found: dict[str, str] = answer.json()
    return found


async def test_a_management_key_has_an_account_and_no_address(service: Service) -> None:
    found = await service.call("GET", "/v1/who-am-i")
    assert found.keys() == {"account", "sub"}
    assert found["account"] == service.account


async def test_an_end_user_has_an_address_and_no_account(service: Service, provider: IdentityProvider) -> None:
    assert await ask(service, provider.token()) == {"sub": ADA["sub"], "email": ADA["email"]}


async def test_an_end_user_without_an_address_is_known_by_subject(service: Service, provider: IdentityProvider) -> None:
    provider.userinfo = {"sub": ADA["sub"]}
    try:
        assert await ask(service, provider.token(email=None, email_verified=None)) == {"sub": ADA["sub"]}
    finally:
        provider.userinfo = None


async def test_a_token_that_proves_nothing_is_refused(service: Service, provider: IdentityProvider) -> None:
    head, claims, _ = provider.token().split(".")
    found = await ask(service, f"{head}.{claims}.AAAA", 401)
    assert "The token is refused" in found["detail"]
