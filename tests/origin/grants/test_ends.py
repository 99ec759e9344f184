"""Grants that end: with the key that makes them, at the origin by the clock, and at edges by a change."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from keywright.domain.models import to_iso
from keywright.origin.db import commit_log, tables
from keywright.origin.grants import ends
from keywright.origin.grants.ends import GrantEnds
from keywright.protocol.changes import BucketPut, Change
from support.service import Service
from support.visitor import BUCKET, visiting
from support.waiting import until

PARTNER = "partner-account"


def later(**span: float) -> str:
    return to_iso(datetime.now(UTC) + timedelta(**span))


async def new_key(service: Service, expires_on: str | None, account: str = "") -> str:
    url = f"/v1/accounts/{account or service.account}/management-keys"
    body = {"permissions": {"account": "write"}, "expiresOn": expires_on}
    return str((await service.call("POST", url, json=body))["key"])


async def share(service: Service, key: str | None = None, expect: int = 200, **more: Any) -> Any:
    body = {"account": PARTNER, "access": "read", **more}
    return await service.call("POST", f"{service.bucket_url}/grants", key=key, json=body, expect=expect)


async def listed(service: Service) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await service.call("GET", f"{service.bucket_url}/grants"))["data"]
    return found


@pytest.fixture
async def quiet(service: Service, monkeypatch: pytest.MonkeyPatch) -> Service:
    """Nobody looks for what has ended but the test."""
    monkeypatch.setattr(ends, "LOOK_SECONDS", 3600.0)
    await asyncio.sleep(1.1)
    await service.call("POST", "/v1/accounts", json={"name": PARTNER})
    return service


async def end_now(service: Service) -> None:
    """Have the time of every grant be over."""
    past = datetime.now(UTC) - timedelta(seconds=1)
    async with service.app._database.write() as tx:
        await tx.execute(sa.update(tables.grants).values(expires_at=past))


async def changes_after(service: Service, revision: int) -> list[Change]:
    async with service.app._database.read() as tx:
        return [row.change for row in await commit_log.list_changes(tx, after=revision, limit=100)]


async def test_what_a_key_that_ends_shares_ends_with_it_and_answer_and_list_say_so(quiet: Service) -> None:
    soon = later(hours=1)
    key = await new_key(quiet, soon)
    for more in ({}, {"expiresOn": None}, {"expiresOn": soon}):
        assert (await share(quiet, key, **more))["expiresOn"] == soon
        assert [(one["account"], one["expiresOn"]) for one in await listed(quiet)] == [(PARTNER, soon)]
    sooner = later(minutes=5)
    assert (await share(quiet, key, expiresOn=sooner))["expiresOn"] == sooner


async def test_nobody_shares_for_longer_than_they_have_nor_for_a_time_that_is_over(quiet: Service) -> None:
    key = await new_key(quiet, later(hours=1))
    problem = await share(quiet, key, expect=403, expiresOn=later(hours=2))
    assert "expires at" in problem["detail"]
    problem = await share(quiet, None, expect=400, expiresOn=later(hours=-1))
    assert problem["errors"][0]["field"] == "body.expiresOn"
    assert await listed(quiet) == []


async def test_a_key_without_end_shares_without_one_or_until_it_says(quiet: Service) -> None:
    assert (await share(quiet))["expiresOn"] is None
    end = later(days=3)
    assert (await share(quiet, expiresOn=end))["expiresOn"] == end
    # Sharing again says anew until when.
    assert (await share(quiet))["expiresOn"] is None


async def test_the_origin_judges_by_the_time_before_anybody_took_the_grant_away(quiet: Service) -> None:
    key = await new_key(quiet, None, PARTNER)
    await share(quiet, expiresOn=later(hours=1))
    place = f"/v1/accounts/{PARTNER}/key-buckets"
    await quiet.call("GET", f"{place}/{quiet.bucket}/consumers", key=key)
    assert (await quiet.call("GET", place, key=key))["total"] == 1
    await end_now(quiet)
    await quiet.call("GET", f"{place}/{quiet.bucket}/consumers", key=key, expect=404)
    await quiet.call("GET", f"{place}/{quiet.bucket}", key=key, expect=404)
    assert (await quiet.call("GET", place, key=key))["total"] == 0
    assert await listed(quiet) == []
    await quiet.call("DELETE", f"{quiet.bucket_url}/grants/{PARTNER}", expect=404)


async def test_what_has_ended_is_taken_away_once_by_several_origins_and_edges_hear_of_it(quiet: Service) -> None:
    await share(quiet, expiresOn=later(hours=1))
    revision = (await quiet.call("GET", "/readyz"))["revision"]
    await quiet.app._grant_ends.look()
    assert await changes_after(quiet, revision) == []
    await end_now(quiet)
    told: list[int] = []

    async def publish(revision: int) -> None:
        told.append(revision)

    origins = [GrantEnds(quiet.app._database, lambda: datetime.now(UTC), publish) for _ in range(3)]
    await asyncio.gather(*(origin.look() for origin in origins))
    (change,) = await changes_after(quiet, revision)
    assert isinstance(change, BucketPut)
    assert (change.name, change.grants) == (quiet.bucket, {})
    assert told == [revision + 1]
    entries = (await quiet.call("GET", f"{quiet.account_url}/audit-logs"))["data"]
    (entry,) = [one for one in entries if one["action"] == "grant.delete"]
    assert (entry["actor"]["sub"], entry["success"]) == ("system", True)
    assert entry["resources"][0]["metadata"] == {"name": quiet.bucket, "account": PARTNER, "hasEnded": True}


async def test_a_running_origin_takes_away_what_has_ended_by_itself(service: Service) -> None:
    await service.call("POST", "/v1/accounts", json={"name": PARTNER})
    await share(service, expiresOn=later(seconds=1))

    def is_shared_at_the_edge() -> bool:
        return any(put.grants for put in service.app._replica.buckets() if put.name == service.bucket)

    # It is a change as any: committed first, then applied.
    await until(lambda: not is_shared_at_the_edge())
    async with service.app._database.read() as tx:
        assert not await tx.all(sa.select(tables.grants))


async def test_the_page_of_sharing_tells_until_when(quiet: Service) -> None:
    key = await new_key(quiet, later(hours=1, seconds=30))
    async with visiting(quiet, key) as visitor:
        await visitor.send(f"{BUCKET}/sharing", account=PARTNER, access="read")
        page = await visitor.open(f"{BUCKET}/sharing")
        assert "when your key expires" in page
        assert "Ends in 1 hour" in page
