"""Tags filter reads and guard writes; managers are people with a subject, invites are people without."""

from __future__ import annotations

from typing import Any

import pytest

from support.service import Service

in_module = pytest.mark.asyncio(loop_scope="module")

STRANGE_NAMES = ["a.b", "tag.x", "a b", "ä", "a&b=c", "'; --", "%", "%2F", "\U0001f511", "\u202eabc", "x" * 128, "[0]"]


async def guarded(service: Service, tags: dict[str, str]) -> tuple[str, str, str]:
    """The address of a consumer with these tags, and the ids of a key and of a manager of it."""
    consumer = await service.new_consumer(tags=tags)
    key = await service.new_key(consumer["name"])
    url = f"{service.consumers_url}/{consumer['name']}"
    manager = await service.call("POST", f"{url}/managers", json={"email": "ada@example.com"})
    return url, key["id"], manager["id"]


@in_module
async def test_a_list_is_filtered_by_all_the_tags_that_are_asked_for(shared: Service) -> None:
    both = await shared.new_consumer(tags={"team": "filter", "plan": "gold"})
    one = await shared.new_consumer(tags={"team": "filter"})
    listed = await shared.call("GET", shared.consumers_url, params={"tag.team": "filter"})
    assert ([each["name"] for each in listed["data"]], listed["total"]) == ([one["name"], both["name"]], 2)
    listed = await shared.call("GET", shared.consumers_url, params={"tag.team": "filter", "tag.plan": "gold"})
    assert [each["name"] for each in listed["data"]] == [both["name"]]
    for unknown in ({"tag.team": "other"}, {"tag.nothing": "x"}, {"tag.team": ""}, {"tag.team": "FILTER"}):
        assert (await shared.call("GET", shared.consumers_url, params=unknown))["data"] == []


@in_module
@pytest.mark.parametrize("name", STRANGE_NAMES)
async def test_a_tag_may_have_any_name_and_value(shared: Service, name: str) -> None:
    consumer = await shared.new_consumer(tags={name: name})
    assert consumer["tags"] == {name: name}
    listed = await shared.call("GET", shared.consumers_url, params={f"tag.{name}": name})
    assert [each["name"] for each in listed["data"]] == [consumer["name"]]


@in_module
async def test_every_operation_on_a_consumer_is_guarded_by_tags(shared: Service) -> None:
    url, key, manager = await guarded(shared, {"account": "a", "plan": "gold"})
    operations: list[tuple[str, str, Any]] = [
        ("GET", url, None), ("GET", f"{url}/keys", None), ("GET", f"{url}/keys/{key}", None),
        ("GET", f"{url}/managers", None), ("PATCH", url, {"description": "changed"}),
        ("POST", f"{url}/keys", {}), ("POST", f"{url}/keys/$bulk", [{}]),
        ("PATCH", f"{url}/keys/{key}", {"description": "changed"}), ("POST", f"{url}/roll-key", {}),
        ("POST", f"{url}/managers", {"email": "bob@example.com"}), ("DELETE", f"{url}/managers/{manager}", None),
        ("DELETE", f"{url}/keys/{key}", None), ("DELETE", url, None),
    ]  # fmt: skip
    before = await state(shared, url)
    for guard in ({"tag.account": "b"}, {"tag.account": "a", "tag.plan": "silver"}, {"tag.nothing": ""}):
        for method, address, body in operations:
            await shared.call(method, address, params=guard, expect=404, **({} if body is None else {"json": body}))
    assert await state(shared, url) == before
    for method, address, body in operations:
        response = await shared.client.request(
            method, address, params={"tag.account": "a", "tag.plan": "gold"}, **({} if body is None else {"json": body})
        )
        assert response.status_code in {200, 204}, f"{method} {address}: {response.text}"


async def state(service: Service, url: str) -> Any:
    params = {"include-api-keys": "true", "include-managers": "true", "include-manager-invites": "true"}
    return await service.call("GET", url, params=params)


@in_module
@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("tag=gold", "query.tag"),
        ("tag.=gold", "query.tag."),
        ("tag.a%00b=gold", "query.tag.a\\u0000b"),
        ("tag.plan=%00", "query.tag.plan"),
        ("tag.plan=gold&tag.plan=silver", "query.tag.plan"),
        ("&".join(f"tag.{number}=x" for number in range(101)), "query.tag.100"),
    ],
    ids=["no name", "empty name", "NUL in name", "NUL in value", "two values", "101 tags"],
)
async def test_a_guard_that_can_not_be_understood_lets_nothing_through(shared: Service, query: str, field: str) -> None:
    url, _, _ = await guarded(shared, {"plan": "gold"})
    for method in ("GET", "DELETE"):
        answer = await shared.call(method, f"{url}?{query}", expect=400)
        assert [error["field"] for error in answer["errors"]] == [field]
    await shared.call("GET", f"{url}?tag.plan=gold&tag.plan=gold")


@in_module
async def test_an_email_alone_invites_and_with_a_sub_it_makes_a_manager(shared: Service) -> None:
    url = f"{shared.consumers_url}/{(await shared.new_consumer())['name']}/managers"
    invite = await shared.call("POST", url, json={"email": "Ada@Example.com"})
    assert (invite["email"], invite["sub"]) == ("ada@example.com", None)
    manager = await shared.call("POST", url, json={"email": "bob@example.com", "sub": "s|1"})
    assert (manager["email"], manager["sub"]) == ("bob@example.com", "s|1")
    assert (await shared.call("GET", url))["data"] == [manager]
    with_invites = await shared.call("GET", url, params={"include-manager-invites": "true"})
    assert with_invites["data"] == [manager, invite]
    await shared.call("POST", url, json={"email": "ADA@example.com"}, expect=409)
    accepted = await shared.call("POST", url, json={"email": "ada@example.com", "sub": "s|2"})
    assert (accepted["id"], accepted["sub"]) == (invite["id"], "s|2")
    await shared.call("DELETE", f"{url}/{accepted['id']}", expect=204)
    await shared.call("DELETE", f"{url}/{accepted['id']}", expect=404)


@in_module
async def test_a_consumer_shows_managers_and_invites_where_they_are_asked_for(shared: Service) -> None:
    given = ["ada@example.com", {"email": "carol@example.com", "sub": "s|1"}, {"email": "eve@example.com"}]
    made = await shared.new_consumer(managers=given)
    assert [one["email"] for one in made["managers"]] == ["carol@example.com"]
    assert [one["email"] for one in made["managerInvites"]] == ["eve@example.com", "ada@example.com"]
    url = f"{shared.consumers_url}/{made['name']}"
    assert {"managers", "managerInvites"}.isdisjoint(await shared.call("GET", url))
    shown = await shared.call("GET", url, params={"include-managers": "true"})
    assert shown["managers"] == made["managers"]
    assert "managerInvites" not in shown
    mine = await shared.call("GET", shared.consumers_url, params={"manager-email": "CAROL@example.com"})
    assert [one["name"] for one in mine["data"]] == [made["name"]]


@in_module
@pytest.mark.parametrize("odd", ["", "nobody", "a b", "ada@", "a@b@c", "victim(1)@example.com", "x" * 320])
async def test_who_is_no_address_manages_nothing(shared: Service, odd: str) -> None:
    await shared.new_consumer(managers=["carol@example.com"])
    found = await shared.call("GET", shared.consumers_url, params={"manager-email": odd})
    assert (found["data"], found["total"]) == ([], 0)
