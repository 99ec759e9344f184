"""What the admin portal does with keys and consumers, and what it never shows."""

from __future__ import annotations

import re

import pytest

from support.service import ROOT_KEY, Service
from support.visitor import ACCOUNT, BUCKET, visiting

pytestmark = pytest.mark.asyncio(loop_scope="module")
SECRET = re.compile(r"(?:kwak|kwmk)_[0-9a-f]{32}_[0-9a-f]{8}")


async def new_key(service: Service, consumer: str) -> tuple[str, str]:
    made = await service.new_key(consumer)
    return made["id"], made["key"]


async def test_no_page_shows_a_key_that_was_not_asked_for(shared: Service) -> None:
    consumer = await shared.new_consumer()
    key_id, secret = await new_key(shared, consumer["name"])
    async with visiting(shared) as visitor:
        url = f"{BUCKET}/consumers/{consumer['name']}"
        key = f"{url}/keys/{key_id}"
        paths = (BUCKET, url, f"{url}/edit", f"{url}/roll", f"{key}/edit", f"{key}/revoke", f"{ACCOUNT}/audit-log")
        for path in paths:
            page = await visitor.open(path)
            assert not SECRET.search(page), path
            assert secret[:24] not in page
        # By a link nothing is shown at all.
        answer = await visitor.client.get(f"{key}/reveal")
        assert (answer.status_code, answer.headers["location"]) == (303, url)


async def test_a_key_is_revealed_where_it_was_asked_for_and_the_log_says_so(shared: Service) -> None:
    consumer = await shared.new_consumer()
    key_id, secret = await new_key(shared, consumer["name"])
    _, other = await new_key(shared, consumer["name"])
    async with visiting(shared) as visitor:
        url = f"{BUCKET}/consumers/{consumer['name']}"
        answer = await visitor.send(f"{url}/keys/{key_id}/reveal", url, expect=200)
        assert SECRET.findall(answer.text) == [secret]
        assert other not in answer.text
        assert answer.headers["cache-control"] == "no-store"
        entry = (await shared.call("GET", f"{shared.account_url}/audit-logs"))["data"][0]
        assert (entry["action"], entry["success"]) == ("key.reveal", True)
        assert {"type": "key", "id": key_id, "metadata": None} in entry["resources"]
        assert secret not in str(entry)


async def test_a_script_gets_the_key_alone_to_copy_it(shared: Service) -> None:
    consumer = await shared.new_consumer()
    key_id, secret = await new_key(shared, consumer["name"])
    async with visiting(shared) as visitor:
        url = f"{BUCKET}/consumers/{consumer['name']}"
        fields = await visitor.hidden(url)
        answer = await visitor.send_again(f"{url}/keys/{key_id}/copy", fields, 200, Accept="application/json")
        assert answer.json() == {"secret": secret}
        entry = (await shared.call("GET", f"{shared.account_url}/audit-logs"))["data"][0]
        assert entry["action"] == "key.copy"
        refused = await visitor.send_again(f"{url}/keys/none/copy", fields, 404, Accept="application/json")
        assert refused.headers["content-type"] == "application/problem+json"


async def test_keys_of_a_bucket_that_keeps_digests_only_can_not_be_revealed(shared: Service) -> None:
    await shared.client.post(f"{shared.account_url}/key-buckets", json={"name": "digests-only", "isRetrievable": False})
    await shared.call("POST", f"{shared.account_url}/key-buckets/digests-only/consumers", json={"name": "acme"})
    made = await shared.call("POST", f"{shared.account_url}/key-buckets/digests-only/consumers/acme/keys", json={})
    async with visiting(shared) as visitor:
        url = f"{ACCOUNT}/buckets/digests-only/consumers/acme"
        assert "Reveal" not in await visitor.open(url)
        fields = await visitor.hidden(url)
        await visitor.send_again(f"{url}/keys/{made['id']}/reveal", fields, 400)


async def test_who_looks_at_too_many_keys_is_made_to_wait(shared: Service) -> None:
    consumer = await shared.new_consumer()
    key_id, _ = await new_key(shared, consumer["name"])
    key = await shared.new_management_key(account="write")
    async with visiting(shared, key) as visitor:
        url = f"{BUCKET}/consumers/{consumer['name']}"
        fields = await visitor.hidden(url)
        headers = {"Accept": "application/json"}
        answers = [
            await visitor.client.post(f"{url}/keys/{key_id}/copy", data=fields, headers=headers) for _ in range(50)
        ]
        assert [one.status_code for one in answers[:30]] == [200] * 30
        assert 429 in {one.status_code for one in answers}
        assert int(next(one for one in answers if one.status_code == 429).headers["retry-after"]) >= 1


async def test_a_key_that_is_pasted_into_the_search_does_not_come_to_stand_in_the_address(shared: Service) -> None:
    consumer = await shared.new_consumer()
    _, secret = await new_key(shared, consumer["name"])
    async with visiting(shared) as visitor:
        for by in ("name", "tag", "manager", "key"):
            answer = await visitor.send(f"{BUCKET}/search", BUCKET, by=by, q=f" {secret} ")
            assert answer.headers["location"] == f"{BUCKET}?by=key&q={secret[-8:]}"
            page = await visitor.open(answer.headers["location"])
            assert re.findall(r'class="name" href="([^"]*)"', page) == [f"{BUCKET}/consumers/{consumer['name']}"]


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/edit", {"description": "x"}),
        ("/delete", {"typed": "gone"}),
        ("/keys/new", {"expires": "never"}),
        ("/roll", {"expires": "24h"}),
        ("/managers", {"email": "ada@example.com"}),
        ("/keys/{key}/edit", {"description": "x", "expires": "never"}),
        ("/keys/{key}/revoke", {}),
        ("/keys/{key}/reveal", {}),
    ],
)
async def test_a_consumer_that_was_deleted_in_another_tab_is_a_clear_page(
    shared: Service, path: str, form: dict[str, str]
) -> None:
    await shared.new_consumer(name="gone")
    key_id, _ = await new_key(shared, "gone")
    async with visiting(shared) as visitor:
        url = f"{BUCKET}/consumers/gone"
        address = url + path.format(key=key_id)
        fields = await visitor.hidden(url if path in {"/managers", "/keys/{key}/reveal"} else address)
        await shared.call("DELETE", f"{shared.consumers_url}/gone", expect=204)
        answer = await visitor.send_again(address, {**fields, **form}, 404)
        assert "It may have been deleted" in answer.text
        assert "Nothing was changed" in answer.text


async def test_deleting_needs_the_name_to_be_typed(shared: Service) -> None:
    await shared.new_consumer(name="precious")
    async with visiting(shared) as visitor:
        url = f"{BUCKET}/consumers/precious/delete"
        answer = await visitor.send(url, expect=400, typed="precio")
        assert "Must be “precious”." in answer.text
        await shared.call("GET", f"{shared.consumers_url}/precious")
        await visitor.send(url, typed="precious")
        await shared.call("GET", f"{shared.consumers_url}/precious", expect=404)


async def test_rolling_gives_the_time_that_was_chosen(shared: Service) -> None:
    consumer = await shared.new_consumer()
    _, old = await new_key(shared, consumer["name"])
    url = f"{BUCKET}/consumers/{consumer['name']}/roll"
    async with visiting(shared) as visitor:
        answer = await visitor.send(url, expect=200, expires="24h")
        (first,) = SECRET.findall(answer.text)
        assert await shared.verdict(old) == await shared.verdict(first) == "VALID"
        answer = await visitor.send(url, expect=200, expires="now")
        (second,) = SECRET.findall(answer.text)
        assert [await shared.verdict(key) for key in (old, first, second)] == ["EXPIRED", "EXPIRED", "VALID"]
        await visitor.send(url, expect=400, expires="never")


async def test_an_ended_key_can_be_described_without_being_brought_back(shared: Service) -> None:
    consumer = await shared.new_consumer()
    made = await shared.new_key(consumer["name"], key="ended-where-it-was-made", expiresOn="2020-01-31T12:00:30.500Z")
    url = f"{BUCKET}/consumers/{consumer['name']}/keys/{made['id']}/edit"
    async with visiting(shared) as visitor:
        await visitor.send(url, description="old", expires="on", expires_at="2020-01-31T12:00")
        key = await shared.call("GET", f"{shared.consumers_url}/{consumer['name']}/keys/{made['id']}")
        assert (key["description"], key["expiresOn"]) == ("old", "2020-01-31T12:00:30.500Z")


async def test_nobody_hands_on_more_than_they_hold(shared: Service) -> None:
    made = await shared.new_management_key(account="write")
    limited = await shared.call(
        "POST",
        f"{shared.account_url}/management-keys",
        key=made,
        json={"permissions": {"account": "write"}, "expiresOn": "2099-01-01T00:00:00.000Z"},
    )
    async with visiting(shared, limited["key"]) as visitor:
        # It ends in 2099, and may make none that ends never.
        url = f"{ACCOUNT}/management-keys/new"
        answer = await visitor.send(url, expect=403, account="write", expires="never", buckets="")
        assert "so expiresOn must be set" in answer.text
        answer = await visitor.send(
            url, expect=200, account="none", expires="30d", buckets="*=validate\nmy-bucket=read"
        )
        (secret,) = SECRET.findall(answer.text)
        await shared.call("GET", "/v1/who-am-i", key=secret)


@pytest.mark.parametrize("buckets", ["", "my-bucket", "my-bucket=none", "x=read", "my-bucket=admin", "_system=read"])
async def test_permissions_that_mean_nothing_are_said_to(shared: Service, buckets: str) -> None:
    async with visiting(shared) as visitor:
        url = f"{ACCOUNT}/management-keys/new"
        answer = await visitor.send(url, expect=400, account="none", expires="never", buckets=buckets)
        assert 'id="f-buckets-error"' in answer.text


async def test_whoever_revokes_the_key_of_this_session_is_told_before_and_signed_out(shared: Service) -> None:
    made = await shared.call(
        "POST", f"{shared.account_url}/management-keys", json={"permissions": {"account": "write"}}
    )
    async with visiting(shared, made["key"]) as visitor:
        url = f"{ACCOUNT}/management-keys/{made['id']}/revoke"
        assert "revoking it ends your session" in await visitor.open(url)
        answer = await visitor.send(url)
        await visitor.open(answer.headers["location"], 303)


async def test_only_root_sees_the_root_key_and_all_accounts(shared: Service) -> None:
    key = await shared.new_management_key(account="write")
    async with visiting(shared, key) as visitor:
        assert "Root key" not in await visitor.open(f"{ACCOUNT}/management-keys")
        await visitor.open("/admin/accounts", 403)
        await visitor.open("/admin/new-account", 403)
    async with visiting(shared, ROOT_KEY) as visitor:
        assert "Root key" in await visitor.open(f"{ACCOUNT}/management-keys")
        await visitor.send("/admin/new-account", name="made-here")
        await visitor.send("/admin/new-account", name="made-here", expect=409)


@pytest.mark.parametrize(
    ("query", "is_found"),
    [
        ("action=consumer.create", True),
        ("action=none-such", False),
        ("outcome=refused&action=consumer.create", False),
        ("outcome=done&action=consumer.create", True),
        ("from=2020-01-01&to=2020-01-02", False),
        ("from=2020-01-01&action=consumer.create", True),
        ("from=yesterday&action=consumer.create", True),
        ("page=9999999&action=consumer.create", False),
        ("page=x&action=consumer.create", True),
        ("actor=nobody@example.com", False),
    ],
)
async def test_the_audit_log_is_filtered(shared: Service, query: str, is_found: bool) -> None:
    await shared.new_consumer()
    async with visiting(shared) as visitor:
        page = await visitor.open(f"{ACCOUNT}/audit-log?{query}")
        assert ("<strong>consumer.create</strong>" in page) == is_found
