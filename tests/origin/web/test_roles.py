"""Signing in to the admin portal with the identity provider: what each role may do, and who has none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx2
import pytest
import pytest_asyncio

from keywright.domain import roles
from keywright.origin.auth.oidc.provider import Provider
from keywright.runtime.settings import OriginSettings
from support import identity
from support import service as services
from support.forgery import forge, post_routes
from support.identity import IdentityProvider
from support.process import NO_TLS
from support.service import Service
from support.visitor import ACCOUNT, BUCKET, Visitor, visiting

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROLES = (
    "ada@example.com=admin", "Dev@Example.com=developer", "vic@example.com=viewer", "partner:pat@example.com=admin",
    "gone:gus@example.com=admin", "gone:sam@example.com=admin", "sam@example.com=viewer",
    "partner:sam@example.com=admin", "two@example.com=viewer", "my-account:two@example.com=admin",
)  # fmt: skip
ADMIN, DEVELOPER, VIEWER, PARTNER, GUS, NOBODY, SEVERAL, TWICE = (
    f"{name}@example.com" for name in ("ada", "dev", "vic", "pat", "gus", "eve", "sam", "two")
)
COOKIE = "keywright-admin"


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    with identity.running() as running:
        yield running


@pytest.fixture(scope="module")
def settings(provider: IdentityProvider, tmp_path_factory: pytest.TempPathFactory) -> OriginSettings:
    end_users = services.end_users_of(provider, admin_roles=roles.parse(ROLES))
    return services.settings_for(tmp_path_factory.mktemp("roles") / "data", end_users=end_users)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(settings: OriginSettings) -> AsyncIterator[Service]:
    async with services.running(settings) as running:
        await running.call("POST", "/v1/accounts", json={"name": "partner"})
        yield running


async def go(
    visitor: Visitor, provider: IdentityProvider, email: str, /, next: str = "", **claims: Any
) -> httpx2.Response:
    """To the provider, which signs this address in, and back."""
    provider.user = {"sub": f"auth0|{email}", "email": email, "email_verified": True, **claims}
    answer = await visitor.client.get("/admin/sign-in/oidc", params={"next": next})
    assert answer.status_code == 303, answer.text
    async with httpx2.AsyncClient(verify=NO_TLS) as browser:
        parts = urlsplit((await browser.get(answer.headers["location"])).headers["location"])
    assert parts.path == "/admin/sign-in/callback"
    return await visitor.client.get(parts.path, params=dict(parse_qsl(parts.query)))


@asynccontextmanager
async def person(service: Service, provider: IdentityProvider, email: str) -> AsyncIterator[Visitor]:
    async with visiting(service, None) as visitor:
        answer = await go(visitor, provider, email)
        assert (answer.status_code, answer.headers["location"]) == (303, "/admin"), answer.text
        yield visitor


async def test_the_way_to_the_provider_is_a_link(service: Service) -> None:
    async with visiting(service, None) as visitor:
        page = await visitor.open(f"/admin/sign-in?next={BUCKET}")
    assert f'<a class="button first full" href="/admin/sign-in/oidc?next={BUCKET.replace("/", "%2F")}"' in page


async def test_whoever_signs_in_comes_to_where_they_wanted_to_go(service: Service, provider: IdentityProvider) -> None:
    async with visiting(service, None) as visitor:
        answer = await go(visitor, provider, "ADA@example.com", next=BUCKET)
        assert answer.headers["location"] == BUCKET
        assert ADMIN in await visitor.open(BUCKET)


@pytest.mark.parametrize(
    "next",
    [
        "https://evil.example", "//evil.example", "/portal/my-project-production", "/docs", "/admin/../docs",
        "/admin/../../x", "/admin/%2e%2E/docs", "/admin/.%2e/docs", "/admin/..\\docs", "/admin\\..\\docs",
        "/admin/./../docs",
    ],
)  # fmt: skip
async def test_no_sign_in_leads_elsewhere(service: Service, provider: IdentityProvider, next: str) -> None:
    async with visiting(service, None) as visitor:
        assert (await go(visitor, provider, ADMIN, next=next)).headers["location"] == "/admin"


async def test_an_admin_may_do_everything_in_the_account_and_is_named_in_its_log(
    service: Service, provider: IdentityProvider
) -> None:
    async with person(service, provider, ADMIN) as visitor:
        await visitor.send(f"{ACCOUNT}/buckets/new", expect=200, name="made-by-ada", key_prefix="zpka")
        await visitor.send(f"{ACCOUNT}/management-keys/new", expect=200, account="write", expires="never", buckets="")
        await visitor.send(f"{ACCOUNT}/buckets/made-by-ada/delete", typed="made-by-ada")
        # The account, not the deployment: that is the root key's.
        await visitor.open("/admin/accounts", 403)
        await visitor.open("/admin/accounts/partner/buckets", 404)
    entries = (await service.call("GET", f"{service.account_url}/audit-logs"))["data"][:4]
    assert [one["action"] for one in entries] == [
        "bucket.delete", "management-key.create", "bucket.create", "admin.sign-in",
    ]  # fmt: skip
    for entry in entries:
        actor = entry["actor"]
        assert (actor["email"], actor["type"], actor["connection"]) == (ADMIN, "user", "oidc")


async def test_a_developer_manages_consumers_and_keys(service: Service, provider: IdentityProvider) -> None:
    async with person(service, provider, DEVELOPER) as visitor:
        new = {"name": "made-by-dev", "expires": "never", "with_key": "on"}
        await visitor.send(f"{BUCKET}/consumers/new", expect=200, **new)
        url = f"{BUCKET}/consumers/made-by-dev"
        await visitor.send(f"{url}/roll", expect=200, expires="now")
        (key, _) = (await service.call("GET", f"{service.consumers_url}/made-by-dev/keys"))["data"]
        await visitor.send(f"{url}/keys/{key['id']}/reveal", url, expect=200)
        await visitor.send(f"{url}/delete", typed="made-by-dev")
        # What consumers may do a developer says of each already; a plan says it of many.
        await visitor.send(f"{BUCKET}/plans/new", name="made-by-dev", scopes_from="inherited")
        await visitor.send(f"{BUCKET}/plans/made-by-dev/delete")
        for page in ("audit-log", "edges", "management-keys"):
            await visitor.open(f"{ACCOUNT}/{page}")


async def test_a_developer_can_forge_nothing_else(service: Service, provider: IdentityProvider) -> None:
    async with person(service, provider, DEVELOPER) as visitor:
        await forge(
            service, visitor, [path for path in post_routes() if "/consumers" not in path and "/plans" not in path]
        )


async def test_a_viewer_sees_no_button_and_can_forge_nothing(service: Service, provider: IdentityProvider) -> None:
    async with person(service, provider, VIEWER) as visitor:
        await forge(service, visitor, post_routes())


async def test_a_role_in_another_account_is_of_that_account_alone(service: Service, provider: IdentityProvider) -> None:
    async with person(service, provider, PARTNER) as visitor:
        await visitor.open("/admin/accounts/partner/buckets")
        await visitor.open(f"{ACCOUNT}/buckets", 404)
        await visitor.open(BUCKET, 404)


async def test_roles_in_several_accounts_reach_as_far_as_the_one_in_the_account_of_the_page(
    service: Service, provider: IdentityProvider
) -> None:
    partner = "/admin/accounts/partner"
    async with person(service, provider, SEVERAL) as visitor:
        # A viewer here, who is led to no button and can forge none, although an admin there.
        assert f"{ACCOUNT}/buckets" in (await visitor.client.get("/admin")).headers["location"]
        page = await visitor.open(f"{ACCOUNT}/buckets")
        assert "Create bucket" not in page
        # The switcher leads to both, and to no list of all.
        assert f'href="{partner}/buckets"' in page
        assert "All accounts" not in page
        await forge(service, visitor, post_routes())
        await visitor.open("/admin/accounts", 403)
        await visitor.open("/admin/accounts/gone/buckets", 404)

        await visitor.send(f"{partner}/buckets/new", expect=200, name="made-by-sam", key_prefix="zpka")
        await visitor.open(f"{partner}/audit-log")
        # Its bucket is found in its account alone.
        await visitor.open(f"{ACCOUNT}/buckets/made-by-sam", 404)
        await visitor.open(BUCKET.replace("my-account", "partner"), 404)
        await visitor.send(f"{partner}/buckets/made-by-sam/delete", typed="made-by-sam")
    for account, actions in (("partner", ["bucket.delete", "bucket.create"]), (service.account, ["admin.sign-in"])):
        url = f"/v1/accounts/{account}/audit-logs"
        entries = (await service.call("GET", url, params={"actor": SEVERAL, "success": "true"}))["data"]
        assert [one["action"] for one in entries] == actions


async def test_whoever_has_one_account_sees_no_switcher(service: Service, provider: IdentityProvider) -> None:
    async with person(service, provider, PARTNER) as visitor:
        assert 'class="switcher"' not in await visitor.open("/admin/accounts/partner/buckets")


async def test_the_first_account_named_twice_is_reached_by_the_lesser_role(
    service: Service, provider: IdentityProvider
) -> None:
    async with person(service, provider, TWICE) as visitor:
        assert "Create bucket" not in await visitor.open(f"{ACCOUNT}/buckets")
        await visitor.open(f"{ACCOUNT}/buckets/new", 403)


@pytest.mark.parametrize(
    ("email", "claims", "words"),
    [
        (NOBODY, {}, "eve@example.com has no role here"),
        (GUS, {}, "has no role here"),
        ("ada@example.com.evil.example", {}, "has no role here"),
        (ADMIN, {"email_verified": False}, "not verified"),
        (ADMIN, {"email_verified": None}, "not verified"),
        (ADMIN, {"email": None}, "not verified"),
    ],
    ids=["no role", "a role in no account", "longer address", "not verified", "perhaps verified", "no address"],
)
async def test_whoever_has_no_role_is_told_so_and_has_no_session(
    service: Service, provider: IdentityProvider, email: str, claims: dict[str, Any], words: str
) -> None:
    async with visiting(service, None) as visitor:
        answer = await go(visitor, provider, email, **claims)
        assert answer.status_code == 403
        assert words in answer.text
        assert COOKIE not in visitor.client.cookies
        await visitor.open(BUCKET, 303)


async def test_a_session_of_one_portal_is_none_of_the_other(service: Service, provider: IdentityProvider) -> None:
    portal = f"/portal/{service.bucket}"
    async with visiting(service, None) as visitor, person(service, provider, ADMIN) as admin:
        # Ada signs in as an end user, with the same provider and the same address.
        away = (await visitor.client.get(f"{portal}/sign-in/oidc")).headers["location"]
        async with httpx2.AsyncClient(verify=NO_TLS) as browser:
            back = (await browser.get(away)).headers["location"]
        await visitor.client.get(back)
        await visitor.open(portal)
        await visitor.open(BUCKET, 303)
        token = visitor.client.cookies["keywright-portal"]
        visitor.client.cookies.set(COOKIE, token, domain="keywright.test")
        await visitor.open(BUCKET, 303)
        admin.client.cookies.set("keywright-portal", admin.client.cookies[COOKIE], domain="keywright.test")
        await admin.open(portal, 303)


async def test_a_journey_ends_in_the_portal_that_it_began_in(service: Service, provider: IdentityProvider) -> None:
    provider.user = dict(identity.ADA)
    admin, portal = ("keywright-admin-journey", "/admin"), ("keywright-journey", f"/portal/{service.bucket}")
    ways = {"/admin/sign-in/callback": (portal, admin), "/sign-in/callback": (admin, portal)}
    for callback, ((begun, start), (other, _)) in ways.items():
        async with visiting(service, None) as visitor:
            away = (await visitor.client.get(f"{start}/sign-in/oidc")).headers["location"]
            async with httpx2.AsyncClient(verify=NO_TLS) as browser:
                answer = urlsplit((await browser.get(away)).headers["location"]).query
            for cookie in (begun, other):
                visitor.client.cookies.set(other, visitor.client.cookies[begun], domain="keywright.test")
                refused = await visitor.client.get(f"{callback}?{answer}")
                assert (refused.status_code, "not started" in refused.text) == (400, True), cookie
            await visitor.open(BUCKET, 303)


async def test_signing_in_makes_a_new_session_and_ends_the_one_before(
    service: Service, provider: IdentityProvider
) -> None:
    async with person(service, provider, VIEWER) as visitor, visiting(service, None) as copy:
        before = visitor.client.cookies[COOKIE]
        await go(visitor, provider, ADMIN)
        assert visitor.client.cookies[COOKIE] != before
        copy.client.cookies.set(COOKIE, before, domain="keywright.test")
        await copy.open(BUCKET, 303)


async def test_a_role_that_was_changed_or_taken_away_is_so_at_the_next_request(
    provider: IdentityProvider, settings: OriginSettings, tmp_path_factory: pytest.TempPathFactory
) -> None:
    mine = services.settings_for(tmp_path_factory.mktemp("changed") / "data")
    token = ""

    @asynccontextmanager
    async def restarted(*members: str) -> AsyncIterator[Visitor]:
        """The same deployment, started again with these roles, and the same browser."""
        end_users = replace(settings.end_users, admin_roles=roles.parse(members))
        async with services.running(replace(mine, end_users=end_users)) as service, visiting(service, None) as visitor:
            if token:
                visitor.client.cookies.set(COOKIE, token, domain="keywright.test")
            yield visitor

    buckets, new_bucket = f"{ACCOUNT}/buckets", f"{ACCOUNT}/buckets/new"
    async with restarted("ada@example.com=admin") as visitor:
        await go(visitor, provider, ADMIN)
        token = visitor.client.cookies[COOKIE]
        assert new_bucket in await visitor.open(buckets)
    async with restarted("ada@example.com=viewer") as visitor:
        assert new_bucket not in await visitor.open(buckets)
        await visitor.open(new_bucket, 403)
    async with restarted("bo@example.com=admin") as visitor:
        await visitor.open(buckets, 303)
    async with restarted() as visitor:
        await visitor.open(buckets, 303)
        # Nobody has a role: there is no such way in.
        assert "/sign-in/oidc" not in await visitor.open("/admin/sign-in")
        await visitor.open("/admin/sign-in/oidc", 404)
        await visitor.open("/admin/sign-in/callback", 404)


async def test_a_session_ends_with_its_provider(service: Service, provider: IdentityProvider) -> None:
    state = service.app._origin.state
    before = state.services
    client = replace(before.team.client, provider=Provider("https://other.example.com"))
    async with person(service, provider, "ada@example.com") as visitor:
        await visitor.open(BUCKET)
        state.services = replace(before, team=replace(before.team, client=client))
        try:
            await visitor.open(BUCKET, 303)
        finally:
            state.services = before


async def test_a_provider_that_is_down_is_told_of_and_keys_still_open(
    service: Service, provider: IdentityProvider
) -> None:
    async with visiting(service, None) as visitor:
        away = (await visitor.client.get("/admin/sign-in/oidc")).headers["location"]
        async with httpx2.AsyncClient(verify=NO_TLS) as browser:
            back = (await browser.get(away)).headers["location"]
        provider.broken["/token"] = (500, b"<html>")
        try:
            assert "Service unavailable" in (await visitor.client.get(back)).text
        finally:
            provider.broken.clear()
        await visitor.sign_in()
        await visitor.open(BUCKET)
