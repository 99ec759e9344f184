"""Rules of the owner keys of a bucket."""

from __future__ import annotations

from support.service import Service


async def test_a_bucket_has_at_most_100_owner_keys(embedded: Service) -> None:
    url = f"{embedded.bucket_url}/owner-keys"
    for _ in range(99):
        await embedded.call("POST", url, json={})
    await embedded.call("POST", url, json={}, expect=409)
    assert (await embedded.call("GET", url))["total"] == 100
