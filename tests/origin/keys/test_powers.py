"""What a key and its consumer may do, as it is set over the API and judged by an edge from the answer on."""

from __future__ import annotations

from typing import Any

import pytest

from support.record import head_of
from support.service import Service

TOO_MANY_SCOPES = [f"scope:{number}" for number in range(51)]
TOO_MANY_NETWORKS = [f"10.0.{number}.0/24" for number in range(51)]
BAD_SCOPES: dict[str, tuple[Any, str, str]] = {
    "no list": ("orders:read", "", "must be a list"),
    "no text": ([7], ".0", "must be a string"),
    "null in it": ([None], ".0", "must be a string"),
    "empty": ([""], ".0", "must be scopes"),
    "a space": (["orders read"], ".0", "must be scopes"),
    "an empty part": (["orders::read"], ".0", "must be scopes"),
    "a colon at the end": (["orders:"], ".0", "must be scopes"),
    "a star within": (["orders:*:read"], ".0", "must be scopes"),
    "a star in a part": (["orders:r*"], ".0", "must be scopes"),
    "a line's end": (["orders:read\n"], ".0", "must be scopes"),
    "too long": (["x" * 101], ".0", "at most 100 characters"),
    "too many": (TOO_MANY_SCOPES, "", "at most 50 items"),
    "twice": (["a", "b", "a"], "", "must not name one twice: a"),
}
BAD_ADDRESSES: dict[str, tuple[Any, str, str]] = {
    "no list": ("192.0.2.1", "", "must be a list"),
    "no text": ([4], ".0", "must be a string"),
    "empty list": ([], "", "must have an item"),
    "empty": ([""], ".0", "must be an address or a network"),
    "a name": (["localhost"], ".0", "must be an address or a network"),
    "a port": (["192.0.2.1:80"], ".0", "must be an address or a network"),
    "a mask in dots": (["10.0.0.0/255.0.0.0"], ".0", "must be an address or a network"),
    "host bits": (["10.0.0.1/8"], ".0", "10.0.0.0/8 is meant, or 10.0.0.1 alone"),
    "host bits, IPv6": (["2001:db8::1/32"], ".0", "2001:db8::/32 is meant"),
    "IPv4 in IPv6": (["::ffff:192.0.2.1"], ".0", "must be written as IPv4"),
    "a zone": (["fe80::1%eth0"], ".0", "must have no zone"),
    "a leading zero": (["010.0.0.1"], ".0", "must be an address or a network"),
    "too many": (TOO_MANY_NETWORKS, "", "at most 50 items"),
    "twice": (["192.0.2.1", "192.0.2.1/32"], "", "must not name one twice: 192.0.2.1/32"),
}
BAD_SWITCHES: dict[str, tuple[Any, str, str]] = {
    "null": (None, "", "must be true or false"),
    "text": ("false", "", "must be true or false"),
    "number": (0, "", "must be true or false"),
}
BAD = {
    **{f"scopes, {name}": ("scopes", *case) for name, case in BAD_SCOPES.items()},
    **{f"allowedIps, {name}": ("allowedIps", *case) for name, case in BAD_ADDRESSES.items()},
    **{f"enabled, {name}": ("enabled", *case) for name, case in BAD_SWITCHES.items()},
}
in_module = pytest.mark.asyncio(loop_scope="module")


async def ask(service: Service, key: str, **question: Any) -> str:
    answer = await service.call("POST", f"/v2/validate/{service.bucket}", json={"key": key, **question})
    return str(answer["code"])


@in_module
@pytest.mark.parametrize(("member", "value", "place", "rule"), BAD.values(), ids=BAD)
async def test_a_value_that_breaks_a_rule_is_refused_by_its_name_and_nothing_changes(
    shared: Service, member: str, value: Any, place: str, rule: str
) -> None:
    consumer = await shared.new_consumer(scopes=["*"])
    key = await shared.new_key(consumer["name"])
    url = f"{shared.consumers_url}/{consumer['name']}"
    before = await head_of(shared.app._database)
    asked: list[tuple[str, str, Any, str]] = [
        ("POST", shared.consumers_url, {"name": "never-made", member: value}, f"body.{member}"),
        (
            "POST",
            shared.consumers_url,
            {"name": "never-made", "apiKeys": [{}, {member: value}]},
            f"body.apiKeys.1.{member}",
        ),
        ("PATCH", url, {member: value}, f"body.{member}"),
        ("POST", f"{url}/keys", {member: value}, f"body.{member}"),
        ("POST", f"{url}/keys/$bulk", [{}, {member: value}], f"body.1.{member}"),
        ("PATCH", f"{url}/keys/{key['id']}", {member: value}, f"body.{member}"),
    ]
    if member != "scopes":
        asked.append(
            ("POST", f"{shared.account_url}/management-keys", {"permissions": {}, member: value}, f"body.{member}")
        )
        asked.append(("POST", f"{shared.bucket_url}/owner-keys", {member: value}, f"body.{member}"))
    for method, address, body, field in asked:
        answer = await shared.call(method, address, json=body, expect=400)
        (error,) = answer["errors"]
        assert error["field"] == field + place, (method, address)
        assert rule in error["message"]
    assert await head_of(shared.app._database) == before


@in_module
@pytest.mark.parametrize(("value", "place", "rule"), [*BAD_SCOPES.values(), (None, "", "must be a list, not null")])
async def test_default_scopes_that_break_a_rule_are_refused(shared: Service, value: Any, place: str, rule: str) -> None:
    for method, url, more in (
        ("PATCH", shared.bucket_url, {}),
        ("POST", f"{shared.account_url}/key-buckets", {"name": "never-made"}),
    ):
        answer = await shared.call(method, url, json={"defaultScopes": value, **more}, expect=400)
        (error,) = answer["errors"]
        assert error["field"] == f"body.defaultScopes{place}"
        assert rule in error["message"]


async def test_what_is_said_of_a_key_is_shown_kept_and_taken_back(service: Service) -> None:
    consumer = await service.new_consumer(scopes=["orders:*"])
    said = {
        "scopes": ["orders:read"],
        "allowedIps": ["192.0.2.7", "2001:db8::/32"],
        "metadata": {"a": 1},
        "tags": {"b": "c"},
    }
    made = await service.new_key(consumer["name"], **said)
    shown = {**said, "allowedIps": ["192.0.2.7/32", "2001:db8::/32"], "enabled": True, "disabledBy": None}
    assert {name: made[name] for name in shown} == shown
    url = f"{service.consumers_url}/{consumer['name']}/keys/{made['id']}"

    read = await service.call("GET", url)
    # What is read may be sent back, and changes nothing.
    before = await head_of(service.app._database)
    assert (await service.call("PATCH", url, json=read)) | {"updatedOn": ""} == read | {"updatedOn": ""}
    assert await head_of(service.app._database) == before

    changed = await service.call("PATCH", url, json={"scopes": None, "allowedIps": None, "metadata": {}, "tags": {}})
    assert [changed[name] for name in said] == [None, None, {}, {}]
    assert await service.verdict(made["key"]) == "VALID"


async def test_a_switched_off_key_is_refused_from_the_answer_on_until_it_is_on_again(embedded: Service) -> None:
    consumer = await embedded.new_consumer()
    key = await embedded.new_key(consumer["name"])
    url = f"{embedded.consumers_url}/{consumer['name']}"
    for place in (f"{url}/keys/{key['id']}", url):
        await embedded.call("PATCH", place, json={"enabled": False})
        assert await embedded.verdict(key["key"]) == "DISABLED"
        await embedded.call("PATCH", place, json={"enabled": True})
        assert await embedded.verdict(key["key"]) == "VALID"
    made = await embedded.new_key(consumer["name"], enabled=False)
    assert (made["enabled"], made["disabledBy"]) == (False, "provider")
    assert await embedded.verdict(made["key"]) == "DISABLED"


async def test_switching_off_is_waited_for_as_a_deletion_is(service: Service) -> None:
    consumer = await service.new_consumer()
    key = await service.new_key(consumer["name"])
    url = f"{service.consumers_url}/{consumer['name']}/keys/{key['id']}"
    answer = await service.client.patch(url, params={"wait": "all"}, json={"enabled": False})
    assert answer.status_code == 200
    assert answer.headers["keywright-applied"] == "1/1"
    assert await service.verdict(key["key"]) == "DISABLED"


async def test_a_roll_ends_keys_that_are_switched_off_so_that_none_comes_back(service: Service) -> None:
    consumer = await service.new_consumer()
    key = await service.new_key(consumer["name"])
    url = f"{service.consumers_url}/{consumer['name']}"
    await service.call("PATCH", f"{url}/keys/{key['id']}", json={"enabled": False})

    await service.call("POST", f"{url}/roll-key", json={}, expect=204)
    await service.call("PATCH", f"{url}/keys/{key['id']}", json={"enabled": True})

    assert await service.verdict(key["key"]) == "EXPIRED"


class TestScopes:
    async def test_beyond_the_consumer_s_are_refused_with_the_rule(self, service: Service) -> None:
        consumer = await service.new_consumer(scopes=["orders:*"])
        url = f"{service.consumers_url}/{consumer['name']}/keys"
        key = await service.new_key(consumer["name"], scopes=["orders:read"])
        wide = {"scopes": ["orders:write", "users:read"]}
        for method, address, body, field in (
            ("POST", url, wide, "body.scopes"),
            ("POST", f"{url}/$bulk", [{}, wide], "body.1.scopes"),
            ("PATCH", f"{url}/{key['id']}", wide, "body.scopes"),
            ("POST", service.consumers_url, {"name": "x", "scopes": ["a"], "apiKeys": [wide]}, "body.apiKeys.0.scopes"),
            ("POST", service.consumers_url, {"name": "x", "apiKeys": [{"scopes": ["a"]}]}, "body.apiKeys.0.scopes"),
        ):
            answer = await service.call(method, address, json=body, expect=400)
            (error,) = answer["errors"]
            assert error["field"] == field
            assert error["message"].startswith("must be granted to the consumer, and ")
        assert (await service.call("GET", f"{url}/{key['id']}"))["scopes"] == ["orders:read"]

    async def test_that_a_consumer_loses_its_keys_lose_and_may_still_be_sent_back(self, embedded: Service) -> None:
        consumer = await embedded.new_consumer(scopes=["orders:*"])
        key = await embedded.new_key(consumer["name"], scopes=["orders:read", "orders:write"])
        url = f"{embedded.consumers_url}/{consumer['name']}"
        await embedded.call("PATCH", url, json={"scopes": ["orders:read"]})

        assert await ask(embedded, key["key"], scopes=["orders:read"]) == "VALID"
        assert await ask(embedded, key["key"], scopes=["orders:write"]) == "INSUFFICIENT_SCOPE"
        body = {"scopes": ["orders:read", "orders:write"], "description": "as it was read"}
        await embedded.call("PATCH", f"{url}/keys/{key['id']}", json=body)

    async def test_of_the_bucket_are_what_consumers_have_of_which_none_are_said(self, embedded: Service) -> None:
        consumer, none = await embedded.new_consumer(), await embedded.new_consumer(scopes=[])
        keys = [(await embedded.new_key(one["name"]))["key"] for one in (consumer, none)]
        assert [await ask(embedded, key, scopes=["a:b"]) for key in keys] == ["INSUFFICIENT_SCOPE"] * 2

        changed = await embedded.call("PATCH", embedded.bucket_url, json={"defaultScopes": ["*"]})

        assert changed["defaultScopes"] == ["*"]
        assert [await ask(embedded, key, scopes=["a:b"]) for key in keys] == ["VALID", "INSUFFICIENT_SCOPE"]
        await embedded.call("PATCH", embedded.bucket_url, json={"defaultScopes": []})
        assert [await ask(embedded, key, scopes=["a:b"]) for key in keys] == ["INSUFFICIENT_SCOPE"] * 2


async def test_tags_of_keys_are_a_filter_and_a_guard_beside_those_of_their_consumer(service: Service) -> None:
    consumer = await service.new_consumer(tags={"plan": "gold"})
    blue = await service.new_key(consumer["name"], tags={"team": "blue", "q\"'": "x"})
    await service.new_key(consumer["name"], tags={"team": "Blue"})
    url = f"{service.consumers_url}/{consumer['name']}/keys"
    for query, found in (
        ("key-tag.team=blue", [blue["id"]]),
        ("key-tag.team=blue&key-tag.q%22%27=x&tag.plan=gold", [blue["id"]]),
        ("key-tag.team=red", []),
        ("key-tag.plan=gold", []),
    ):
        assert [one["id"] for one in (await service.call("GET", f"{url}?{query}"))["data"]] == found, query
    await service.call("GET", f"{url}?key-tag=blue", expect=400)
    one = f"{url}/{blue['id']}"
    for method, body in (("GET", None), ("PATCH", {"enabled": False}), ("DELETE", None)):
        await service.call(method, f"{one}?key-tag.team=Blue", json=body, expect=404)
    assert (await service.call("PATCH", f"{one}?key-tag.team=blue", json={"enabled": False}))["enabled"] is False
    await service.call("DELETE", f"{one}?key-tag.team=blue", expect=204)


async def test_metadata_and_tags_that_are_too_large_are_refused(embedded: Service) -> None:
    consumer = await embedded.new_consumer()
    url = f"{embedded.consumers_url}/{consumer['name']}/keys"
    for body, field in (
        ({"metadata": {"a": "x" * 1024}}, "body.metadata"),
        ({"tags": {str(number): "" for number in range(6)}}, "body.tags"),
    ):
        assert (await embedded.call("POST", url, json=body, expect=400))["errors"][0]["field"] == field
    key = await embedded.new_key(consumer["name"])
    body = {"metadata": {"a": "x" * 1024}}
    assert (await embedded.call("PATCH", f"{url}/{key['id']}", json=body, expect=400))["errors"][0]["field"] == (
        "body.metadata"
    )


async def test_the_audit_log_says_which_powers_changed_and_from_what_to_what(embedded: Service) -> None:
    consumer = await embedded.new_consumer(scopes=["a", "b"])
    key = await embedded.new_key(consumer["name"], enabled=False, scopes=["a"])
    url = f"{embedded.consumers_url}/{consumer['name']}/keys/{key['id']}"
    await embedded.call("PATCH", url, json={"enabled": True, "scopes": ["b"], "metadata": {"secret": "no"}})

    log = (await embedded.call("GET", f"{embedded.account_url}/audit-logs"))["data"]
    told = {
        entry["action"]: {one["type"]: one["metadata"] for one in entry["resources"]}
        for entry in log
        if entry["action"] in {"consumer.create", "key.create", "key.update"}
    }
    assert told["consumer.create"]["consumer"]["scopes"] == ["a", "b"]
    assert told["key.create"]["key"] == {"enabled": False, "scopes": ["a"]}
    assert told["key.update"]["key"] == {
        "enabled": {"from": False, "to": True},
        "scopes": {"from": ["a"], "to": ["b"]},
        "metadata": "changed",
    }
