"""Whoever is asked whether to revoke a key is told whose it is."""

from __future__ import annotations

import pytest

from support.service import Service
from support.visitor import ACCOUNT, BUCKET, visiting

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_key_of_a_consumer(shared: Service) -> None:
    made = await shared.new_consumer(description="Acme, the customer")
    key = await shared.new_key(made["name"], description="Nightly")
    async with visiting(shared) as visitor:
        page = await visitor.open(f"{BUCKET}/consumers/{made['name']}/keys/{key['id']}/revoke")
    assert f"“Nightly” belongs to the consumer {made['name']} (Acme, the customer)" in page
    assert "in the bucket my-project-production" in page


async def test_an_owner_key_and_a_management_key(shared: Service) -> None:
    owner = await shared.call("POST", f"{shared.bucket_url}/owner-keys", json={"description": "For Bob"})
    managing = {"description": "For Ada", "permissions": {"account": "read"}}
    key = await shared.call("POST", f"{shared.account_url}/management-keys", json=managing)
    async with visiting(shared) as visitor:
        page = await visitor.open(f"{BUCKET}/owner-keys/{owner['id']}/revoke")
        assert "“For Bob”, created on" in page
        assert "full access to the bucket my-project-production" in page
        assert "“For Ada”, created on" in await visitor.open(f"{ACCOUNT}/management-keys/{key['id']}/revoke")
