"""Members of bodies, of every operation that has one: none is passed over in silence, and none is emptied by null."""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from jsonschema import Draft202012Validator

from origin.world import Operation, address, ask, check, every_operation, make_names, rows_of, send
from support import identity
from support import service as services
from support.identity import ADA, IdentityProvider
from support.service import Service

in_module = pytest.mark.asyncio(loop_scope="module")

WITH_BODY = [one for one in every_operation() if one.body is not None and not one.path.startswith("/v1/validate")]
Place = tuple[str | int, ...]
Names = dict[str, str]


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    with identity.running() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def open_to_users(provider: IdentityProvider, quick_dir: Path) -> AsyncIterator[tuple[Service, Names]]:
    """A service, the names of things in it, and what Ada manages: `token` is hers."""
    settings = services.settings_for(quick_dir / "members", end_users=services.end_users_of(provider))
    async with services.running(settings) as service:
        names = await make_names(service)
        url = f"{service.consumers_url}/{names['consumerName']}"
        await service.call("POST", f"{url}/managers", json={"email": ADA["email"], "sub": ADA["sub"]})
        names["consumerId"] = (await service.call("GET", url))["id"]
        names["token"] = provider.token(ADA)
        await service.call("PATCH", service.bucket_url, json={"selfServe": {"createConsumers": True}})
        yield service, names


async def refused(service: Service, names: Names, operation: Operation, body: Any, field: str) -> str:
    """The message that a field of this body is refused with."""
    target, content = address(operation, names), json.dumps(body).encode()
    if operation.is_for_end_users:
        headers = [("authorization", f"Bearer {names['token']}"), ("content-type", "application/json")]
        answer = await send(service.app, operation.method, target, headers=headers, chunks=[content])
    else:
        answer = await ask(service, operation.method, target, content)
    assert answer is not None
    check(answer, content.decode(), field=field)
    return next(str(one["message"]) for one in answer.json()["errors"] if one["field"] == field)


def objects_in(schema: dict[str, Any], place: Place = ()) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Every object of a body's schema whose members have names, with its place in the body."""
    for one in schema.get("anyOf", [schema]):
        if one.get("type") == "array":
            yield from objects_in(one["items"], (*place, 0))
        if one.get("type") == "object" and "properties" in one:
            yield place, one
            for name, field in one["properties"].items():
                yield from objects_in(field, (*place, name))


def body_at(operation: Operation, place: Place, object_schema: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A body that would be taken, with an object at this place, which is returned beside it."""
    body = copy.deepcopy(operation.example)
    holder = body
    for part, following in zip(place, (*place[1:], None), strict=False):
        fresh: Any = [] if following == 0 else minimal(object_schema)
        if isinstance(holder, list):
            holder[:] = holder or [fresh]
        else:
            assert isinstance(part, str)
            holder[part] = holder.get(part) or fresh
        holder = holder[part]
    return body, holder


def minimal(schema: dict[str, Any]) -> dict[str, Any]:
    return {name: schema["properties"][name]["examples"][0] for name in schema.get("required", ())}


def written(place: Place, name: str) -> str:
    return ".".join(map(str, ("body", *place, name)))


def cases() -> Iterator[Any]:
    for operation in WITH_BODY:
        assert operation.body is not None
        for place, schema in objects_in(operation.body):
            yield pytest.param(operation, place, schema, id=f"{operation} {'.'.join(map(str, place))}".strip())


@pytest.mark.parametrize(("operation", "place", "schema"), list(cases()))
@in_module
async def test_an_unknown_member_is_refused_and_the_nearest_known_one_named(
    open_to_users: tuple[Service, Names], operation: Operation, place: Place, schema: dict[str, Any]
) -> None:
    service, names = open_to_users
    before = await rows_of(service)
    assert schema["additionalProperties"] is False
    settable = [
        name for name, field in schema["properties"].items() if "Set by the service" not in field.get("description", "")
    ]
    for name in settable:
        for misspelt in (name[:2] + name[3:], name.upper() + "S", snake(name) + "_"):
            body, holder = body_at(operation, place, schema)
            holder[misspelt] = None
            message = await refused(service, names, operation, body, written(place, misspelt))
            assert message == f"is not known here; did you mean {name}?", misspelt
    body, holder = body_at(operation, place, schema)
    holder["zzz"] = {"root": True}
    message = await refused(service, names, operation, body, written(place, "zzz"))
    assert message == f"is not known here; there is {', '.join(settable)}"
    assert await rows_of(service) == before


@pytest.mark.parametrize(("operation", "place", "schema"), list(cases()))
@in_module
async def test_null_is_refused_but_where_an_answer_may_have_it(
    open_to_users: tuple[Service, Names], operation: Operation, place: Place, schema: dict[str, Any]
) -> None:
    service, names = open_to_users
    before = await rows_of(service)
    nullable = set()
    for name, field in schema["properties"].items():
        if field.get("description", "").startswith(("Set by the service", "Can't be changed")):
            continue
        if Draft202012Validator(field).is_valid(None):
            nullable.add(name)
            continue
        body, holder = body_at(operation, place, schema)
        holder[name] = None
        message = await refused(service, names, operation, body, written(place, name))
        assert "null" in message
    texts_of_a_portal = {"name", "color", "supportEmail", "apiUrl", "logo"} if "/portal" in operation.path else set()
    empty = {"description", "label", "expiresOn", "maxStalenessSeconds", "sub", "issuer", "scopes", "allowedIps"}
    empty |= {"plan", "rateLimits", "quotas"}
    assert nullable <= empty | texts_of_a_portal
    assert "roll" not in operation.path or not nullable
    assert await rows_of(service) == before


def snake(name: str) -> str:
    return "".join(f"_{one.lower()}" if one.isupper() else one for one in name)


ANYTHING = {"id": [7], "createdOn": "yesterday", "updatedOn": None}


@in_module
async def test_what_is_read_may_be_sent_back(open_to_users: tuple[Service, Names]) -> None:
    service, names = open_to_users
    everything = {
        "include-api-keys": "true", "include-managers": "true", "include-manager-invites": "true",
    }  # fmt: skip
    made = await service.new_consumer(apiKeys=[{"expiresOn": "2099-01-01T00:00:00Z"}, {}], managers=["eve@example.com"])
    url = f"{service.consumers_url}/{made['name']}"
    for shown in ("masked", "visible", "none"):
        read = await service.call("GET", url, params={**everything, "key-format": shown})
        await service.call("PATCH", url, json={**read, "description": shown, "updatedOn": "2001-01-01T00:00:00Z"})
        (key, _) = read["apiKeys"]
        await service.call("PATCH", f"{url}/keys/{key['id']}", json={**key, "createdOn": 7})
    portal = await service.call("GET", f"{service.bucket_url}/portal")
    await service.call("PATCH", f"{service.bucket_url}/portal", json={**portal, "logoUrl": "/elsewhere"})
    body = {"name": "sent-back", "keyPrefix": "abc", "isRetrievable": False, **ANYTHING}
    bucket = await service.call("POST", f"{service.account_url}/key-buckets", json=body)
    for sent in (bucket, await service.call("GET", f"{service.account_url}/key-buckets/sent-back")):
        await service.call("PATCH", f"{service.account_url}/key-buckets/sent-back", json={**sent, **ANYTHING})
    mine = f"/v1/self-serve/{service.bucket}/consumers"
    (consumer, *_) = (await service.call("GET", f"{mine}/my", key=names["token"]))["data"]
    await service.call("PATCH", f"{mine}/{consumer['name']}", json=consumer, key=names["token"])
    by_id = f"/v2/client/{service.bucket}/consumers"
    (consumer, *_) = (await service.call("GET", by_id, key=names["token"]))["data"]
    await service.call("PATCH", f"{by_id}/{consumer['id']}", json=consumer, key=names["token"])
    for path, body in (
        (f"{url}/keys", {}), (f"{url}/managers", {"email": "sent-back@example.com"}),
        (service.consumers_url, {"name": "s"}),
        (f"{service.bucket_url}/owner-keys", {}), (f"{service.account_url}/management-keys", {"permissions": {}}),
        ("/v1/accounts", {"name": "sent-back"}), (f"{service.account_url}/projects", {"name": "sent-back"}),
    ):  # fmt: skip
        read_only = {
            name: value for name, value in ANYTHING.items() if (name, path) != ("updatedOn", f"{url}/managers")
        }
        await service.call("POST", path, json={**body, **read_only})


@in_module
async def test_what_can_not_be_changed_is_refused_unless_it_repeats_what_is_there(
    open_to_users: tuple[Service, Names],
) -> None:
    service, names = open_to_users
    made = await service.new_consumer(apiKeys=[{}, {}], managers=["eve@example.com", {"email": "a@b.c", "sub": "s"}])
    url = f"{service.consumers_url}/{made['name']}"
    (key, other), (manager,), (invite,) = made["apiKeys"], made["managers"], made["managerInvites"]
    mine = f"/v1/self-serve/{service.bucket}/consumers/{names['consumerName']}"
    client = f"/v2/client/{service.bucket}/consumers/{names['consumerId']}"
    before = await rows_of(service)
    for place, name, values in [
        (url, "name", ["renamed", None, 7, made["name"].upper()]),
        (url, "apiKeys", [None, [], [{}], [key], [key, key], [key, {**other, "key": "****12345678"}], {"data": []},
                          [key, {**other, "description": "new"}], [key, {**other, "expiresOn": "2099-01-01T00:00:00Z"}],
                          [key, {**other, "surprise": 1}], [{**key, "id": []}, other], [{**key, "key": {}}, other]]),
        (url, "managers", [None, [], ["a@b.c"], [{**manager, "sub": "t"}], [manager, invite]]),
        (url, "managerInvites", [[], [{**invite, "email": "other@example.com"}], "eve@example.com"]),
        (f"{url}/keys/{key['id']}", "key", ["something-else", "****00000000", ""]),
        (service.bucket_url, "name", ["renamed-bucket", None]),
        (service.bucket_url, "isRetrievable", [False, 1, None, "true"]),
        (service.bucket_url, "ownerKey", [None, key, {}]),
        (mine, "name", ["renamed"]),
        (mine, "apiKeys", [[], [key]]),
        (client, "subject", ["renamed"]),
        (client, "expiresOn", ["2099-01-01T00:00:00Z"]),
        (client, "apiKeys", [[], {"data": []}, {"data": [key]}, {}]),
    ]:  # fmt: skip
        token = names["token"] if place in (mine, client) else None
        for value in values:
            options = {"json": {name: value, "description" if place != client else "label": "changed"}}
            answer = await service.call("PATCH", place, expect=400, key=token, **options)
            assert [error["field"] for error in answer["errors"]] == [f"body.{name}"], value
    assert await rows_of(service) == before


PAST = "2001-01-01T00:00:00Z"


@in_module
async def test_an_end_in_the_past_is_refused_where_a_key_is_made(open_to_users: tuple[Service, Names]) -> None:
    service, names = open_to_users
    made = await service.new_consumer()
    url = f"{service.consumers_url}/{made['name']}"
    mine = f"/v1/self-serve/{service.bucket}/consumers/{names['consumerName']}/keys"
    before = await rows_of(service)
    for place, body, field, token in (
        (f"{url}/keys", {"expiresOn": PAST}, "body.expiresOn", None),
        (f"{url}/keys/$bulk", [{}, {"expiresOn": PAST}], "body.1.expiresOn", None),
        (f"{service.bucket_url}/owner-keys", {"expiresOn": PAST}, "body.expiresOn", None),
        (f"{service.account_url}/management-keys", {"expiresOn": PAST, "permissions": {}}, "body.expiresOn", None),
        (mine, {"expiresOn": PAST}, "body.expiresOn", names["token"]),
    ):
        answer = await service.call("POST", place, json=body, expect=400, key=token)
        assert answer["errors"] == [{"field": field, "message": "must lie in the future"}]
    assert await rows_of(service) == before


@in_module
async def test_an_end_in_the_past_is_taken_with_a_key_that_was_made_elsewhere(
    open_to_users: tuple[Service, Names],
) -> None:
    service, _ = open_to_users
    made = await service.new_consumer(apiKeys=[{"expiresOn": PAST}, {"expiresOn": PAST, "key": "ended-elsewhere-1"}])
    assert [await service.verdict(key["key"]) for key in made["apiKeys"]] == ["EXPIRED", "EXPIRED"]
    key = await service.new_key(made["name"], expiresOn=PAST, key="ended-elsewhere-2")
    assert await service.verdict(key["key"]) == "EXPIRED"


async def test_a_deployment_that_must_may_ignore_unknown_members(tmp_path: Path) -> None:
    settings = services.settings_for(tmp_path / "data", unknown_members="ignore")
    async with services.running(settings) as service:
        made = await service.new_consumer(metdata={}, apiKeys=[{"expiresAt": PAST}])
        assert await service.verdict(made["apiKeys"][0]["key"]) == "VALID"
        url = f"{service.consumers_url}/{made['name']}"
        # What would change what can't be changed is no unknown member.
        await service.call("PATCH", url, json={"name": "renamed"}, expect=400)
        await service.call("POST", f"{url}/roll-key", json={"expiresOn": None}, expect=400)
        schemas = (await service.call("GET", "/openapi.json"))["components"]["schemas"]
        assert "additionalProperties" not in schemas["ConsumerCreate"]
