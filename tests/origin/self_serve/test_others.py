"""Nobody sees or touches a consumer that they do not manage: every route, with a second user."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from origin.self_serve.world import World
from origin.world import record_of

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROUTES: list[tuple[str, str, Any]] = [
    ("PATCH", "/v1/self-serve/{bucket}/consumers/{name}", {"description": "taken"}),
    ("DELETE", "/v1/self-serve/{bucket}/consumers/{name}", None),
    ("POST", "/v1/self-serve/{bucket}/consumers/{name}/roll", {}),
    ("POST", "/v1/self-serve/{bucket}/consumers/{name}/keys", {}),
    ("PATCH", "/v1/self-serve/{bucket}/consumers/{name}/keys/{key}", {"enabled": False}),
    ("DELETE", "/v1/self-serve/{bucket}/consumers/{name}/keys/{key}", None),
    ("PATCH", "/v2/client/{bucket}/consumers/{id}", {"label": "taken"}),
    ("POST", "/v2/client/{bucket}/consumers/{id}/roll-key", {}),
    ("PATCH", "/v2/client/{bucket}/consumers/{id}/keys/{key}", {"scopes": []}),
    ("DELETE", "/v2/client/{bucket}/consumers/{id}/keys/{key}", None),
    ("GET", "/v1/self-serve/{bucket}/consumers/{name}/usage", None),
    ("GET", "/v2/client/{bucket}/consumers/{id}/usage", None),
    ("GET", "/v1/self-serve/{bucket}/consumers/{name}/quotas", None),
    ("GET", "/v2/client/{bucket}/consumers/{id}/quotas", None),
]
LISTS = ["/v1/self-serve/{bucket}/consumers/my", "/v2/client/{bucket}/consumers"]


async def test_every_route_is_in_the_tables() -> None:
    from origin.world import document

    told = {
        (method.upper(), path)
        for path, methods in document()["paths"].items()
        for method in methods
        if path.startswith(("/v1/self-serve/", "/v2/client/"))
    }
    names = {"bucket": "{bucketName}", "key": "{keyId}", "name": "{consumerName}", "id": "{consumerId}"}
    tested = {(method, path.format(**names)) for method, path, _ in ROUTES}
    tested |= {("GET", path.format(**names)) for path in LISTS}
    assert told == tested | {("POST", "/v1/self-serve/{bucketName}/consumers/my")}


async def test_a_consumer_of_another_user_is_not_found_and_nothing_changes(world: World) -> None:
    await world.new_consumer(world.bob)
    ada = await world.new_consumer(world.ada)
    names = {"bucket": world.service.bucket, "name": ada["name"], "id": ada["id"], "key": ada["apiKeys"][0]["id"]}
    before = await record_of(world.service)

    for method, path, body in ROUTES:
        options = {} if body is None else {"json": body}
        refused = await world.call(method, path.format(**names), world.bob, expect=404, **options)
        # The same words as for what is not there at all.
        missing = {**names, "name": "no-such-consumer", "id": "csmr_" + "0" * 24}
        unknown = await world.call(method, path.format(**missing), world.bob, expect=404, **options)
        assert refused["detail"] == unknown["detail"], path
    for path in LISTS:
        shown = await world.call("GET", path.format(**names), world.bob)
        assert ada["name"] not in str(shown)

    assert await record_of(world.service) == before
    assert await world.service.verdict(ada["apiKeys"][0]["key"]) == "VALID"


async def test_a_key_of_another_consumer_is_not_found_through_ones_own(world: World) -> None:
    ada, bob = await world.new_consumer(world.ada), await world.new_consumer(world.bob)
    for place in (f"{world.by_name}/{bob['name']}", f"{world.by_id}/{bob['id']}"):
        await world.call("DELETE", f"{place}/keys/{ada['apiKeys'][0]['id']}", world.bob, expect=404)
    assert await world.service.verdict(ada["apiKeys"][0]["key"]) == "VALID"


async def test_a_manager_in_one_bucket_is_nobody_in_another(world: World) -> None:
    ada = await world.new_consumer(world.ada)
    url = f"{world.service.account_url}/key-buckets"
    await world.service.call("POST", url, json={"name": "other-bucket"})
    assert (await world.call("GET", "/v1/self-serve/other-bucket/consumers/my"))["data"] == []
    await world.call("POST", f"/v1/self-serve/other-bucket/consumers/{ada['name']}/roll", json={}, expect=404)
    await world.call("POST", f"/v2/client/other-bucket/consumers/{ada['id']}/roll-key", json={}, expect=404)


async def test_who_is_removed_as_a_manager_is_nobody_from_the_next_request_on(world: World) -> None:
    ada = await world.new_consumer(world.ada)
    url = f"{world.service.consumers_url}/{ada['name']}/managers"
    (manager,) = (await world.service.call("GET", url))["data"]
    await world.service.call("DELETE", f"{url}/{manager['id']}", expect=204)
    assert (await world.call("GET", f"{world.by_name}/my"))["data"] == []
    await world.call("POST", f"{world.by_name}/{ada['name']}/roll", json={}, expect=404)


async def test_the_same_address_with_another_subject_is_another_user(world: World) -> None:
    """An address that was given to somebody else must not bring the keys of its last holder."""
    ada = await world.new_consumer(world.ada)
    later = {**world.ada, "sub": "auth0|whoever-has-the-address-now"}
    assert (await world.call("GET", f"{world.by_name}/my", later))["data"] == []
    await world.call("POST", f"{world.by_name}/{ada['name']}/roll", later, json={}, expect=404)


async def test_an_invite_is_accepted_by_the_verified_address_and_stays_with_the_subject(world: World) -> None:
    made = await world.service.new_consumer(managers=[world.ada["email"].upper()])
    assert (await world.call("GET", f"{world.by_name}/my", world.bob))["data"] == []

    assert [one["name"] for one in (await world.call("GET", f"{world.by_name}/my"))["data"]] == [made["name"]]

    url = f"{world.service.consumers_url}/{made['name']}/managers"
    (manager,) = (await world.service.call("GET", url))["data"]
    assert manager["sub"] == world.ada["sub"]
    (entry,) = await world.audit("manager.accept")
    assert entry["actor"]["email"] == world.ada["email"]
    moved = {**world.ada, "email": "ada-elsewhere@example.com"}
    assert len((await world.call("GET", f"{world.by_name}/my", moved))["data"]) == 1


async def test_a_provider_takes_over_what_was_accepted_by_link_and_never_names_such_a_user(world: World) -> None:
    email = world.ada["email"]
    made = await world.service.new_consumer(managers=[{"email": email, "sub": f"email-link|{email}"}])
    imposter = {**world.bob, "sub": f"email-link|{email}"}
    await world.call("GET", f"{world.by_name}/my", imposter, expect=403)
    assert (await world.call("GET", f"{world.by_name}/my", world.bob))["data"] == []
    assert [one["name"] for one in (await world.call("GET", f"{world.by_name}/my"))["data"]] == [made["name"]]


async def test_an_invite_is_not_accepted_by_an_address_that_is_not_verified(world: World) -> None:
    made = await world.service.new_consumer(managers=[world.ada["email"]])
    await world.call("GET", f"{world.by_name}/my", {**world.ada, "email_verified": False})
    url = f"{world.service.consumers_url}/{made['name']}/managers?include-manager-invites=true"
    (invite,) = (await world.service.call("GET", url))["data"]
    assert invite["sub"] is None


async def test_a_management_key_is_no_token_and_a_token_is_no_management_key(quick: World) -> None:
    await quick.call("GET", f"{quick.by_name}/my", token="root-key-of-the-tested-deployment", expect=401)
    token = quick.provider.token()
    await quick.service.call("GET", quick.service.consumers_url, key=token, expect=401)


@pytest.mark.parametrize("name", ["_system", "no-such-bucket", "x", "UPPER-CASE"])
async def test_what_is_no_open_bucket_is_not_found(quick: World, name: str) -> None:
    await quick.call("GET", f"/v1/self-serve/{name}/consumers/my", expect=404)
    await quick.call("POST", f"/v1/self-serve/{name}/consumers/my", json={}, expect=404)


async def test_no_body_is_read_of_a_user_who_may_not_send_it(world: World) -> None:
    await world.new_consumer(world.bob)
    ada = await world.new_consumer(world.ada)
    names = {"bucket": world.service.bucket, "name": ada["name"], "id": ada["id"], "key": ada["apiKeys"][0]["id"]}
    refused = [(method, path.format(**names), 404) for method, path, body in ROUTES if body is not None]
    await world.allow(enabled=True, createConsumers=False)
    asked = []

    async def body() -> AsyncIterator[bytes]:
        asked.append(True)
        yield b"{}"

    for method, path, status in [*refused, ("POST", f"{world.by_name}/my", 403)]:
        headers = {"Content-Type": "application/json"}
        await world.call(method, path, world.bob, expect=status, content=body(), headers=headers)
        assert asked == [], path
