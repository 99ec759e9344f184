"""A subject is a name that one provider gives: the same name from another one is somebody else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from keywright.origin.auth.oidc.provider import Provider
from origin.self_serve.world import World
from support import identity
from support.identity import IdentityProvider

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture(scope="module")
def other() -> Iterator[IdentityProvider]:
    """The provider that the deployment changes to."""
    with identity.running() as provider:
        yield provider


@contextmanager
def configured(world: World, provider: IdentityProvider | None) -> Iterator[None]:
    """The service as it is when it was started with this provider."""
    state = world.service.app._origin.state
    before = state.services
    issuer = provider.url if provider else None
    end_users = replace(before.end_users, provider=Provider(provider.url)) if provider else None
    dependencies = replace(before.dependencies, issuer=issuer)
    state.services = replace(before, end_users=end_users, dependencies=dependencies)
    try:
        yield
    finally:
        state.services = before


async def mine(world: World, token: str) -> list[str]:
    return [one["name"] for one in (await world.call("GET", f"{world.by_name}/my", token=token))["data"]]


async def manager_of(world: World, consumer: dict[str, Any]) -> Any:
    url = f"{world.service.consumers_url}/{consumer['name']}/managers?include-manager-invites=true"
    (manager,) = (await world.service.call("GET", url))["data"]
    return manager


async def test_the_same_subject_of_another_provider_is_another_person(world: World, other: IdentityProvider) -> None:
    made = await world.new_consumer()
    assert await mine(world, world.provider.token(world.ada)) == [made["name"]]
    with configured(world, other):
        mallory = other.token({**world.bob, "sub": world.ada["sub"]})
        assert await mine(world, mallory) == []
        await world.call("POST", f"{world.by_name}/{made['name']}/roll", token=mallory, json={}, expect=404)
        await world.call("PATCH", f"{world.by_name}/{made['name']}", token=mallory, json={}, expect=404)
    assert await mine(world, world.provider.token(world.ada)) == [made["name"]]


async def test_after_a_change_of_provider_a_manager_is_an_open_invite_of_their_address(
    world: World, other: IdentityProvider
) -> None:
    made = await world.new_consumer()
    with configured(world, other):
        assert await mine(world, other.token(world.ada, email_verified=False)) == []
        ada = {**world.ada, "sub": "b|ada-at-the-other"}
        assert await mine(world, other.token(ada)) == [made["name"]]
        assert (await manager_of(world, made))["sub"] == ada["sub"]
        assert await mine(world, other.token(ada, email=None)) == [made["name"]]
        # Once it is accepted, another subject of that address is another person.
        assert await mine(world, other.token({**ada, "sub": "b|later"})) == []
    assert await mine(world, world.provider.token(world.ada, email=None)) == []


async def test_a_manager_may_be_named_with_the_issuer(world: World, other: IdentityProvider) -> None:
    user = {"email": world.ada["email"], "sub": "shared|1"}
    made = await world.service.new_consumer(managers=[{**user, "issuer": other.url}])
    assert await mine(world, world.provider.token({**world.bob, "sub": user["sub"]})) == []
    with configured(world, other):
        assert await mine(world, other.token({"sub": user["sub"]})) == [made["name"]]
        # Named anew for the provider that there is now: what was another's is taken over, one's own is a conflict.
        url = f"{world.service.consumers_url}/{made['name']}/managers"
        await world.service.call("POST", url, json={**user, "sub": "shared|2"}, expect=409)
    await world.service.call("POST", url, json=user)
    assert await mine(world, world.provider.token({"sub": user["sub"]})) == [made["name"]]
    for issuer in ("not an address", "id.example.com", 7, ""):
        await world.service.call("POST", url, json={"email": "x@example.com", "sub": "x", "issuer": issuer}, expect=400)


async def test_a_subject_of_no_provider_yet_is_bound_by_its_verified_address(world: World) -> None:
    with configured(world, None):
        made = await world.new_consumer()
    assert await mine(world, world.provider.token(world.ada, email=None)) == []
    assert await mine(world, world.provider.token({**world.bob, "sub": world.ada["sub"]})) == []
    assert await mine(world, world.provider.token(world.ada)) == [made["name"]]
    assert await mine(world, world.provider.token(world.ada, email=None)) == [made["name"]]


async def test_a_subject_gets_the_configured_issuer_and_the_audit_log_tells_it(world: World) -> None:
    made = await world.new_consumer()
    token = world.provider.token(world.ada, email=None)
    await world.call("POST", f"{world.by_name}/{made['name']}/roll", token=token, json={}, expect=204)
    (entry,) = await world.audit("self-serve.consumer.roll-key")
    assert entry["actor"]["metadata"] == {"issuer": world.provider.url}
