"""Guarantees that a review with fresh eyes asked for: each was broken once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from support.service import Service


async def test_a_key_revoked_while_its_request_was_coming_in_does_nothing_any_more(service: Service) -> None:
    key = await service.new_management_key(account="write")
    listed = await service.call("GET", f"{service.account_url}/management-keys")
    key_id = listed["data"][0]["id"]
    may_go_on, has_begun = asyncio.Event(), asyncio.Event()

    async def slow_body() -> AsyncIterator[bytes]:
        text = json.dumps({"name": "made-too-late"}).encode()
        yield text[:5]
        has_begun.set()
        await may_go_on.wait()
        yield text[5:]

    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = asyncio.create_task(service.client.post(service.consumers_url, content=slow_body(), headers=headers))
    await has_begun.wait()
    await service.call("DELETE", f"{service.account_url}/management-keys/{key_id}", expect=204)
    may_go_on.set()
    assert (await request).status_code == 401
    await service.call("GET", f"{service.consumers_url}/made-too-late", expect=404)


async def test_the_name_of_a_deleted_bucket_never_answers_for_another_account(service: Service) -> None:
    await service.call("POST", "/v1/accounts", json={"name": "tenant-b"})
    mine, theirs = f"{service.account_url}/key-buckets", "/v1/accounts/tenant-b/key-buckets"
    await service.call("POST", mine, json={"name": "takeover"})
    await service.call("DELETE", f"{mine}/takeover", expect=204)

    await service.call("POST", theirs, json={"name": "takeover"}, expect=409)
    await service.call("POST", "/v1/accounts/tenant-b/projects", json={"name": "takeover"})
    await service.call("POST", mine, json={"name": "takeover"})
    await service.call("DELETE", f"{mine}/takeover", expect=204)


async def test_a_key_that_ends_makes_none_that_outlives_it(embedded: Service) -> None:
    url = f"{embedded.account_url}/management-keys"
    body = {"permissions": {"account": "write"}, "expiresOn": "2126-01-01T00:00:00Z"}
    short = (await embedded.call("POST", url, json=body))["key"]
    for address in (url, f"{embedded.bucket_url}/owner-keys"):
        wanted = {"permissions": {"account": "read"}}
        await embedded.call("POST", address, key=short, json=wanted, expect=403)
        later = {**wanted, "expiresOn": "2126-01-01T00:00:01Z"}
        await embedded.call("POST", address, key=short, json=later, expect=403)
        await embedded.call("POST", address, key=short, json={**wanted, "expiresOn": "2126-01-01T00:00:00Z"})


async def test_a_bucket_has_at_most_100_owner_keys(embedded: Service) -> None:
    url = f"{embedded.bucket_url}/owner-keys"
    for _ in range(99):
        await embedded.call("POST", url, json={})
    await embedded.call("POST", url, json={}, expect=409)
    assert (await embedded.call("GET", url))["total"] == 100


async def test_creating_an_account_is_the_first_entry_of_its_log(embedded: Service) -> None:
    await embedded.call("POST", "/v1/accounts", json={"name": "tenant-b"})
    logged = await embedded.call("GET", "/v1/accounts/tenant-b/audit-logs")
    assert [entry["action"] for entry in logged["data"]] == ["account.create"]


async def test_a_refused_attempt_without_an_account_in_its_path_is_logged_with_the_caller(embedded: Service) -> None:
    reader = await embedded.new_management_key(account="read")
    await embedded.call("POST", "/v1/accounts", key=reader, json={"name": "tenant-b"}, expect=403)
    logged = await embedded.call("GET", f"{embedded.account_url}/audit-logs?success=false")
    assert [entry["action"] for entry in logged["data"]] == ["account.create"]


async def test_another_account_can_not_flood_this_ones_audit_log(embedded: Service) -> None:
    await embedded.call("POST", "/v1/accounts", json={"name": "tenant-b"})
    stranger = await embedded.new_management_key("tenant-b", account="write")
    for _ in range(40):
        await embedded.call("DELETE", embedded.bucket_url, key=stranger, expect=404)
    logged = await embedded.call("GET", f"{embedded.account_url}/audit-logs?success=false&limit=100")
    assert 1 <= logged["pagination"]["total"] < 40


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
