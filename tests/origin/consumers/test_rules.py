"""Rules of consumers, keys, managers, buckets and projects, through the API on both engines."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from keywright.domain.permissions import Access
from keywright.origin.db import tables
from keywright.origin.keys import store as key_rows
from keywright.protocol.changes import BucketPut
from support.record import head_of, log_of
from support.service import Service

CUSTOM = "my-own-secret-key-1"


async def rows(service: Service, statement: sa.Executable) -> list[Any]:
    async with service.app._database.read() as tx:
        return await tx.all(statement)


class TestTagGuards:
    async def test_a_write_past_the_guard_is_404_and_changes_nothing(self, service: Service) -> None:
        consumer = await service.new_consumer(tags={"plan": "gold", "region": "eu"})
        key = await service.new_key(consumer["name"])
        url = f"{service.consumers_url}/{consumer['name']}"
        before = await head_of(service.app._database)

        for guard in ("tag.plan=silver", "tag.plan=", "tag.other=gold", "tag.plan=gold&tag.region=us"):
            await service.call("PATCH", f"{url}?{guard}", json={"metadata": {"x": 1}}, expect=404)
            await service.call("DELETE", f"{url}?{guard}", expect=404)
            await service.call("POST", f"{url}/keys?{guard}", json={}, expect=404)
            await service.call("PATCH", f"{url}/keys/{key['id']}?{guard}", json={"expiresOn": None}, expect=404)
            await service.call("DELETE", f"{url}/keys/{key['id']}?{guard}", expect=404)
            await service.call("POST", f"{url}/roll-key?{guard}", expect=404)
            await service.call("POST", f"{url}/managers?{guard}", json={"email": "ada@example.com"}, expect=404)
            await service.call("GET", f"{url}?{guard}", expect=404)

        assert await head_of(service.app._database) == before
        assert await service.verdict(key["key"]) == "VALID"

    async def test_who_has_all_the_tags_passes(self, service: Service) -> None:
        consumer = await service.new_consumer(tags={"plan": "gold", "region": "eu"})
        await service.new_consumer(tags={"plan": "gold"})
        await service.new_consumer()
        url = f"{service.consumers_url}/{consumer['name']}"

        both = await service.call("GET", f"{service.consumers_url}?tag.plan=gold&tag.region=eu")
        one = await service.call("GET", f"{service.consumers_url}?tag.plan=gold")

        assert ([found["name"] for found in both["data"]], both["total"]) == ([consumer["name"]], 1)
        assert one["total"] == 2
        await service.call("PATCH", f"{url}?tag.region=eu", json={"tags": {"region": "us"}})
        await service.call("DELETE", f"{url}?tag.region=eu", expect=404)
        await service.call("DELETE", f"{url}?tag.region=us", expect=204)


class TestCustomKeys:
    async def test_are_unique_in_their_bucket_and_all_or_nothing(self, service: Service) -> None:
        one, other = await service.new_consumer(), await service.new_consumer()
        await service.new_key(one["name"], key=CUSTOM)
        url = f"{service.consumers_url}/{other['name']}/keys"
        before = await head_of(service.app._database)

        await service.call("POST", url, json={"key": CUSTOM}, expect=409)
        await service.call("POST", f"{url}/$bulk", json=[{}, {"key": CUSTOM}], expect=409)
        await service.call("POST", f"{url}/$bulk", json=[{"key": "twice-in-one-call"}] * 2, expect=409)
        body = {"name": "another", "apiKeys": [{"key": CUSTOM}]}
        await service.call("POST", service.consumers_url, json=body, expect=409)

        assert await head_of(service.app._database) == before
        await service.call("GET", f"{service.consumers_url}/another", expect=404)
        assert (await service.call("GET", url))["total"] == 0

    async def test_may_stand_in_two_buckets_and_are_judged_in_each(self, service: Service) -> None:
        first = await service.new_consumer()
        key = await service.new_key(first["name"], key=CUSTOM)
        other = f"{service.account_url}/key-buckets/my-project-preview/consumers"
        await service.call("POST", other, json={"name": "preview", "apiKeys": [{"key": CUSTOM}]})

        await service.call("DELETE", f"{service.consumers_url}/{first['name']}/keys/{key['id']}", expect=204)

        assert await service.verdict(CUSTOM) == "UNKNOWN"
        assert await service.verdict(CUSTOM, "my-project-preview") == "VALID"
        # Ended, it may be brought along again.
        await service.new_key(first["name"], key=CUSTOM)

    @pytest.mark.parametrize("secret", ["8-chars!", "x" * 512, "zpka_d67b7e241bb948758f415b79aa8ec822_00000000"])
    async def test_may_look_like_anything(self, embedded: Service, secret: str) -> None:
        consumer = await embedded.new_consumer()
        made = await embedded.new_key(consumer["name"], key=secret)
        assert made["key"] == secret
        assert await embedded.verdict(secret) == "VALID"
        url = f"{embedded.consumers_url}/{consumer['name']}/keys/{made['id']}"
        assert (await embedded.call("GET", f"{url}?key-format=visible"))["key"] == secret
        hint = (await embedded.call("GET", url))["key"].removeprefix("****")
        assert secret.endswith(hint)
        assert len(hint) <= len(secret) / 4


class TestIrretrievableBuckets:
    @pytest.fixture
    async def bucket(self, service: Service) -> str:
        body = {"name": "digests-only", "isRetrievable": False}
        await service.call("POST", f"{service.account_url}/key-buckets", json=body)
        service.bucket = "digests-only"
        return service.bucket

    @pytest.mark.usefixtures("bucket")
    async def test_showing_a_key_again_is_refused(self, service: Service) -> None:
        consumer = await service.new_consumer()
        key = await service.new_key(consumer["name"])
        url = f"{service.consumers_url}/{consumer['name']}"
        shown = {"key-format": "visible"}

        await service.call("GET", f"{url}/keys", params=shown, expect=400)
        await service.call("GET", f"{url}/keys/{key['id']}", params=shown, expect=400)
        await service.call("GET", url, params={**shown, "include-api-keys": "true"}, expect=400)
        await service.call("GET", service.consumers_url, params={**shown, "include-api-keys": "true"}, expect=400)

        assert (await service.call("GET", f"{url}/keys/{key['id']}"))["key"] == f"****{key['key'][-8:]}"
        assert await service.verdict(key["key"]) == "VALID"

    @pytest.mark.usefixtures("bucket")
    async def test_keep_digests_and_nothing_that_opens(self, service: Service) -> None:
        consumer = await service.new_consumer(apiKeys=[{}, {"key": CUSTOM}])
        await service.call("POST", f"{service.consumers_url}/{consumer['name']}/roll-key", expect=204)

        bucket = tables.buckets.c
        (row,) = await rows(
            service, sa.select(bucket.number, bucket.sealed_data_key).where(bucket.name == "digests-only")
        )
        found = await rows(service, sa.select(tables.keys).where(tables.keys.c.bucket_number == row.number))

        assert row.sealed_data_key is None
        assert len(found) == 3
        assert all(key.sealed is None and len(key.digest) == 32 for key in found)

    async def test_others_keep_what_opens_for_the_right_row_only(self, service: Service) -> None:
        consumer = await service.new_consumer(apiKeys=[{}, {}])
        one, other = consumer["apiKeys"]
        url = f"{service.consumers_url}/{consumer['name']}/keys"
        async with service.app._database.write() as tx:
            sealed = await tx.scalar(sa.select(tables.keys.c.sealed).where(tables.keys.c.id == one["id"]))
            await tx.execute(sa.update(tables.keys).where(tables.keys.c.id == other["id"]).values(sealed=sealed))

        # Somebody with the database alone can't have a secret shown as another key's: the seal breaks. It is our bug.
        await service.call("GET", f"{url}/{other['id']}?key-format=visible", expect=500)

        assert (await service.call("GET", f"{url}/{one['id']}?key-format=visible"))["key"] == one["key"]


class TestUpdatingKeys:
    async def test_a_secret_can_not_be_changed_but_sent_back(self, service: Service) -> None:
        consumer = await service.new_consumer()
        key = await service.new_key(consumer["name"])
        url = f"{service.consumers_url}/{consumer['name']}/keys/{key['id']}"

        await service.call("PATCH", url, json={"key": "something-else", "description": "d"}, expect=400)
        assert (await service.call("GET", url))["description"] is None

        for sent_back in (key["key"], f"****{key['key'][-8:]}"):
            changed = await service.call("PATCH", url, json={"key": sent_back, "description": sent_back[-3:]})
            assert changed["description"] == sent_back[-3:]

    async def test_an_expiry_counts_and_is_lifted_from_the_next_request_on(self, service: Service) -> None:
        consumer = await service.new_consumer()
        key = await service.new_key(consumer["name"], description="kept")
        url = f"{service.consumers_url}/{consumer['name']}/keys/{key['id']}"

        await service.call("PATCH", url, json={"expiresOn": "2001-01-01T00:00:00Z"})
        assert await service.verdict(key["key"]) == "EXPIRED"
        changed = await service.call("PATCH", url, json={"expiresOn": None})
        assert await service.verdict(key["key"]) == "VALID"
        assert changed["description"] == "kept"

    async def test_what_is_not_there_is_404(self, service: Service) -> None:
        consumer = await service.new_consumer()
        url = f"{service.consumers_url}/{consumer['name']}"
        for id in ("nothing", "key_" + "0" * 24, "%00", "schl%C3%BCssel", "%ED%A0%80"):
            for method, path in (("GET", "keys"), ("PATCH", "keys"), ("DELETE", "keys"), ("DELETE", "managers")):
                body = {"json": {}} if method == "PATCH" else {}
                await service.call(method, f"{url}/{path}/{id}", expect=404, **body)
            await service.call("GET", f"{service.consumers_url}/{id}", expect=404)
            await service.call("GET", f"{service.account_url}/projects/{id}", expect=404)
            await service.call("GET", f"{service.account_url}/key-buckets/{id}", expect=404)
            await service.call("GET", f"{service.account_url}/management-keys/{id}", expect=404)
            await service.call("DELETE", f"{service.bucket_url}/grants/{id}", expect=404)

    async def test_a_key_of_another_consumer_is_404(self, service: Service) -> None:
        one, other = await service.new_consumer(), await service.new_consumer()
        key = await service.new_key(one["name"])
        await service.call("DELETE", f"{service.consumers_url}/{other['name']}/keys/{key['id']}", expect=404)
        assert await service.verdict(key["key"]) == "VALID"


class TestManagers:
    async def test_an_address_stands_once_whatever_its_case(self, service: Service) -> None:
        consumer = await service.new_consumer(managers=["Ada@Example.com"])
        url = f"{service.consumers_url}/{consumer['name']}/managers"
        await service.call("POST", url, json={"email": "ada@example.COM"}, expect=409)
        both = {"name": "two", "managers": ["bob@example.com", {"email": "BOB@example.com", "sub": "b"}]}
        await service.call("POST", service.consumers_url, json=both, expect=409)
        await service.call("GET", f"{service.consumers_url}/two", expect=404)

    async def test_an_invite_becomes_a_manager_with_its_sub(self, service: Service) -> None:
        consumer = await service.new_consumer()
        url = f"{service.consumers_url}/{consumer['name']}/managers"
        invite = await service.call("POST", url, json={"email": "ada@example.com"})
        assert (await service.call("GET", url))["total"] == 0
        assert (await service.call("GET", f"{url}?include-manager-invites=true"))["total"] == 1

        manager = await service.call("POST", url, json={"email": "ADA@example.com", "sub": "auth0|1"})

        assert (manager["id"], manager["sub"]) == (invite["id"], "auth0|1")
        await service.call("POST", url, json={"email": "ada@example.com", "sub": "auth0|2"}, expect=409)
        assert (await service.call("GET", url))["total"] == 1
        await service.call("DELETE", f"{url}/{manager['id']}", expect=204)
        await service.call("DELETE", f"{url}/{manager['id']}", expect=404)

    async def test_consumers_are_found_by_who_manages_or_is_invited(self, service: Service) -> None:
        await service.new_consumer(
            name="managed", managers=[{"email": "ada@example.com", "sub": "a"}, "bob@example.com"]
        )
        await service.new_consumer(name="invited", managers=["ada@example.com"])
        await service.new_consumer(name="neither", managers=["eve@example.com"])
        asked = {"manager-email": "ADA@example.com", "include-managers": "true", "include-manager-invites": "true"}

        found = await service.call("GET", service.consumers_url, params=asked)

        shape = {
            consumer["name"]: (
                [m["email"] for m in consumer["managers"]],
                [i["email"] for i in consumer["managerInvites"]],
            )
            for consumer in found["data"]
        }
        assert shape == {"invited": ([], ["ada@example.com"]), "managed": (["ada@example.com"], ["bob@example.com"])}
        one = await service.call("GET", f"{service.consumers_url}/managed", params={"include-managers": "true"})
        assert "managerInvites" not in one


class TestLimits:
    async def test_metadata_and_tags_beyond_their_limits_change_nothing(self, service: Service) -> None:
        consumer = await service.new_consumer(metadata={"x": "y" * 1015})
        url = f"{service.consumers_url}/{consumer['name']}"
        for body in (
            {"metadata": {"x": "y" * 1017}},
            {"tags": dict.fromkeys("abcdef", "")},
            {"metadata": {"x": "é" * 600}},
        ):
            answer = await service.call("PATCH", url, json=body, expect=400)
            assert answer["errors"][0]["field"].startswith("body.")
            await service.call("POST", service.consumers_url, json={"name": "new", **body}, expect=400)
        # Exactly a KiB, in bytes.
        await service.call("PATCH", url, json={"metadata": {"x": "y" * 1016}, "tags": dict.fromkeys("abcde", "")})
        tags = dict.fromkeys("abcdef", "")
        await service.call("PATCH", service.bucket_url, json={"tags": tags}, expect=400)
        await service.call(
            "POST", f"{service.account_url}/key-buckets", json={"name": "tagged", "tags": tags}, expect=400
        )

    async def test_null_empties_and_what_is_left_out_stays(self, service: Service) -> None:
        consumer = await service.new_consumer(
            metadata={"b": 1, "a": [2.5, None]}, tags={"z": "1", "a": "2"}, description="d"
        )
        url = f"{service.consumers_url}/{consumer['name']}"
        assert list(consumer["metadata"]) == ["b", "a"]
        assert list(consumer["tags"]) == ["z", "a"]

        changed = await service.call("PATCH", url, json={"metadata": None})
        assert (changed["metadata"], changed["tags"], changed["description"]) == ({}, {"z": "1", "a": "2"}, "d")
        changed = await service.call("PATCH", url, json={"tags": None, "description": None})
        assert (changed["tags"], changed["description"]) == ({}, None)

        bucket = await service.call("PATCH", service.bucket_url, json={"description": "d", "tags": {"a": "b"}})
        assert (bucket["description"], bucket["tags"]) == ("d", {"a": "b"})
        assert (await service.call("PATCH", service.bucket_url, json={"tags": None}))["description"] == "d"


class TestProjects:
    async def test_a_project_in_use_is_kept(self, service: Service) -> None:
        consumer = await service.new_consumer()
        url = f"{service.account_url}/projects/my-project"

        answer = await service.call("DELETE", url, expect=409)

        assert service.bucket in answer["detail"]
        assert len((await service.call("GET", url))["environments"]) == 3
        await service.call("DELETE", f"{service.consumers_url}/{consumer['name']}", expect=204)
        await service.call("DELETE", url, expect=204)
        await service.call("GET", url, expect=404)
        await service.call("GET", service.bucket_url, expect=404)
        assert (await service.call("GET", f"{service.account_url}/key-buckets"))["total"] == 0

    async def test_a_bucket_name_that_is_taken_is_made_longer(self, service: Service) -> None:
        await service.call("POST", f"{service.account_url}/key-buckets", json={"name": "shop-production"})
        made = await service.call("POST", f"{service.account_url}/projects", json={"name": "shop"})
        assert list(made["environments"]) == ["production", "preview", "working-copy"]
        assert made["environments"]["preview"] == "shop-preview"
        assert made["environments"]["production"].startswith("shop-production-")
        await service.call("POST", f"{service.account_url}/projects", json={"name": "shop"}, expect=409)
        listed = await service.call("GET", f"{service.account_url}/projects")
        assert [project["name"] for project in listed["data"]] == ["shop", "my-project"]

    async def test_a_bucket_that_was_deleted_leaves_its_project(self, service: Service) -> None:
        await service.call("DELETE", service.bucket_url, expect=204)
        project = await service.call("GET", f"{service.account_url}/projects/my-project")
        assert list(project["environments"]) == ["preview", "working-copy"]
        await service.call("DELETE", f"{service.account_url}/projects/my-project", expect=204)


class TestSharing:
    @pytest.fixture(autouse=True)
    async def partner(self, service: Service) -> None:
        await service.call("POST", "/v1/accounts", json={"name": "partner-account"})

    async def test_with_itself_or_nobody_is_refused(self, service: Service) -> None:
        url = f"{service.bucket_url}/grants"
        await service.call("POST", url, json={"account": service.account, "access": "read"}, expect=400)
        await service.call("POST", url, json={"account": "nobody", "access": "read"}, expect=404)
        await service.call("DELETE", f"{url}/nobody", expect=404)
        assert (await service.call("GET", url))["total"] == 0

    async def test_again_changes_the_access_and_each_is_one_change(self, service: Service) -> None:
        url = f"{service.bucket_url}/grants"
        before = await head_of(service.app._database)

        await service.call("POST", url, json={"account": "partner-account", "access": "validate"})
        await service.call("POST", url, json={"account": "partner-account", "access": "write"})
        (grant,) = (await service.call("GET", url))["data"]
        await service.call("DELETE", f"{url}/partner-account", expect=204)

        assert (grant["account"], grant["access"]) == ("partner-account", "write")
        puts = [change for _, change in (await log_of(service.app._database))[before:]]
        assert all(isinstance(put, BucketPut) for put in puts)
        held = [list(put.grants.values()) for put in puts if isinstance(put, BucketPut)]
        assert held == [[Access.VALIDATE], [Access.WRITE], []]


async def test_deleting_a_bucket_ends_all_its_keys_and_frees_its_name(service: Service) -> None:
    key = await service.new_key((await service.new_consumer())["name"], key=CUSTOM)
    await service.call("DELETE", service.bucket_url, expect=204)
    await service.call("POST", f"/v1/validate/{service.bucket}", json={"key": key["key"]}, expect=404)

    await service.call("POST", f"{service.account_url}/key-buckets", json={"name": service.bucket})

    assert await service.verdict(CUSTOM) == "UNKNOWN"
    assert (await service.call("GET", service.consumers_url))["total"] == 0


async def test_a_thousand_keys_in_one_call_are_all_there_in_order(service: Service) -> None:
    consumer = await service.new_consumer()
    drafts = [{"description": str(number)} for number in range(1000)]
    url = f"{service.consumers_url}/{consumer['name']}/keys"

    made = await service.call("POST", f"{url}/$bulk", json=drafts)

    assert [key["description"] for key in made["data"]] == [str(number) for number in range(1000)]
    listed = await service.call("GET", url, params={"key-format": "visible"})
    assert [(key["id"], key["key"]) for key in listed["data"]] == [
        (key["id"], key["key"]) for key in reversed(made["data"])
    ]
    assert {await service.verdict(key["key"]) for key in made["data"][::50]} == {"VALID"}


async def test_a_row_holds_a_digest_a_hint_and_at_most_a_seal(service: Service) -> None:
    consumer = await service.new_consumer()
    key = await service.new_key(consumer["name"])
    (row,) = await rows(service, sa.select(tables.keys).where(tables.keys.c.id == key["id"]))
    values = repr(tuple(row))
    assert key["key"][5:21] not in values
    assert row.hint == key["key"][-8:]
    assert "sealed" not in repr(key_rows.NewKey("id", row.digest, row.hint, None, None, row.sealed))
