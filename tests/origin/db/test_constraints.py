"""What only the database can promise: of two who do the same thing at once, one succeeds and one is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support import service as services
from support.service import Service
from support.waiting import until

ROUNDS = 5


@pytest.fixture
async def machines(service: Service, tmp_path: Path) -> AsyncIterator[tuple[Service, Service]]:
    """Two machines with one record, each with its own connections and its own replica."""
    settings = services.settings_for(
        tmp_path / "other",
        service.settings.database_url,
        pepper_file=service.settings.pepper_file,
        master_key_file=service.settings.master_key_file,
    )
    async with services.running(settings) as other:
        yield service, other


async def statuses(machines: tuple[Service, Service], method: str, url: str, **options: Any) -> list[int]:
    """The answers to the same four requests, sent to both machines at once."""
    clients = [machine.client for machine in machines] * 2
    answers = await asyncio.gather(*(client.request(method, url, **options) for client in clients))
    return sorted(answer.status_code for answer in answers)


async def test_of_simultaneous_consumers_with_one_name_one_is_made(machines: tuple[Service, Service]) -> None:
    url = machines[0].consumers_url
    for number in range(ROUNDS):
        found = await statuses(machines, "POST", url, json={"name": f"same-{number}"}, params={"with-api-key": "true"})
        assert found == [200, 409, 409, 409]
    listed = await machines[0].call("GET", url, params={"include-api-keys": "true"})
    assert listed["total"] == ROUNDS
    assert all(len(consumer["apiKeys"]) == 1 for consumer in listed["data"])


async def test_of_simultaneous_buckets_with_one_name_one_is_made(machines: tuple[Service, Service]) -> None:
    url = f"{machines[0].account_url}/key-buckets"
    for number in range(ROUNDS):
        assert await statuses(machines, "POST", url, json={"name": f"same-{number}"}) == [200, 409, 409, 409]
    assert (await machines[0].call("GET", url))["total"] == 3 + ROUNDS


async def test_of_simultaneous_keys_with_one_secret_one_is_made(machines: tuple[Service, Service]) -> None:
    consumer = await machines[0].new_consumer()
    url = f"{machines[0].consumers_url}/{consumer['name']}/keys"
    for number in range(ROUNDS):
        found = await statuses(machines, "POST", url, json={"key": f"brought-along-{number}"})
        assert found == [200, 409, 409, 409]
    assert (await machines[0].call("GET", url))["total"] == ROUNDS


async def test_of_simultaneous_accounts_projects_and_managers_one_is_made(machines: tuple[Service, Service]) -> None:
    consumer = await machines[0].new_consumer()
    account = machines[0].account_url
    assert await statuses(machines, "POST", "/v1/accounts", json={"name": "same"}) == [200, 409, 409, 409]
    assert await statuses(machines, "POST", f"{account}/projects", json={"name": "same"}) == [200, 409, 409, 409]
    url = f"{machines[0].consumers_url}/{consumer['name']}/managers"
    assert await statuses(machines, "POST", url, json={"email": "ada@example.com"}) == [200, 409, 409, 409]


async def test_of_simultaneous_deletions_one_happens_and_the_log_has_one(machines: tuple[Service, Service]) -> None:
    consumer = await machines[0].new_consumer()
    key = await machines[0].new_key(consumer["name"])
    url = f"{machines[0].consumers_url}/{consumer['name']}"

    assert await statuses(machines, "DELETE", f"{url}/keys/{key['id']}") == [204, 404, 404, 404]
    assert await statuses(machines, "DELETE", url) == [204, 404, 404, 404]

    for machine in machines:
        await until(lambda machine=machine: _is_unknown(machine, key["key"]))  # type: ignore[misc]


async def _is_unknown(machine: Service, key: str) -> bool:
    """Where the deletion was answered it is so at once; the other machine hears of it."""
    return await machine.verdict(key) == "UNKNOWN"


async def test_a_key_is_not_made_for_a_consumer_that_is_deleted_at_the_same_time(
    machines: tuple[Service, Service],
) -> None:
    one, other = machines
    for _ in range(ROUNDS):
        consumer = await one.new_consumer()
        url = f"{one.consumers_url}/{consumer['name']}"
        made, gone = await asyncio.gather(one.client.post(f"{url}/keys", json={}), other.client.delete(url))
        assert gone.status_code == 204
        assert made.status_code in {200, 404}
        if made.status_code == 200:
            await other.call("GET", "/v1/who-am-i")
            assert await other.verdict(made.json()["key"]) == "UNKNOWN"


async def test_a_change_made_on_another_machine_is_seen_here_soon(machines: tuple[Service, Service]) -> None:
    one, other = machines
    key = await one.new_key((await one.new_consumer())["name"])
    async with asyncio.timeout(10):
        while await other.verdict(key["key"]) != "VALID":
            await asyncio.sleep(0.02)
