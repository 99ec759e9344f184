"""The order of the steps of a management request: what a later step may rely on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace

from support.record import head_of
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


async def test_a_strangers_body_is_not_read_at_all(embedded: Service) -> None:
    read = []

    async def body() -> AsyncIterator[bytes]:
        read.append(True)
        yield b"{}"

    headers = {"Authorization": "Bearer not-a-key-of-anybody", "Content-Type": "application/json"}
    response = await embedded.client.post(embedded.consumers_url, content=body(), headers=headers)
    assert (response.status_code, read) == (401, [])


async def test_a_body_that_does_not_fit_changes_nothing_and_is_no_news(embedded: Service) -> None:
    before = await head_of(embedded.app._database)
    await embedded.call("POST", embedded.consumers_url, json={"name": 7}, expect=400)
    await embedded.call("POST", embedded.consumers_url, expect=400)
    assert await head_of(embedded.app._database) == before


async def test_who_is_told_of_a_commit_is_told_its_revision_before_the_answer_goes_out(embedded: Service) -> None:
    state = embedded.app._origin.state
    told: list[int] = []

    async def note(revision: int) -> None:
        assert revision == await head_of(embedded.app._database)
        told.append(revision)

    state.services = replace(state.services, on_commit=(*state.services.on_commit, note))
    made = await embedded.client.post(embedded.consumers_url, json={"name": "one"})
    assert told == [int(made.headers["keywright-revision"])]
    # No edge hears of a description, nor of what was refused or only read.
    await embedded.call("PATCH", f"{embedded.consumers_url}/one", json={"description": "d"})
    await embedded.call("POST", embedded.consumers_url, json={"name": "one"}, expect=409)
    await embedded.call("GET", embedded.consumers_url)
    assert len(told) == 1
