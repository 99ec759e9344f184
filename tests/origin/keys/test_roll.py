"""Rolling keys: a new one without end, an end for the others, and no life made longer."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from keywright.domain.models import to_iso
from origin.world import ask, check
from support.service import Service

NONSENSE = [
    (None, "body"),
    (b"null", "body"),
    (b"[]", "body"),
    (b'"now"', "body"),
    (b'{"expiresOn": null}', "body.expiresOn"),
    (b'{"expiresOn": ""}', "body.expiresOn"),
    (b'{"expiresOn": "tomorrow"}', "body.expiresOn"),
    (b'{"expiresOn": 4102444800}', "body.expiresOn"),
    (b'{"expiresOn": "2001-01-01T00:00:00Z"}', "body.expiresOn"),
    (b'{"expireOn": "2099-01-01T00:00:00Z"}', "body.expireOn"),
    (b'{"expiresOn": "2099-01-01T00:00:00Z", "immediately": true}', "body.immediately"),
]
"""Bodies that do not say when the present keys end, and the field that is named."""


def moment(seconds: float) -> str:
    return to_iso(datetime.now(UTC) + timedelta(seconds=seconds))


async def keys_of(service: Service, consumer: str) -> dict[str, dict[str, Any]]:
    listed = await service.call("GET", f"{service.consumers_url}/{consumer}/keys", params={"key-format": "visible"})
    return {key["id"]: key for key in listed["data"]}


@pytest.fixture
async def consumer(service: Service) -> str:
    return str((await service.new_consumer())["name"])


@pytest.fixture
def url(service: Service, consumer: str) -> str:
    return f"{service.consumers_url}/{consumer}/roll-key"


async def test_a_roll_of_nobody_or_with_nonsense_changes_nothing(service: Service, consumer: str, url: str) -> None:
    await service.new_key(consumer)
    before = await keys_of(service, consumer)

    await service.call("POST", f"{service.consumers_url}/nobody/roll-key", expect=404, json={})
    await service.call("POST", url, expect=404, json={}, params={"tag.plan": "gold"})
    for body, field in NONSENSE:
        answer = await ask(service, "POST", url, body)
        check(answer, str(body), field=field)

    assert await keys_of(service, consumer) == before


async def test_without_a_time_the_others_end_with_the_answer(service: Service, consumer: str, url: str) -> None:
    old = [await service.new_key(consumer), await service.new_key(consumer, expiresOn=moment(3600))]

    await service.call("POST", url, expect=204, json={})

    assert [await service.verdict(key["key"]) for key in old] == ["EXPIRED", "EXPIRED"]
    (new,) = [key for id, key in (await keys_of(service, consumer)).items() if id not in {key["id"] for key in old}]
    assert new["expiresOn"] is None
    assert await service.verdict(new["key"]) == "VALID"


async def test_no_key_s_life_is_made_longer(service: Service, consumer: str, url: str) -> None:
    expired = await service.new_key(consumer)
    ended = f"{service.consumers_url}/{consumer}/keys/{expired['id']}"
    expired |= await service.call("PATCH", ended, json={"expiresOn": moment(-10)}, params={"key-format": "none"}) | {
        "key": expired["key"]
    }
    soon = await service.new_key(consumer, expiresOn=moment(60))
    later = await service.new_key(consumer, expiresOn=moment(7200))
    never = await service.new_key(consumer)
    end = moment(3600)

    await service.call("POST", url, expect=204, json={"expiresOn": end})

    keys = await keys_of(service, consumer)
    assert keys[expired["id"]]["expiresOn"] == expired["expiresOn"]
    assert keys[expired["id"]]["updatedOn"] == expired["updatedOn"]
    assert keys[soon["id"]]["expiresOn"] == soon["expiresOn"]
    assert keys[later["id"]]["expiresOn"] == end
    assert keys[never["id"]]["expiresOn"] == end
    assert len(keys) == 5
    assert [await service.verdict(key["key"]) for key in (expired, soon, later, never)] == ["EXPIRED", *["VALID"] * 3]


async def test_a_key_that_has_ended_keeps_its_end(service: Service, consumer: str, url: str) -> None:
    made = await service.new_key(consumer)
    key = f"{service.consumers_url}/{consumer}/keys/{made['id']}"
    ended = await service.call("PATCH", key, json={"expiresOn": moment(-60)})

    await service.call("POST", url, expect=400, json={"expiresOn": moment(-3600)})
    for body in ({}, {"expiresOn": moment(3600)}):
        await service.call("POST", url, expect=204, json=body)

    kept = await service.call("GET", key)
    assert (kept["expiresOn"], kept["updatedOn"]) == (ended["expiresOn"], ended["updatedOn"])


async def test_where_no_keys_are_kept_a_roll_must_ask_for_the_new_one(service: Service) -> None:
    await service.call(
        "POST", f"{service.account_url}/key-buckets", json={"name": "in-the-dark", "isRetrievable": False}
    )
    service.bucket = "in-the-dark"
    made = await service.new_consumer(apiKeys=[{}])
    url = f"{service.consumers_url}/{made['name']}/roll-key"

    problem = await service.call("POST", url, expect=400, json={})

    assert "Prefer: return=representation" in problem["detail"]
    assert await service.verdict(made["apiKeys"][0]["key"]) == "VALID"
    shown = await service.call("POST", url, json={}, headers={"Prefer": "return=representation"})
    assert await service.verdict(shown["key"]) == "VALID"
    assert await service.verdict(made["apiKeys"][0]["key"]) == "EXPIRED"


async def test_a_consumer_without_keys_gets_its_first(service: Service, consumer: str, url: str) -> None:
    await service.call("POST", url, expect=204, json={})
    assert [key["expiresOn"] for key in (await keys_of(service, consumer)).values()] == [None]


async def test_of_rolls_at_once_one_key_without_end_remains(service: Service, consumer: str, url: str) -> None:
    old = await service.new_key(consumer)

    await asyncio.gather(*(service.call("POST", url, expect=204, json={}) for _ in range(4)))

    keys = await keys_of(service, consumer)
    assert len(keys) == 5
    verdicts = {id: await service.verdict(key["key"]) for id, key in keys.items()}
    assert sorted(verdicts.values()) == [*["EXPIRED"] * 4, "VALID"]
    assert verdicts[old["id"]] == "EXPIRED"
    assert sum(key["expiresOn"] is None for key in keys.values()) == 1


async def test_other_consumers_keep_their_keys(service: Service, consumer: str, url: str) -> None:
    neighbour = await service.new_consumer()
    key = await service.new_key(neighbour["name"])
    await service.call("POST", url, expect=204, json={})
    assert await service.verdict(key["key"]) == "VALID"
