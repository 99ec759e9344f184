"""Rules of buckets and of sharing them, through the API on both engines."""

from __future__ import annotations

import pytest

from keywright.domain.permissions import Access
from keywright.protocol.changes import BucketPut
from support.record import head_of, log_of
from support.service import Service

CUSTOM = "my-own-secret-key-1"


class TestSharing:
    @pytest.fixture(autouse=True)
    async def partner(self, service: Service) -> None:
        await service.call("POST", "/v1/accounts", json={"name": "partner-account"})

    async def test_with_itself_or_nobody_is_refused(self, service: Service) -> None:
        url = f"{service.bucket_url}/grants"
        await service.call("POST", url, json={"account": service.account, "access": "read"}, expect=400)
        await service.call("POST", url, json={"account": "nobody", "access": "read"}, expect=404)
        await service.call("DELETE", f"{url}/nobody", expect=404)
        assert (await service.call("GET", url))["total"] == 0

    async def test_again_changes_the_access_and_each_is_one_change(self, service: Service) -> None:
        url = f"{service.bucket_url}/grants"
        before = await head_of(service.app._database)

        await service.call("POST", url, json={"account": "partner-account", "access": "validate"})
        await service.call("POST", url, json={"account": "partner-account", "access": "write"})
        (grant,) = (await service.call("GET", url))["data"]
        await service.call("DELETE", f"{url}/partner-account", expect=204)

        assert (grant["account"], grant["access"]) == ("partner-account", "write")
        puts = [change for _, change in (await log_of(service.app._database))[before:]]
        assert all(isinstance(put, BucketPut) for put in puts)
        held = [list(put.grants.values()) for put in puts if isinstance(put, BucketPut)]
        assert held == [[Access.VALIDATE], [Access.WRITE], []]


async def test_deleting_a_bucket_ends_all_its_keys_and_frees_its_name(service: Service) -> None:
    key = await service.new_key((await service.new_consumer())["name"], key=CUSTOM)
    await service.call("DELETE", service.bucket_url, expect=204)
    await service.call("POST", f"/v1/validate/{service.bucket}", json={"key": key["key"]}, expect=404)

    await service.call("POST", f"{service.account_url}/key-buckets", json={"name": service.bucket})

    assert await service.verdict(CUSTOM) == "UNKNOWN"
    assert (await service.call("GET", service.consumers_url))["total"] == 0


async def test_the_name_of_a_deleted_bucket_never_answers_for_another_account(service: Service) -> None:
    await service.call("POST", "/v1/accounts", json={"name": "tenant-b"})
    mine, theirs = f"{service.account_url}/key-buckets", "/v1/accounts/tenant-b/key-buckets"
    await service.call("POST", mine, json={"name": "takeover"})
    await service.call("DELETE", f"{mine}/takeover", expect=204)

    await service.call("POST", theirs, json={"name": "takeover"}, expect=409)
    await service.call("POST", "/v1/accounts/tenant-b/projects", json={"name": "takeover"})
    await service.call("POST", mine, json={"name": "takeover"})
    await service.call("DELETE", f"{mine}/takeover", expect=204)
