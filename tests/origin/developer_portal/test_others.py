"""Nobody sees or touches in the portal what they do not manage: every route, with a second user and a stranger."""

from __future__ import annotations

import pytest
from starlette.routing import Route

from keywright.origin import developer_portal as developer
from origin.developer_portal.people import LinkPortal, new_address
from origin.world import record_of
from support.visitor import visiting

pytestmark = pytest.mark.asyncio(loop_scope="session")

CONSUMER = "/consumers/{consumerName}"
READS = [
    CONSUMER, f"{CONSUMER}/rename", f"{CONSUMER}/delete", f"{CONSUMER}/keys/new", f"{CONSUMER}/roll",
    f"{CONSUMER}/keys/{{keyId}}/restrict", f"{CONSUMER}/keys/{{keyId}}/delete", f"{CONSUMER}/managers",
    f"{CONSUMER}/managers/{{managerId}}/remove", f"{CONSUMER}/usage",
]  # fmt: skip
WRITES = {
    f"{CONSUMER}/rename": {"description": "taken"},
    f"{CONSUMER}/delete": {},
    f"{CONSUMER}/keys/{{keyId}}/reveal": {},
    f"{CONSUMER}/keys/new": {"expires": "never"},
    f"{CONSUMER}/roll": {"expires": "now"},
    f"{CONSUMER}/keys/{{keyId}}/restrict": {"scopes_from": "inherited", "scopes": "", "allowed_ips": ""},
    f"{CONSUMER}/keys/{{keyId}}/disable": {},
    f"{CONSUMER}/keys/{{keyId}}/enable": {},
    f"{CONSUMER}/keys/{{keyId}}/delete": {},
    f"{CONSUMER}/managers": {"email": "mallory@example.com"},
    f"{CONSUMER}/managers/{{managerId}}/remove": {},
}
OF_NO_CONSUMER = {
    ("GET", ""), ("GET", "/new"), ("POST", "/new"), ("GET", "/sign-in"), ("POST", "/sign-in"), ("GET", "/sign-in/link"),
    ("POST", "/sign-in/link"), ("POST", "/sign-in/code"), ("GET", "/logo"), ("GET", "/colors.css"),
    ("POST", "/theme"), ("POST", "/sign-out"),
}  # fmt: skip


async def test_every_route_is_in_the_tables(links: LinkPortal) -> None:
    prefix = "/portal/{bucketName}"
    found = {
        (method, route.path.removeprefix(prefix))
        for route in developer.new_router(links.service.app._origin.state.services).routes
        if isinstance(route, Route) and "{rest:path}" not in route.path
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert found == OF_NO_CONSUMER | {("GET", path) for path in READS} | {("POST", path) for path in WRITES}


async def test_a_second_user_finds_nothing_and_changes_nothing(links: LinkPortal) -> None:
    ada, bob = new_address("ada"), new_address("bob")
    made = await links.new_consumer(ada, description="The secret project")
    await links.new_consumer(bob)
    async with links.person(ada), links.person(bob) as visitor:
        names = await _names_of(links, made)
        before = await record_of(links.service)
        for path in READS:
            shown = await visitor.open(links.url + path.format(**names), expect=404)
            assert "The secret project" not in shown, path
            assert ada not in shown, path
        for path, fields in WRITES.items():
            answer = await visitor.send(links.url + path.format(**names), links.url, 404, form=path, **fields)
            assert "Nothing was changed." in answer.text, path
            assert made["apiKeys"][0]["key"] not in answer.text, path
        assert "The secret project" not in await visitor.open(links.url)
        after = await record_of(links.service)
    # A form that was refused is forgotten with what it would have done.
    assert after == before
    assert await links.service.verdict(made["apiKeys"][0]["key"]) == "VALID"


async def test_a_stranger_is_led_to_the_sign_in(links: LinkPortal) -> None:
    ada = new_address("ada")
    made = await links.new_consumer(ada)
    async with links.person(ada), visiting(links.service, None) as stranger:
        names = await _names_of(links, made)
        for path in READS:
            answer = await stranger.client.get(links.url + path.format(**names))
            assert answer.status_code == 303
            assert answer.headers["location"].startswith(f"{links.url}/sign-in?next=")
        for path, fields in WRITES.items():
            sign_in = f"{links.url}/sign-in"
            answer = await stranger.send(links.url + path.format(**names), sign_in, expect=401, **fields)
            assert "Session expired" in answer.text


async def test_a_session_is_good_for_one_portal(links: LinkPortal) -> None:
    """Managing a consumer here says nothing of the same address elsewhere, whose owner may trust other sign-ins."""
    ada = new_address("ada")
    await links.new_consumer(ada)
    async with links.person(ada) as visitor:
        await visitor.open("/portal/my-project-preview", expect=401)
        assert "Send link" in await visitor.open("/portal/my-project-preview/sign-in")
        await visitor.open("/admin/accounts", expect=303)


async def test_a_portal_session_is_no_admin_session(links: LinkPortal) -> None:
    ada = new_address("ada")
    await links.new_consumer(ada)
    async with links.person(ada) as visitor:
        visitor.client.cookies.set("keywright-admin", visitor.client.cookies["keywright-portal"])
        await visitor.open("/admin/accounts", expect=303)


async def test_whoever_is_removed_finds_nothing_from_the_next_request_on(links: LinkPortal) -> None:
    ada = new_address("ada")
    made = await links.new_consumer(ada)
    async with links.person(ada) as visitor:
        names = await _names_of(links, made)
        url = f"{links.service.consumers_url}/{made['name']}/managers/{names['managerId']}"
        await links.service.call("DELETE", url, expect=204)
        place = links.url + CONSUMER.format(**names)
        await visitor.open(place, expect=404)
        await visitor.send(f"{place}/roll", links.url, expect=404, form="1", expires="now")
    assert await links.service.verdict(made["apiKeys"][0]["key"]) == "VALID"


async def test_a_form_that_is_sent_twice_is_done_once(links: LinkPortal) -> None:
    ada = new_address("ada")
    made = await links.new_consumer(ada)
    async with links.person(ada) as visitor:
        place = f"{links.url}/consumers/{made['name']}"
        fields = {**await visitor.hidden(f"{place}/keys/new"), "description": "second", "expires": "never"}
        first = await visitor.send_again(f"{place}/keys/new", fields, expect=200)
        again = await visitor.send_again(f"{place}/keys/new", fields)
        assert "no-store" in first.headers["cache-control"]
        assert again.headers["location"] == place
        assert "processed once" in await visitor.open(place)
    shown = await links.service.call("GET", f"{links.service.consumers_url}/{made['name']}/keys")
    assert len(shown["data"]) == 2


async def test_a_reveal_is_audited_never_cached_and_slowed_down(links: LinkPortal) -> None:
    ada = new_address("ada")
    made = await links.new_consumer(ada)
    key = made["apiKeys"][0]
    async with links.person(ada) as visitor:
        place = f"{links.url}/consumers/{made['name']}"
        assert key["key"] not in await visitor.open(place)
        fields = await visitor.hidden(place)
        statuses = []
        while len(statuses) < 100 and 429 not in statuses:
            answer = await visitor.client.post(
                f"{place}/keys/{key['id']}/reveal", data=fields, headers={"Accept": "application/json"}
            )
            statuses.append(answer.status_code)
            assert answer.headers["cache-control"] == "no-store"
            if answer.status_code == 200:
                assert answer.json() == {"secret": key["key"]}
    assert statuses[0] == 200
    assert statuses[-1] == 429
    wanted = {"action": "self-serve.key.reveal", "actor": ada, "limit": 100}
    entries = await links.service.call("GET", f"{links.service.account_url}/audit-logs", params=wanted)
    assert len(entries["data"]) == statuses.count(200)
    assert entries["data"][0]["route"]["source"] == "portal"


async def test_the_last_manager_can_not_leave(links: LinkPortal) -> None:
    ada = new_address("ada")
    made = await links.new_consumer(ada)
    async with links.person(ada) as visitor:
        names = await _names_of(links, made)
        place = f"{links.url}/consumers/{made['name']}/managers"
        answer = await visitor.send(f"{place}/{names['managerId']}/remove", expect=409)
        assert "The last manager can" in answer.text


async def test_a_bucket_that_keeps_no_keys_shows_a_new_one_once(links: LinkPortal) -> None:
    ada = new_address("ada")
    body = {"name": "portal-digests", "isRetrievable": False}
    await links.service.call("POST", f"{links.service.account_url}/key-buckets", json=body)
    consumers = f"{links.service.account_url}/key-buckets/portal-digests/consumers"
    made = await links.service.call(
        "POST", consumers, json={"name": "closed", "managers": [ada], "apiKeys": [{"description": "first"}]}
    )
    portal = LinkPortal(links.service, links.mailbox)
    before, portal.service.bucket = portal.service.bucket, "portal-digests"
    try:
        async with portal.person(ada) as visitor:
            place = f"{portal.url}/consumers/closed"
            shown = await visitor.open(place)
            assert "Reveal" not in shown
            key_id = made["apiKeys"][0]["id"]
            await visitor.send(f"{place}/keys/{key_id}/reveal", place, expect=400)
            answer = await visitor.send(f"{place}/roll", expect=200, expires="now")
            assert "be shown again" in answer.text
    finally:
        portal.service.bucket = before


async def _names_of(links: LinkPortal, made: dict[str, object]) -> dict[str, str]:
    url = f"{links.service.consumers_url}/{made['name']}/managers"
    (manager,) = (await links.service.call("GET", url))["data"]
    (key,) = made["apiKeys"]  # type: ignore[misc]
    return {"consumerName": str(made["name"]), "keyId": key["id"], "managerId": manager["id"]}
