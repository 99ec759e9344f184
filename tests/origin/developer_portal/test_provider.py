"""Signing in with the identity provider: only what we asked for, in this browser, from this provider, counts."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from keywright.origin.auth.oidc.provider import Provider
from origin.developer_portal.people import ProviderPortal
from support.identity import ADA
from support.visitor import visiting

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_user_signs_in_and_accepts_the_invite(with_provider: ProviderPortal) -> None:
    portal = with_provider
    made = await portal.service.new_consumer(managers=[ADA["email"]], description="The test server")
    async with visiting(portal.service, None) as visitor:
        assert f"{portal.url}/sign-in/oidc" in await visitor.open(f"{portal.url}/sign-in")
        answer = await portal.sign_in(visitor, f"{portal.url}/consumers/{made['name']}")
        assert answer.headers["location"] == f"{portal.url}/consumers/{made['name']}"
        assert "The test server" in await visitor.open(answer.headers["location"])
    url = f"{portal.service.consumers_url}/{made['name']}/managers"
    (manager,) = (await portal.service.call("GET", url))["data"]
    assert manager["sub"] == ADA["sub"]


async def test_the_provider_is_asked_for_a_code_with_pkce(with_provider: ProviderPortal) -> None:
    async with visiting(with_provider.service, None) as visitor:
        there = parse_qs(urlsplit(await with_provider.go_there(visitor)).query)
        again = parse_qs(urlsplit(await with_provider.go_there(visitor)).query)
    assert there["response_type"] == ["code"]
    assert there["code_challenge_method"] == ["S256"]
    assert there["redirect_uri"] == ["http://keywright.test/sign-in/callback"]
    for name in ("state", "nonce", "code_challenge"):
        assert len(there[name][0]) == 43
        assert there[name] != again[name]


@pytest.mark.parametrize(
    "next",
    ["https://evil.example.com", "//evil.example.com", "/admin", "/portal/my-project-production@evil.example.com",
     "/portal/my-project-production/../../admin\r\nSet-Cookie: a=b", "javascript:alert(1)"],
)  # fmt: skip
async def test_no_sign_in_leads_elsewhere(with_provider: ProviderPortal, next: str) -> None:
    async with visiting(with_provider.service, None) as visitor:
        answer = await with_provider.sign_in(visitor, next)
    assert answer.headers["location"] == with_provider.url


async def test_an_answer_that_this_browser_did_not_ask_for_is_refused(with_provider: ProviderPortal) -> None:
    portal = with_provider
    async with visiting(portal.service, None) as attacker, visiting(portal.service, None) as victim:
        answer = await portal.come_back(await portal.go_there(attacker))
        # Without a journey, and on a journey of the victim's own.
        assert "not started in this browser" in (await portal.finish(victim, answer, 400)).text
        await portal.go_there(victim)
        assert "not started in this browser" in (await portal.finish(victim, answer, 400)).text
        await victim.open(portal.url, expect=303)


async def test_a_code_counts_once(with_provider: ProviderPortal) -> None:
    portal = with_provider
    async with visiting(portal.service, None) as visitor:
        answer = await portal.come_back(await portal.go_there(visitor))
        journey = visitor.client.cookies["keywright-journey"]
        await portal.finish(visitor, answer)
        assert "keywright-journey" not in visitor.client.cookies
        visitor.client.cookies.clear()
        visitor.client.cookies.set("keywright-journey", journey)
        assert "did not accept the code" in (await portal.finish(visitor, answer, 400)).text


@pytest.mark.parametrize("how", ["cut", "changed", "empty", "garbage"])
async def test_a_tampered_cookie_is_refused(with_provider: ProviderPortal, how: str) -> None:
    portal = with_provider
    async with visiting(portal.service, None) as visitor:
        answer = await portal.come_back(await portal.go_there(visitor))
        value = visitor.client.cookies["keywright-journey"]
        bucket, journey, mac = value.split(".")
        fields = base64.urlsafe_b64decode(journey).replace(b"/portal/my-project-production", b"/admin")
        tampered = {
            "cut": value[:-2],
            "changed": f"{bucket}.{base64.urlsafe_b64encode(fields).decode()}.{mac}",
            "empty": "",
            "garbage": "a.b.c",
        }[how]
        visitor.client.cookies.clear()
        visitor.client.cookies.set("keywright-journey", tampered)
        shown = await portal.finish(visitor, answer, 400)
    assert "Try again" in shown.text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"state": "another"}, "not started in this browser"),
        ({"state": ""}, "not started in this browser"),
        ({"iss": "https://evil.example.com"}, "different identity provider"),
        ({"iss": None}, "does not name its identity provider"),
        ({"code": ""}, "not complete"),
        ({"code": "guessed"}, "did not accept the code"),
        ({"error": "access_denied", "code": None}, "Sign-in canceled."),
        ({"error": "server_error", "code": None}, "refused the sign-in"),
    ],
    ids=str,
)
async def test_a_wrong_answer_signs_nobody_in(
    with_provider: ProviderPortal, changes: dict[str, str | None], words: str
) -> None:
    portal = with_provider
    async with visiting(portal.service, None) as visitor:
        answer = {**await portal.come_back(await portal.go_there(visitor)), **changes}
        sent = {name: value for name, value in answer.items() if value is not None}
        assert words in (await portal.finish(visitor, sent, 400)).text
        await visitor.open(portal.url, expect=303)


@pytest.mark.parametrize(
    ("claims", "status", "words"),
    [
        ({"nonce": "of another sign-in"}, 400, "belongs to another sign-in"),
        ({"nonce": None}, 400, "belongs to another sign-in"),
        ({"aud": "another-client"}, 400, "another audience"),
        ({"aud": ["developer-portal", "other"], "azp": "other"}, 400, "another client"),
        ({"aud": ["developer-portal", "other"]}, 400, "another client"),
        ({"aud": ["developer-portal", "other"], "azp": ["developer-portal"]}, 400, "another client"),
        ({"iss": "https://evil.example.com"}, 400, "another issuer"),
        ({"exp": 1_700_000_000}, 400, "has expired"),
    ],
    ids=str,
)
async def test_a_wrong_token_signs_nobody_in(
    with_provider: ProviderPortal, claims: dict[str, Any], status: int, words: str
) -> None:
    portal = with_provider
    portal.provider.id_token_changes.update({name: value for name, value in claims.items() if name in claims})
    async with visiting(portal.service, None) as visitor:
        answer = await portal.come_back(await portal.go_there(visitor))
        assert words in (await portal.finish(visitor, answer, status)).text
        await visitor.open(portal.url, expect=303)


@pytest.mark.parametrize("claims", [{"email_verified": False}, {"email": None}], ids=str)
async def test_whoever_manages_a_consumer_signs_in_without_an_address(
    with_provider: ProviderPortal, claims: dict[str, Any]
) -> None:
    portal, sub = with_provider, f"auth0|{next(iter(claims))}"
    given = [{"email": f"{sub[6:]}@example.com", "sub": sub}]
    made = await portal.service.new_consumer(managers=given, description="The one I manage")
    invited = await portal.service.new_consumer(managers=[ADA["email"]], description="Not accepted")
    portal.provider.id_token_changes.update({"sub": sub, **claims})
    async with visiting(portal.service, None) as visitor:
        await portal.sign_in(visitor)
        shown = await visitor.open(portal.url)
        assert "The one I manage" in shown
        assert "Not accepted" not in shown
        await visitor.open(f"{portal.url}/consumers/{made['name']}")
        await visitor.open(f"{portal.url}/consumers/{invited['name']}", expect=404)


async def test_userinfo_tells_the_address_that_the_token_does_not(with_provider: ProviderPortal) -> None:
    portal, user = with_provider, {"sub": "auth0|told", "email": "told@example.com", "email_verified": True}
    made = await portal.service.new_consumer(managers=[user["email"]])
    portal.provider.id_token_changes.update({"sub": user["sub"], "email": None})
    portal.provider.userinfo = user
    async with visiting(portal.service, None) as visitor:
        await portal.sign_in(visitor)
        await visitor.open(f"{portal.url}/consumers/{made['name']}")


@pytest.mark.parametrize("change", ["another provider", "no provider"])
async def test_a_session_ends_with_its_provider(with_provider: ProviderPortal, change: str) -> None:
    portal = with_provider
    state = portal.service.app._origin.state
    before = state.services
    other = Provider("https://other.example.com")
    client = replace(before.end_users.client, provider=other) if change == "another provider" else None
    async with visiting(portal.service, None) as visitor:
        await portal.sign_in(visitor)
        await visitor.open(portal.url)
        state.services = replace(before, end_users=replace(before.end_users, provider=other, client=client))
        try:
            await visitor.open(portal.url, expect=303)
        finally:
            state.services = before


@pytest.mark.parametrize("reply", [(500, b"{}"), (200, b"<html>"), (200, b"[]"), (200, b'{"id_token": 7}')], ids=str)
async def test_a_provider_that_answers_garbage_signs_nobody_in(
    with_provider: ProviderPortal, reply: tuple[int, bytes]
) -> None:
    portal = with_provider
    async with visiting(portal.service, None) as visitor:
        answer = await portal.come_back(await portal.go_there(visitor))
        portal.provider.broken["/token"] = reply
        assert "is not available" in (await portal.finish(visitor, answer, 503)).text


async def test_a_provider_that_is_down_is_told_of(with_provider: ProviderPortal) -> None:
    portal = with_provider
    portal.provider.broken["/.well-known/openid-configuration"] = (503, b"")
    async with visiting(portal.service, None) as visitor:
        assert "Service unavailable" in await visitor.open(f"{portal.url}/sign-in/oidc", expect=503)


async def test_where_there_is_a_provider_no_link_is_sent(with_provider: ProviderPortal) -> None:
    portal = with_provider
    async with visiting(portal.service, None) as visitor:
        fields = await visitor.hidden(f"{portal.url}/sign-in")
        fields["csrf"] = fields.get("csrf", "")
        await visitor.send_again(f"{portal.url}/sign-in", {**fields, "email": "ada@example.com"}, expect=404)
        await visitor.send_again(f"{portal.url}/sign-in/link", {**fields, "token": "x"}, expect=404)


async def test_a_session_cookie_is_new_and_kept_from_scripts(with_provider: ProviderPortal) -> None:
    portal = with_provider
    async with visiting(portal.service, None, **{"X-Forwarded-Proto": "https"}) as visitor:
        visitor.client.cookies.set("__Host-keywright-portal", "chosen-by-somebody-else")
        answer = await portal.sign_in(visitor)
        (cookie,) = [one for one in answer.headers.get_list("set-cookie") if one.startswith("__Host-keywright-portal=")]
    assert "chosen-by-somebody-else" not in cookie
    assert {"HttpOnly", "Secure", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    assert "samesite=lax" in cookie.lower()
