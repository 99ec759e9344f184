"""Refusals: their shape, who is told what, and what of them stands in the audit log."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from keywright.origin.pipeline.rate_limit import RateLimiter
from support import service as services
from support.service import ROOT_KEY, Service

in_module = pytest.mark.asyncio(loop_scope="module")

SECRET = "zpka_d67b7e241bb948758f415b79aa8ec822_00000000 with spaces"


@in_module
async def test_a_refusal_is_a_problem_document(shared: Service) -> None:
    url = f"{shared.consumers_url}/nobody"
    response = await shared.client.get(f"{url}?x=1", headers={"x-request-id": "my-request"})
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-request-id"] == "my-request"
    assert response.json() == {
        "type": "https://httpproblems.com/http-status/404",
        "title": "Not Found",
        "status": 404,
        "detail": "The bucket has no such consumer.",
        "instance": url,
        "requestId": "my-request",
    }


@in_module
async def test_a_refusal_of_data_names_every_field_and_its_rule(shared: Service) -> None:
    body = {
        "name": "Wrong",
        "description": 1,
        "tags": {"a": 1, "": "x", "b": "x" * 257},
        "metadata": [],
        "managers": ["nobody", {"sub": "x"}, 7],
        "apiKeys": [{"key": "short"}, {"expiresOn": "soon"}, "key"],
    }
    answer = await shared.call("POST", shared.consumers_url, json=body, expect=400)
    assert answer["detail"] == "The request is not valid."
    assert {one["field"]: one["message"] for one in answer["errors"]} == {
        "body.name": "must match ^[a-z0-9_-]{1,128}$",
        "body.description": "must be a string",
        "body.tags.a": "must be a string",
        "body.tags.": "as a name must have at least 1 characters",
        "body.tags.b": "must have at most 256 characters",
        "body.metadata": "must be a JSON object",
        "body.managers.0.email": "must be an e-mail address",
        "body.managers.1.email": "is required",
        "body.managers.2": "must be a JSON object",
        "body.apiKeys.0.key": "must be 8 to 512 printable ASCII characters without spaces",
        "body.apiKeys.1.expiresOn": "must be an ISO 8601 time with its zone, such as 2027-01-31T12:00:00.000Z",
        "body.apiKeys.2": "must be a JSON object",
    }


@in_module
@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("limit=0", "must be at least 1"),
        ("offset=-1", "must be at least 0"),
        ("offset=9007199254740992", "must be at most 9007199254740991"),
        ("limit=ten", "must be a whole number"),
        ("key-format=all", "must be one of none, visible, masked"),
        ("include-api-keys=yes", "must be true or false"),
        ("manager-email=" + "x" * 321, "must have at most 320 characters"),
    ],
)
async def test_a_refusal_of_a_parameter_says_what_it_may_be(shared: Service, query: str, message: str) -> None:
    answer = await shared.call("GET", f"{shared.consumers_url}?{query}", expect=400)
    assert answer["errors"] == [{"field": f"query.{query.partition('=')[0]}", "message": message}]


@in_module
@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("2027-01-31", "be a time with its zone, not a date alone"),
        ("2027-01-31T12:00:00", "have its zone (Z, or an offset like +01:00)"),
        ("2027-01-31T12:00", "have seconds"),
        ("2027-01-31T00:00Z", "have seconds"),
        ("2027-01-31T00:00+01:00", "have seconds"),
        ("2027-01-31T12:00:00+0000", "have an offset with hours, a colon and minutes (+00:00)"),
        ("2027-01-31T12:00:00.5-05", "have an offset with hours, a colon and minutes (+00:00)"),
        ("2027-01-31 12:00:00Z", "have a T between date and time"),
        ("2027-01-31T12:00:00 00:00", "have its offset's + written as %2B in an address"),
        ("2027-01-31T25:00:00Z", "be an ISO 8601 time with its zone"),
        ("20270131T120000Z", "be an ISO 8601 time with its zone"),
    ],
)
async def test_a_time_is_refused_for_what_is_wrong_with_it(shared: Service, value: str, rule: str) -> None:
    url = f"{shared.consumers_url}/{(await shared.new_consumer())['name']}/keys"
    answer = await shared.call("POST", url, json={"expiresOn": value}, expect=400)
    message = f"must {rule}, such as 2027-01-31T12:00:00.000Z"
    assert answer["errors"] == [{"field": "body.expiresOn", "message": message}]
    logs = await shared.call("GET", f"{shared.account_url}/audit-logs", params={"startDate": value}, expect=400)
    assert logs["errors"] == [{"field": "query.startDate", "message": message}]


@in_module
async def test_a_time_may_be_written_with_small_letters(shared: Service) -> None:
    consumer = await shared.new_consumer()
    for value in ("2099-01-31t12:00:00z", "2099-01-31T12:00:00z", "2099-01-31t12:00:00.000+00:00"):
        key = await shared.new_key(consumer["name"], expiresOn=value)
        assert key["expiresOn"] == "2099-01-31T12:00:00.000Z"
    await shared.call("GET", f"{shared.account_url}/audit-logs", params={"startDate": "2020-01-31t12:00:00z"})


@in_module
async def test_a_flag_may_be_1_or_0(shared: Service) -> None:
    consumer = await shared.new_consumer(apiKeys=[{}])
    url = f"{shared.consumers_url}/{consumer['name']}"
    for value, is_shown in {"1": True, "0": False, "true": True, "False": False}.items():
        assert ("apiKeys" in await shared.call("GET", url, params={"include-api-keys": value})) is is_shown
    logs = await shared.call("GET", f"{shared.account_url}/audit-logs", params={"success": "1", "limit": "1"})
    assert logs["data"][0]["success"] is True


@in_module
async def test_what_is_not_found_is_named_and_not_told_from_what_is_hidden(shared: Service) -> None:
    stranger = await shared.new_management_key(buckets={"my-project-preview": "write"})
    consumer = await shared.new_consumer(tags={"plan": "gold"})
    no_bucket = "The account has no bucket named '{}', or this management key may not see it."
    for url, key, detail in (
        (f"{shared.account_url}/key-buckets/nothing", None, no_bucket.format("nothing")),
        (f"{shared.account_url}/key-buckets/No", None, no_bucket.replace(" named '{}'", "")),
        (shared.bucket_url, stranger, no_bucket.format(shared.bucket)),
        (f"{shared.consumers_url}/{consumer['name']}/keys", stranger, no_bucket.format(shared.bucket)),
        ("/v1/accounts/nobody/key-buckets", None, "There is no such account, or this management key may not see it."),
        (f"{shared.consumers_url}/nobody", None, "The bucket has no such consumer."),
        (
            f"{shared.consumers_url}/{consumer['name']}?tag.plan=x",
            None,
            "The bucket has no such consumer, or it has other tags.",
        ),
        (f"{shared.consumers_url}/{consumer['name']}/keys/key_{'0' * 24}", None, "The consumer has no such key."),
        (f"{shared.account_url}/projects/none", None, "The account has no such project."),
        (f"{shared.account_url}/management-keys/none", None, "The account has no such management key."),
        ("/v1/nothing", None, "There is nothing at this address."),
    ):
        assert (await shared.call("GET", url, key=key, expect=404))["detail"] == detail, url


@in_module
async def test_there_are_at_most_50_errors(shared: Service) -> None:
    url = f"{shared.consumers_url}/{(await shared.new_consumer())['name']}/keys/$bulk"
    answer = await shared.call("POST", url, json=[{"key": 1}] * 1000, expect=400)
    assert len(answer["errors"]) == 50
    answer = await shared.call("POST", url, json=[{}] * 1001, expect=400)
    assert answer["errors"] == [{"field": "body", "message": "must have at most 1000 items"}]


@in_module
async def test_a_custom_key_that_is_refused_is_repeated_nowhere(
    shared: Service, caplog: pytest.LogCaptureFixture
) -> None:
    consumer = await shared.new_consumer()
    url = f"{shared.consumers_url}/{consumer['name']}/keys"
    key = await shared.call("POST", url, json={})
    for method, address, body in (
        ("POST", url, {"key": SECRET}),
        ("POST", f"{url}/$bulk", [{"key": SECRET}]),
        ("POST", shared.consumers_url, {"name": "x", "apiKeys": [{"key": SECRET}]}),
        ("PATCH", f"{url}/{key['id']}", {"key": SECRET}),
        ("POST", url, {"key": {"nested": SECRET}}),
        ("POST", f"/v1/validate/{shared.bucket}", {"key": [SECRET]}),
    ):
        response = await shared.client.request(method, address, json=body)
        assert response.status_code == 400
        assert SECRET[:12] not in response.text
    logs = await shared.client.get(f"{shared.account_url}/audit-logs?limit=100")
    assert SECRET[:12] not in logs.text
    assert SECRET[:12] not in caplog.text


@in_module
async def test_a_refused_attempt_stands_in_the_audit_log_with_its_reason(shared: Service) -> None:
    headers = {"x-request-id": "refused-attempt", "User-Agent": "test/1"}
    await shared.call("POST", shared.consumers_url, json={"name": "Wrong", "tags": 1}, headers=headers, expect=400)
    logs = await shared.call("GET", f"{shared.account_url}/audit-logs", params={"success": "false", "limit": "1"})
    entry = logs["data"][0]
    assert (entry["action"], entry["requestId"], entry["success"]) == ("consumer.create", "refused-attempt", False)
    assert entry["error"] == (
        "The request is not valid. body.name must match ^[a-z0-9_-]{1,128}$; body.tags must be a JSON object"
    )
    assert entry["context"]["userAgent"] == "test/1"
    assert entry["route"] == {"source": "api", "url": shared.consumers_url, "method": "POST"}


@in_module
async def test_an_audit_log_limit_above_100_is_refused(shared: Service) -> None:
    logs = f"{shared.account_url}/audit-logs"
    answer = await shared.call("GET", f"{logs}?limit=101", expect=400)
    assert answer["errors"] == [{"field": "query.limit", "message": "must be at most 100"}]
    assert (await shared.call("GET", logs))["pagination"]["limit"] == 20
    paging = (await shared.call("GET", f"{logs}?limit=1"))["pagination"]
    assert (paging["limit"], paging["offset"], paging["hasMore"]) == (1, 0, paging["total"] > 1)


@in_module
@pytest.mark.parametrize(
    ("authorization", "challenge"),
    [
        ([], 'Bearer realm="keywright"'),
        (["Basic abc"], 'Bearer realm="keywright"'),
        (["Bearer"], 'Bearer realm="keywright"'),
        (["Bearer "], 'Bearer realm="keywright"'),
        (["Bearer not-a-management-key"], 'Bearer realm="keywright", error="invalid_token"'),
        ([f"Bearer {ROOT_KEY} x"], 'Bearer realm="keywright", error="invalid_token"'),
        (["Bearer \xff\xfe" + "x" * 20], 'Bearer realm="keywright", error="invalid_token"'),
        (["Bearer " + "x" * 100_000], 'Bearer realm="keywright", error="invalid_token"'),
        ([f"Bearer {ROOT_KEY}"] * 2, 'Bearer realm="keywright", error="invalid_request"'),
    ],
    ids=["none", "basic", "scheme", "empty", "unknown", "spaces", "not ASCII", "100 kB", "two"],
)
async def test_who_shows_no_management_key_is_401(shared: Service, authorization: list[str], challenge: str) -> None:
    request = shared.client.build_request("GET", shared.consumers_url)
    del request.headers["authorization"]
    request.headers = type(request.headers)(
        [*request.headers.raw, *((b"authorization", one.encode("latin-1")) for one in authorization)]
    )
    response = await shared.client.send(request)
    assert (response.status_code, response.headers["www-authenticate"]) == (401, challenge)


@in_module
async def test_a_consumers_key_is_no_management_key(shared: Service) -> None:
    key = await shared.new_key((await shared.new_consumer())["name"])
    await shared.call("GET", shared.consumers_url, key=key["key"], expect=401)


@in_module
async def test_what_belongs_to_another_account_is_404(shared: Service) -> None:
    await shared.call("POST", "/v1/accounts", json={"name": "other-account"})
    other = await shared.new_management_key("other-account", account="write")
    consumer = await shared.new_consumer()
    for url in (
        shared.account_url + "/key-buckets",
        shared.bucket_url,
        f"{shared.consumers_url}/{consumer['name']}",
        f"/v1/accounts/other-account/key-buckets/{shared.bucket}",
        "/v1/accounts/no-such-account/key-buckets",
    ):
        await shared.call("GET", url, key=other, expect=404)
    await shared.call("GET", "/v1/accounts", key=other, expect=403)


async def test_too_many_management_requests_are_429_with_the_seconds_to_wait(tmp_path: Path) -> None:
    async with services.running(services.settings_for(tmp_path / "data", management_rate_limit=3)) as service:
        answers = [await service.client.get("/v1/who-am-i") for _ in range(5)]
        assert [answer.status_code for answer in answers][:3] == [200] * 3
        refused = answers[-1]
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert refused.json()["title"] == "Too Many Requests"
        response = await service.client.post(f"/v1/validate/{service.bucket}", json={"key": "no-such-key"})
        assert response.status_code == 200, "validations are not counted"


async def test_the_keys_of_an_account_share_its_rate(embedded: Service) -> None:
    """Whoever makes more keys may not ask more often for it; and another account waits for nobody."""
    await embedded.call("POST", "/v1/accounts", json={"name": "other-account"})
    key, other = [await embedded.new_management_key(name, account="read") for name in (None, "other-account")]
    state = embedded.app._origin.state
    state.services = replace(state.services, management_rate=RateLimiter(0.001))
    await embedded.call("GET", "/v1/who-am-i")
    await embedded.call("GET", "/v1/who-am-i", key=key, expect=429)
    await embedded.call("GET", "/v1/who-am-i", key=other)


def test_the_rate_is_kept_for_each_name_and_refills() -> None:
    limiter = RateLimiter(2)
    assert [limiter.take("a", 0) for _ in range(3)] == [0, 0, 0.5]
    assert limiter.take("b", 0) == 0
    assert limiter.take("a", 0.25) == 0.25
    assert limiter.take("a", 0.5) == 0
    assert [limiter.take("a", 1000) for _ in range(3)] == [0, 0, 0.5]
    assert RateLimiter(0).take("a", 0) == 0
    slow = RateLimiter(0.5)
    assert [slow.take("a", 0) for _ in range(2)] == [0, 2]


@in_module
async def test_refused_strangers_neither_fill_the_audit_log_nor_the_memory(shared: Service) -> None:
    limiter: Any = shared.app._origin.state.services.refusal_rate
    before = (await shared.call("GET", f"{shared.account_url}/audit-logs"))["pagination"]["total"]
    headers = {"Authorization": "Bearer unknown-key"}
    for number in range(30):
        await shared.client.post(f"/v1/accounts/stranger-{number}/key-buckets", json={}, headers=headers)
        await shared.client.post(f"{shared.account_url}/key-buckets", json={}, headers=headers)
    after = (await shared.call("GET", f"{shared.account_url}/audit-logs"))["pagination"]["total"]
    assert 5 <= after - before < 30
    assert len(limiter._levels) == 1
