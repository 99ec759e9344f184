"""The order of the steps of a management request: what a later step may rely on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

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
