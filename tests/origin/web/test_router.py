"""What every page and every form of a portal keeps to: who may send it, how often it counts, and how it is refused."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import pytest

from keywright.domain.permissions import Access
from keywright.origin.db.engine import DatabaseUnavailable
from support.forgery import forge, post_routes
from support.service import Service
from support.visitor import ACCOUNT, BUCKET, visiting

pytestmark = pytest.mark.asyncio(loop_scope="module")
NEW = f"{BUCKET}/consumers/new"


async def exists(service: Service, name: str) -> bool:
    answer = await service.client.get(f"{service.consumers_url}/{name}")
    return answer.status_code == 200


@pytest.mark.parametrize("path", ["/admin/sign-in", BUCKET, "/admin/none-such", f"{BUCKET}/consumers/none-such"])
async def test_every_page_keeps_to_a_strict_policy_and_to_no_memory(shared: Service, path: str) -> None:
    async with visiting(shared, None) as visitor:
        if path != "/admin/sign-in":
            await visitor.sign_in()
        answer = await visitor.client.get(path)
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; ")
        assert "unsafe" not in policy
        for rule in ("form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'", "script-src 'self'"):
            assert rule in policy
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not re.search(r"<script(?! src=\"/assets/)|<style|\son\w+=|\sstyle=", answer.text)


async def test_a_session_that_ended_while_its_form_was_coming_in_does_nothing_any_more(shared: Service) -> None:
    key = await shared.new_management_key(account="write")
    listed = await shared.call("GET", f"{shared.account_url}/management-keys")
    key_id = listed["data"][0]["id"]
    may_go_on, has_begun = asyncio.Event(), asyncio.Event()
    async with visiting(shared, key) as visitor:
        text = urlencode({**await visitor.hidden(NEW), "name": "made-too-late"}).encode()

        async def slow_form() -> AsyncIterator[bytes]:
            yield text[:5]
            has_begun.set()
            await may_go_on.wait()
            yield text[5:]

        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        sending = asyncio.create_task(
            visitor.client.post(f"{BUCKET}/consumers/new", content=slow_form(), headers=headers)
        )
        await has_begun.wait()
        await shared.call("DELETE", f"{shared.account_url}/management-keys/{key_id}", expect=204)
        may_go_on.set()
        answer = await sending
    assert answer.status_code == 401
    assert not await exists(shared, "made-too-late")


@pytest.mark.parametrize(
    ("fields", "headers"),
    [
        ({"csrf": ""}, {}),
        ({"csrf": "x" * 43}, {}),
        ({"csrf": "\u00e9"}, {}),
        ({"form": ""}, {}),
        ({}, {"Origin": "https://evil.example"}),
        ({}, {"Origin": "http://keywright.test.evil.example"}),
        ({}, {"Origin": "null"}),
        ({}, {"Sec-Fetch-Site": "cross-site"}),
        ({}, {"Sec-Fetch-Site": "same-site"}),
    ],
    ids=str,
)
async def test_a_form_that_our_page_did_not_send_is_refused(
    shared: Service, fields: dict[str, str], headers: dict[str, str]
) -> None:
    async with visiting(shared) as visitor:
        sent = {**await visitor.hidden(NEW), "name": "forged-consumer", "expires": "never", **fields}
        answer = await visitor.send_again(NEW, sent, 403, **headers)
        assert "Nothing was changed" in answer.text
        # What another site has written is not even shown.
        assert "forged-consumer" not in answer.text
        assert not await exists(shared, "forged-consumer")


async def test_a_form_of_another_session_is_refused(shared: Service) -> None:
    async with visiting(shared) as visitor, visiting(shared) as other:
        sent = {**await other.hidden(NEW), "name": "forged-consumer", "expires": "never"}
        await visitor.send_again(NEW, sent, 403)
        assert not await exists(shared, "forged-consumer")


async def test_signing_in_needs_a_form_that_was_shown_to_this_browser(shared: Service) -> None:
    async with visiting(shared, None) as visitor, visiting(shared, None) as attacker:
        planted = await attacker.hidden("/admin/sign-in")
        await visitor.send_again("/admin/sign-in", {**planted, "key": "root-key-of-the-tested-deployment"}, 403)
        assert "keywright-admin" not in visitor.client.cookies


async def test_a_form_with_its_own_origin_is_taken(shared: Service) -> None:
    async with visiting(shared) as visitor:
        sent = {**await visitor.hidden(NEW), "name": "own-origin", "expires": "never"}
        headers = {"Origin": "http://keywright.test", "Sec-Fetch-Site": "same-origin"}
        await visitor.send_again(NEW, sent, **headers)
        assert await exists(shared, "own-origin")


async def test_a_form_that_is_sent_twice_is_done_once(shared: Service) -> None:
    consumer = await shared.new_consumer()
    url = f"{BUCKET}/consumers/{consumer['name']}"
    async with visiting(shared) as visitor:
        sent = {**await visitor.hidden(f"{url}/keys/new"), "expires": "never"}
        first = await visitor.send_again(f"{url}/keys/new", sent, 200)
        assert re.search(r"kwak_[0-9a-f]{32}_[0-9a-f]{8}", first.text)
        again = await visitor.send_again(f"{url}/keys/new", sent, 303)
        assert again.headers["location"] == url
        page = await visitor.open(url)
        assert "This form was sent twice. It was processed once." in page
        assert len(re.findall(r'class="masked" id="key_', page)) == 1


async def test_a_form_that_is_sent_twice_at_once_is_done_once(shared_on_both: Service) -> None:
    service = shared_on_both
    consumer = await service.new_consumer()
    url = f"{BUCKET}/consumers/{consumer['name']}/keys/new"
    async with visiting(service) as visitor:
        sent = {**await visitor.hidden(url), "expires": "never"}
        answers = await asyncio.gather(*(visitor.client.post(url, data=sent) for _ in range(5)))
        assert sorted(answer.status_code for answer in answers) == [200, 303, 303, 303, 303]
        keys = await service.call("GET", f"{service.consumers_url}/{consumer['name']}/keys")
        assert keys["total"] == 1


async def test_a_refused_form_may_be_sent_again(shared: Service) -> None:
    async with visiting(shared) as visitor:
        sent = {**await visitor.hidden(NEW), "name": "Not A Name", "expires": "never"}
        await visitor.send_again(NEW, sent, 400)
        await visitor.send_again(NEW, {**sent, "name": "a-name"})
        assert await exists(shared, "a-name")


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"name": ""}, "name", "Is required."),
        ({"name": "Ä"}, "name", "Must be 1 to 128 characters: a-z, 0-9, _ and -."),
        ({"description": "x" * 1001}, "description", "Must have at most 1,000 characters."),
        ({"tags": "plan"}, "tags", "“plan” is not name=value."),
        ({"tags": "a=1\na=2"}, "tags", "“a” is repeated."),
        ({"tags": "\n".join(f"t{number}=1" for number in range(6))}, "tags", "Holds 6 tags; at most 5 are allowed."),
        ({"metadata": "{"}, "metadata", "Is not JSON"),
        ({"metadata": "[1]"}, "metadata", "Must be a JSON object"),
        ({"metadata": '{"a": "\\u0000"}'}, "metadata", "NUL"),
        ({"metadata": '{"a": "' + "x" * 2000 + '"}'}, "metadata", "at most 1024 are allowed"),
        ({"managers": "ada"}, "managers", "“ada” is not an e-mail address."),
        ({"expires": "on", "expires_at": "", "with_key": "on"}, "expires_at", "Must be a date and a time"),
        ({"expires": "on", "expires_at": "2001-01-01T00:00", "with_key": "on"}, "expires_at", "Must be in the future."),
        ({"expires": "soon", "with_key": "on"}, "expires", "Must be one of the options."),
    ],
    ids=str,
)  # fmt: skip
async def test_what_is_wrong_stands_beside_its_field_and_what_was_typed_stays(
    shared: Service, fields: dict[str, str], field: str, words: str
) -> None:
    async with visiting(shared) as visitor:
        good = {"name": "to-be-refused", "expires": "never", "description": "what was typed"}
        answer = await visitor.send(NEW, expect=400, **{**good, **fields})
        error = re.search(rf'<p class="error" id="f-{field}-error">([^<]*)</p>', answer.text)
        assert error
        assert words in error[1]
        assert re.search(
            rf'id="f-{field}"[^>]* aria-invalid="true" aria-describedby="[^"]*f-{field}-error"', answer.text
        )
        assert "description" in fields or "what was typed" in answer.text
        assert not await exists(shared, "to-be-refused")


async def test_a_name_that_is_taken_is_said_beside_the_name(shared: Service) -> None:
    consumer = await shared.new_consumer()
    async with visiting(shared) as visitor:
        answer = await visitor.send(NEW, expect=409, name=consumer["name"], expires="never")
        assert re.search(r'id="f-name-error">The bucket has a consumer named', answer.text)


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{}", "application/json", 415),
        (b"a=b", "text/plain", 415),
        (b"a=%ff", "application/x-www-form-urlencoded", 400),
        (b"\xff", "application/x-www-form-urlencoded", 400),
        (b"a=%00", "application/x-www-form-urlencoded", 400),
        (b"a=b&" * 600, "application/x-www-form-urlencoded", 400),
        (b"a=" + b"x" * 300_000, "application/x-www-form-urlencoded", 413),
    ],
    ids=["json", "text", "no UTF-8", "no ASCII", "NUL", "many fields", "large"],
)
async def test_what_no_browser_would_send_is_refused_with_a_page(
    shared: Service, body: bytes, content_type: str, status: int
) -> None:
    async with visiting(shared) as visitor:
        answer = await visitor.client.post(NEW, content=body, headers={"Content-Type": content_type})
        assert answer.status_code == status
        assert answer.headers["content-type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
async def test_an_address_without_a_page_has_a_page_that_says_so(shared: Service, method: str) -> None:
    async with visiting(shared) as visitor:
        answer = await visitor.client.request(method, "/admin/none/such")
        assert answer.status_code == 404
        assert "Not found" in answer.text


async def test_the_database_being_away_is_a_page(shared: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    async with visiting(shared) as visitor:
        fields = await visitor.hidden(NEW)

        def away(**_: Any) -> Any:
            raise DatabaseUnavailable("gone")

        monkeypatch.setattr(shared.app._database, "read", away)
        assert "Service unavailable" in await visitor.open(BUCKET, 503)
        await visitor.send_again(NEW, {**fields, "name": "unlucky", "expires": "never"}, 503)


async def test_a_bug_is_a_page_without_detail(shared: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr("keywright.origin.buckets.rules.search", fail)
    async with visiting(shared) as visitor:
        page = await visitor.open(f"{ACCOUNT}/buckets", 500)
        assert "Something went wrong" in page
        assert "secret detail" not in page


async def test_a_notice_that_the_session_did_not_leave_is_not_shown(shared: Service) -> None:
    async with visiting(shared) as visitor, visiting(shared) as other:
        await other.send(f"{BUCKET}/settings", description="x", whenStale="serve")
        planted = other.client.cookies["keywright-admin-notice"]
        for cookie in (planted, planted[:-1] + "x", "x.y", "."):
            visitor.client.cookies.set("keywright-admin-notice", cookie, domain="keywright.test")
            assert 'role="status"' not in await visitor.open(BUCKET)


async def test_a_notice_is_shown_once(shared: Service) -> None:
    async with visiting(shared) as visitor:
        answer = await visitor.send(f"{BUCKET}/settings", description="changed", whenStale="serve")
        assert "Settings saved" in await visitor.open(answer.headers["location"])
        assert "Settings saved" not in await visitor.open(answer.headers["location"])


@pytest.mark.parametrize("theme", ["light", "dark", "system"])
async def test_the_theme_that_was_chosen_lasts_on_every_page(shared: Service, theme: str) -> None:
    async with visiting(shared) as visitor:
        answer = await visitor.send("/admin/theme", BUCKET, theme=theme, next=BUCKET)
        assert answer.headers["location"] == BUCKET
        for path in (BUCKET, "/docs", "/", "/admin/none-such"):
            page = (await visitor.client.get(path)).text
            assert ('data-theme="' in page) == (theme != "system"), path
            assert theme == "system" or f'<html lang="en" data-theme="{theme}">' in page


@pytest.mark.parametrize(
    "permissions",
    [{"account": "read"}, {"buckets": {"my-project-production": "read"}}, {"buckets": {"*": "read"}}],
    ids=["viewer", "reader of a bucket", "reader of every bucket"],
)
async def test_who_may_only_read_sees_no_button_and_can_forge_nothing(
    shared: Service, permissions: dict[str, Any]
) -> None:
    key = await shared.new_management_key(**permissions)
    async with visiting(shared, key) as visitor:
        await forge(shared, visitor, post_routes())


async def test_another_accounts_pages_are_not_there(shared: Service) -> None:
    await shared.client.post("/v1/accounts", json={"name": "other-account"})
    key = await shared.new_management_key("other-account", account="write")
    async with visiting(shared, key) as visitor:
        assert "other-account" in await visitor.open("/admin/accounts/other-account/buckets")
        for page in (BUCKET, f"{ACCOUNT}/buckets", f"{ACCOUNT}/audit-log", f"{ACCOUNT}/management-keys"):
            await visitor.open(page, 404)
        await visitor.open("/admin/accounts", 403)
        page = await visitor.open("/admin/accounts/other-account/buckets")
        assert "my-account" not in page


async def test_an_owner_key_sees_its_bucket_and_nothing_else(shared: Service) -> None:
    made = await shared.call("POST", f"{shared.bucket_url}/owner-keys", json={})
    async with visiting(shared, made["key"]) as visitor:
        page = await visitor.open(f"{ACCOUNT}/buckets")
        assert re.findall(r'class="name" href="([^"]*)"', page) == [BUCKET]
        assert "Create bucket" not in page
        assert "Create consumer" in await visitor.open(BUCKET)
        await visitor.open(f"{ACCOUNT}/audit-log", 403)
        await visitor.open(f"{ACCOUNT}/buckets/my-project-preview", 404)


async def test_a_refused_form_stands_in_the_audit_log(shared: Service) -> None:
    key = await shared.new_management_key(account="read")
    async with visiting(shared, key) as visitor:
        fields = await visitor.hidden(BUCKET)
        await visitor.send_again(
            f"{BUCKET}/settings", {**fields, "form": "x", "description": "forged", "whenStale": "serve"}, 403
        )
    entry = (await shared.call("GET", f"{shared.account_url}/audit-logs"))["data"][0]
    assert (entry["action"], entry["success"], entry["route"]["source"]) == ("bucket.update", False, "portal")
    assert Access.WRITE.label in entry["error"]


async def test_no_form_is_read_of_who_may_not_send_it(shared: Service) -> None:
    reader = await shared.new_management_key(account="read")
    async with visiting(shared, key=reader) as visitor:
        asked = []

        async def body() -> AsyncIterator[bytes]:
            asked.append(True)
            yield b"name=x"

        for address in (
            NEW,
            f"{BUCKET}/settings",
            "/admin/accounts/my-account/management-keys/new",
            "/admin/new-account",
        ):
            answer = await visitor.client.post(
                address, content=body(), headers={"Content-Type": "application/x-www-form-urlencoded"}
            )
            assert (answer.status_code, asked) == (403, []), address
