"""Quotas of plans and consumers over the API: said in full, inherited member by member, refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from keywright.protocol.changes import BucketPut, ConsumerPut, PlanPut
from support.record import head_of, log_of, snapshot_of
from support.service import Service

in_module = pytest.mark.asyncio(loop_scope="module")
MONTHLY = {
    "name": "monthly", "limit": 100_000, "period": "month", "timeZone": "Europe/Berlin", "anchor": 31, "defaultCost": 2,
}  # fmt: skip
DAILY = {"name": "daily", "limit": 0, "period": "day", "timeZone": "UTC", "anchor": 1, "defaultCost": 1}
WRITTEN = '{"name":"monthly","limit":100000,"period":"month","timeZone":"Europe/Berlin","anchor":31,"defaultCost":2}'


def quota(**changed: Any) -> dict[str, Any]:
    return {name: value for name, value in {**MONTHLY, **changed}.items() if value is not ...}


BAD: dict[str, tuple[Any, str, str]] = {
    "no list": ({}, "", "must be a list"),
    "no object": (["100000/month"], ".0", "must be a JSON object"),
    "empty": ([{}], ".0.name", "is required"),
    "no limit": ([quota(limit=...)], ".0.limit", "is required"),
    "no period": ([quota(period=...)], ".0.period", "is required"),
    "a name in capitals": ([quota(name="Monthly")], ".0.name", "must match"),
    "limit -1": ([quota(limit=-1)], ".0.limit", "must be at least 0"),
    "limit 2^63": ([quota(limit=2**63)], ".0.limit", "must be at most 1000000000000000"),
    "limit of true": ([quota(limit=True)], ".0.limit", "must be a whole number"),
    "an unknown period": ([quota(period="year")], ".0.period", "must be one of day, week, month, none"),
    "a period of null": ([quota(period=None)], ".0.period", "must be one of"),
    "an unknown zone": ([quota(timeZone="Europe/Atlantis")], ".0.timeZone", "IANA time zone database"),
    "a zone in other letters": ([quota(timeZone="europe/berlin")], ".0.timeZone", "IANA time zone database"),
    "an offset": ([quota(timeZone="+01:00")], ".0.timeZone", "IANA time zone database"),
    "a path": ([quota(timeZone="../../etc/passwd")], ".0.timeZone", "IANA time zone database"),
    "no zone": ([quota(timeZone="")], ".0.timeZone", "IANA time zone database"),
    "a zone that is too long": ([quota(timeZone="x" * 65)], ".0.timeZone", "IANA time zone database"),
    "anchor 0": ([quota(anchor=0)], ".0.anchor", "must be at least 1"),
    "anchor 32": ([quota(anchor=32)], ".0.anchor", "must be at most 31"),
    "an anchor of weeks": ([quota(period="week", anchor=2)], ".0.anchor", "must be left out where period is not month"),
    "cost 0": ([quota(defaultCost=0)], ".0.defaultCost", "must be at least 1"),
    "cost -1": ([quota(defaultCost=-1)], ".0.defaultCost", "must be at least 1"),
    "cost 2^63": ([quota(defaultCost=2**63)], ".0.defaultCost", "must be at most 1000000"),
    "an unknown member": ([quota(timezone="UTC")], ".0.timezone", "is not known here; did you mean timeZone?"),
    "one name twice": ([quota(), quota(limit=5)], "", "must not have one name twice: monthly"),
    "too many": ([quota(name=f"n{number}") for number in range(6)], "", "must have at most 5 items"),
}


@in_module
@pytest.mark.parametrize(("value", "place", "rule"), BAD.values(), ids=BAD)
async def test_quotas_that_break_a_rule_are_refused_by_name_and_nothing_changes(
    shared: Service, value: Any, place: str, rule: str
) -> None:
    plans = f"{shared.bucket_url}/plans"
    if (await shared.client.get(f"{plans}/bad-quotas")).status_code == 404:
        await shared.call("POST", plans, json={"name": "bad-quotas"})
    consumer = await shared.new_consumer()
    before = await head_of(shared.app._database)
    for method, address, body in (
        ("POST", plans, {"name": "never-made", "quotas": value}),
        ("PATCH", f"{plans}/bad-quotas", {"quotas": value}),
        ("POST", shared.consumers_url, {"name": "never-made", "quotas": value}),
        ("PATCH", f"{shared.consumers_url}/{consumer['name']}", {"quotas": value}),
    ):
        answer = await shared.call(method, address, json=body, expect=400)
        told = {error["field"]: error["message"] for error in answer["errors"]}
        assert rule in told[f"body.quotas{place}"], (method, address)
    assert await head_of(shared.app._database) == before


@in_module
async def test_keys_and_management_keys_take_no_quotas(shared: Service) -> None:
    consumer = await shared.new_consumer()
    for url, body in (
        (f"{shared.consumers_url}/{consumer['name']}/keys", {}),
        (f"{shared.account_url}/management-keys", {"permissions": {}}),
        (f"{shared.bucket_url}/owner-keys", {}),
    ):
        answer = await shared.call("POST", url, json={**body, "quotas": []}, expect=400)
        assert [error["field"] for error in answer["errors"]] == ["body.quotas"]


async def test_quotas_are_said_in_full_kept_sent_and_taken_back(service: Service) -> None:
    plans = f"{service.bucket_url}/plans"
    short = {"name": "daily", "limit": 0, "period": "day"}
    plan = await service.call("POST", plans, json={"name": "gold", "quotas": [MONTHLY, short]})
    assert plan["quotas"] == [MONTHLY, DAILY]
    assert (await service.call("PATCH", f"{plans}/gold", json=plan))["quotas"] == [MONTHLY, DAILY]
    own = await service.new_consumer(plan="gold", quotas=[MONTHLY])
    url = f"{service.consumers_url}/{own['name']}"
    assert (await service.call("GET", url))["quotas"] == [MONTHLY]
    inherits = await service.new_consumer(plan="gold")
    assert inherits["quotas"] is None

    logged = [change for _, change in await log_of(service.app._database)]
    found = await snapshot_of(service.app._database)
    for changes in (logged, found):
        (put,) = {one for one in changes if isinstance(one, PlanPut)}
        assert put.powers is not None
        assert put.powers.startswith(f'{{"quotas":[{WRITTEN},')
        owner = next(one for one in changes if isinstance(one, ConsumerPut) and one.name == own["name"])
        assert owner.powers is not None
        assert owner.powers.endswith(f'"quotas":[{WRITTEN}]}}')
    buckets = [one for one in found if isinstance(one, BucketPut) and one.name == service.bucket]
    assert set(buckets[0].features) == {"plan", "quotas"}

    assert (await service.call("PATCH", url, json={"quotas": []}))["quotas"] == []
    assert (await service.call("PATCH", url, json={"quotas": None}))["quotas"] is None
    assert (await service.call("PATCH", f"{plans}/gold", json={"quotas": None}))["quotas"] is None


async def test_the_audit_log_says_which_quotas_changed(embedded: Service) -> None:
    consumer = await embedded.new_consumer(quotas=[DAILY])
    await embedded.call("PATCH", f"{embedded.consumers_url}/{consumer['name']}", json={"quotas": [MONTHLY]})
    log = (await embedded.call("GET", f"{embedded.account_url}/audit-logs"))["data"]
    told = {entry["action"]: entry["resources"][-1]["metadata"] for entry in reversed(log) if entry["resources"]}
    assert told["consumer.create"]["quotas"] == [DAILY]
    assert told["consumer.update"]["quotas"] == {"from": [DAILY], "to": [MONTHLY]}
