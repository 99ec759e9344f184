"""What end users may say of their own keys: what they are good for, from where, and whether at all; and no more."""

from __future__ import annotations

import html

import pytest

from origin.developer_portal.people import LinkPortal, new_address

pytestmark = pytest.mark.asyncio(loop_scope="session")

OWN = {"scopes_from": "own", "scopes": "orders:read", "allowed_ips": "192.0.2.0/24"}


async def test_a_user_restricts_a_key_and_switches_it_off_and_on(links: LinkPortal) -> None:
    ada = new_address("ada")
    made = await links.new_consumer(ada, scopes=["orders:*"])
    key_id = made["apiKeys"][0]["id"]
    url = f"{links.url}/consumers/{made['name']}"
    async with links.person(ada) as visitor:
        shown = await visitor.open(url)
        assert "<dt>Scopes</dt><dd>orders:*</dd>" in shown
        await visitor.send(f"{url}/keys/{key_id}/restrict", **OWN)
        shown = await visitor.open(url)
        assert "<b>scope</b> orders:read" in shown
        assert "<b>from</b> 192.0.2.0/24" in shown
        await visitor.send(f"{url}/keys/{key_id}/disable", url)
        assert "Disabled by a manager" in await visitor.open(url)
        assert "No active keys" in await visitor.open(links.url)
        await visitor.send(f"{url}/keys/{key_id}/enable", url)
        assert "Disabled" not in await visitor.open(url)


async def test_a_user_goes_no_further_than_the_provider_allows(links: LinkPortal) -> None:
    bob = new_address("bob")
    made = await links.new_consumer(bob, scopes=["orders:read"], apiKeys=[{}, {"enabled": False}])
    by_state = {key["enabled"]: key["id"] for key in made["apiKeys"]}
    url = f"{links.url}/consumers/{made['name']}"
    async with links.person(bob) as visitor:
        fields = {**OWN, "scopes": "orders:read\nbilling:read"}
        answer = await visitor.send(f"{url}/keys/{by_state[True]}/restrict", expect=400, **fields)
        _, _, said = html.unescape(answer.text).partition('id="f-scopes-error">')
        assert "billing:read" in said.partition("<")[0]
        shown = await visitor.open(url)
        assert "Disabled by the provider of the API" in shown
        assert f"{by_state[False]}/enable" not in shown
        hidden = await visitor.hidden(url)
        await visitor.send_again(f"{url}/keys/{by_state[False]}/enable", hidden, 403)
        assert "Disabled by the provider of the API" in await visitor.open(url)


async def test_a_consumer_that_is_switched_off_is_said_to_be(links: LinkPortal) -> None:
    ada = new_address("ada")
    made = await links.new_consumer(ada, enabled=False)
    async with links.person(ada) as visitor:
        assert "none of the keys works" in await visitor.open(f"{links.url}/consumers/{made['name']}")
        assert "No active keys" in await visitor.open(links.url)
