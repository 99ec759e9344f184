"""Plans over the API: set once for all consumers that have them, judged from the answer on, never deleted in use."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from keywright.origin.plans.rules import MAX_PLANS
from support.record import head_of
from support.service import Service

in_module = pytest.mark.asyncio(loop_scope="module")
PER_MINUTE = {"name": "per-minute", "limit": 600, "windowSeconds": 60, "scope": "global"}
BURST = {"name": "burst", "limit": 20, "windowSeconds": 1, "scope": "edge"}


def limit(**changed: Any) -> dict[str, Any]:
    made = {**PER_MINUTE, **changed}
    return {name: value for name, value in made.items() if value is not ...}


BAD_LIMITS: dict[str, tuple[Any, str, str]] = {
    "no list": ({}, "", "must be a list"),
    "no object": (["600/60"], ".0", "must be a JSON object"),
    "null in it": ([None], ".0", "must be a JSON object"),
    "empty": ([{}], ".0.name", "is required"),
    "no name": ([limit(name=...)], ".0.name", "is required"),
    "no limit": ([limit(limit=...)], ".0.limit", "is required"),
    "no window": ([limit(windowSeconds=...)], ".0.windowSeconds", "is required"),
    "an empty name": ([limit(name="")], ".0.name", "must match"),
    "a name in capitals": ([limit(name="Per-minute")], ".0.name", "must match"),
    "a name that ends with a hyphen": ([limit(name="a-")], ".0.name", "must match"),
    "a name that is too long": ([limit(name="x" * 41)], ".0.name", "must match"),
    "a name with a line's end": ([limit(name="a\n")], ".0.name", "must match"),
    "limit 0": ([limit(limit=0)], ".0.limit", "must be at least 1"),
    "limit -1": ([limit(limit=-1)], ".0.limit", "must be at least 1"),
    "limit 2^63": ([limit(limit=2**63)], ".0.limit", "must be at most 1000000000"),
    "a broken limit": ([limit(limit=1.5)], ".0.limit", "must be a whole number"),
    "a limit as text": ([limit(limit="600")], ".0.limit", "must be a whole number"),
    "a limit of true": ([limit(limit=True)], ".0.limit", "must be a whole number"),
    "window 0": ([limit(windowSeconds=0, scope="edge")], ".0.windowSeconds", "must be at least 1"),
    "window of two days": ([limit(windowSeconds=172_800)], ".0.windowSeconds", "must be at most 86400"),
    "a short window, counted globally": (
        [limit(windowSeconds=9)], ".0.windowSeconds", "must be at least 10 where scope is global",
    ),
    "a short window, by default": (
        [limit(windowSeconds=9, scope=...)], ".0.windowSeconds", "must be at least 10 where scope is global",
    ),
    "an unknown scope": ([limit(scope="region")], ".0.scope", "must be one of global, edge"),
    "a scope of null": ([limit(scope=None)], ".0.scope", "must be one of"),
    "an unknown member": ([limit(window=60)], ".0.window", "is not known here; did you mean windowSeconds?"),
    "one name twice": ([limit(), limit(limit=5)], "", "must not have one name twice: per-minute"),
    "too many": ([limit(name=f"n{number}") for number in range(6)], "", "must have at most 5 items"),
}  # fmt: skip


async def plan_of(service: Service, name: str, **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = await service.call("POST", f"{service.bucket_url}/plans", json={"name": name, **fields})
    return made


async def ask(service: Service, key: str, *scopes: str) -> str:
    answer = await service.call(
        "POST", f"/v2/validate/{service.bucket}", json={"key": key, "scopes": list(scopes), "peek": True}
    )
    return str(answer["code"])


@in_module
@pytest.mark.parametrize(("value", "place", "rule"), BAD_LIMITS.values(), ids=BAD_LIMITS)
async def test_rate_limits_that_break_a_rule_are_refused_by_name_and_nothing_changes(
    shared: Service, value: Any, place: str, rule: str
) -> None:
    plans = f"{shared.bucket_url}/plans"
    if (await shared.client.get(f"{plans}/bad-input")).status_code == 404:
        await plan_of(shared, "bad-input")
    consumer = await shared.new_consumer()
    key = await shared.new_key(consumer["name"])
    url = f"{shared.consumers_url}/{consumer['name']}"
    before = await head_of(shared.app._database)
    bad = {"rateLimits": value}
    for method, address, body, field in (
        ("POST", plans, {"name": "never-made", **bad}, "body"),
        ("PATCH", f"{plans}/bad-input", bad, "body"),
        ("POST", shared.consumers_url, {"name": "never-made", **bad}, "body"),
        ("POST", shared.consumers_url, {"name": "never-made", "apiKeys": [{}, bad]}, "body.apiKeys.1"),
        ("PATCH", url, bad, "body"),
        ("POST", f"{url}/keys", bad, "body"),
        ("POST", f"{url}/keys/$bulk", [{}, bad], "body.1"),
        ("PATCH", f"{url}/keys/{key['id']}", bad, "body"),
    ):
        answer = await shared.call(method, address, json=body, expect=400)
        told = {error["field"]: error["message"] for error in answer["errors"]}
        assert rule in told[f"{field}.rateLimits{place}"], (method, address)
    assert await head_of(shared.app._database) == before


@in_module
@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (7, "must be a string"),
        ([], "must be a string"),
        ("", "must match"),
        ("Gold", "must match"),
        ("gold ", "must match"),
        ("x" * 41, "must match"),
        ("not-there", "is no plan of the bucket"),
    ],
)
async def test_what_is_no_plan_of_the_bucket_is_given_to_nobody(shared: Service, value: Any, rule: str) -> None:
    consumer = await shared.new_consumer()
    # It is one of another bucket.
    elsewhere = f"{shared.account_url}/key-buckets/my-project-preview/plans"
    if (await shared.client.get(f"{elsewhere}/not-there")).status_code == 404:
        await shared.call("POST", elsewhere, json={"name": "not-there"})
    before = await head_of(shared.app._database)
    for method, url, body in (
        ("POST", shared.consumers_url, {"name": "never-made", "plan": value}),
        ("PATCH", f"{shared.consumers_url}/{consumer['name']}", {"plan": value}),
    ):
        (error,) = (await shared.call(method, url, json=body, expect=400))["errors"]
        assert error["field"] == "body.plan"
        assert rule in error["message"]
    assert await head_of(shared.app._database) == before


async def test_a_plan_is_made_read_changed_and_deleted(service: Service) -> None:
    plans = f"{service.bucket_url}/plans"
    made = await plan_of(
        service, "gold", description="For who pays", scopes=["orders:*"], rateLimits=[limit(scope=...), BURST]
    )
    assert made | {"id": "", "createdOn": "", "updatedOn": ""} == {
        "id": "", "name": "gold", "createdOn": "", "updatedOn": "", "description": "For who pays",
        "scopes": ["orders:*"], "rateLimits": [PER_MINUTE, BURST], "quotas": None, "consumers": 0,
    }  # fmt: skip
    assert made["id"].startswith("plan_")
    silver = await plan_of(service, "silver")
    assert (silver["description"], silver["scopes"], silver["rateLimits"]) == (None, None, None)
    listed = await service.call("GET", plans)
    assert (listed["data"], listed["total"]) == ([silver, made], 2)
    assert await service.call("GET", f"{plans}/gold") == made

    # What is read may be sent back, and changes nothing.
    before = await head_of(service.app._database)
    again = await service.call("PATCH", f"{plans}/gold", json=made)
    assert again | {"updatedOn": ""} == made | {"updatedOn": ""}
    assert await head_of(service.app._database) == before

    changed = await service.call("PATCH", f"{plans}/gold", json={"scopes": [], "rateLimits": None, "description": None})
    assert [changed[name] for name in ("scopes", "rateLimits", "description")] == [[], None, None]
    await service.call("PATCH", f"{plans}/gold", json={"name": "bronze"}, expect=400)
    await service.call("POST", plans, json={"name": "gold"}, expect=409)
    await service.call("DELETE", f"{plans}/gold", expect=204)
    for method in ("GET", "PATCH", "DELETE"):
        await service.call(method, f"{plans}/gold", expect=404, **({"json": {}} if method == "PATCH" else {}))
    assert (await plan_of(service, "gold"))["id"] != made["id"]


async def test_a_plan_in_use_is_not_deleted_and_the_refusal_says_by_how_many(service: Service) -> None:
    await plan_of(service, "gold")
    url = f"{service.bucket_url}/plans/gold"
    names = [(await service.new_consumer(plan="gold"))["name"] for _ in range(2)]
    assert (await service.call("GET", url))["consumers"] == 2
    assert "2 consumers have it" in (await service.call("DELETE", url, expect=409))["detail"]
    await service.call("PATCH", f"{service.consumers_url}/{names[0]}", json={"plan": None})
    assert "1 consumer has it" in (await service.call("DELETE", url, expect=409))["detail"]
    await service.call("DELETE", f"{service.consumers_url}/{names[1]}", expect=204)
    await service.call("DELETE", url, expect=204)


async def test_a_bucket_goes_with_its_plans_and_those_who_have_them(service: Service) -> None:
    await plan_of(service, "gold")
    key = await service.new_key((await service.new_consumer(plan="gold"))["name"])
    assert await service.verdict(key["key"]) == "VALID"
    await service.call("DELETE", service.bucket_url, expect=204)
    await service.call("GET", f"{service.bucket_url}/plans", expect=404)


async def test_what_a_plan_grants_its_consumers_have_and_one_change_takes_it_from_all(service: Service) -> None:
    await service.call("PATCH", service.bucket_url, json={"defaultScopes": ["users:read"]})
    await plan_of(service, "gold", scopes=["orders:*"])
    inherits, own = await service.new_consumer(plan="gold"), await service.new_consumer(plan="gold", scopes=["a"])
    keys = [(await service.new_key(one["name"]))["key"] for one in (inherits, own)]
    assert [await ask(service, key, "orders:read") for key in keys] == ["VALID", "INSUFFICIENT_SCOPE"]
    assert await ask(service, keys[1], "a") == "VALID"
    # The plan's replace the bucket's; they are never added up.
    assert await ask(service, keys[0], "users:read") == "INSUFFICIENT_SCOPE"

    before = await head_of(service.app._database)
    await service.call("PATCH", f"{service.bucket_url}/plans/gold", json={"scopes": ["orders:write"]})
    assert await head_of(service.app._database) == before + 1
    assert [await ask(service, keys[0], scope) for scope in ("orders:write", "orders:read")] == [
        "VALID", "INSUFFICIENT_SCOPE",
    ]  # fmt: skip
    await service.call("PATCH", f"{service.bucket_url}/plans/gold", json={"scopes": None})
    assert await ask(service, keys[0], "users:read") == "VALID"


async def test_a_key_s_scopes_are_measured_by_its_consumer_s_plan(embedded: Service) -> None:
    await plan_of(embedded, "gold", scopes=["orders:*"])
    await plan_of(embedded, "bare")
    gold = await embedded.new_consumer(plan="gold", apiKeys=[{"scopes": ["orders:read"]}])
    url = f"{embedded.consumers_url}/{gold['name']}/keys"
    answer = await embedded.call("POST", url, json={"scopes": ["users:read"]}, expect=400)
    assert answer["errors"][0]["message"].endswith("users:read is not: it has orders:*")
    await embedded.call(
        "POST", embedded.consumers_url, json={"name": "x", "plan": "bare", "apiKeys": [{"scopes": ["a"]}]}, expect=400
    )


async def test_a_consumer_s_plan_and_limits_are_shown_kept_and_taken_back(service: Service) -> None:
    await plan_of(service, "gold", rateLimits=[PER_MINUTE])
    made = await service.new_consumer(plan="gold", rateLimits=[], apiKeys=[{"rateLimits": [limit(scope=...)]}])
    assert (made["plan"], made["rateLimits"]) == ("gold", [])
    assert made["apiKeys"][0]["rateLimits"] == [PER_MINUTE]
    url = f"{service.consumers_url}/{made['name']}"
    read = await service.call("GET", url)
    before = await head_of(service.app._database)
    assert (await service.call("PATCH", url, json=read)) | {"updatedOn": ""} == read | {"updatedOn": ""}
    assert await head_of(service.app._database) == before

    changed = await service.call("PATCH", url, json={"plan": None, "rateLimits": [BURST]})
    assert (changed["plan"], changed["rateLimits"]) == (None, [BURST])
    changed = await service.call("PATCH", url, json={"rateLimits": None})
    assert (changed["plan"], changed["rateLimits"]) == (None, None)
    key = f"{url}/keys/{made['apiKeys'][0]['id']}"
    assert (await service.call("PATCH", key, json={"rateLimits": None}))["rateLimits"] is None
    bulk = await service.call("POST", f"{url}/keys/$bulk", json=[{"rateLimits": [BURST]}, {}])
    assert [one["rateLimits"] for one in bulk["data"]] == [[BURST], None]


@pytest.mark.parametrize("member", ["plan", "rateLimits"])
async def test_management_keys_take_no_limits(embedded: Service, member: str) -> None:
    for url, body in (
        (f"{embedded.account_url}/management-keys", {"permissions": {}}),
        (f"{embedded.bucket_url}/owner-keys", {}),
    ):
        made = await embedded.call("POST", url, json=body)
        for method, address in (("POST", url), ("PATCH", f"{url}/{made['id']}")):
            answer = await embedded.call(method, address, json={**body, member: ["x"]}, expect=400)
            assert f"body.{member}" in {error["field"] for error in answer["errors"]}


async def test_a_bucket_has_at_most_100_plans(embedded: Service) -> None:
    for number in range(MAX_PLANS):
        await plan_of(embedded, f"plan-{number}")
    answer = await embedded.call("POST", f"{embedded.bucket_url}/plans", json={"name": "one-more"}, expect=409)
    assert "at most 100 plans" in answer["detail"]
    await embedded.call("DELETE", f"{embedded.bucket_url}/plans/plan-7", expect=204)
    await plan_of(embedded, "one-more")


async def test_the_largest_plan_reaches_the_edges(embedded: Service) -> None:
    name, scopes = "x" * 40, [f"{number:0>50}:{'y' * 49}" for number in range(50)]
    limits = [limit(name=f"{number}{'z' * 39}", limit=1_000_000_000, windowSeconds=86_400) for number in range(5)]
    url = f"{embedded.bucket_url}/plans"
    refused = await embedded.call("POST", url, json={"name": name, "scopes": scopes}, expect=400)
    assert refused["errors"][0]["field"] == "body.scopes"
    await plan_of(embedded, name, scopes=scopes[:40], rateLimits=limits, description="ö" * 1000)
    key = await embedded.new_key((await embedded.new_consumer(plan=name))["name"])
    # This edge may ask for its part of limits just now.
    async with asyncio.timeout(20):
        while await ask(embedded, key["key"], scopes[0]) != "VALID":
            await asyncio.sleep(0.1)


async def test_the_audit_log_says_what_of_a_plan_changed_and_from_what_to_what(embedded: Service) -> None:
    await plan_of(embedded, "gold", scopes=["a"])
    await embedded.call("PATCH", f"{embedded.bucket_url}/plans/gold", json={"rateLimits": [PER_MINUTE], "scopes": []})
    consumer = await embedded.new_consumer(plan="gold")
    await embedded.call(
        "PATCH", f"{embedded.consumers_url}/{consumer['name']}", json={"plan": None, "rateLimits": [BURST]}
    )
    await embedded.call("DELETE", f"{embedded.bucket_url}/plans/gold", expect=204)

    log = (await embedded.call("GET", f"{embedded.account_url}/audit-logs"))["data"]
    told = {entry["action"]: entry["resources"][-1] for entry in reversed(log) if entry["resources"]}
    assert told["plan.create"]["metadata"] == {"name": "gold", "bucket": embedded.bucket, "scopes": ["a"]}
    assert told["plan.update"]["metadata"] == {
        "name": "gold",
        "bucket": embedded.bucket,
        "scopes": {"from": ["a"], "to": []},
        "rateLimits": {"from": None, "to": [PER_MINUTE]},
    }
    assert told["consumer.create"]["metadata"]["plan"] == "gold"
    assert told["consumer.update"]["metadata"] == {
        "name": consumer["name"],
        "bucket": embedded.bucket,
        "plan": {"from": "gold", "to": None},
        "rateLimits": {"from": None, "to": [BURST]},
    }
    assert (told["plan.delete"]["type"], told["plan.delete"]["metadata"]["name"]) == ("plan", "gold")
