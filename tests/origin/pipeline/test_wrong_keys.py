"""Who guesses management keys is slowed down by address; nobody else is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from support import service as services
from support.service import ROOT_KEY, Service


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with services.running(services.settings_for(tmp_path / "data")) as running:
        yield running


def guess(number: int) -> str:
    return f"guess-number-{number}-of-somebody-unknown"


def client_at(service: Service, address: str, key: str) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app=service.app, client=(address, 1234))
    headers = {"Authorization": f"Bearer {key}", "Keywright-Nonce": "a-nonce-of-this-test"}
    return httpx2.AsyncClient(transport=transport, base_url="http://keywright.test", headers=headers)


async def statuses(
    service: Service, keys: list[str], address: str = "192.0.2.1", url: str = "/v1/who-am-i"
) -> list[int]:
    found = []
    for key in keys:
        async with client_at(service, address, key) as client:
            found.append((await client.get(url)).status_code)
    return found


@pytest.mark.parametrize("url", ["/v1/who-am-i", "/v1/feed"])
async def test_guesses_are_refused_unjudged_once_there_were_too_many(service: Service, url: str) -> None:
    found = await statuses(service, [guess(number) for number in range(100)], url=url)
    assert found[:30] == [401] * 30
    # One comes back in two seconds.
    assert found[30:].count(401) <= 10
    assert set(found[30:]) <= {401, 429}
    async with client_at(service, "192.0.2.1", guess(1000)) as client:
        refused = await client.get(url)
    if refused.status_code == 429:
        assert int(refused.headers["retry-after"]) >= 1
    # Nor is a right key judged that was not seen before: a guess could be one.
    unseen = await service.new_management_key(account="read")
    assert 429 in await statuses(service, [guess(2000), unseen, guess(2001)])


async def test_who_is_known_by_a_key_is_judged_as_ever(service: Service) -> None:
    known = await service.new_management_key(account="read")
    assert await statuses(service, [known]) == [200]
    await statuses(service, [guess(number) for number in range(100)])
    assert await statuses(service, [known] * 50) == [200] * 50
    assert await statuses(service, [await service.new_management_key(account="read")], "192.0.2.2") == [200]


async def test_one_wrong_key_again_and_again_is_no_guessing(service: Service) -> None:
    assert await statuses(service, [guess(1)] * 100) == [401] * 100
    assert await statuses(service, [await service.new_management_key(account="read")]) == [200]


async def test_good_keys_are_not_counted_however_many(service: Service) -> None:
    keys = [await service.new_management_key(account="read") for _ in range(50)]
    assert await statuses(service, keys) == [200] * 50


async def test_what_can_be_no_key_is_not_counted(service: Service) -> None:
    assert await statuses(service, ["short", "x" * 600] * 50) == [401] * 100
    assert await statuses(service, [ROOT_KEY]) == [200]
