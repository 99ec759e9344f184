"""The audit log: every change and every refused attempt, with who, what, from where; and never a secret."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from keywright.origin.audit import store as audit_rows
from support import service as services
from support.service import Service

KEY = "zpka_d67b7e241bb948758f415b79aa8ec822_2efb7009"


async def entries(service: Service, account: str | None = None, **filters: str) -> list[dict[str, Any]]:
    url = f"/v1/accounts/{account or service.account}/audit-logs"
    return list((await service.call("GET", url, params={"limit": "100", **filters}))["data"])


async def test_a_refused_attempt_is_logged_with_its_reason_and_nothing_else_is_changed(service: Service) -> None:
    reader_url = f"{service.account_url}/management-keys"
    body = {"permissions": {"account": "read"}, "description": "dashboard"}
    reader = await service.call("POST", reader_url, json=body)
    consumer = await service.new_consumer()
    headers = {"User-Agent": "curl/8", "X-Request-Id": "req-1"}
    url = f"{service.consumers_url}/{consumer['name']}"

    await service.call("DELETE", url, key=reader["key"], headers=headers, expect=403)

    (entry, *_) = await entries(service)
    assert (entry["action"], entry["success"], entry["requestId"]) == ("consumer.delete", False, "req-1")
    assert entry["actor"] == {
        "sub": reader["id"],
        "email": None,
        "type": "service",
        "connection": "management-key",
        "actingAs": None,
        "metadata": {"description": "dashboard"},
    }
    assert "write access" in entry["error"]
    assert entry["route"] == {"source": "api", "url": url, "method": "DELETE"}
    assert (entry["context"]["ipAddress"], entry["context"]["userAgent"]) == ("127.0.0.1", "curl/8")
    await service.call("GET", url)


@pytest.mark.parametrize(
    ("method", "path", "body", "expect"),
    [
        ("POST", "key-buckets/my-project-production/consumers", {"name": "NOT A NAME"}, 400),
        ("PATCH", "key-buckets/my-project-production", {"tags": dict.fromkeys("abcdef", "")}, 400),
        ("POST", "key-buckets", {"name": "my-project-preview"}, 409),
        ("DELETE", "key-buckets/no-such-bucket", None, 404),
        ("PATCH", "key-buckets/my-project-production/consumers/nobody", {}, 404),
    ],
)  # fmt: skip
async def test_every_kind_of_refusal_of_a_write_is_logged(
    embedded: Service, method: str, path: str, body: Any, expect: int
) -> None:
    await embedded.call(method, f"{embedded.account_url}/{path}", json=body, expect=expect)
    (entry, *_) = await entries(embedded)
    assert (entry["success"], entry["route"]["method"]) == (False, method)
    assert entry["error"]


async def test_anonymous_refusals_are_logged_and_can_not_flood_the_log(embedded: Service) -> None:
    headers = {"Authorization": "Bearer not-a-key-of-anybody"}
    before = len(await entries(embedded))

    answers = await asyncio.gather(
        *(embedded.client.post(embedded.consumers_url, headers=headers, json={"name": "acme"}) for _ in range(40))
    )

    # So many wrong keys at once are throttled, too.
    assert {answer.status_code for answer in answers} <= {401, 429}
    logged = (await entries(embedded))[:-before]
    # 5 at once, and 5 a second after them.
    assert 5 <= len(logged) <= 20
    assert {(entry["actor"]["sub"], entry["actor"]["type"]) for entry in logged} == {("anonymous", "anonymous")}
    assert {(entry["action"], entry["success"]) for entry in logged} == {("consumer.create", False)}


async def test_attempts_on_accounts_that_are_not_there_stand_in_the_log_of_who_made_them(embedded: Service) -> None:
    before = len(await entries(embedded))
    names = ("nobody", "%00", "%ED%A0%80", "x" * 3000, "%E2%82%AC")
    for name in names:
        await embedded.call("POST", f"/v1/accounts/{name}/key-buckets", json={"name": "a-bucket"}, expect=404)
        stranger = await embedded.client.post(f"/v1/accounts/{name}/projects", headers={"Authorization": "Basic x"})
        assert stranger.status_code == 401
    logged = (await entries(embedded))[:-before]
    assert [(entry["action"], entry["success"]) for entry in logged] == [("bucket.create", False)] * len(names)


async def test_another_account_learns_of_an_attempt_but_not_what_the_stranger_says_of_its_key(
    embedded: Service,
) -> None:
    await embedded.call("POST", "/v1/accounts", json={"name": "partner-account"})
    body = {"permissions": {"account": "write"}, "description": "the partner's private note"}
    key = await embedded.call("POST", "/v1/accounts/partner-account/management-keys", json=body)

    await embedded.call("DELETE", embedded.bucket_url, key=key["key"], expect=404)

    (entry, *_) = await entries(embedded)
    assert (entry["action"], entry["success"], entry["actor"]["sub"]) == ("bucket.delete", False, key["id"])
    assert "private note" not in json.dumps(await entries(embedded))


async def test_a_success_is_logged_in_its_own_transaction_with_what_it_concerned(service: Service) -> None:
    consumer = await service.new_consumer()
    key = await service.new_key(consumer["name"])
    await service.call("DELETE", f"{service.consumers_url}/{consumer['name']}/keys/{key['id']}", expect=204)

    deleted, made_key, made_consumer, *_ = await entries(service)

    assert [entry["action"] for entry in (deleted, made_key, made_consumer)] == [
        "key.delete", "key.create", "consumer.create",
    ]  # fmt: skip
    about = [
        {"type": "consumer", "id": consumer["id"], "metadata": {"name": consumer["name"], "bucket": service.bucket}}
    ]
    assert made_consumer["resources"] == about
    assert made_key["resources"] == deleted["resources"] == [*about, {"type": "key", "id": key["id"], "metadata": None}]
    assert all(entry["success"] and entry["error"] is None for entry in (deleted, made_key, made_consumer))
    assert made_key["timestamp"] == key["createdOn"]


async def test_a_change_whose_entry_can_not_be_written_is_not_made(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise OSError("no room for an entry")

    with monkeypatch.context() as patch:
        patch.setattr(audit_rows, "insert_audit", fail)
        await service.call("POST", service.consumers_url, json={"name": "unlogged"}, expect=500)
    await service.call("GET", f"{service.consumers_url}/unlogged", expect=404)


async def test_reads_leave_no_entry(embedded: Service) -> None:
    before = len(await entries(embedded))
    await embedded.call("GET", embedded.consumers_url)
    await embedded.call("GET", f"{embedded.account_url}/key-buckets/no-such-bucket", expect=404)
    assert len(await entries(embedded)) == before


async def test_the_first_entry_is_the_deployment_s_birth(embedded: Service) -> None:
    entry = (await entries(embedded))[-1]
    assert (entry["action"], entry["actor"]["type"]) == ("deployment.create", "system")


@pytest.mark.parametrize(
    "path",
    [
        f"{KEY}",
        f"consumers/{KEY}",
        f"consumers/nobody/keys/{KEY}",
        f"consumers/nobody/keys/{KEY.replace('_', '%5F')}",
        f"consumers/nobody/keys/{KEY.replace('zpka', '%7apka')}",
        f"consumers/nobody/keys/{KEY[:-9]}",
        f"consumers/nobody/keys/{KEY[:30]}",
        f"consumers/nobody/keys/x?key={KEY}",
    ],
)
async def test_a_key_that_was_sent_in_the_wrong_place_is_not_kept(embedded: Service, path: str) -> None:
    headers = {"X-Request-Id": KEY, "User-Agent": f"curl -H {KEY}"}
    await embedded.call("DELETE", f"{embedded.bucket_url}/{path}", headers=headers, expect=404)
    kept = Path(embedded.settings.data_dir / "keywright.db").read_bytes()
    kept += Path(embedded.settings.data_dir / "keywright.db-wal").read_bytes()
    assert KEY[5:21].encode() not in kept


@pytest.mark.parametrize("secret", ["my-own-secret-key-1", "Kx9!vT:2", "acme_live_4eC39Hq", "0123456789abcdef"])
@pytest.mark.parametrize("path", ["consumers/nobody/keys/{}", "owner-keys/{}", "consumers/nobody/managers/{}"])
async def test_a_custom_key_typed_where_an_id_belongs_is_not_kept(embedded: Service, path: str, secret: str) -> None:
    url = f"{embedded.bucket_url}/{path.format(quote(secret, safe=''))}"
    await embedded.call("DELETE", url, expect=404)
    (entry, *_) = await entries(embedded)
    assert entry["route"]["url"] == url.rpartition("/")[0] + "/****"
    kept = Path(embedded.settings.data_dir / "keywright.db-wal").read_bytes()
    assert secret.encode() not in kept


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"action": "no.such"}, 0),
        ({"action": "consumer.create"}, 3),
        ({"action": "consumer.create", "success": "true"}, 2),
        ({"action": "consumer.create", "success": "false"}, 1),
        ({"action": "consumer.create", "actor": "somebody@example.com"}, 0),
        ({"action": "consumer.create", "endDate": "2001-01-01T00:00:00Z"}, 0),
        ({"action": "consumer.create", "startDate": "2001-01-01T00:00:00Z"}, 3),
        ({"action": "consumer.create", "startDate": "9999-01-01T00:00:00Z"}, 0),
    ],
)
async def test_the_log_is_searched_by_what_it_holds(embedded: Service, filters: dict[str, str], expected: int) -> None:
    for name, expect in (("acme", 200), ("acme", 409), ("other", 200)):
        await embedded.call("POST", embedded.consumers_url, json={"name": name}, expect=expect)
    me = (await embedded.call("GET", "/v1/who-am-i"))["sub"]
    assert len(await entries(embedded, **filters)) == expected
    assert len(await entries(embedded, actor=me)) == 3


async def test_the_log_outlives_what_it_tells_of_and_is_of_one_account(tmp_path: Path, database_url: str) -> None:
    settings = services.settings_for(tmp_path / "data", database_url)
    async with services.running(settings) as service:
        await service.call("POST", "/v1/accounts", json={"name": "partner-account"})
        await service.call("DELETE", service.bucket_url, expect=204)
    # The same deployment, started again.
    async with services.running(settings) as service:
        assert (await entries(service))[0]["action"] == "bucket.delete"
        assert [entry["action"] for entry in await entries(service, "partner-account")] == ["account.create"]


async def test_creating_an_account_is_the_first_entry_of_its_log(embedded: Service) -> None:
    await embedded.call("POST", "/v1/accounts", json={"name": "tenant-b"})
    logged = await embedded.call("GET", "/v1/accounts/tenant-b/audit-logs")
    assert [entry["action"] for entry in logged["data"]] == ["account.create"]


async def test_a_refused_attempt_without_an_account_in_its_path_is_logged_with_the_caller(embedded: Service) -> None:
    reader = await embedded.new_management_key(account="read")
    await embedded.call("POST", "/v1/accounts", key=reader, json={"name": "tenant-b"}, expect=403)
    logged = await embedded.call("GET", f"{embedded.account_url}/audit-logs?success=false")
    assert [entry["action"] for entry in logged["data"]] == ["account.create"]


async def test_another_account_can_not_flood_this_ones_audit_log(embedded: Service) -> None:
    await embedded.call("POST", "/v1/accounts", json={"name": "tenant-b"})
    stranger = await embedded.new_management_key("tenant-b", account="write")
    for _ in range(40):
        await embedded.call("DELETE", embedded.bucket_url, key=stranger, expect=404)
    logged = await embedded.call("GET", f"{embedded.account_url}/audit-logs?success=false&limit=100")
    assert 1 <= logged["pagination"]["total"] < 40


@pytest.mark.parametrize(
    "place", ["consumers/{}", "consumers/{}/keys", "consumers/x/keys?request", "../key-buckets/{}"]
)
async def test_a_custom_key_where_a_name_belongs_is_known_by_its_digest(service: Service, place: str) -> None:
    """No form tells it from a name. What is no key is left: who looks for an attack wants to know what was tried."""
    secret = "acme-old-secret-0001"
    await service.new_consumer(apiKeys=[{"key": secret}])
    headers = {"X-Request-Id": secret if place.endswith("request") else "a-request"}
    url = f"{service.bucket_url}/{place.format(secret)}".replace("my-project-production/../key-buckets/", "")
    answer = await service.client.delete(url, headers=headers)
    assert answer.status_code in {404, 405}, answer.text
    await service.client.delete(f"{service.consumers_url}/no-key-of-ours-0001", headers={"X-Request-Id": "another"})
    logged = json.dumps(await entries(service))
    assert secret not in logged
    assert "no-key-of-ours-0001" in logged
