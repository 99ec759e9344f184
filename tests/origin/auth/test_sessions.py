"""Sessions of the portals: who is signed in, for how long, and that nobody else is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from keywright.domain.models import to_iso
from keywright.origin.db.tables import sessions
from support.service import ROOT_KEY, Service
from support.visitor import ACCOUNT, BUCKET, visiting

pytestmark = pytest.mark.asyncio(loop_scope="module")

COOKIE = "keywright-admin"


async def set_all(service: Service, **values: datetime) -> None:
    async with service.app._database.write() as tx:
        await tx.execute(sa.update(sessions).values(**values))


async def clear(service: Service) -> None:
    async with service.app._database.write() as tx:
        await tx.execute(sa.delete(sessions))


async def count(service: Service) -> int:
    async with service.app._database.read() as tx:
        found: int = await tx.scalar(sa.select(sa.func.count()).select_from(sessions))
        return found


async def test_a_stranger_is_led_to_the_sign_in_and_on_to_where_they_wanted(shared: Service) -> None:
    async with visiting(shared, None) as visitor:
        answer = await visitor.client.get(f"{BUCKET}?q=acme&by=name")
        assert answer.status_code == 303
        sign_in = answer.headers["location"]
        assert sign_in.startswith("/admin/sign-in?next=")
        answer = await visitor.send("/admin/sign-in", sign_in, key=ROOT_KEY)
        assert answer.headers["location"] == f"{BUCKET}?q=acme&by=name"


@pytest.mark.parametrize(
    "wanted",
    [
        "https://evil.example", "//evil.example", "/\\evil.example", "/adminevil", "javascript:alert(1)", "/docs",
        "/admin\n/x", "/admin.evil.example", "", "admin", "/portal/x", "/admin@evil.example",
    ],
)  # fmt: skip
async def test_no_link_leads_out_of_the_portal_after_signing_in(shared: Service, wanted: str) -> None:
    async with visiting(shared, None) as visitor:
        answer = await visitor.send("/admin/sign-in", key=ROOT_KEY, next=wanted)
        assert answer.headers["location"] == "/admin"


async def test_the_cookie_is_kept_from_scripts_and_other_sites(shared: Service) -> None:
    async with visiting(shared, None) as visitor:
        cookies = (await visitor.send("/admin/sign-in", key=ROOT_KEY)).headers.get_list("set-cookie")
        (cookie,) = [one for one in cookies if one.startswith(COOKIE + "=")]
        assert {"HttpOnly", "SameSite=lax", "Path=/"} <= set(cookie.split("; "))
        assert "Secure" not in cookie


async def test_behind_tls_the_cookie_is_secure_and_of_this_host_alone(shared: Service) -> None:
    async with visiting(shared, None, **{"X-Forwarded-Proto": "https"}) as visitor:
        cookies = (await visitor.send("/admin/sign-in", key=ROOT_KEY)).headers.get_list("set-cookie")
        (cookie,) = [one for one in cookies if one.startswith(f"__Host-{COOKIE}=")]
        assert {"HttpOnly", "SameSite=lax", "Path=/", "Secure"} <= set(cookie.split("; "))
        assert "omain" not in cookie
        await visitor.open(BUCKET)
        # A cookie without the prefix may have been planted by a neighbour, and is not looked at.
        token = visitor.client.cookies[f"__Host-{COOKIE}"]
        visitor.client.cookies.clear()
        visitor.client.cookies.set(COOKIE, token, domain="keywright.test")
        await visitor.open(BUCKET, 303)


async def test_signing_in_makes_a_new_session_whatever_the_browser_brings_along(shared: Service) -> None:
    async with visiting(shared, None) as visitor, visiting(shared) as attacker:
        planted = attacker.client.cookies[COOKIE]
        visitor.client.cookies.set(COOKIE, planted, domain="keywright.test")
        await attacker.send("/admin/sign-out", ACCOUNT + "/buckets")
        await visitor.sign_in()
        tokens = {one.value for one in visitor.client.cookies.jar if one.name == COOKIE}
        assert planted not in tokens
        await attacker.open(BUCKET, 303)


async def test_signing_in_again_ends_the_session_before(shared: Service) -> None:
    await clear(shared)
    async with visiting(shared) as visitor:
        first = visitor.client.cookies[COOKIE]
        fields = await visitor.hidden(BUCKET)
        await visitor.send_again("/admin/sign-in", {**fields, "key": ROOT_KEY})
        assert visitor.client.cookies[COOKIE] != first
        assert await count(shared) == 1


async def test_the_record_has_no_token_that_could_be_used(shared: Service) -> None:
    await clear(shared)
    async with visiting(shared) as visitor, shared.app._database.read() as tx:
        token = visitor.client.cookies[COOKIE]
        row = await tx.first(sa.select(sessions))
        assert row is not None
        assert token.encode() not in bytes(row.digest)
        assert token not in str(row)


@pytest.mark.parametrize("token", ["", "x", "a" * 43, "\u00e9", ROOT_KEY, "a" * 5000])
async def test_a_token_of_no_session_is_a_stranger(shared: Service, token: str) -> None:
    async with visiting(shared, None) as visitor:
        visitor.client.headers["Cookie"] = f"{COOKIE}={token}".encode("latin-1").decode("latin-1")
        await visitor.open(BUCKET, 303)


async def test_a_session_that_nobody_used_for_a_while_has_ended(shared: Service) -> None:
    await clear(shared)
    async with visiting(shared) as visitor:
        await set_all(shared, seen_at=datetime.now(UTC) - timedelta(minutes=59))
        await visitor.open(BUCKET)
        # Looking at a page was use.
        async with shared.app._database.read() as tx:
            seen = await tx.scalar(sa.select(sessions.c.seen_at))
        assert datetime.now(UTC) - seen < timedelta(minutes=5)
        await set_all(shared, seen_at=datetime.now(UTC) - timedelta(minutes=61))
        answer = await visitor.client.get(BUCKET)
        assert "ended=1" in answer.headers["location"]
        assert "Your session has expired" in await visitor.open(answer.headers["location"])


async def test_no_session_outlives_its_whole_time_however_much_it_is_used(shared: Service) -> None:
    async with visiting(shared) as visitor:
        await set_all(shared, ends_at=datetime.now(UTC) - timedelta(seconds=1))
        await visitor.open(BUCKET, 303)


async def test_sessions_that_are_over_are_cleared_away(shared: Service) -> None:
    async with visiting(shared):
        await set_all(shared, ends_at=datetime.now(UTC) - timedelta(seconds=1))
        async with visiting(shared):
            assert await count(shared) == 1


async def test_a_form_of_an_ended_session_changes_nothing_and_says_so(shared: Service) -> None:
    async with visiting(shared) as visitor:
        fields = await visitor.hidden(f"{BUCKET}/consumers/new")
        await set_all(shared, ends_at=datetime.now(UTC) - timedelta(seconds=1))
        answer = await visitor.send_again(f"{BUCKET}/consumers/new", {**fields, "name": "acme"}, 401)
        assert "Session expired" in answer.text
        assert "Nothing was changed" in answer.text
        assert "www-authenticate" not in answer.headers
        await shared.call("GET", f"{shared.consumers_url}/acme", expect=404)


async def test_a_session_ends_with_the_key_that_it_stands_on(shared: Service) -> None:
    made = await shared.call(
        "POST", f"{shared.account_url}/management-keys", json={"permissions": {"account": "write"}}
    )
    async with visiting(shared, made["key"]) as visitor:
        fields = await visitor.hidden(f"{BUCKET}/consumers/new")
        await shared.call("DELETE", f"{shared.account_url}/management-keys/{made['id']}", expect=204)
        await visitor.open(BUCKET, 303)
        await visitor.send_again(f"{BUCKET}/consumers/new", {**fields, "name": "acme"}, 401)
        await shared.call("GET", f"{shared.consumers_url}/acme", expect=404)


async def test_a_session_ends_when_its_key_expires(shared: Service) -> None:
    soon = to_iso(datetime.now(UTC) + timedelta(hours=1))
    made = await shared.call(
        "POST",
        f"{shared.account_url}/management-keys",
        json={"permissions": {"account": "read"}, "expiresOn": soon},
    )
    async with visiting(shared, made["key"]) as visitor:
        await visitor.open(BUCKET)
        async with shared.app._database.write() as tx:
            past = sa.text("UPDATE keys SET ends_at = 1 WHERE id = :id").bindparams(id=made["id"])
            await tx.execute(past)
        await visitor.open(BUCKET, 303)


async def test_a_session_ends_for_good_when_its_key_is_switched_off(shared: Service) -> None:
    keys = f"{shared.account_url}/management-keys"
    made = await shared.call("POST", keys, json={"permissions": {"account": "read"}})
    async with visiting(shared, made["key"]) as visitor:
        await visitor.open(BUCKET)
        for enabled in (False, True):
            await shared.call("PATCH", f"{keys}/{made['id']}", json={"enabled": enabled})
        await visitor.open(BUCKET, 303)


async def test_a_session_is_good_only_where_its_key_is(shared: Service) -> None:
    keys = f"{shared.account_url}/management-keys"
    made = await shared.call("POST", keys, json={"permissions": {"account": "read"}})
    async with visiting(shared, made["key"]) as visitor:
        await visitor.open(BUCKET)
        await shared.call("PATCH", f"{keys}/{made['id']}", json={"allowedIps": ["192.0.2.1"]})
        await visitor.open(BUCKET, 303)


async def test_signing_out_ends_the_session_everywhere(shared: Service) -> None:
    async with visiting(shared) as visitor, visiting(shared, None) as copy:
        copy.client.cookies.set(COOKIE, visitor.client.cookies[COOKIE], domain="keywright.test")
        await copy.open(BUCKET)
        answer = await visitor.send("/admin/sign-out", BUCKET)
        assert "You have been signed out" in await visitor.open(answer.headers["location"])
        await copy.open(BUCKET, 303)


@pytest.mark.parametrize("key", ["", "short", "x" * 600, "no-such-management-key", "with a space", "kwmk_ü"])
async def test_what_is_no_management_key_signs_nobody_in(shared: Service, key: str) -> None:
    async with visiting(shared, None) as visitor:
        await clear(shared)
        answer = await visitor.send("/admin/sign-in", key=key, expect=400)
        assert 'id="f-key-error"' in answer.text
        assert not key or key not in answer.text
        assert await count(shared) == 0


@pytest.mark.parametrize("permissions", [{"buckets": {"*": "validate"}}, {"feed": True}], ids=["validate", "feed"])
async def test_a_key_that_may_read_nothing_is_told_so(shared: Service, permissions: dict[str, object]) -> None:
    key = await shared.new_management_key(**permissions)
    async with visiting(shared, None) as visitor:
        answer = await visitor.send("/admin/sign-in", key=key, expect=400)
        assert "no access to this portal" in answer.text


async def test_a_consumers_key_is_no_management_key(shared: Service) -> None:
    consumer = await shared.new_consumer()
    key = (await shared.new_key(consumer["name"]))["key"]
    async with visiting(shared, None) as visitor:
        await visitor.send("/admin/sign-in", key=key, expect=400)


async def test_signing_in_too_often_is_refused_for_a_while(shared: Service) -> None:
    async with visiting(shared, None) as visitor:
        fields = await visitor.hidden("/admin/sign-in")
        statuses = [
            (await visitor.client.post("/admin/sign-in", data={**fields, "key": "no-such-key"})).status_code
            for _ in range(25)
        ]
        assert statuses[:15] == [400] * 15
        assert statuses[-1] == 429


async def test_signing_in_and_out_stands_in_the_audit_log(shared: Service) -> None:
    async with visiting(shared) as visitor:
        await visitor.send("/admin/sign-out", BUCKET)
    entries = await shared.call("GET", f"{shared.account_url}/audit-logs")
    found = [(one["action"], one["route"]["source"], one["actor"]["connection"]) for one in entries["data"][:2]]
    assert found == [("admin.sign-out", "portal", "management-key"), ("admin.sign-in", "portal", "management-key")]
