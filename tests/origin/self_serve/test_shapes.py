"""The two published shapes: what ready-made front ends send, and what they read from the answers."""

from __future__ import annotations

from typing import Any

import pytest

from origin.self_serve.world import World

pytestmark = pytest.mark.asyncio(loop_scope="session")

GRANTED = {"enabled", "grantedScopes", "allowedIps", "plan", "rateLimits", "quotas"}
"""What is ours, beside what the published shapes have."""
CONSUMER_FIELDS = {"name", "description", "createdOn", "apiKeys"} | GRANTED
KEY_FIELDS = {
    "id", "description", "createdOn", "updatedOn", "expiresOn", "key", "enabled", "disabledBy", "scopes", "allowedIps",
    "lastUsedOn",
}  # fmt: skip
CLIENT_FIELDS = {"id", "label", "subject", "createdOn", "updatedOn", "expiresOn", "apiKeys"} | GRANTED
LATER = "2099-01-31T12:00:00.000Z"


async def test_a_list_shows_the_users_consumers_and_keys_whole_and_newest_first(world: World) -> None:
    older = await world.new_consumer(description="older")
    newer = await world.new_consumer(description="newer")
    await world.new_consumer(world.bob)
    second = await world.service.new_key(older["name"], description="second")

    (first, last) = (await world.call("GET", f"{world.by_name}/my"))["data"]

    assert [first["name"], last["name"]] == [newer["name"], older["name"]]
    assert first.keys() == CONSUMER_FIELDS
    assert [key["key"] for key in last["apiKeys"]] == [second["key"], older["apiKeys"][0]["key"]]
    assert all(key.keys() == KEY_FIELDS for key in last["apiKeys"])
    assert await world.service.verdict(last["apiKeys"][0]["key"]) == "VALID"


async def test_the_client_list_is_the_same_by_id_and_label(world: World) -> None:
    made = await world.new_consumer(description="The label")

    (shown,) = (await world.call("GET", world.by_id))["data"]

    assert shown.keys() == CLIENT_FIELDS
    assert (shown["id"], shown["label"], shown["subject"]) == (made["id"], "The label", made["name"])
    assert shown["apiKeys"]["data"][0]["key"] == made["apiKeys"][0]["key"]
    assert shown["apiKeys"]["data"][0].keys() == KEY_FIELDS


async def test_a_user_without_a_consumer_sees_an_empty_list(quick: World) -> None:
    assert await quick.call("GET", f"{quick.by_name}/my") == {"data": []}
    assert await quick.call("GET", quick.by_id) == {"data": []}


async def test_creating_a_consumer_makes_its_first_key_for_the_user_alone(world: World) -> None:
    await world.allow(createConsumers=True)

    made = await world.call("POST", f"{world.by_name}/my", json={"description": "My test server"})

    assert made["description"] == "My test server"
    assert await world.service.verdict(made["apiKeys"][0]["key"]) == "VALID"
    assert (await world.call("GET", f"{world.by_name}/my"))["data"] == [made]
    assert (await world.call("GET", f"{world.by_name}/my", world.bob))["data"] == []
    url = f"{world.service.consumers_url}/{made['name']}/managers"
    (manager,) = (await world.service.call("GET", url))["data"]
    assert (manager["email"], manager["sub"]) == (world.ada["email"], world.ada["sub"])


@pytest.mark.parametrize(
    ("shape", "field"), [("by_name", "description"), ("by_id", "label")], ids=["self-serve", "client"]
)
async def test_a_new_name_lasts(world: World, shape: str, field: str) -> None:
    made = await world.new_consumer(description="before", metadata={"plan": "gold"}, tags={"team": "a"})
    url = f"{world.by_name}/{made['name']}" if shape == "by_name" else f"{world.by_id}/{made['id']}"

    changed = await world.call("PATCH", url, json={field: "after"})

    assert changed[field] == "after"
    kept = await world.service.call("GET", f"{world.service.consumers_url}/{made['name']}")
    assert (kept["description"], kept["metadata"], kept["tags"]) == ("after", {"plan": "gold"}, {"team": "a"})


SAYING_NOTHING = {
    "no body": {},
    "null": {"json": None},
    "a list": {"json": []},
    "expiresOn null": {"json": {"expiresOn": None}},
    "misspelt": {"json": {"expireOn": LATER}},
    "past": {"json": {"expiresOn": "2001-01-31T12:00:00.000Z"}},
}


@pytest.mark.parametrize("options", SAYING_NOTHING.values(), ids=SAYING_NOTHING)
async def test_a_roll_that_does_not_say_when_ends_no_key(world: World, options: dict[str, Any]) -> None:
    made = await world.new_consumer()
    if options.get("json", "") is None:
        options = {"content": b"null", "headers": {"Content-Type": "application/json"}}

    for place in (f"{world.by_name}/{made['name']}/roll", f"{world.by_id}/{made['id']}/roll-key"):
        await world.call("POST", place, expect=400, **options)

    assert await world.service.verdict(made["apiKeys"][0]["key"]) == "VALID"
    (shown,) = (await world.call("GET", f"{world.by_name}/my"))["data"]
    assert len(shown["apiKeys"]) == 1


async def test_a_roll_without_a_date_ends_the_old_keys_at_once(world: World) -> None:
    made = await world.new_consumer()
    old = made["apiKeys"][0]["key"]

    assert await world.call("POST", f"{world.by_name}/{made['name']}/roll", expect=204, json={}) is None

    assert await world.service.verdict(old) == "EXPIRED"
    (shown,) = (await world.call("GET", f"{world.by_name}/my"))["data"]
    assert await world.service.verdict(shown["apiKeys"][0]["key"]) == "VALID"
    assert shown["apiKeys"][0]["expiresOn"] is None


async def test_a_roll_with_a_date_leaves_the_old_keys_until_then(world: World) -> None:
    made = await world.new_consumer()

    await world.call("POST", f"{world.by_name}/{made['name']}/roll", expect=204, json={"expiresOn": LATER})

    (shown,) = (await world.call("GET", f"{world.by_name}/my"))["data"]
    assert [key["expiresOn"] for key in shown["apiKeys"]] == [None, LATER]
    assert await world.service.verdict(made["apiKeys"][0]["key"]) == "VALID"


async def test_the_client_rolls_by_id(world: World) -> None:
    made = await world.new_consumer()

    assert await world.call("POST", f"{world.by_id}/{made['id']}/roll-key", expect=204, json={}) is None

    assert await world.service.verdict(made["apiKeys"][0]["key"]) == "EXPIRED"


async def test_a_key_can_be_made_with_description_and_end(world: World) -> None:
    made = await world.new_consumer()
    body = {"description": "second", "expiresOn": LATER}

    key = await world.call("POST", f"{world.by_name}/{made['name']}/keys", json=body)

    assert (key["description"], key["expiresOn"]) == ("second", LATER)
    assert await world.service.verdict(key["key"]) == "VALID"


@pytest.mark.parametrize("shape", ["by_name", "by_id"])
async def test_a_deleted_key_is_unknown_from_the_next_request_on(world: World, shape: str) -> None:
    made = await world.new_consumer()
    key = made["apiKeys"][0]
    place = f"{world.by_name}/{made['name']}" if shape == "by_name" else f"{world.by_id}/{made['id']}"

    assert await world.call("DELETE", f"{place}/keys/{key['id']}", expect=204) is None

    assert await world.service.verdict(key["key"]) == "UNKNOWN"
    await world.call("DELETE", f"{place}/keys/{key['id']}", expect=404)


async def test_what_has_no_content_has_no_type_of_content(quick: World) -> None:
    """The React component parses whatever calls itself JSON."""
    made = await quick.new_consumer()
    for method, path in [("POST", "/roll"), ("DELETE", f"/keys/{made['apiKeys'][0]['id']}"), ("DELETE", "")]:
        url = f"{quick.by_name}/{made['name']}{path}"
        headers = {"Authorization": f"Bearer {quick.provider.token(quick.ada)}"}
        body = {"json": {}} if method == "POST" else {}
        answer = await quick.service.client.request(method, url, headers=headers, **body)
        assert (answer.status_code, answer.content) == (204, b"")
        assert "content-type" not in answer.headers


async def test_deleting_a_consumer_ends_its_keys(world: World) -> None:
    made = await world.new_consumer()

    assert await world.call("DELETE", f"{world.by_name}/{made['name']}", expect=204) is None

    assert await world.service.verdict(made["apiKeys"][0]["key"]) == "UNKNOWN"
    assert (await world.call("GET", f"{world.by_name}/my"))["data"] == []


async def test_a_change_is_audited_in_the_name_of_the_user(world: World) -> None:
    made = await world.new_consumer()
    await world.call("POST", f"{world.by_name}/{made['name']}/roll", json={}, expect=204)

    (entry, *_) = await world.audit("self-serve.consumer.roll-key")

    assert entry["actor"]["sub"] == world.ada["sub"]
    assert (entry["actor"]["email"], entry["actor"]["type"]) == (world.ada["email"], "user")
    assert {"consumer", "key"} <= {resource["type"] for resource in entry["resources"]}


async def test_bad_input_names_the_field_and_changes_nothing(quick: World) -> None:
    made = await quick.new_consumer(description="kept")
    url = f"{quick.by_name}/{made['name']}"
    for method, place, body, field in [
        ("PATCH", url, {"description": 7}, "body.description"),
        ("PATCH", url, {"description": "x" * 1001}, "body.description"),
        ("POST", f"{url}/roll", {"expiresOn": "tomorrow"}, "body.expiresOn"),
        ("POST", f"{url}/keys", {"expiresOn": "2001-01-31T12:00:00.000Z"}, "body.expiresOn"),
    ]:
        problem = await quick.call(method, place, expect=400, json=body)
        assert [error["field"] for error in problem["errors"]] == [field]
    (shown,) = (await quick.call("GET", f"{quick.by_name}/my"))["data"]
    assert shown["description"] == "kept"
    assert len(shown["apiKeys"]) == 1
