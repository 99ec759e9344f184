"""What managers may do with what their keys may do: narrow it, within what the provider says of the consumer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from origin.self_serve.world import World

pytestmark = pytest.mark.asyncio(loop_scope="session")


def urls_of(world: World, made: dict[str, Any]) -> tuple[str, str, str]:
    """The address of the consumer's first key: in both shapes of the Self-serve API, and the provider's."""
    key = f"keys/{made['apiKeys'][0]['id']}"
    own = f"{world.service.consumers_url}/{made['name']}/{key}"
    return f"{world.by_name}/{made['name']}/{key}", f"{world.by_id}/{made['id']}/{key}", own


@pytest.mark.parametrize("shape", [0, 1], ids=["by name", "by id"])
async def test_a_manager_switches_a_key_off_and_on_and_narrows_it(world: World, shape: int) -> None:
    made = await world.new_consumer(scopes=["orders:*"], metadata={"plan": "gold"})
    urls, secret = urls_of(world, made), made["apiKeys"][0]["key"]

    off = await world.call("PATCH", urls[shape], json={"enabled": False})
    assert (off["enabled"], off["disabledBy"]) == (False, "manager")
    assert await world.service.verdict(secret) == "DISABLED"
    on = await world.call("PATCH", urls[shape], json={"enabled": True, "scopes": ["orders:read"]})
    assert (on["enabled"], on["disabledBy"], on["scopes"]) == (True, None, ["orders:read"])
    assert await world.service.verdict(secret) == "VALID"
    await world.call("PATCH", urls[shape], json={"allowedIps": ["192.0.2.0/24"]})
    assert await world.service.verdict(secret) == "IP_NOT_ALLOWED"

    read = (await world.call("GET", f"{world.by_name}/my"))["data"]
    (mine,) = (one for one in read if one["name"] == made["name"])
    assert (mine["enabled"], mine["grantedScopes"], mine["allowedIps"]) == (True, ["orders:*"], None)
    assert {"metadata", "tags"}.isdisjoint(mine["apiKeys"][0])
    # What was read may be sent back.
    await world.call("PATCH", urls[shape], json=mine["apiKeys"][0])
    (entry, *_) = await world.audit("self-serve.key.update")
    assert entry["success"] is True


@pytest.mark.parametrize("shape", [0, 1], ids=["by name", "by id"])
async def test_a_manager_sees_plan_and_rate_limits_and_sets_none_of_them(world: World, shape: int) -> None:
    plan = f"gold-{shape}"
    of_plan = {"name": "per-minute", "limit": 600, "windowSeconds": 60, "scope": "global"}
    await world.service.call("POST", f"{world.service.bucket_url}/plans", json={"name": plan, "rateLimits": [of_plan]})
    made = await world.new_consumer(plan=plan)
    url, listed = [
        (f"{world.by_name}/{made['name']}", f"{world.by_name}/my"), (f"{world.by_id}/{made['id']}", world.by_id),
    ][shape]  # fmt: skip
    (mine,) = (
        one
        for one in (await world.call("GET", listed))["data"]
        if made["name"] in (one.get("name"), one.get("subject"))
    )
    assert (mine["plan"], mine["rateLimits"]) == (plan, [of_plan])
    # What was read may be sent back, and is all that may be.
    await world.call("PATCH", url, json={"plan": plan, "rateLimits": [of_plan]})
    for body in ({"plan": None}, {"plan": "other"}, {"rateLimits": []}, {"rateLimits": None}):
        problem = await world.call("PATCH", url, json=body, expect=400)
        assert [error["field"] for error in problem["errors"]] == [f"body.{next(iter(body))}"]
    key = urls_of(world, made)[shape]
    await world.call("PATCH", key, json={"rateLimits": []}, expect=400)

    await world.service.call("PATCH", f"{world.service.consumers_url}/{made['name']}", json={"rateLimits": []})
    (mine,) = (one for one in (await world.call("GET", listed))["data"] if one["apiKeys"] and one["plan"] == plan)
    assert mine["rateLimits"] == []


async def test_a_manager_sees_quotas_and_sets_none_of_them(world: World) -> None:
    of_plan = {"name": "m", "limit": 5, "period": "month", "timeZone": "UTC", "anchor": 1, "defaultCost": 1}
    plans = f"{world.service.bucket_url}/plans"
    await world.service.call("POST", plans, json={"name": "with-quota", "quotas": [of_plan]})
    made = await world.new_consumer(plan="with-quota")
    url = f"{world.by_name}/{made['name']}"
    (mine,) = (one for one in (await world.call("GET", f"{world.by_name}/my"))["data"] if one["name"] == made["name"])
    assert mine["quotas"] == [of_plan]
    await world.call("PATCH", url, json={"quotas": [of_plan]})
    for value in ([], None, [{**of_plan, "limit": 6}]):
        problem = await world.call("PATCH", url, json={"quotas": value}, expect=400)
        assert [error["field"] for error in problem["errors"]] == ["body.quotas"]
    await world.service.call("PATCH", f"{world.service.consumers_url}/{made['name']}", json={"quotas": []})
    assert (await world.call("GET", f"{world.by_name}/my"))["data"][0]["quotas"] == []


async def test_what_the_provider_switched_off_no_manager_switches_on(world: World) -> None:
    made = await world.new_consumer()
    by_name, by_id, own = urls_of(world, made)
    await world.call("PATCH", by_name, json={"enabled": False})
    # What a manager switched off the provider may make its own.
    assert (await world.service.call("PATCH", own, json={"enabled": False}))["disabledBy"] == "provider"

    for url in (by_name, by_id):
        problem = await world.call("PATCH", url, json={"enabled": True}, expect=403)
        assert problem["detail"] == "The provider has switched this key off, and alone can switch it on."
        assert (await world.call("PATCH", url, json={"enabled": False}))["disabledBy"] == "provider"

    assert await world.service.verdict(made["apiKeys"][0]["key"]) == "DISABLED"
    await world.service.call("PATCH", own, json={"enabled": True})
    assert await world.service.verdict(made["apiKeys"][0]["key"]) == "VALID"


async def test_a_manager_gets_no_scopes_beyond_the_consumer_s_and_sets_nothing_else(world: World) -> None:
    made = await world.new_consumer(scopes=["orders:read"])
    by_name, by_id, _ = urls_of(world, made)
    for url in (by_name, by_id):
        for body, field in (
            ({"scopes": ["orders:write"]}, "body.scopes"),
            ({"scopes": ["*"]}, "body.scopes"),
            ({"allowedIps": ["10.0.0.1/8"]}, "body.allowedIps.0"),
            ({"metadata": {}}, "body.metadata"),
            ({"tags": {}}, "body.tags"),
            ({"expiresOn": "2999-01-01T00:00:00Z"}, "body.expiresOn"),
            ({"description": "mine"}, "body.description"),
        ):
            problem = await world.call("PATCH", url, json=body, expect=400)
            assert [error["field"] for error in problem["errors"]] == [field]
    for body in ({"scopes": ["*"]}, {"enabled": False}):
        await world.call("PATCH", f"{world.by_name}/{made['name']}", json=body, expect=400)
        await world.call("POST", f"{world.by_name}/{made['name']}/keys", json=body, expect=400)


async def test_keys_of_a_consumer_that_is_not_the_user_s_are_not_there(quick: World) -> None:
    made = await quick.new_consumer(quick.bob)
    for url in urls_of(quick, made)[:2]:
        await quick.call("PATCH", url, json={"enabled": False}, expect=404)
    assert await quick.service.verdict(made["apiKeys"][0]["key"]) == "VALID"


@pytest.mark.parametrize("shape", [0, 1], ids=["by name", "by id"])
async def test_a_manager_sees_the_usage_of_what_is_managed_and_of_nothing_else(world: World, shape: int) -> None:
    made, other = await world.new_consumer(), await world.new_consumer()
    key = made["apiKeys"][0]
    assert await world.service.verdict(key["key"]) == "VALID"
    urls = [(f"{world.by_name}/{one['name']}", f"{world.by_id}/{one['id']}")[shape] for one in (made, other)]
    async with asyncio.timeout(30):
        while not (told := await world.call("GET", f"{urls[0]}/usage?by=key"))["data"]:
            await asyncio.sleep(0.1)
    assert [(one["id"], one["verdicts"]) for one in told["data"]] == [(key["id"], {"VALID": 1})]
    read = (await world.call("GET", f"{world.by_name}/my"))["data"]
    (mine,) = (one for one in read if one["name"] == made["name"])
    assert mine["apiKeys"][0]["lastUsedOn"] is not None
    assert "lastUsedRegion" not in mine["apiKeys"][0]
    assert (await world.call("GET", f"{urls[1]}/usage"))["data"] == []
    # Where a provider's edges are is not told.
    await world.call("GET", f"{urls[0]}/usage?by=edge", expect=400)
    foreign = await world.service.new_consumer()
    place = (f"{world.by_name}/{foreign['name']}", f"{world.by_id}/{foreign['id']}")[shape]
    await world.call("GET", f"{place}/usage", expect=404)


@pytest.mark.parametrize("shape", [0, 1], ids=["by name", "by id"])
async def test_a_manager_sees_what_is_left_of_quotas_and_nothing_of_edges(world: World, shape: int) -> None:
    made = await world.new_consumer(
        quotas=[{"name": "calls", "limit": 50, "period": "month", "timeZone": "Asia/Tokyo"}]
    )
    url = (f"{world.by_name}/{made['name']}", f"{world.by_id}/{made['id']}")[shape]
    (told,) = (await world.call("GET", f"{url}/quotas"))["data"]
    assert list(told) == [
        "name", "limit", "period", "timeZone", "anchor", "defaultCost", "beginsOn", "endsOn", "remaining", "spent",
        "added",
    ]  # fmt: skip
    assert (told["name"], told["remaining"], told["spent"]) == ("calls", 50, 0)
    own = f"{world.service.bucket_url}/consumers/{made['name']}/quotas/calls/top-ups"
    await world.service.call("POST", own, json={"units": 7}, headers={"Idempotency-Key": "order-1"})
    (told,) = (await world.call("GET", f"{url}/quotas"))["data"]
    assert (told["remaining"], told["added"]) == (57, 7)
    foreign = await world.service.new_consumer()
    place = (f"{world.by_name}/{foreign['name']}", f"{world.by_id}/{foreign['id']}")[shape]
    await world.call("GET", f"{place}/quotas", expect=404)
