"""The provider's own credentials: nobody hands on more than they hold, and root is seen by root alone."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from keywright.domain.models import to_iso
from keywright.origin.db import tables
from keywright.origin.db.transaction import Database
from keywright.serve import root_keys
from support import service as services
from support.service import ROOT_KEY, Service


@pytest.fixture
def keys_url(embedded: Service) -> str:
    return f"{embedded.account_url}/management-keys"


@pytest.mark.parametrize(
    ("held", "asked", "expect"),
    [
        ({"account": "write"}, {"account": "write", "buckets": {"*": "write"}, "feed": True}, 200),
        ({"account": "write"}, {"account": "read"}, 200),
        ({"account": "read"}, {"account": "none"}, 403),
        ({"account": "none", "buckets": {"*": "write"}}, {"account": "none"}, 403),
        ({"feed": True}, {"feed": True}, 403),
    ],
)
async def test_only_who_may_write_to_the_account_hands_on_and_no_more_than_it_has(
    embedded: Service, keys_url: str, held: dict[str, Any], asked: dict[str, Any], expect: int
) -> None:
    key = await embedded.new_management_key(**held)
    await embedded.call("POST", keys_url, key=key, json={"permissions": asked}, expect=expect)


async def test_the_root_key_is_invisible_to_who_is_not_root(embedded: Service, keys_url: str) -> None:
    root_id = (await embedded.call("GET", "/v1/who-am-i"))["sub"]
    writer = await embedded.new_management_key(account="write")

    listed = await embedded.call("GET", keys_url, key=writer)
    assert root_id not in {key["id"] for key in listed["data"]}
    assert listed["total"] == 1
    await embedded.call("GET", f"{keys_url}/{root_id}", key=writer, expect=404)
    await embedded.call("DELETE", f"{keys_url}/{root_id}", key=writer, expect=404)

    assert root_id in {key["id"] for key in (await embedded.call("GET", keys_url))["data"]}
    assert (await embedded.call("GET", "/v1/who-am-i"))["account"] == embedded.account


async def test_the_last_root_key_can_not_be_ended_through_the_api(embedded: Service, keys_url: str) -> None:
    root_id = (await embedded.call("GET", "/v1/who-am-i"))["sub"]
    refused = await embedded.call("DELETE", f"{keys_url}/{root_id}", expect=409)
    assert "keywright root-key create" in refused["detail"]
    await embedded.call("GET", "/v1/who-am-i")


async def test_a_root_key_can_end_itself_where_there_is_another(embedded: Service, keys_url: str) -> None:
    root_id = (await embedded.call("GET", "/v1/who-am-i"))["sub"]
    other, secret = await root_keys.create(embedded.settings, account_name=None, description=None)
    await embedded.call("DELETE", f"{keys_url}/{root_id}", expect=204)
    await embedded.call("GET", "/v1/who-am-i", expect=401)
    await embedded.call("DELETE", f"{keys_url}/{other.key.id}", key=secret.reveal(), expect=409)


async def test_an_ended_root_key_is_no_other_one(embedded: Service, keys_url: str) -> None:
    root_id = (await embedded.call("GET", "/v1/who-am-i"))["sub"]
    other, _ = await root_keys.create(embedded.settings, account_name=None, description=None)
    database = Database(embedded.settings.database_url)
    async with database.write() as tx:
        ended = sa.update(tables.keys).where(tables.keys.c.id == other.key.id)
        await tx.execute(ended.values(expires_at=datetime(2020, 1, 1, tzinfo=UTC)))
    await database.close()
    await embedded.call("DELETE", f"{keys_url}/{root_id}", expect=409)


async def test_of_two_root_keys_that_end_themselves_at_once_one_is_left(embedded: Service, keys_url: str) -> None:
    first = (await embedded.call("GET", "/v1/who-am-i"))["sub"]
    for _ in range(5):
        other, secret = await root_keys.create(embedded.settings, account_name=None, description=None)
        by_id = {first: ROOT_KEY, other.key.id: secret.reveal()}
        answers = await asyncio.gather(
            *(
                embedded.client.delete(f"{keys_url}/{id}", headers={"Authorization": f"Bearer {key}"})
                for id, key in by_id.items()
            )
        )
        assert sorted(answer.status_code for answer in answers) == [204, 409]
        left = [key.key.id for key in await root_keys.list_of(embedded.settings)]
        assert len(left) == 1
        if left != [first]:
            return


async def test_management_keys_are_paged_masked_and_shown_once(embedded: Service, keys_url: str) -> None:
    made = [await embedded.call("POST", keys_url, json={"permissions": {}, "description": str(n)}) for n in range(5)]

    page = await embedded.call("GET", keys_url, params={"limit": "2", "offset": "1"})

    assert [key["id"] for key in page["data"]] == [made[3]["id"], made[2]["id"]]
    assert page["total"] == 6
    assert page["data"][0]["key"] == "****" + made[3]["key"][-8:]
    read = await embedded.call("GET", f"{keys_url}/{made[0]['id']}")
    assert (read["description"], read["key"]) == ("0", "****" + made[0]["key"][-8:])


async def test_an_owner_key_ends_with_its_bucket_and_opens_no_other_of_its_name(embedded: Service) -> None:
    url = f"{embedded.account_url}/key-buckets"
    owner = (await embedded.call("POST", url, json={"name": "again"}))["ownerKey"]["key"]
    await embedded.call("POST", f"{url}/again/consumers", key=owner, json={"name": "acme"})
    await embedded.call("DELETE", f"{url}/again", key=owner, expect=204)

    await embedded.call("POST", url, json={"name": "again"})

    await embedded.call("GET", f"{url}/again", key=owner, expect=401)


async def test_owner_keys_are_replaced_one_by_one(embedded: Service) -> None:
    url = f"{embedded.bucket_url}/owner-keys"
    (first,) = (await embedded.call("GET", url))["data"]
    second = await embedded.call("POST", url, json={"description": "rotation"})

    await embedded.call("DELETE", f"{url}/{first['id']}", key=second["key"], expect=204)

    assert [key["id"] for key in (await embedded.call("GET", url))["data"]] == [second["id"]]
    await embedded.call("GET", f"{url}/{first['id']}", expect=404)
    await embedded.call("DELETE", f"{url}/{first['id']}", expect=404)


async def test_management_keys_are_no_keys_of_any_bucket(embedded: Service) -> None:
    writer = await embedded.new_management_key(account="write")
    for bucket in (embedded.bucket, "my-project-preview"):
        assert await embedded.verdict(writer, bucket) == "UNKNOWN"
        assert await embedded.verdict(ROOT_KEY, bucket) == "UNKNOWN"
    # Nor is the bucket that they are in there for anybody.
    await embedded.call("POST", "/v1/validate/_system", json={"key": writer}, expect=404)
    await embedded.call("GET", f"{embedded.account_url}/key-buckets/_system", expect=404)
    await embedded.call("GET", f"{embedded.account_url}/key-buckets/_system/consumers", expect=404)


async def test_a_root_key_that_was_brought_along_works_whatever_it_looks_like(tmp_path: Any) -> None:
    from keywright.domain.keyformat import Secret

    looks_mistyped = "zpka_d67b7e241bb948758f415b79aa8ec822_00000000"
    settings = services.settings_for(tmp_path / "data", bootstrap_key=Secret(looks_mistyped))
    async with services.running(settings, headers={"Authorization": f"Bearer {looks_mistyped}"}) as service:
        assert (await service.call("GET", "/v1/who-am-i"))["account"] == "my-account"


@pytest.mark.parametrize(
    ("header", "expect"),
    [
        ("", 401),
        ("Bearer", 401),
        ("Bearer ", 401),
        (f"Basic {ROOT_KEY}", 401),
        (f"Bearer{ROOT_KEY}", 401),
        (f"Bearer {ROOT_KEY} {ROOT_KEY}", 401),
        (f"Bearer {ROOT_KEY}x", 401),
        (f"Bearer {'x' * 513}", 401),
        (ROOT_KEY, 401),
        (f"bearer  {ROOT_KEY}", 200),
        (f"BEARER {ROOT_KEY}", 200),
    ],
)
async def test_a_caller_is_known_by_one_bearer_header(embedded: Service, header: str, expect: int) -> None:
    response = await embedded.client.get("/v1/who-am-i", headers={"Authorization": header})
    assert response.status_code == expect
    if expect == 401:
        challenge = response.headers["www-authenticate"]
        is_wrong_key = header.lower().startswith("bearer ") and bool(header[7:].strip())
        # RFC 6750: an error code only where a credential was shown.
        assert ('error="invalid_token"' in challenge) is is_wrong_key
        assert ROOT_KEY not in response.text


async def test_a_key_that_ends_makes_none_that_outlives_it(embedded: Service) -> None:
    url = f"{embedded.account_url}/management-keys"
    body = {"permissions": {"account": "write"}, "expiresOn": "2126-01-01T00:00:00Z"}
    short = (await embedded.call("POST", url, json=body))["key"]
    for address, wanted in ((url, {"permissions": {"account": "read"}}), (f"{embedded.bucket_url}/owner-keys", {})):
        await embedded.call("POST", address, key=short, json=wanted, expect=403)
        later = {**wanted, "expiresOn": "2126-01-01T00:00:01Z"}
        await embedded.call("POST", address, key=short, json=later, expect=403)
        await embedded.call("POST", address, key=short, json={**wanted, "expiresOn": "2126-01-01T00:00:00Z"})


async def test_nothing_that_a_key_makes_for_management_outlives_it(service: Service) -> None:
    end = to_iso(datetime.now(UTC) + timedelta(hours=1))
    body = {"permissions": {"account": "write"}, "expiresOn": end}
    maker = (await service.call("POST", f"{service.account_url}/management-keys", json=body))["key"]
    buckets = f"{service.account_url}/key-buckets"

    made = await service.call("POST", buckets, json={"name": "by-one-that-ends"}, key=maker)
    project = await service.call("POST", f"{service.account_url}/projects", json={"name": "ends"}, key=maker)

    assert made["ownerKey"]["expiresOn"] == end
    for name in ("by-one-that-ends", *project["environments"].values()):
        (owner,) = (await service.call("GET", f"{buckets}/{name}/owner-keys"))["data"]
        assert owner["expiresOn"] == end
    # The owner key, which ends as well, makes none that lasts.
    for later in ({}, {"expiresOn": None}, {"expiresOn": "2099-01-01T00:00:00Z"}):
        for key in (maker, made["ownerKey"]["key"]):
            await service.call("POST", f"{buckets}/by-one-that-ends/owner-keys", json=later, key=key, expect=403)
        await service.call(
            "POST", f"{service.account_url}/management-keys", json={"permissions": {}, **later}, key=maker, expect=403
        )
    # What customers have is the account's, and stays.
    body = {"name": "a-customer", "apiKeys": [{}]}
    consumer = await service.call("POST", f"{buckets}/by-one-that-ends/consumers", json=body, key=maker)
    assert consumer["apiKeys"][0]["expiresOn"] is None


async def test_what_a_key_without_end_makes_has_none(service: Service) -> None:
    made = await service.call("POST", f"{service.account_url}/key-buckets", json={"name": "by-one-without-end"})
    assert made["ownerKey"]["expiresOn"] is None
