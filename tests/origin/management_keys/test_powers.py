"""Management keys and owner keys that are switched off or tied to addresses."""

from __future__ import annotations

from typing import Any

import pytest

from support.service import ROOT_KEY, Service

HERE = "127.0.0.1"
"""Where the client of these tests asks from."""


async def new_key(service: Service, url: str, **body: Any) -> dict[str, Any]:
    if url.endswith("management-keys"):
        body = {"permissions": {"account": "write"}, **body}
    made: dict[str, Any] = await service.call("POST", url, json=body)
    return made


@pytest.fixture(params=["management-keys", "owner-keys"])
def keys_url(request: pytest.FixtureRequest, service: Service) -> str:
    return f"{service.account_url if request.param == 'management-keys' else service.bucket_url}/{request.param}"


async def test_one_that_is_switched_off_is_refused_until_it_is_on_again(service: Service, keys_url: str) -> None:
    made = await new_key(service, keys_url)
    url, secret = f"{keys_url}/{made['id']}", made["key"]
    await service.call("GET", service.consumers_url, key=secret)

    assert (await service.call("PATCH", url, json={"enabled": False}))["enabled"] is False
    await service.call("GET", service.consumers_url, key=secret, expect=401)
    read = await service.call("GET", url)
    assert (await service.call("PATCH", url, json=read))["enabled"] is False
    await service.call("PATCH", url, json={"enabled": True})

    await service.call("GET", service.consumers_url, key=secret)
    born_off = await new_key(service, keys_url, enabled=False)
    await service.call("GET", service.consumers_url, key=born_off["key"], expect=401)


async def test_one_with_addresses_is_good_from_there_alone(service: Service, keys_url: str) -> None:
    made = await new_key(service, keys_url, allowedIps=["192.0.2.0/24"])
    assert made["allowedIps"] == ["192.0.2.0/24"]
    answer = await service.call("GET", service.consumers_url, key=made["key"], expect=403)
    assert answer["detail"] == f"This management key may not be used from {HERE}."

    url = f"{keys_url}/{made['id']}"
    await service.call("PATCH", url, json={"allowedIps": ["192.0.2.0/24", HERE]})
    await service.call("GET", service.consumers_url, key=made["key"])
    changed = await service.call("PATCH", url, json={"allowedIps": None})
    assert changed["allowedIps"] is None


async def test_what_can_t_be_changed_is_refused(service: Service, keys_url: str) -> None:
    made = await new_key(service, keys_url)
    url = f"{keys_url}/{made['id']}"
    answer = await service.call("PATCH", url, json={"description": "new", "enabled": False}, expect=400)
    assert answer["errors"] == [{"field": "body.description", "message": "can't be changed; leave it out"}]
    await service.call("PATCH", url, json={"rateLimits": []}, expect=400)
    assert (await service.call("GET", url))["enabled"] is True
    await service.call("PATCH", f"{keys_url}/key_000000000000000000000000", json={"enabled": False}, expect=404)


@pytest.mark.parametrize("member", ["scopes", "metadata", "tags"])
async def test_no_scopes_and_the_like_are_said_of_one(service: Service, keys_url: str, member: str) -> None:
    body = {"permissions": {}} if keys_url.endswith("management-keys") else {}
    await service.call("POST", keys_url, json={member: {}, **body}, expect=400)


async def test_the_last_root_key_that_is_good_is_neither_switched_off_nor_deleted(service: Service) -> None:
    url = f"{service.account_url}/management-keys"
    (root,) = [one for one in (await service.call("GET", url))["data"] if one["key"][-8:] == ROOT_KEY[-8:]]
    answer = await service.call("PATCH", f"{url}/{root['id']}", json={"enabled": False}, expect=409)
    assert "keywright root-key create" in answer["detail"]
    await service.call("GET", url)
    # Sent back as it was read, it stays as it is.
    await service.call("PATCH", f"{url}/{root['id']}", json={"enabled": True})


async def test_switching_off_is_in_the_audit_log(service: Service, keys_url: str) -> None:
    made = await new_key(service, keys_url)
    await service.call("PATCH", f"{keys_url}/{made['id']}", json={"enabled": False, "allowedIps": ["192.0.2.1"]})
    entry = (await service.call("GET", f"{service.account_url}/audit-logs"))["data"][0]
    assert entry["action"].endswith("-key.update")
    told = next(one["metadata"] for one in entry["resources"] if one["id"] == made["id"])
    assert told["enabled"] == {"from": True, "to": False}
    assert told["allowedIps"] == {"from": None, "to": ["192.0.2.1/32"]}
