"""What end users may do in a bucket is its owner's to say."""

from __future__ import annotations

import pytest

from origin.self_serve.world import World
from support.service import DEFAULT_SELF_SERVE

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_settings_are_part_of_the_bucket_and_change_one_by_one(world: World) -> None:
    service = world.service
    assert (await service.call("GET", service.bucket_url))["selfServe"] == DEFAULT_SELF_SERVE
    changed = await service.call("PATCH", service.bucket_url, json={"selfServe": {"createConsumers": True}})
    assert changed["selfServe"] == {**DEFAULT_SELF_SERVE, "createConsumers": True}
    changed = await service.call("PATCH", service.bucket_url, json={"selfServe": {"maxKeys": 1}, "description": "d"})
    assert changed["selfServe"] == {**DEFAULT_SELF_SERVE, "createConsumers": True, "maxKeys": 1}
    changed = await service.call("PATCH", service.bucket_url, json={"description": "e"})
    assert changed["selfServe"]["maxKeys"] == 1
    changed = await service.call("PATCH", service.bucket_url, json={"selfServe": DEFAULT_SELF_SERVE})
    assert changed["selfServe"] == DEFAULT_SELF_SERVE
    body = {"name": "born-closed", "selfServe": {"enabled": False}}
    made = await service.call("POST", f"{service.account_url}/key-buckets", json=body)
    assert made["selfServe"] == {**DEFAULT_SELF_SERVE, "enabled": False}


@pytest.mark.parametrize(
    ("value", "field"),
    [({"enabled": "yes"}, "body.selfServe.enabled"), ({"maxKeys": 0}, "body.selfServe.maxKeys"), (7, "body.selfServe"),
     ({"maxConsumers": 1001}, "body.selfServe.maxConsumers"), ({"createKeys": None}, "body.selfServe.createKeys"),
     (None, "body.selfServe"), ({"createKey": True}, "body.selfServe.createKey")],
    ids=str,
)  # fmt: skip
async def test_a_bad_setting_is_named(quick: World, value: object, field: str) -> None:
    service = quick.service
    problem = await service.call("PATCH", service.bucket_url, expect=400, json={"selfServe": value})
    assert [error["field"] for error in problem["errors"]] == [field]
    assert (await service.call("GET", service.bucket_url))["selfServe"] == DEFAULT_SELF_SERVE


async def test_nobody_makes_a_consumer_unless_the_owner_allows_it(quick: World) -> None:
    problem = await quick.call("POST", f"{quick.by_name}/my", json={"description": "mine"}, expect=403)
    assert "Ask for an invite" in problem["detail"]
    assert (await quick.call("GET", f"{quick.by_name}/my"))["data"] == []


async def test_a_user_makes_no_more_consumers_and_keys_than_allowed(world: World) -> None:
    await world.allow(createConsumers=True, maxConsumers=1, maxKeys=2)
    made = await world.call("POST", f"{world.by_name}/my", json={})
    await world.call("POST", f"{world.by_name}/my", json={}, expect=409)
    keys = f"{world.by_name}/{made['name']}/keys"
    await world.call("POST", keys, json={})
    await world.call("POST", keys, json={}, expect=409)
    # Rolling ends the others, and makes room.
    await world.call("POST", f"{world.by_name}/{made['name']}/roll", json={}, expect=204)
    await world.call("POST", keys, json={})


async def test_where_keys_are_the_owners_a_user_still_rolls_and_revokes(quick: World) -> None:
    made = await quick.new_consumer()
    await quick.allow(createKeys=False, deleteConsumers=False)
    url = f"{quick.by_name}/{made['name']}"
    await quick.call("POST", f"{url}/keys", json={}, expect=403)
    await quick.call("DELETE", url, expect=403)
    await quick.call("POST", f"{url}/roll", json={}, expect=204)
    await quick.call("DELETE", f"{url}/keys/{made['apiKeys'][0]['id']}", expect=204)


async def test_a_bucket_that_is_closed_is_not_there_for_users(quick: World) -> None:
    made = await quick.new_consumer()
    await quick.allow(enabled=False)
    await quick.call("GET", f"{quick.by_name}/my", expect=404)
    await quick.call("GET", quick.by_id, expect=404)
    await quick.call("POST", f"{quick.by_name}/{made['name']}/roll", json={}, expect=404)


async def test_a_bucket_that_keeps_no_keys_shows_a_new_key_once_and_never_rolls_in_the_dark(world: World) -> None:
    service = world.service
    body = {"name": "digests-only", "isRetrievable": False, "selfServe": {"createConsumers": True}}
    await service.call("POST", f"{service.account_url}/key-buckets", json=body)
    place = "/v1/self-serve/digests-only/consumers"

    made = await world.call("POST", f"{place}/my", json={})
    key = made["apiKeys"][0]["key"]
    assert await service.verdict(key, "digests-only") == "VALID"
    (shown,) = (await world.call("GET", f"{place}/my"))["data"]
    assert shown["apiKeys"][0]["key"] == "****" + key[-8:]

    problem = await world.call("POST", f"{place}/{made['name']}/roll", json={}, expect=400)
    assert "Prefer: return=representation" in problem["detail"]
    assert await service.verdict(key, "digests-only") == "VALID"

    headers = {"Prefer": "return=representation"}
    rolled = await world.call("POST", f"{place}/{made['name']}/roll", json={}, headers=headers)
    assert await service.verdict(rolled["key"], "digests-only") == "VALID"
    assert await service.verdict(key, "digests-only") == "EXPIRED"
