"""Usage is told to whom it concerns, by key, consumer, verdict and edge, with the moment up to which it is known."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from keywright.domain.models import to_iso
from keywright.origin.db import tables
from keywright.origin.db.engine import DatabaseUnavailable
from keywright.origin.usage import fold_store
from keywright.origin.usage.counts import AT_ONCE
from keywright.origin.usage.folding import Folder
from keywright.protocol.usage import HOUR_MILLIS, UsageRow
from support.counted import EDGES, append, row
from support.service import Service
from support.visitor import visiting

NOW = datetime.now(UTC)
HOUR = int(NOW.timestamp() * 1000) // HOUR_MILLIS


class Counted:
    """A service whose keys were used."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.folder = Folder(service.app._database, hours_days=14, days_kept=395)
        self.own = service.app._identity.instance

    async def counts(self, key_id: str | None, total: int, *, hour: int = HOUR - 1, edge: int = 0, **more: Any) -> None:
        """Have an edge tell of a key that is there."""
        values = {"verdict": "VALID", "plan": None, "denied_scope": None, "route": None, "first_ms": 5, "last_ms": 7}
        async with self.service.app._database.read() as tx:
            bucket = await tx.scalar(
                sa.select(tables.buckets.c.number).where(tables.buckets.c.name == self.service.bucket)
            )
            owner = await tx.scalar(sa.select(tables.keys.c.consumer_number).where(tables.keys.c.id == key_id))
        row = UsageRow(hour, bucket, owner, key_id, total=total, **{**values, **more})
        await append(self.service.app._database, [row], EDGES[edge])
        while await self.folder.fold(AT_ONCE):
            pass

    async def fold(self, *rows: UsageRow) -> None:
        """Have an edge tell of what may be gone."""
        await append(self.service.app._database, rows)
        while await self.folder.fold(AT_ONCE):
            pass

    async def usage(self, place: str = "", expect: int = 200, **query: str) -> Any:
        url = f"{self.service.bucket_url}{place}/usage"
        query = {name.rstrip("_"): value for name, value in query.items()}
        return await self.service.call("GET", url, params=query, expect=expect)


@pytest.fixture
async def counted(service: Service, monkeypatch: pytest.MonkeyPatch) -> Counted:
    """Nobody folds, or takes anything in, but the test."""

    async def unable(*_: object) -> None:
        raise DatabaseUnavailable("for the test")

    monkeypatch.setattr(service.app._intake, "take", unable)
    async with asyncio.timeout(20):
        while not service.app._folder._pruned_day:
            await asyncio.sleep(0.02)
    monkeypatch.setattr(service.app._folder, "look", unable)
    async with service.app._database.write() as tx:
        await fold_store.release(tx, service.app._folder._holder)
    return Counted(service)


def verdicts(answer: Any) -> dict[str, dict[str, int]]:
    return {one["id"]: one["verdicts"] for one in answer["data"]}


def hours_ago(hours: int) -> str:
    return to_iso(datetime.fromtimestamp((HOUR - hours) * 3600, UTC))


async def test_usage_is_told_by_verdict_key_consumer_and_edge(counted: Counted) -> None:
    one = await counted.service.new_consumer()
    first, second = [await counted.service.new_key(one["name"]) for _ in range(2)]
    other = await counted.service.new_consumer()
    third = await counted.service.new_key(other["name"])
    await counted.counts(first["id"], 5)
    await counted.counts(first["id"], 2, verdict="RATE_LIMITED", edge=1)
    await counted.counts(second["id"], 1, edge=1)
    await counted.counts(third["id"], 100, hour=HOUR - 30)
    await counted.counts(None, 9, verdict="UNKNOWN")
    assert verdicts(await counted.usage()) == {
        "VALID": {"VALID": 106},
        "UNKNOWN": {"UNKNOWN": 9},
        "RATE_LIMITED": {"RATE_LIMITED": 2},
    }
    by_key = await counted.usage(by="key")
    assert [(g["id"], g["total"], g["consumer"]) for g in by_key["data"]] == [
        (third["id"], 100, other["id"]),
        (first["id"], 7, one["id"]),
        (second["id"], 1, one["id"]),
    ]
    by_consumer = await counted.usage(by="consumer", limit="1")
    assert [(g["id"], g["name"], g["total"]) for g in by_consumer["data"]] == [(other["id"], other["name"], 100)]
    assert by_consumer["total"] == 2
    by_edge = await counted.usage(by="edge")
    assert [(g["name"], g["region"], g["total"]) for g in by_edge["data"]] == [
        ("edge-0", "eu", 114),
        ("edge-1", "eu", 3),
    ]
    of_one = f"/consumers/{one['name']}"
    assert verdicts(await counted.usage(of_one)) == {"VALID": {"VALID": 6}, "RATE_LIMITED": {"RATE_LIMITED": 2}}
    assert verdicts(await counted.usage(of_one, by="key")) == {
        first["id"]: {"RATE_LIMITED": 2, "VALID": 5},
        second["id"]: {"VALID": 1},
    }
    of_key = f"{of_one}/keys/{first['id']}"
    assert [(g["name"], g["verdicts"]) for g in (await counted.usage(of_key, by="edge"))["data"]] == [
        ("edge-0", {"VALID": 5}),
        ("edge-1", {"RATE_LIMITED": 2}),
    ]
    recent = await counted.usage(by="key", from_=hours_ago(2))
    assert [group["id"] for group in recent["data"]] == [first["id"], second["id"]]
    steps = (await counted.usage(interval="hour", from_=hours_ago(40)))["data"][0]["steps"]
    assert steps == [
        {"from": hours_ago(30), "verdicts": {"VALID": 100}},
        {"from": hours_ago(1), "verdicts": {"VALID": 6}},
    ]


async def test_plans_scopes_and_routes_are_told_of_a_bucket(counted: Counted) -> None:
    plan = await counted.service.call("POST", f"{counted.service.bucket_url}/plans", json={"name": "gold"})
    async with counted.service.app._database.read() as tx:
        number = await tx.scalar(sa.select(tables.plans.c.number))
    consumer = await counted.service.new_consumer(plan=plan["name"])
    key = await counted.service.new_key(consumer["name"])
    await counted.counts(key["id"], 3, plan=number, route="orders", denied_scope="x:y", verdict="INSUFFICIENT_SCOPE")
    assert [(g["name"], g["total"]) for g in (await counted.usage(by="plan"))["data"]] == [("gold", 3)]
    for by, value in (("route", "orders"), ("scope", "x:y")):
        assert verdicts(await counted.usage(by=by)) == {value: {"INSUFFICIENT_SCOPE": 3}}


async def test_last_use_stands_on_keys_and_consumers_and_moves_nothing_else(counted: Counted) -> None:
    consumer = await counted.service.new_consumer()
    key = await counted.service.new_key(consumer["name"])
    assert (key["lastUsedOn"], key["lastUsedRegion"], consumer["lastUsedOn"]) == (None, None, None)
    url = f"{counted.service.consumers_url}/{consumer['name']}"
    before = await counted.service.call("GET", f"{url}?include-api-keys=true")
    async with counted.service.app._database.read() as tx:
        revision = await tx.scalar(sa.select(tables.deployment.c.revision))
    await counted.counts(key["id"], 1)
    after = await counted.service.call("GET", f"{url}?include-api-keys=true")
    used = to_iso(datetime.fromtimestamp((HOUR - 1) * 3600, UTC) + timedelta(milliseconds=7))
    assert (after["lastUsedOn"], after["apiKeys"][0]["lastUsedOn"]) == (used, used)
    assert after["apiKeys"][0]["lastUsedRegion"] == "eu"
    assert after["updatedOn"] == before["updatedOn"]
    assert after["apiKeys"][0]["updatedOn"] == before["apiKeys"][0]["updatedOn"]
    async with counted.service.app._database.read() as tx:
        assert await tx.scalar(sa.select(tables.deployment.c.revision)) == revision
    # What was read before somebody used it may be sent back.
    await counted.service.call("PATCH", url, json={"apiKeys": before["apiKeys"], "description": "x"})
    await counted.service.call("PATCH", f"{url}/keys/{key['id']}", json={**before["apiKeys"][0], "description": "x"})


async def test_unused_since_tells_of_what_is_old_and_was_not_valid_since(counted: Counted) -> None:
    consumer, idle, _ = [await counted.service.new_consumer() for _ in range(3)]
    keys = [await counted.service.new_key(consumer["name"]) for _ in range(4)]
    old = NOW - timedelta(days=100)
    async with counted.service.app._database.write() as tx:
        aged = [key["id"] for key in keys[:3]]
        await tx.execute(sa.update(tables.keys).where(tables.keys.c.id.in_(aged)).values(created_at=old))
        names = [consumer["name"], idle["name"]]
        await tx.execute(sa.update(tables.consumers).where(tables.consumers.c.name.in_(names)).values(created_at=old))
    await counted.counts(keys[0]["id"], 1)
    await counted.counts(keys[1]["id"], 1, hour=HOUR - 24 * 95)
    await counted.counts(keys[1]["id"], 1, verdict="EXPIRED")
    query = f"unused-since={to_iso(NOW - timedelta(days=90))}"
    found = await counted.service.call("GET", f"{counted.service.consumers_url}/{consumer['name']}/keys?{query}")
    assert [key["id"] for key in found["data"]] == [keys[2]["id"], keys[1]["id"]]
    assert found["total"] == 2
    whole = await counted.service.call("GET", f"{counted.service.bucket_url}/keys?{query}")
    assert [(key["id"], key["consumerName"]) for key in whole["data"]] == [
        (keys[2]["id"], consumer["name"]),
        (keys[1]["id"], consumer["name"]),
    ]
    consumers = await counted.service.call("GET", f"{counted.service.consumers_url}?{query}")
    assert [one["name"] for one in consumers["data"]] == [idle["name"]]


async def test_what_was_deleted_stays_countable_by_its_id(counted: Counted) -> None:
    consumer = await counted.service.new_consumer()
    key = await counted.service.new_key(consumer["name"])
    await counted.counts(key["id"], 4)
    url = f"{counted.service.consumers_url}/{consumer['name']}"
    await counted.service.call("DELETE", f"{url}/keys/{key['id']}", expect=204)
    assert (await counted.usage(f"/consumers/{consumer['name']}/keys/{key['id']}"))["data"][0]["total"] == 4
    await counted.service.call("DELETE", url, expect=204)
    await counted.usage(f"/consumers/{consumer['name']}", expect=404)
    assert (await counted.usage(f"/consumers/{consumer['id']}"))["data"][0]["total"] == 4
    assert (await counted.usage(f"/consumers/{consumer['id']}/keys/{key['id']}"))["data"][0]["total"] == 4
    by_consumer = (await counted.usage(by="consumer"))["data"]
    assert [(g["id"], g["name"], g["total"]) for g in by_consumer] == [(consumer["id"], None, 4)]


async def test_usage_of_a_deleted_bucket_is_found_by_its_id(counted: Counted) -> None:
    service = counted.service
    buckets = f"{service.account_url}/key-buckets"
    made = await service.call("POST", buckets, json={"name": "gone-bucket"})
    gone = f"{buckets}/{made['id']}"
    consumer = await service.call("POST", f"{buckets}/gone-bucket/consumers", json={"name": "c-1"})
    late = await service.call("POST", f"{buckets}/gone-bucket/consumers", json={"name": "c-2"})
    key = await service.call("POST", f"{buckets}/gone-bucket/consumers/c-1/keys", json={})
    unheard = await service.call("POST", f"{buckets}/gone-bucket/consumers/c-2/keys", json={})
    async with service.app._database.read() as tx:
        bucket = await tx.scalar(sa.select(tables.buckets.c.number).where(tables.buckets.c.id == made["id"]))
        owner = await tx.scalar(sa.select(tables.keys.c.consumer_number).where(tables.keys.c.id == unheard["id"]))
        first = await tx.scalar(sa.select(tables.keys.c.consumer_number).where(tables.keys.c.id == key["id"]))
    await counted.fold(row(key["id"], 4, hour=HOUR - 1, bucket=bucket, consumer_number=first))
    # Who may ask by the name may ask by the id, also before.
    for place in (f"{gone}/usage", f"{gone}/consumers/c-1/usage", f"{gone}/consumers/{consumer['id']}/usage"):
        assert (await service.call("GET", place))["data"][0]["total"] == 4
    reader = await service.new_management_key(buckets={"gone-bucket": "read"})
    stranger = await service.new_management_key(buckets={service.bucket: "read"})
    await service.call("DELETE", f"{buckets}/gone-bucket", expect=204)
    # Another edge tells late, of a consumer that nobody had heard of.
    await counted.fold(row(unheard["id"], 2, hour=HOUR - 1, bucket=bucket, consumer_number=owner))
    await counted.fold(row(None, 3, hour=HOUR - 1, bucket=bucket, verdict="UNKNOWN"))
    assert verdicts(await service.call("GET", f"{gone}/usage", key=reader)) == {
        "VALID": {"VALID": 6},
        "UNKNOWN": {"UNKNOWN": 3},
    }
    by_consumer = (await service.call("GET", f"{gone}/usage?by=consumer"))["data"]
    assert [(g["id"], g["name"], g["total"]) for g in by_consumer] == [(consumer["id"], None, 4), (late["id"], None, 2)]
    of_consumer = f"{gone}/consumers/{late['id']}"
    for place in (of_consumer, f"{of_consumer}/keys/{unheard['id']}"):
        assert (await service.call("GET", f"{place}/usage"))["data"][0]["total"] == 2
    table = await service.client.get(f"{gone}/usage?by=key&format=csv")
    assert f"{key['id']},,VALID,4" in table.text
    await service.call("GET", f"{buckets}/gone-bucket/usage", expect=404)
    await service.call("GET", f"{gone}/usage", key=stranger, expect=404)
    await service.call("GET", f"{gone}/consumers/c-1/usage", expect=404)
    await service.call("GET", f"{buckets}/bckt_{'0' * 32}/usage", expect=404)
    # One of the same name is another one.
    await service.call("POST", buckets, json={"name": "gone-bucket"})
    await service.call("POST", f"{buckets}/gone-bucket/consumers", json={"name": "c-1"})
    await service.call("GET", f"{gone}/consumers/c-1/usage", expect=404)
    assert (await service.call("GET", f"{buckets}/gone-bucket/usage"))["data"] == []
    assert (await service.call("GET", f"{gone}/usage"))["total"] == 2


async def test_usage_of_a_key_that_never_was_is_not_found_and_of_an_unused_one_is_empty(counted: Counted) -> None:
    consumer = await counted.service.new_consumer()
    key = await counted.service.new_key(consumer["name"])
    place = f"/consumers/{consumer['name']}/keys"
    assert (await counted.usage(f"{place}/{key['id']}"))["data"] == []
    await counted.usage(f"{place}/key_{'0' * 24}", expect=404)
    await counted.usage(f"{place}/k%C3%A9y", expect=404)
    await counted.usage(f"/consumers/csmr_{'0' * 24}", expect=404)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"from": 5, "to": 6}, "from"),
        ({"from": 5, "to": 5}, "from"),
        ({"from": -2}, "from"),
        ({"to": -3}, "to"),
        ({"to": 24 * 500}, "from"),
        ({"from": 24 * 397}, "from"),
        ({"from": 24 * 16, "interval": "hour"}, "from"),
        ({"by": "colour"}, "by"),
        ({"interval": "week"}, "interval"),
        ({"from": "yesterday"}, "from"),
        ({"limit": "0"}, "limit"),
        ({"format": "xml"}, "format"),
    ],
    ids=str,
)
async def test_range_that_can_not_be_told_is_refused_by_field_and_rule(
    embedded: Service, query: dict[str, Any], field: str
) -> None:
    sent = {name: hours_ago(value) if isinstance(value, int) else value for name, value in query.items()}
    if query == {"from": 5, "to": 6}:
        sent = {"from": hours_ago(5), "to": hours_ago(6)}
    answer = await embedded.call("GET", f"{embedded.bucket_url}/usage", params=sent, expect=400)
    assert [one["field"] for one in answer["errors"]] == [f"query.{field}"]
    assert answer["errors"][0]["message"].startswith("must")


async def test_consumer_and_key_are_not_told_apart_by_what_they_have_not(embedded: Service) -> None:
    consumer = await embedded.new_consumer()
    url = f"{embedded.consumers_url}/{consumer['name']}/usage?by=consumer"
    assert (await embedded.call("GET", url, expect=400))["errors"][0]["field"] == "query.by"


async def test_networks_are_told_where_the_bucket_records_them_and_forgotten_where_it_does_not(
    counted: Counted,
) -> None:
    service = counted.service
    consumer = await service.new_consumer()
    key, other = [await service.new_key(consumer["name"]) for _ in range(2)]
    url = f"{service.consumers_url}/{consumer['name']}"
    place = f"/consumers/{consumer['name']}"
    refused = await counted.usage(place, by="address", expect=409)
    assert "recordAddresses" in refused["detail"]
    # What an edge tells that has not heard yet is not kept.
    await counted.counts(key["id"], 1, address="198.51.100.0/24")
    assert (await service.call("PATCH", service.bucket_url, json={"recordAddresses": True}))["recordAddresses"] is True
    assert (await counted.usage(place, by="address"))["data"] == []
    await counted.counts(key["id"], 5, address="192.0.2.0/24", hour=HOUR - 26)
    await counted.counts(key["id"], 2, address="192.0.2.0/24", verdict="EXPIRED", first_ms=9, last_ms=9)
    await counted.counts(other["id"], 4, address="2001:db8:1::/48", hour=HOUR - 2)
    told = await counted.usage(place, by="address")
    assert [(one["id"], one["total"], one["firstOn"], one["lastOn"]) for one in told["data"]] == [
        ("192.0.2.0/24", 7, hours_ago(26)[:-4] + "005Z", hours_ago(1)[:-4] + "009Z"),
        ("2001:db8:1::/48", 4, hours_ago(2)[:-4] + "005Z", hours_ago(2)[:-4] + "007Z"),
    ]
    assert told["distinct"] == 2
    assert told["data"][0]["verdicts"] == {"EXPIRED": 2, "VALID": 5}
    by_day = await counted.usage(f"{place}/keys/{key['id']}", by="address", interval="day")
    assert [sum(step["verdicts"].values()) for step in by_day["data"][0]["steps"]] == [5, 2]
    await counted.usage(place, by="address", interval="hour", expect=400)
    await counted.usage(by="address", expect=400)
    table = await service.client.get(f"{service.bucket_url}{place}/usage?by=address&format=csv")
    assert ",2001:db8:1::/48,,VALID,4" in table.text
    # Counted as ever beside that.
    assert (await counted.usage(place, by="key"))["data"][0]["total"] == 8
    read = await service.call("GET", f"{url}/keys/{other['id']}")
    assert (read["lastUsedAddress"], read["lastUsedRegion"]) == ("2001:db8:1::/48", "eu")
    # Of the last use itself, or none.
    await counted.counts(other["id"], 1, hour=HOUR - 1)
    assert (await service.call("GET", f"{url}/keys/{other['id']}"))["lastUsedAddress"] is None
    await counted.counts(other["id"], 1, hour=HOUR, address="203.0.113.0/24", first_ms=0, last_ms=0)
    read = await service.call("GET", f"{url}/keys/{other['id']}")
    assert read["lastUsedAddress"] == "203.0.113.0/24"
    await service.call("PATCH", f"{url}/keys/{other['id']}", json={**read, "description": "x"})
    async with visiting(service) as visitor:
        page = await visitor.open(f"/admin/accounts/{service.account}/buckets/{service.bucket}{place}/usage")
        assert "2001:db8:1::/48" in page
    await service.call("PATCH", service.bucket_url, json={"recordAddresses": False})
    assert (await service.call("GET", f"{url}/keys/{other['id']}"))["lastUsedAddress"] is None
    assert await counted.folder._tidy(HOUR // 24 - 2, asyncio.Event())
    async with service.app._database.read() as tx:
        assert await tx.scalar(sa.select(sa.func.count()).select_from(tables.usage_addresses)) == 0
        assert await tx.scalar(sa.select(sa.func.count(tables.last_used.c.used_network))) == 0


async def test_usage_is_written_as_a_table_where_that_is_asked_for(counted: Counted) -> None:
    consumer = await counted.service.new_consumer()
    key = await counted.service.new_key(consumer["name"])
    await counted.counts(key["id"], 4)
    url = f"{counted.service.bucket_url}/usage?by=consumer&from={hours_ago(3)}"
    for headers, query in (({"Accept": "text/csv"}, ""), ({}, "&format=csv"), ({"Accept": "text/csv"}, "&format=csv")):
        answer = await counted.service.client.get(url + query, headers=headers)
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        head, row = answer.text.splitlines()
        assert head == "from,consumer,name,verdict,total"
        assert row == f"{hours_ago(3)},{consumer['id']},{consumer['name']},VALID,4"
    for headers, query in (({"Accept": "text/csv, */*"}, ""), ({"Accept": "text/csv"}, "&format=json")):
        answer = await counted.service.client.get(url + query, headers=headers)
        assert answer.headers["content-type"] == "application/json"


async def test_known_until_is_the_least_of_all_edges_and_of_what_waits(counted: Counted) -> None:
    async def known(*edges: tuple[str, int | None], account: str = "") -> Any:
        async with counted.service.app._database.write() as tx:
            await tx.execute(sa.delete(tables.usage_edges))
            rows = [{"account_id": account, "instance": name, "known_until": at} for name, at in edges]
            told = [{**row, "name": "e", "region": "", "heard_at": 1} for row in rows]
            if told:
                await tx.execute(sa.insert(tables.usage_edges), told)
        return (await counted.usage())["knownUntil"]

    at = HOUR * HOUR_MILLIS
    assert await known() is None
    assert await known((counted.own, None)) is None
    assert await known((counted.own, at)) == hours_ago(0)
    # One of a tenant speaks for no other, however it calls itself.
    async with counted.service.app._database.read() as tx:
        owner = await tx.scalar(
            sa.select(tables.accounts.c.id).where(tables.accounts.c.name == counted.service.account)
        )
    assert await known((counted.own, at), account=owner) is None
    # One that was retired says nothing any more.
    assert await known((counted.own, at), ("another-instance-1", at - HOUR_MILLIS)) == hours_ago(0)
    async with counted.service.app._database.write() as tx:
        values = {"account_id": "", "instance": "another-instance-1", "name": "e", "version": "1", "state": "ok"}
        now = datetime.now(UTC)
        await tx.execute(sa.insert(tables.edges).values(**values, since=now, seen_at=int(now.timestamp() * 1000)))
    assert await known((counted.own, at), ("another-instance-1", at - HOUR_MILLIS)) == hours_ago(1)
    assert await known((counted.own, at), ("another-instance-1", None)) is None
    assert await known((counted.own, at)) is None
    async with counted.service.app._database.write() as tx:
        await tx.execute(sa.delete(tables.edges).where(tables.edges.c.instance == "another-instance-1"))
        waits = {"part": 3, "row_count": 1, "since": at - 2 * HOUR_MILLIS, "taken_at": at, "body": b""}
        await tx.execute(sa.insert(tables.usage_batches).values(**waits))
    assert await known((counted.own, at)) == hours_ago(2)
    consumer = await counted.service.new_consumer()
    url = f"{counted.service.consumers_url}/{consumer['name']}"
    for place in (url, f"{url}/keys", counted.service.consumers_url):
        answer = await counted.service.client.get(place)
        assert answer.headers["keywright-usage-known-until"] == hours_ago(2)


async def test_usage_is_seen_by_those_who_may_read_the_bucket_and_by_nobody_else(counted: Counted) -> None:
    reader = await counted.service.new_management_key(buckets={counted.service.bucket: "read"})
    validator = await counted.service.new_management_key(buckets={counted.service.bucket: "validate"})
    url = f"{counted.service.bucket_url}/usage"
    await counted.service.call("GET", url, key=reader)
    await counted.service.call("GET", url, key=validator, expect=403)
    await counted.service.call("GET", f"{counted.service.bucket_url}/keys", key=validator, expect=403)
    await counted.service.call("GET", url.replace("my-account", "other-account"), key=reader, expect=404)


async def test_validation_is_told_from_the_edge_that_judged_it_to_the_answer(embedded: Service) -> None:
    consumer = await embedded.new_consumer()
    key = await embedded.new_key(consumer["name"])
    assert await embedded.verdict(key["key"]) == "VALID"
    url = f"{embedded.consumers_url}/{consumer['name']}"
    async with asyncio.timeout(30):
        while (read := await embedded.call("GET", f"{url}/keys/{key['id']}"))["lastUsedOn"] is None:
            await asyncio.sleep(0.1)
    assert abs(datetime.now(UTC) - datetime.fromisoformat(read["lastUsedOn"])) < timedelta(seconds=60)
    told = await embedded.call("GET", f"{url}/usage")
    assert verdicts(told) == {"VALID": {"VALID": 1}}
    assert told["losses"] == []
    async with asyncio.timeout(30):
        while (known := (await embedded.call("GET", f"{url}/usage"))["knownUntil"]) is None:
            await asyncio.sleep(0.1)
    assert datetime.fromisoformat(known) <= datetime.now(UTC)


async def test_pages_show_usage_and_when_each_key_was_last_used(counted: Counted) -> None:
    consumer = await counted.service.new_consumer()
    used, unused = [await counted.service.new_key(consumer["name"]) for _ in range(2)]
    await counted.counts(used["id"], 4)
    await counted.counts(used["id"], 3, verdict="EXPIRED")
    async with counted.service.app._database.write() as tx:
        of_unused = tables.keys.c.id == unused["id"]
        await tx.execute(sa.update(tables.keys).where(of_unused).values(created_at=NOW - timedelta(days=91)))
    async with visiting(counted.service) as visitor:
        base = f"/admin/accounts/{counted.service.account}/buckets/{counted.service.bucket}"
        place = f"{base}/consumers/{consumer['name']}"
        of_bucket, detail, of_consumer, roll = [
            await visitor.open(path) for path in (f"{base}/usage", place, f"{place}/usage", f"{place}/roll")
        ]
    assert "7 in the last 30 days" in of_bucket
    assert f'href="{place}/usage">{consumer["name"]}</a>' in of_bucket
    assert unused["key"][-8:] in of_bucket
    assert used["key"][-8:] not in of_bucket
    for page in (detail, roll):
        assert page.count("Never used") == 1
        assert page.count("Last used") >= 1
    assert 'aria-label="7 validations in 30 days"' in detail
    for text in ('<th scope="col">EXPIRED</th>', 'class="bar-bad"', "edge-0", used["key"][-8:]):
        assert text in of_consumer
