"""Rules of consumers and their managers, through the API on both engines."""

from __future__ import annotations

import asyncio

import pytest

from support.record import head_of
from support.service import Service


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
            await service.call("POST", f"{url}/roll-key?{guard}", json={}, expect=404)
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


@pytest.mark.parametrize("action", ["PATCH", "DELETE"])
async def test_a_tag_guard_holds_against_a_writer_that_was_first(service: Service, action: str) -> None:
    consumer = await service.new_consumer(tags={"org": "gold"})
    url = f"{service.consumers_url}/{consumer['name']}"
    for _ in range(5):
        await service.call("PATCH", url, json={"tags": {"org": "gold"}})
        retag = service.client.patch(url, json={"tags": {"org": "silver"}})
        guarded = service.client.request(action, f"{url}?tag.org=gold", json={} if action == "PATCH" else None)
        first, second = await asyncio.gather(retag, guarded)
        # Either order is right; a write that was guarded by gold comes first or finds nothing.
        if second.status_code == 404:
            assert (await service.call("GET", url))["tags"] == {"org": "silver"}
        elif action == "DELETE":
            assert (first.status_code, second.status_code) == (404, 204)
            return


class TestManagers:
    async def test_an_address_stands_once_whatever_its_case(self, service: Service) -> None:
        consumer = await service.new_consumer(managers=["Ada@Example.com"])
        url = f"{service.consumers_url}/{consumer['name']}/managers"
        await service.call("POST", url, json={"email": "ada@example.COM"}, expect=409)
        both = {"name": "two", "managers": ["bob@example.com", {"email": "BOB@example.com", "sub": "b"}]}
        await service.call("POST", service.consumers_url, json=both, expect=409)
        await service.call("GET", f"{service.consumers_url}/two", expect=404)

    @pytest.mark.parametrize(
        "email", ["victim(1)@example.com", '"victim"@example.com', "victim@example.com.", "v@\uff45.com"]
    )
    async def test_an_address_that_does_not_parse_to_itself_comes_in_by_no_door(
        self, service: Service, email: str
    ) -> None:
        consumer = await service.new_consumer()
        managers = f"{service.consumers_url}/{consumer['name']}/managers"
        for url, body in [
            (managers, {"email": email}),
            (managers, {"email": email, "sub": "auth0|1"}),
            (service.consumers_url, {"name": "two", "managers": [email]}),
            (service.consumers_url, {"name": "two", "managers": [{"email": email}]}),
        ]:
            await service.call("POST", url, json=body, expect=400)
        await service.call("PATCH", f"{service.bucket_url}/portal", json={"supportEmail": email}, expect=400)

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

    async def test_an_empty_object_empties_and_what_is_left_out_stays(self, service: Service) -> None:
        consumer = await service.new_consumer(
            metadata={"b": 1, "a": [2.5, None]}, tags={"z": "1", "a": "2"}, description="d"
        )
        url = f"{service.consumers_url}/{consumer['name']}"
        assert list(consumer["metadata"]) == ["b", "a"]
        assert list(consumer["tags"]) == ["z", "a"]

        changed = await service.call("PATCH", url, json={"metadata": {}})
        assert (changed["metadata"], changed["tags"], changed["description"]) == ({}, {"z": "1", "a": "2"}, "d")
        changed = await service.call("PATCH", url, json={"tags": {}, "description": None})
        assert (changed["tags"], changed["description"]) == ({}, None)

        bucket = await service.call("PATCH", service.bucket_url, json={"description": "d", "tags": {"a": "b"}})
        assert (bucket["description"], bucket["tags"]) == ("d", {"a": "b"})
        assert (await service.call("PATCH", service.bucket_url, json={"tags": {}}))["description"] == "d"
