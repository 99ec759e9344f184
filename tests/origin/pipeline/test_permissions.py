"""Who may do what: one table of actors and levels, and every operation on its level."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from keywright.domain.limits import Period, Quota
from keywright.domain.models import to_iso
from keywright.origin.db import tables
from support.quotas import set_quotas
from support.record import head_of
from support.service import ROOT_KEY, Service

PARTNER = "partner-account"
_numbers = itertools.count(1)

# Level -> operations on it: method, address below the account (or absolute), body. {new} is a name not used before,
# {bucket} the bucket, and the others are things that are made anew for each call, so that they can be ended.
OPERATIONS: dict[str, list[tuple[str, str, Any]]] = {
    "anybody": [("GET", "/v1/who-am-i", None)],
    "root": [("GET", "/v1/accounts", None), ("POST", "/v1/accounts", {"name": "{new}"})],
    "account read": [
        ("GET", "projects", None),
        ("GET", "projects/my-project", None),
        ("GET", "management-keys", None),
        ("GET", "management-keys/{management_key}", None),
        ("GET", "audit-logs", None),
    ],
    "account write": [
        ("POST", "projects", {"name": "{new}"}),
        ("DELETE", "projects/{project}", None),
        ("POST", "management-keys", {"permissions": {}}),
        ("DELETE", "management-keys/{management_key}", None),
        ("POST", "key-buckets", {"name": "{new}"}),
    ],
    "bucket read": [
        ("GET", "key-buckets/{bucket}", None),
        ("GET", "key-buckets/{bucket}/owner-keys", None),
        ("GET", "key-buckets/{bucket}/owner-keys/{owner_key}", None),
        ("GET", "key-buckets/{bucket}/grants", None),
        ("GET", "key-buckets/{bucket}/plans", None),
        ("GET", "key-buckets/{bucket}/plans/{plan}", None),
        ("GET", "key-buckets/{bucket}/consumers", None),
        ("GET", "key-buckets/{bucket}/consumers/{consumer}?include-api-keys=true", None),
        ("GET", "key-buckets/{bucket}/consumers/{consumer}/keys", None),
        ("GET", "key-buckets/{bucket}/consumers/{consumer}/keys/{key}", None),
        ("GET", "key-buckets/{bucket}/consumers/{consumer}/managers", None),
        ("GET", "key-buckets/{bucket}/consumers/{consumer}/quotas", None),
    ],
    "bucket write": [
        ("GET", "key-buckets/{bucket}/consumers?include-api-keys=true&key-format=visible", None),
        ("GET", "key-buckets/{bucket}/consumers/{consumer}?include-api-keys=true&key-format=visible", None),
        ("GET", "key-buckets/{bucket}/consumers/{consumer}/keys?key-format=visible", None),
        ("GET", "key-buckets/{bucket}/consumers/{consumer}/keys/{key}?key-format=visible", None),
        ("PATCH", "key-buckets/{bucket}", {"description": "d"}),
        ("POST", "key-buckets/{bucket}/owner-keys", {}),
        ("DELETE", "key-buckets/{bucket}/owner-keys/{owner_key}", None),
        ("POST", "key-buckets/{bucket}/grants", {"account": PARTNER, "access": "read"}),
        ("DELETE", "key-buckets/{bucket}/grants/" + PARTNER, None),
        ("POST", "key-buckets/{bucket}/plans", {"name": "{new}"}),
        ("PATCH", "key-buckets/{bucket}/plans/{plan}", {"rateLimits": []}),
        ("DELETE", "key-buckets/{bucket}/plans/{plan}", None),
        ("POST", "key-buckets/{bucket}/consumers", {"name": "{new}"}),
        ("PATCH", "key-buckets/{bucket}/consumers/{consumer}", {"metadata": {"changed": True}}),
        ("POST", "key-buckets/{bucket}/consumers/{consumer}/quotas/{quota}/top-ups", {"units": 1}),
        ("POST", "key-buckets/{bucket}/consumers/{consumer}/quotas/{quota}/give-back", None),
        ("POST", "key-buckets/{bucket}/consumers/{consumer}/keys", {}),
        ("POST", "key-buckets/{bucket}/consumers/{consumer}/keys/$bulk", [{}, {}]),
        ("PATCH", "key-buckets/{bucket}/consumers/{consumer}/keys/{key}", {"expiresOn": "2001-01-01T00:00:00Z"}),
        ("DELETE", "key-buckets/{bucket}/consumers/{consumer}/keys/{key}", None),
        ("POST", "key-buckets/{bucket}/consumers/{consumer}/roll-key", {}),
        ("POST", "key-buckets/{bucket}/consumers/{consumer}/managers", {"email": "ada@example.com"}),
        ("DELETE", "key-buckets/{bucket}/consumers/{consumer}/managers/{manager}", None),
        ("DELETE", "key-buckets/{bucket}/consumers/{consumer}", None),
        ("DELETE", "key-buckets/{bucket}", None),
    ],
}

OK, UNKNOWN, FORBIDDEN, HIDDEN = 200, 401, 403, 404
TABLE = {
    # actor:                     anybody, root, account read, account write, bucket read, bucket write
    "root":                      (OK, OK, OK, OK, OK, OK),
    "account write":             (OK, FORBIDDEN, OK, OK, OK, OK),
    "account read":              (OK, FORBIDDEN, OK, FORBIDDEN, OK, FORBIDDEN),
    "account read, bucket write": (OK, FORBIDDEN, OK, FORBIDDEN, OK, OK),
    "every bucket write":        (OK, FORBIDDEN, FORBIDDEN, FORBIDDEN, OK, OK),
    "bucket write":              (OK, FORBIDDEN, FORBIDDEN, FORBIDDEN, OK, OK),
    "bucket read":               (OK, FORBIDDEN, FORBIDDEN, FORBIDDEN, OK, FORBIDDEN),
    "bucket validate":           (OK, FORBIDDEN, FORBIDDEN, FORBIDDEN, FORBIDDEN, FORBIDDEN),
    "owner":                     (OK, FORBIDDEN, FORBIDDEN, FORBIDDEN, OK, OK),
    "another bucket write":      (OK, FORBIDDEN, FORBIDDEN, FORBIDDEN, HIDDEN, HIDDEN),
    "owner of another bucket":   (OK, FORBIDDEN, FORBIDDEN, FORBIDDEN, HIDDEN, HIDDEN),
    "no permission":             (OK, FORBIDDEN, FORBIDDEN, FORBIDDEN, HIDDEN, HIDDEN),
    "feed":                      (OK, FORBIDDEN, FORBIDDEN, FORBIDDEN, HIDDEN, HIDDEN),
    "another account":           (OK, FORBIDDEN, HIDDEN, HIDDEN, HIDDEN, HIDDEN),
    "nobody":                    (UNKNOWN,) * 6,
    "never heard of":            (UNKNOWN,) * 6,
    "wrong checksum":            (UNKNOWN,) * 6,
    "not ASCII":                 (UNKNOWN,) * 6,
    "expired":                   (UNKNOWN,) * 6,
    "revoked":                   (UNKNOWN,) * 6,
    "key of a consumer":         (UNKNOWN,) * 6,
}  # fmt: skip


async def make_actor(service: Service, actor: str) -> str | None:
    """The management key of an actor of the table; None for no key at all."""
    url = f"{service.account_url}/management-keys"
    permissions: dict[str, dict[str, Any]] = {
        "account write": {"account": "write"},
        "account read": {"account": "read"},
        "account read, bucket write": {"account": "read", "buckets": {service.bucket: "write"}},
        "every bucket write": {"buckets": {"*": "write"}},
        "bucket write": {"buckets": {service.bucket: "write"}},
        "bucket read": {"buckets": {service.bucket: "read"}},
        "bucket validate": {"buckets": {service.bucket: "validate"}},
        "another bucket write": {"buckets": {"my-project-preview": "write"}},
        "no permission": {},
        "feed": {"feed": True},
    }
    if actor in permissions:
        return await service.new_management_key(**permissions[actor])
    if actor == "another account":
        return await service.new_management_key(PARTNER, account="write", buckets={service.bucket: "write"})
    if actor.startswith("owner"):
        bucket = service.bucket if actor == "owner" else "my-project-preview"
        owner_keys = f"{service.account_url}/key-buckets/{bucket}/owner-keys"
        return str((await service.call("POST", owner_keys, json={}))["key"])
    if actor == "key of a consumer":
        return str((await service.new_key((await service.new_consumer())["name"]))["key"])
    if actor in {"expired", "revoked"}:
        soon = to_iso(datetime.now(UTC) + timedelta(seconds=1)) if actor == "expired" else None
        made = await service.call("POST", url, json={"permissions": {"account": "write"}, "expiresOn": soon})
        if actor == "expired":
            async with service.app._database.write() as tx:
                ended = sa.update(tables.keys).where(tables.keys.c.id == made["id"])
                await tx.execute(ended.values(expires_at=datetime.now(UTC) - timedelta(milliseconds=1)))
        if actor == "revoked":
            await service.call("DELETE", f"{url}/{made['id']}", expect=204)
        return str(made["key"])
    return {
        "root": ROOT_KEY,
        "nobody": None,
        "never heard of": "kwmk_d67b7e241bb948758f415b79aa8ec822_2efb7009",
        "wrong checksum": "kwmk_d67b7e241bb948758f415b79aa8ec822_2efb7000",
        "not ASCII": "schlüssel-für-die-tür",
    }[actor]


class Targets:
    """What operations name, made by root; made anew once an operation has succeeded."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.names: dict[str, str] = {}

    async def for_address(self, address: str) -> dict[str, str]:
        service, names = self.service, self.names
        names |= {"new": f"new-thing-{next(_numbers)}", "bucket": service.bucket, "bulk": "$bulk"}
        if "{consumer}" in address and "consumer" not in names:
            body = {"managers": ["bob@example.com"], "apiKeys": [{}]}
            consumer = await service.new_consumer(**body)
            names["consumer"] = consumer["name"]
            names["manager"] = consumer["managerInvites"][0]["id"]
            names["key"] = consumer["apiKeys"][0]["id"]
        if "{plan}" in address and "plan" not in names:
            made = await service.call("POST", f"{service.bucket_url}/plans", json={"name": f"p-{names['new']}"})
            names["plan"] = made["name"]
        if "{quota}" in address and "quota" not in names:
            names["quota"] = "calls"
            await set_quotas(service.app._database, names["consumer"], [Quota("calls", 100, Period.DAY)])
        if "{project}" in address and "project" not in names:
            made = await service.call("POST", f"{service.account_url}/projects", json={"name": f"p-{names['new']}"})
            names["project"] = made["name"]
        if "{management_key}" in address and "management_key" not in names:
            url = f"{service.account_url}/management-keys"
            names["management_key"] = (await service.call("POST", url, json={"permissions": {}}))["id"]
        if "{owner_key}" in address and "owner_key" not in names:
            names["owner_key"] = (await service.call("POST", f"{service.bucket_url}/owner-keys", json={}))["id"]
        return names

    async def attempt(self, account: str, key: str | None, operation: tuple[str, str, Any]) -> int:
        """The status of an operation; a refused one must have changed nothing."""
        method, address, body = operation
        service, names = self.service, await self.for_address(operation[1])
        url = address.replace("$bulk", "{bulk}").format(**names)
        url = url if url.startswith("/") else f"/v1/accounts/{account}/{url}"
        if isinstance(body, dict):
            body = {name: names["new"] if value == "{new}" else value for name, value in body.items()}
        before = await head_of(service.app._database)
        headers = {"Authorization": f"Bearer {key}".encode(), "Idempotency-Key": names["new"].encode()}
        request = service.client.build_request(method, url, json=body, headers=headers)
        if key is None:
            del request.headers["authorization"]
        response = await service.client.send(request)
        if response.status_code >= 400:
            assert await head_of(service.app._database) == before, f"{method} {url} was refused and changed something"
            assert response.headers["content-type"] == "application/problem+json"
        elif method != "GET":
            self.names.clear()
        return OK if response.status_code == 204 else response.status_code


@pytest.mark.parametrize("actor", TABLE)
async def test_each_actor_may_do_what_its_row_says(embedded: Service, actor: str) -> None:
    await embedded.call("POST", "/v1/accounts", json={"name": PARTNER})
    share = {"account": PARTNER, "access": "validate"}
    key = await make_actor(embedded, actor)
    targets = Targets(embedded)

    found: dict[tuple[str, str, str], int] = {}
    for level, operations in OPERATIONS.items():
        for operation in operations:
            if operation[:2] == ("DELETE", "key-buckets/{bucket}/grants/" + PARTNER):
                await embedded.call("POST", f"{embedded.bucket_url}/grants", json=share)
            found[level, operation[0], operation[1]] = await targets.attempt(embedded.account, key, operation)

    expected = dict(zip(OPERATIONS, TABLE[actor], strict=True))
    assert found == {place: expected[place[0]] for place in found}


# What the partner's own key may do under its own address, by what the bucket is shared with.
OWN_ONLY = {
    "owner-keys", "owner-keys/{owner_key}", "grants", "grants/" + PARTNER, "",
}  # fmt: skip


@pytest.mark.parametrize(
    ("access", "held", "reading", "writing"),
    [
        (None, "write", HIDDEN, HIDDEN),
        ("validate", "write", FORBIDDEN, FORBIDDEN),
        ("read", "write", OK, FORBIDDEN),
        ("write", "write", OK, OK),
        ("write", "read", OK, FORBIDDEN),
        ("write", "none", HIDDEN, HIDDEN),
    ],
)
async def test_a_shared_bucket_is_used_as_far_as_it_is_shared_and_held(
    embedded: Service, access: str | None, held: str, reading: int, writing: int
) -> None:
    await embedded.call("POST", "/v1/accounts", json={"name": PARTNER})
    key = await embedded.new_management_key(PARTNER, account=held)
    if access is not None:
        await embedded.call("POST", f"{embedded.bucket_url}/grants", json={"account": PARTNER, "access": access})

    targets = Targets(embedded)
    for level, at_level in (("bucket read", reading), ("bucket write", writing)):
        for operation in OPERATIONS[level]:
            rest = operation[1].removeprefix("key-buckets/{bucket}").strip("/")
            is_own_only = rest in OWN_ONLY and operation[:2] != ("GET", "key-buckets/{bucket}")
            # Who may not even do this much in the bucket is told so first; else: only the bucket's own account.
            expected = FORBIDDEN if is_own_only and at_level == OK else at_level
            # Under the owner's address there is nothing for the partner at all.
            assert await targets.attempt(embedded.account, key, operation) == HIDDEN, operation
            assert await targets.attempt(PARTNER, key, operation) == expected, operation


LISTED = {
    "root": {"my-project-production", "my-project-preview", "my-project-working-copy"},
    "account read": {"my-project-production", "my-project-preview", "my-project-working-copy"},
    "every bucket write": {"my-project-production", "my-project-preview", "my-project-working-copy"},
    "bucket write": {"my-project-production"},
    "bucket read": {"my-project-production"},
    "owner": {"my-project-production"},
    "another bucket write": {"my-project-preview"},
    "owner of another bucket": {"my-project-preview"},
    "bucket validate": None,
    "no permission": None,
    "feed": None,
}


@pytest.mark.parametrize("actor", LISTED)
async def test_a_list_of_buckets_has_those_that_the_key_may_read(embedded: Service, actor: str) -> None:
    key, url = await make_actor(embedded, actor), f"{embedded.account_url}/key-buckets"
    expected = LISTED[actor]
    if expected is None:
        problem = await embedded.call("GET", url, key=key, expect=403)
        assert problem["detail"] == "This management key has no read access to the account, nor to a bucket of it."
        return
    listed = await embedded.call("GET", url, key=key)
    assert {bucket["name"] for bucket in listed["data"]} == expected
    assert listed["total"] == len(expected)
    for bucket in listed["data"]:
        assert await embedded.call("GET", f"{url}/{bucket['name']}", key=key) == bucket
    part = await embedded.call("GET", url, key=key, params={"limit": "1", "offset": "1"})
    assert (len(part["data"]), part["total"]) == (min(1, len(expected) - 1), len(expected))


async def test_a_withdrawn_grant_ends_with_the_answer(embedded: Service) -> None:
    await embedded.call("POST", "/v1/accounts", json={"name": PARTNER})
    key = await embedded.new_management_key(PARTNER, account="write")
    await embedded.call("POST", f"{embedded.bucket_url}/grants", json={"account": PARTNER, "access": "write"})
    url = f"/v1/accounts/{PARTNER}/key-buckets/{embedded.bucket}"
    await embedded.call("POST", f"{url}/consumers", key=key, json={"name": "made-by-the-partner"})
    listed = await embedded.call("GET", f"/v1/accounts/{PARTNER}/key-buckets", key=key)
    assert [bucket["name"] for bucket in listed["data"]] == [embedded.bucket]

    await embedded.call("DELETE", f"{embedded.bucket_url}/grants/{PARTNER}", expect=204)

    await embedded.call("GET", url, key=key, expect=404)
    assert (await embedded.call("GET", f"/v1/accounts/{PARTNER}/key-buckets", key=key))["total"] == 0
    await embedded.call("DELETE", f"{embedded.bucket_url}/grants/{PARTNER}", expect=404)
    # What the partner made is the owner's.
    await embedded.call("GET", f"{embedded.consumers_url}/made-by-the-partner")
