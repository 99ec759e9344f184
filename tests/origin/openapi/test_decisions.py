"""What DESIGN.md section 4 decides where the contract leaves it open: one test for each guarantee."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from support import service as services
from support.service import Service

in_module = pytest.mark.asyncio(loop_scope="module")

MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
GENERATED = re.compile(r"kwak_[0-9a-f]{32}_[0-9a-f]{8}")
LATER = "2099-01-01T00:00:00.000Z"


async def consumer_url(service: Service, **fields: Any) -> str:
    return f"{service.consumers_url}/{(await service.new_consumer(**fields))['name']}"


@in_module
async def test_creates_and_updates_answer_200_and_deletes_and_rolls_204(shared: Service) -> None:
    consumer = await consumer_url(shared)
    key = await shared.call("POST", f"{consumer}/keys", json={}, expect=200)
    await shared.call("PATCH", f"{consumer}/keys/{key['id']}", json={}, expect=200)
    await shared.call("DELETE", f"{consumer}/keys/{key['id']}", expect=204)
    await shared.call("POST", f"{consumer}/roll-key", json={}, expect=204)
    await shared.call("DELETE", consumer, expect=204)


@in_module
async def test_a_name_that_is_taken_is_409(shared: Service) -> None:
    consumer = await shared.new_consumer()
    await shared.call("POST", shared.consumers_url, json={"name": consumer["name"]}, expect=409)
    await shared.call("POST", f"{shared.account_url}/key-buckets", json={"name": shared.bucket}, expect=409)
    await shared.call("POST", "/v1/accounts", json={"name": shared.account}, expect=409)
    await shared.call("POST", f"{shared.account_url}/projects", json={"name": "my-project"}, expect=409)


@in_module
async def test_invalid_data_is_400_even_where_the_name_is_taken(shared: Service) -> None:
    consumer = await shared.new_consumer()
    for wrong in ({"tags": {"a": 1}}, {"metadata": {"long": "x" * 1025}}, {"tags": {str(n): "" for n in range(6)}}):
        await shared.call("POST", shared.consumers_url, json={"name": consumer["name"], **wrong}, expect=400)


@in_module
async def test_limit_and_offset_are_optional_1000_and_0_and_a_larger_limit_is_cut(shared: Service) -> None:
    consumer = await consumer_url(shared)
    for number in range(3):
        await shared.call("POST", f"{consumer}/keys", json={"description": str(number)})
    all_keys = await shared.call("GET", f"{consumer}/keys")
    assert (all_keys["limit"], all_keys["offset"], all_keys["total"]) == (1000, 0, 3)
    cut = await shared.call("GET", f"{consumer}/keys", params={"limit": "1001", "offset": "1"})
    assert (cut["limit"], cut["offset"], cut["total"], len(cut["data"])) == (1000, 1, 3, 2)
    one = await shared.call("GET", f"{consumer}/keys", params={"limit": "1", "offset": "2"})
    assert [key["description"] for key in one["data"]] == ["0"]
    assert list(one) == ["data", "limit", "offset", "total"]


@in_module
async def test_lists_and_api_keys_begin_with_the_newest(shared: Service) -> None:
    bucket = f"{shared.account_url}/key-buckets/newest-first"
    await shared.call("POST", f"{shared.account_url}/key-buckets", json={"name": "newest-first"})
    body = {"name": "first", "apiKeys": [{"description": "a"}, {"description": "b"}]}
    made = await shared.call("POST", f"{bucket}/consumers", json=body)
    assert [key["description"] for key in made["apiKeys"]] == ["b", "a"]
    await shared.call("POST", f"{bucket}/consumers", json={"name": "second"})
    await shared.call("POST", f"{bucket}/consumers/first/keys", json={"description": "c"})
    listed = await shared.call("GET", f"{bucket}/consumers", params={"include-api-keys": "true"})
    assert [one["name"] for one in listed["data"]] == ["second", "first"]
    assert [key["description"] for key in listed["data"][1]["apiKeys"]] == ["c", "b", "a"]
    keys = await shared.call("GET", f"{bucket}/consumers/first/keys")
    assert [key["description"] for key in keys["data"]] == ["c", "b", "a"]
    assert (await shared.call("GET", f"{shared.account_url}/key-buckets"))["data"][0]["name"] == "newest-first"
    bulk = await shared.call("POST", f"{bucket}/consumers/second/keys/$bulk", json=[{"description": c} for c in "xyz"])
    assert [key["description"] for key in bulk["data"]] == ["x", "y", "z"], "bulk answers in the order of the request"


@in_module
async def test_every_address_answers_with_and_without_a_trailing_slash_and_never_redirects(shared: Service) -> None:
    consumer = await consumer_url(shared)
    for url in (
        f"{shared.account_url}/key-buckets",
        shared.consumers_url,
        consumer,
        f"{consumer}/keys",
        "/v1/accounts",
    ):
        for address in (url, f"{url}/"):
            assert (await shared.client.get(address)).status_code == 200, address
        assert (await shared.client.get(f"{url}//")).status_code == 404
    for ending in ("", "/"):
        await shared.call("POST", f"{consumer}/keys{ending}", json={})
        await shared.call("POST", f"{consumer}/keys/$bulk{ending}", json=[{}])


@in_module
@pytest.mark.parametrize("name", ["org_123", "a", "-", "x" * 128])
async def test_a_consumer_may_be_named(shared: Service, name: str) -> None:
    await shared.call("POST", shared.consumers_url, json={"name": name})


@in_module
@pytest.mark.parametrize("name", ["", "A", "a b", "ä", "a.b", "x" * 129, "a\n", "a/b", "\U0001d7d8"])
async def test_a_consumer_may_not_be_named(shared: Service, name: str) -> None:
    answer = await shared.call("POST", shared.consumers_url, json={"name": name}, expect=400)
    assert answer["errors"] == [{"field": "body.name", "message": "must match ^[a-z0-9_-]{1,128}$"}]


@in_module
@pytest.mark.parametrize("name", ["abcd", "under_score", "Upper", "x" * 129, "abcde\n"])
async def test_a_bucket_may_not_be_named(shared: Service, name: str) -> None:
    answer = await shared.call("POST", f"{shared.account_url}/key-buckets", json={"name": name}, expect=400)
    assert answer["errors"] == [{"field": "body.name", "message": "must match ^[a-z0-9-]{5,128}$"}]


@in_module
async def test_a_bucket_name_is_unique_in_the_deployment(shared: Service) -> None:
    await shared.call("POST", "/v1/accounts", json={"name": "second-account"})
    await shared.call("POST", "/v1/accounts/second-account/key-buckets", json={"name": shared.bucket}, expect=409)


@in_module
async def test_description_tags_and_metadata_are_always_there(shared: Service) -> None:
    consumer = await shared.new_consumer()
    assert (consumer["description"], consumer["tags"], consumer["metadata"]) == (None, {}, {})
    url = f"{shared.consumers_url}/{consumer['name']}"
    filled = await shared.call("PATCH", url, json={"description": "", "tags": {"a": ""}, "metadata": {"a": [None]}})
    assert (filled["description"], filled["tags"], filled["metadata"]) == ("", {"a": ""}, {"a": [None]})
    kept = await shared.call("PATCH", url, json={"metadata": {"b": 1}})
    assert (kept["description"], kept["tags"], kept["metadata"]) == ("", {"a": ""}, {"b": 1})
    emptied = await shared.call("PATCH", url, json={"description": None, "tags": {}, "metadata": {}})
    assert (emptied["description"], emptied["tags"], emptied["metadata"]) == (None, {}, {})
    key = await shared.new_key(consumer["name"])
    assert (key["description"], key["expiresOn"]) == (None, None)
    assert (await shared.new_key(consumer["name"], description="as sent"))["description"] == "as sent"


@in_module
async def test_metadata_may_be_1_kib_of_json_and_no_more(shared: Service) -> None:
    fits = {"a": "é" * ((1024 - len('{"a":""}')) // 2)}
    assert (await shared.new_consumer(metadata=fits))["metadata"] == fits
    body = {"name": "too-much", "metadata": {"a": fits["a"] + "x"}}
    answer = await shared.call("POST", shared.consumers_url, json=body, expect=400)
    assert answer["errors"] == [
        {"field": "body.metadata", "message": "is 1025 bytes of JSON; at most 1024 are allowed"}
    ]


async def test_an_identity_that_no_gateway_could_pass_on_is_told_when_it_is_written(tmp_path: Path) -> None:
    settings = services.settings_for(tmp_path / "data", max_metadata_bytes=65536)
    async with services.running(settings) as service:
        # One byte of JSON takes two in the headers, or seven: it is these that count.
        await service.new_consumer(name="plain", metadata={"a": "x" * 4400})
        body = {"name": "wide", "metadata": {"a": "é" * 2200}}
        answer = await service.call("POST", service.consumers_url, json=body, expect=400)
        (error,) = answer["errors"]
        assert error["field"] == "body.metadata"
        assert error["message"].endswith("bytes in a gateway's headers; at most 12000 are allowed")
        url = f"{service.consumers_url}/plain"
        await service.call("PATCH", url, json={"metadata": body["metadata"]}, expect=400)
        assert (await service.call("GET", url))["metadata"] == {"a": "x" * 4400}
        # With what is told of its keys it is the same: a key's metadata and scopes take room beside the consumer's.
        for more in ({"metadata": {"b": "x" * 200}}, {"scopes": ["s" * 100, "t" * 100]}):
            await service.call("PATCH", url, json={"scopes": ["*"]})
            answer = await service.call("POST", f"{url}/keys", json=more, expect=400)
            assert answer["errors"][0]["field"] == f"body.{next(iter(more))}"
        await service.new_consumer(name="narrow")
        await service.new_key("narrow", metadata={"b": "x" * 3000})
        await service.call("PATCH", f"{service.consumers_url}/narrow", json={"metadata": {"a": "x" * 3000}}, expect=400)
        await service.call("PATCH", f"{service.consumers_url}/narrow", json={"metadata": {"a": "x" * 300}})
    settings = services.settings_for(tmp_path / "larger", max_metadata_bytes=65536, max_identity_bytes=100_000)
    async with services.running(settings) as service:
        await service.call("POST", service.consumers_url, json=body)


@in_module
async def test_there_may_be_5_tags_and_no_more(shared: Service) -> None:
    tags = {str(number): "x" for number in range(5)}
    assert (await shared.new_consumer(tags=tags))["tags"] == tags
    answer = await shared.call("POST", shared.consumers_url, json={"name": "x", "tags": {**tags, "5": "x"}}, expect=400)
    assert answer["errors"] == [{"field": "body.tags", "message": "holds 6 tags; at most 5 are allowed"}]


async def test_both_limits_are_settings_and_the_document_tells_them(tmp_path: Path) -> None:
    settings = services.settings_for(tmp_path / "data", max_metadata_bytes=20, max_tags=7)
    async with services.running(settings) as service:
        await service.new_consumer(tags={str(number): "x" for number in range(7)})
        await service.call("POST", service.consumers_url, json={"name": "x", "metadata": {"a": "x" * 13}}, expect=400)
        schemas = (await service.call("GET", "/openapi.json"))["components"]["schemas"]
        fields = schemas["ConsumerCreate"]["properties"]
        assert fields["tags"]["maxProperties"] == 7
        assert "20 bytes" in fields["metadata"]["description"]


@in_module
async def test_a_create_always_shows_the_key_and_reads_mask_it_by_default(shared: Service) -> None:
    consumer = await consumer_url(shared)
    key = await shared.call("POST", f"{consumer}/keys", json={}, params={"key-format": "none"})
    assert GENERATED.fullmatch(key["key"])
    made = await shared.call("POST", shared.consumers_url, json={"name": "with-key"}, params={"with-api-key": "true"})
    assert GENERATED.fullmatch(made["apiKeys"][0]["key"])
    read = f"{consumer}/keys/{key['id']}"
    shown = {"": "****" + key["key"][-8:], "masked": "****" + key["key"][-8:], "visible": key["key"]}
    for format, text in shown.items():
        params = {"key-format": format} if format else {}
        assert (await shared.call("GET", read, params=params))["key"] == text
        assert (await shared.call("GET", f"{consumer}/keys", params=params))["data"][0]["key"] == text
        included = await shared.call("GET", consumer, params={**params, "include-api-keys": "true"})
        assert included["apiKeys"][0]["key"] == text


@in_module
async def test_key_format_none_leaves_the_key_out(shared: Service) -> None:
    consumer = await consumer_url(shared, apiKeys=[{}])
    params = {"key-format": "none", "include-api-keys": "true"}
    listed = (await shared.call("GET", f"{consumer}/keys", params=params))["data"][0]
    included = (await shared.call("GET", consumer, params=params))["apiKeys"][0]
    read = await shared.call("GET", f"{consumer}/keys/{listed['id']}", params=params)
    assert ["key" in one for one in (listed, included, read)] == [False] * 3
    assert listed == included == read
    assert list(read) == [
        "id", "description", "createdOn", "updatedOn", "expiresOn", "enabled", "disabledBy", "scopes", "allowedIps",
        "lastUsedOn", "metadata", "tags", "lastUsedRegion", "rateLimits", "lastUsedAddress",
    ]  # fmt: skip


@in_module
async def test_what_is_not_retrievable_is_not_visible(shared: Service) -> None:
    bucket = f"{shared.account_url}/key-buckets/digests-only"
    body = {"name": "digests-only", "isRetrievable": False}
    assert (await shared.call("POST", f"{shared.account_url}/key-buckets", json=body))["isRetrievable"] is False
    body = {"name": "x", "apiKeys": [{}]}
    made = await shared.call("POST", f"{bucket}/consumers", json=body)
    assert GENERATED.fullmatch(made["apiKeys"][0]["key"])
    params = {"key-format": "visible", "include-api-keys": "true"}
    for url in (f"{bucket}/consumers/x/keys", f"{bucket}/consumers/x", f"{bucket}/consumers"):
        answer = await shared.call("GET", url, params=params, expect=400)
        assert answer["errors"][0]["field"] == "query.key-format"
        assert (await shared.client.get(url)).status_code == 200


@in_module
async def test_times_are_utc_with_milliseconds_and_z(shared: Service) -> None:
    consumer = await shared.new_consumer()
    key = await shared.new_key(consumer["name"], expiresOn="2099-01-01T05:30:00.1239+05:30")
    assert key["expiresOn"] == "2099-01-01T00:00:00.123Z"
    for moment in (consumer["createdOn"], consumer["updatedOn"], key["createdOn"], key["updatedOn"]):
        assert MOMENT.fullmatch(moment)


@in_module
async def test_rolling_ends_the_other_keys_and_lengthens_no_life(shared: Service) -> None:
    consumer = await consumer_url(shared)
    soon = "2050-01-01T00:00:00.000Z"
    await shared.call("POST", f"{consumer}/keys", json={"description": "endless"})
    await shared.call("POST", f"{consumer}/keys", json={"description": "sooner", "expiresOn": "2040-01-01T00:00:00Z"})
    await shared.call("POST", f"{consumer}/roll-key", json={"expiresOn": soon}, expect=204)
    keys = (await shared.call("GET", f"{consumer}/keys"))["data"]
    ends = {key["description"]: key["expiresOn"] for key in keys}
    assert ends == {None: None, "sooner": "2040-01-01T00:00:00.000Z", "endless": soon}


@in_module
async def test_rolling_without_a_time_ends_the_other_keys_at_once(shared: Service) -> None:
    consumer = await shared.new_consumer()
    key = await shared.new_key(consumer["name"])
    await shared.call("POST", f"{shared.consumers_url}/{consumer['name']}/roll-key", json={}, expect=204)
    assert await shared.verdict(key["key"]) == "EXPIRED"


@in_module
@pytest.mark.parametrize("prefer", ["return=representation", "respond-async, Return=Representation; x=1"])
async def test_rolling_shows_the_new_key_to_whom_prefers_it(shared: Service, prefer: str) -> None:
    consumer = await consumer_url(shared)
    response = await shared.client.post(f"{consumer}/roll-key", json={}, headers={"Prefer": prefer})
    assert response.status_code == 200
    assert response.headers["preference-applied"] == "return=representation"
    assert response.json()["expiresOn"] is None
    assert await shared.verdict(response.json()["key"]) == "VALID"


@in_module
async def test_ids_are_as_decided(shared: Service) -> None:
    consumer = await shared.new_consumer(apiKeys=[{}], managers=["ada@example.com"])
    bucket = await shared.call("GET", shared.bucket_url)
    found = [bucket["id"], consumer["id"], consumer["apiKeys"][0]["id"], consumer["managerInvites"][0]["id"]]
    patterns = ["bckt_[0-9A-Za-z]{32}", *(f"{prefix}_[0-9A-Za-z]{{24}}" for prefix in ("csmr", "key", "eusr"))]
    assert all(re.fullmatch(pattern, id) for pattern, id in zip(patterns, found, strict=True))


@in_module
async def test_a_bucket_is_born_with_an_owner_key_that_works_there_only(shared: Service) -> None:
    made = await shared.call("POST", f"{shared.account_url}/key-buckets", json={"name": "owned-bucket"})
    owner = made["ownerKey"]["key"]
    consumers = f"{shared.account_url}/key-buckets/owned-bucket/consumers"
    await shared.call("POST", consumers, json={"name": "x"}, key=owner)
    await shared.call("GET", shared.consumers_url, key=owner, expect=404)
    assert "ownerKey" not in await shared.call("GET", f"{shared.account_url}/key-buckets/owned-bucket")


@in_module
@pytest.mark.parametrize(
    ("prefix", "rule"),
    [
        *(
            (one, "must match ^[a-z](_?[a-z0-9])+$")
            for one in ("a", "1abc", "Abc", "ab_", "_ab", "a__b", "ab\n", "a-b")
        ),
        ("x" * 25, "must have at most 24 characters"),
        *((one, "must not have kwmk in it: management keys begin so") for one in ("kwmk", "kwmk_live", "a_kwmk")),
    ],
)
async def test_a_key_prefix_is_parts_of_lower_case_letters_and_digits(shared: Service, prefix: str, rule: str) -> None:
    body = {"name": "prefixed", "keyPrefix": prefix}
    for method, url in (("POST", f"{shared.account_url}/key-buckets"), ("PATCH", shared.bucket_url)):
        sent = body if method == "POST" else {"keyPrefix": prefix}
        answer = await shared.call(method, url, json=sent, expect=400)
        assert answer["errors"] == [{"field": "body.keyPrefix", "message": rule}], method
    assert (await shared.call("GET", shared.bucket_url))["keyPrefix"] == "kwak"


@in_module
async def test_a_custom_key_is_unique_in_its_bucket(shared: Service) -> None:
    consumer = await shared.new_consumer()
    assert (await shared.new_key(consumer["name"], key="brought-along"))["key"] == "brought-along"
    assert await shared.verdict("brought-along") == "VALID"
    url = f"{shared.consumers_url}/{consumer['name']}/keys"
    await shared.call("POST", url, json={"key": "brought-along"}, expect=409)
    await shared.call("POST", f"{url}/$bulk", json=[{"key": "twice-in-one"}, {"key": "twice-in-one"}], expect=409)
    assert (await shared.call("GET", url))["total"] == 1
