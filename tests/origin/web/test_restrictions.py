"""Scopes, addresses and switches of keys and consumers: as the admin portal asks for them, saves and shows them."""

from __future__ import annotations

import html
from typing import Any

import pytest

from support.service import Service
from support.visitor import ACCOUNT, BUCKET, visiting

pytestmark = pytest.mark.asyncio(loop_scope="module")

OWN = {"scopes_from": "own", "scopes": "orders:read\nitems:*", "allowed_ips": "192.0.2.0/24, 2001:db8::1"}
NETWORKS = ["192.0.2.0/24", "2001:db8::1/128"]


async def consumer_of(service: Service, name: str) -> Any:
    return await service.call("GET", f"{service.bucket_url}/consumers/{name}", params={"include-api-keys": "true"})


async def test_a_consumers_restrictions_are_saved_shown_and_taken_off(shared: Service) -> None:
    name = (await shared.new_consumer())["name"]
    url = f"{BUCKET}/consumers/{name}"
    async with visiting(shared) as visitor:
        assert "default scopes: none" in await visitor.open(url)
        await visitor.send(f"{url}/edit", **OWN)
        saved = await consumer_of(shared, name)
        assert (saved["scopes"], saved["allowedIps"]) == (["orders:read", "items:*"], NETWORKS)
        shown = await visitor.open(url)
        assert "orders:read, items:*" in shown
        assert "192.0.2.0/24, 2001:db8::1/128" in shown
        assert "orders:read\nitems:*</textarea>" in await visitor.open(f"{url}/edit")
        # A form that does not ask, as of a page from before an upgrade, changes neither.
        await visitor.send(f"{url}/edit", description="Acme")
        assert (await consumer_of(shared, name))["allowedIps"] == NETWORKS
        await visitor.send(f"{url}/edit", scopes_from="inherited", scopes="orders:read", allowed_ips="")
        saved = await consumer_of(shared, name)
        assert (saved["scopes"], saved["allowedIps"]) == (None, None)


async def test_a_new_consumer_and_a_new_key_begin_with_their_restrictions(shared: Service) -> None:
    async with visiting(shared) as visitor:
        fields = {**OWN, "name": "narrow-from-the-start", "with_key": "", "expires": "never"}
        await visitor.send(f"{BUCKET}/consumers/new", **fields)
        url = f"{BUCKET}/consumers/narrow-from-the-start"
        fields = {"expires": "never", "scopes_from": "own", "scopes": "items:read", "allowed_ips": "192.0.2.7"}
        fields |= {"metadata": '{"environment": "test"}', "tags": "team=payments"}
        await visitor.send(f"{url}/keys/new", expect=200, **fields)
        shown = await visitor.open(url)
        assert "<b>scope</b> items:read" in shown
        assert "<b>from</b> 192.0.2.7/32" in shown
    saved = await consumer_of(shared, "narrow-from-the-start")
    assert saved["scopes"] == ["orders:read", "items:*"]
    key = saved["apiKeys"][0]
    assert (key["scopes"], key["allowedIps"]) == (["items:read"], ["192.0.2.7/32"])
    assert (key["metadata"], key["tags"]) == ({"environment": "test"}, {"team": "payments"})


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"scopes": "orders read!"}, "scopes", "Must be scopes"),
        ({"scopes": "billing:read"}, "scopes", "consumer"),
        ({"allowed_ips": "192.0.2.7/24"}, "allowed_ips", "has bits set behind its prefix"),
        ({"allowed_ips": "example.com"}, "allowed_ips", "“example.com” must be an address or a network"),
        ({"metadata": "[]"}, "metadata", "Must be a JSON object"),
    ],
)
async def test_what_is_wrong_is_said_beside_the_field(
    shared: Service, fields: dict[str, str], field: str, words: str
) -> None:
    consumer = await shared.new_consumer(scopes=["orders:*"])
    key = await shared.new_key(consumer["name"])
    url = f"{BUCKET}/consumers/{consumer['name']}/keys/{key['id']}"
    async with visiting(shared) as visitor:
        sent = {"expires": "never", "scopes_from": "own", **fields}
        answer = await visitor.send(f"{url}/edit", expect=400, **sent)
        _, _, said = html.unescape(answer.text).partition(f'id="f-{field}-error">')
        assert words in said.partition("<")[0]
        # What was typed is still there.
        assert next(iter(fields.values())) in html.unescape(answer.text)
    after = (await consumer_of(shared, consumer["name"]))["apiKeys"][0]
    assert (after["scopes"], after["allowedIps"], after["metadata"]) == (None, None, {})


async def test_a_key_and_a_consumer_are_switched_off_and_on(shared: Service) -> None:
    consumer = await shared.new_consumer()
    key = await shared.new_key(consumer["name"])
    url = f"{BUCKET}/consumers/{consumer['name']}"
    async with visiting(shared) as visitor:
        await visitor.send(f"{url}/keys/{key['id']}/disable", url)
        saved = (await consumer_of(shared, consumer["name"]))["apiKeys"][0]
        assert (saved["enabled"], saved["disabledBy"]) == (False, "provider")
        shown = await visitor.open(url)
        assert '<span class="badge warn">Disabled</span>' in shown
        assert f"/keys/{key['id']}/enable" in shown
        entry = (await shared.call("GET", f"{shared.account_url}/audit-logs"))["data"][0]
        assert (entry["action"], entry["success"]) == ("key.update", True)
        await visitor.send(f"{url}/keys/{key['id']}/enable", url)
        assert (await consumer_of(shared, consumer["name"]))["apiKeys"][0]["enabled"] is True
        await visitor.send(f"{url}/disable", url)
        assert (await consumer_of(shared, consumer["name"]))["enabled"] is False
        assert "none of its keys works" in await visitor.open(url)
        await visitor.send(f"{url}/enable", url)
        assert (await consumer_of(shared, consumer["name"]))["enabled"] is True


async def test_a_buckets_default_scopes(shared: Service) -> None:
    async with visiting(shared) as visitor:
        settings = {"whenStale": "serve", "default_scopes": "orders:read\n*"}
        await visitor.send(f"{BUCKET}/settings", **settings)
        assert (await shared.call("GET", shared.bucket_url))["defaultScopes"] == ["orders:read", "*"]
        assert "<dt>Default scopes</dt><dd>orders:read, *</dd>" in await visitor.open(f"{BUCKET}/settings")
        await visitor.send(f"{BUCKET}/settings", whenStale="serve", default_scopes="")
        assert (await shared.call("GET", shared.bucket_url))["defaultScopes"] == []


async def test_a_buckets_prefix_is_changed_on_its_page(shared: Service) -> None:
    await shared.call("POST", f"{shared.account_url}/key-buckets", json={"name": "prefix-of-a-page"})
    page = f"{ACCOUNT}/buckets/prefix-of-a-page/settings"
    url = f"{shared.account_url}/key-buckets/prefix-of-a-page"
    async with visiting(shared) as visitor:
        assert 'value="kwak"' in await visitor.open(page)
        for wrong, rule in (("kwmk", "management keys begin so"), ("a__b", "2 to 24 characters"), ("", "Is required")):
            assert rule in (await visitor.send(page, expect=400, whenStale="serve", key_prefix=wrong)).text
        await visitor.send(page, whenStale="serve", key_prefix="acme_live")
        bucket = await shared.call("GET", url)
        assert (bucket["keyPrefix"], bucket["formerKeyPrefixes"]) == ("acme_live", ["kwak"])
        assert "<code>acme_live</code>, before: kwak</dd>" in await visitor.open(page)
        await visitor.send(page, whenStale="serve")
        assert (await shared.call("GET", url))["keyPrefix"] == "acme_live", "a page of before has no such field"


@pytest.mark.parametrize("kind", ["management-keys", "owner-keys"])
async def test_keys_that_manage_are_switched_off_and_on_but_no_session_its_own(shared: Service, kind: str) -> None:
    place, page = (shared.bucket_url, BUCKET) if kind == "owner-keys" else (shared.account_url, ACCOUNT)
    fields = {"expires": "never", "allowed_ips": "192.0.2.0/24", "description": "narrow", "account": "write"}
    async with visiting(shared) as visitor:
        await visitor.send(f"{page}/{kind}/new", expect=200, **fields)
        found = await shared.call("GET", f"{place}/{kind}")
        made = next(one for one in found["data"] if one["description"] == "narrow")
        assert made["allowedIps"] == ["192.0.2.0/24"]
        await visitor.send(f"{page}/{kind}/{made['id']}/disable", f"{page}/{kind}")
        shown = await visitor.open(f"{page}/{kind}")
        assert '<span class="badge warn">Disabled</span>' in shown
        await visitor.send(f"{page}/{kind}/{made['id']}/enable", f"{page}/{kind}")
        assert "Disabled</span>" not in await visitor.open(f"{page}/{kind}")
    own = await shared.call("POST", f"{shared.account_url}/management-keys", json={"permissions": {"account": "write"}})
    async with visiting(shared, own["key"]) as visitor:
        assert f"{own['id']}/disable" not in await visitor.open(f"{ACCOUNT}/management-keys")


async def test_who_may_only_read_sees_no_switch_and_can_not_use_one(shared: Service) -> None:
    consumer = await shared.new_consumer()
    key = await shared.new_key(consumer["name"])
    reader = {"permissions": {"account": "read"}}
    secret = (await shared.call("POST", f"{shared.account_url}/management-keys", json=reader))["key"]
    url = f"{BUCKET}/consumers/{consumer['name']}"
    async with visiting(shared, secret) as visitor:
        shown = await visitor.open(url)
        assert "/disable" not in shown
        fields = await visitor.hidden(url)
        await visitor.send_again(f"{url}/keys/{key['id']}/disable", fields, 403)
        await visitor.send_again(f"{url}/disable", fields, 403)


async def test_what_is_left_of_quotas_is_shown_and_an_edit_leaves_them_alone(shared: Service) -> None:
    quota = {"name": "calls", "limit": 12_000, "period": "none"}
    name = (await shared.new_consumer(quotas=[quota]))["name"]
    url = f"{BUCKET}/consumers/{name}"
    topped = {"json": {"units": 500}, "headers": {"Idempotency-Key": "order-1"}}
    await shared.call("POST", f"{shared.bucket_url}/consumers/{name}/quotas/calls/top-ups", **topped)
    async with visiting(shared) as visitor:
        assert "<b>calls</b><span>12,500 of 12,500 left" in await visitor.open(url)
        await visitor.send(f"{url}/edit", description="Acme")
        assert "<b>calls</b><span>12,500 of 12,500 left" in await visitor.open(url)
    assert (await consumer_of(shared, name))["quotas"][0]["limit"] == 12_000
