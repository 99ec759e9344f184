"""Writes that wait for edges, the list of edges, and what an edge may report, as a client sees it."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from keywright.origin.db import tables
from keywright.origin.edges import registry
from keywright.protocol.changes import Cursor
from keywright.protocol.reports import EdgeState, ReportSigner
from keywright.serve import key_files
from support.reports import report_of, tell
from support.service import Service
from support.visitor import visiting
from support.waiting import until

SECONDS = "body.maxStalenessSeconds"
FOLLOW: dict[str, Any] = {"account": "none", "buckets": {"*": "validate"}, "feed": True}


async def edges_of(service: Service, key: str | None = None, account: str = "my-account") -> dict[str, Any]:
    found = await service.call("GET", f"/v1/accounts/{account}/edges", key=key)
    return {edge["name"]: edge for edge in found["data"]}


async def test_every_write_tells_its_revision_and_reads_and_refusals_do_not(service: Service) -> None:
    url = service.consumers_url
    made = await service.client.post(url, json={"name": "one"})
    first = int(made.headers["keywright-revision"])
    assert first == (await service.call("GET", "/readyz"))["revision"]
    assert "keywright-applied" not in made.headers
    # No edge needs to hear of a description: the record is where it was.
    same = await service.client.patch(f"{url}/one", json={"description": "D"})
    assert int(same.headers["keywright-revision"]) == first
    gone = await service.client.delete(f"{url}/one")
    assert (gone.status_code, int(gone.headers["keywright-revision"])) == (204, first + 1)
    for answer in (
        await service.client.get(url),
        await service.client.delete(f"{url}/one?wait=all"),
        await service.client.post(f"{url}?wait=all", json={"name": "NOT A NAME"}),
    ):
        told = {name for name in answer.headers if name.startswith("keywright-")}
        assert told <= {"keywright-usage-known-until"}


@pytest.mark.parametrize("wait", ["all", "1"])
async def test_with_the_own_edge_alone_a_wait_is_over_at_once(service: Service, wait: str) -> None:
    for method, url, body in (
        ("POST", service.consumers_url, {"name": "one"}),
        ("PATCH", f"{service.consumers_url}/one", {"description": "D"}),
        ("DELETE", f"{service.consumers_url}/one", None),
    ):
        answer = await service.client.request(method, f"{url}?wait={wait}", json=body)
        assert answer.is_success
        assert answer.headers["keywright-applied"] == "1/1"
        assert "keywright-pending" not in answer.headers


@pytest.mark.parametrize(
    ("query", "field"),
    [("wait=0", "query.wait"), ("wait=ALL", "query.wait"), ("wait=1001", "query.wait"), ("wait=", "query.wait"),
     ("wait=all&timeout=0", "query.timeout"), ("wait=all&timeout=30001", "query.timeout"),
     ("timeout=x", "query.timeout"),
     ("wait=all&wait=1", "query.wait")],
)  # fmt: skip
async def test_a_wait_that_cannot_be_is_400_before_anything_is_done(embedded: Service, query: str, field: str) -> None:
    problem = await embedded.call("POST", f"{embedded.consumers_url}?{query}", json={"name": "one"}, expect=400)
    assert problem["errors"][0]["field"] == field
    assert (await embedded.call("GET", embedded.consumers_url))["total"] == 0


async def test_when_the_time_is_up_the_answer_is_the_same_and_names_who_is_pending(embedded: Service) -> None:
    token = await embedded.new_management_key(**FOLLOW)
    await tell(embedded, report_of(embedded, "late"), token)
    await tell(embedded, report_of(embedded, "starting", cursor=None, lag=None, state=EdgeState.STARTING))
    started = time.monotonic()
    answer = await embedded.client.post(f"{embedded.consumers_url}?wait=all&timeout=1000", json={"name": "one"})
    assert time.monotonic() - started >= 1
    assert (answer.status_code, answer.json()["name"]) == (200, "one")
    assert answer.headers["keywright-applied"] == "1/3"
    assert answer.headers["keywright-pending"] == "late, starting"
    gone = await embedded.client.delete(f"{embedded.consumers_url}/one?wait=2&timeout=1")
    assert (gone.status_code, gone.headers["keywright-applied"]) == (204, "1/2")
    await tell(embedded, report_of(embedded, "late"), token)
    gone = await embedded.client.patch(f"{embedded.bucket_url}?wait=2", json={"description": "D"})
    assert (gone.headers["keywright-applied"], gone.headers.get("keywright-pending")) == ("2/2", None)


async def test_an_account_sees_its_edges_and_those_of_the_deployment_and_no_others(embedded: Service) -> None:
    await embedded.call("POST", "/v1/accounts", json={"name": "partner"})
    mine, theirs = await embedded.new_management_key(**FOLLOW), await embedded.new_management_key("partner", **FOLLOW)
    reads = await embedded.new_management_key(account="read")
    reads_theirs = await embedded.new_management_key("partner", account="read")
    await tell(embedded, report_of(embedded, "mine"), mine)
    await tell(embedded, report_of(embedded, "theirs"), theirs)
    await tell(embedded, report_of(embedded, "everything"))
    own = embedded.settings.edge_name
    assert set(await edges_of(embedded, reads)) == {"mine", "everything", own}
    assert set(await edges_of(embedded, reads_theirs, "partner")) == {"theirs", "everything", own}
    await embedded.call("GET", "/v1/accounts/my-account/edges", key=mine, expect=403)
    await embedded.call("GET", "/v1/accounts/my-account/edges", key=reads_theirs, expect=404)
    owner = (await embedded.call("POST", f"{embedded.bucket_url}/owner-keys", json={}))["key"]
    # Another account's edge is waited for where it may see the bucket, and is not named.
    for name, applied, others in (("one", "1/3", ""), ("two", "1/4", ", (1 of other accounts)")):
        answer = await embedded.client.post(
            f"{embedded.consumers_url}?wait=all&timeout=500",
            json={"name": name},
            headers={"authorization": f"Bearer {owner}"},
        )
        assert answer.headers["keywright-applied"] == applied
        assert answer.headers["keywright-pending"] == f"everything, mine{others}"
        await embedded.call("POST", f"{embedded.bucket_url}/grants", json={"account": "partner", "access": "validate"})
    page = await embedded.call("GET", "/v1/accounts/my-account/edges?limit=1&offset=1", key=reads)
    assert (len(page["data"]), page["limit"], page["offset"], page["total"]) == (1, 1, 1, 3)


async def test_an_edge_is_shown_as_it_said(embedded: Service) -> None:
    await tell(embedded, report_of(embedded, "edge-1"))
    edge = (await edges_of(embedded))["edge-1"]
    assert edge.pop("lagSeconds") >= 0.25
    assert edge.pop("seenOn") > "2020"
    revision = (await embedded.call("GET", "/readyz"))["revision"]
    assert edge == {
        "id": report_of(embedded, "edge-1").instance, "name": "edge-1", "region": "eu-north", "version": "9.9",
        "connected": True, "state": "synced", "since": "2027-01-15T08:00:00.000Z", "revision": revision,
        "refusesAfterSeconds": None, "leased": False, "refusing": False, "clockOffsetSeconds": None,
        "feedFormat": 2, "refusesPowers": False, "formatUnknown": False,
    }  # fmt: skip
    await tell(embedded, replace(report_of(embedded, "edge-2"), clock_offset=-2_400_123))
    assert (await edges_of(embedded))["edge-2"]["clockOffsetSeconds"] == -2400.123


async def use_powers(service: Service) -> None:
    """As if a key of some bucket had powers, or had had them."""
    async with service.app._database.write() as tx:
        await tx.execute(sa.update(tables.buckets).values(features=("enabled",)))


@pytest.mark.parametrize("feed_format", [None, 2, 3, 4])
async def test_an_edge_that_reads_an_older_format_is_named_while_powers_are_in_use(
    embedded: Service, feed_format: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "STORE_SECONDS", 0.05)
    is_old = feed_format in {None, 2}
    await tell(embedded, report_of(embedded, "edge-1", feed_format=feed_format))
    assert (await edges_of(embedded))["edge-1"]["refusesPowers"] is False
    await use_powers(embedded)
    listed = await edges_of(embedded)
    own = embedded.app._identity.name
    assert (listed["edge-1"]["feedFormat"], listed["edge-1"]["refusesPowers"]) == (feed_format or 2, is_old)
    assert (listed[own]["feedFormat"], listed[own]["refusesPowers"]) == (3, False)
    async with visiting(embedded) as visitor:
        page = await visitor.open("/admin/accounts/my-account/edges")
    assert page.count("Refuses keys with powers") == is_old
    await until(lambda: embedded.app._edges.list_old_readers() == (["edge-1"] if is_old else []))
    if is_old:
        assert "refuse keys with powers: edge-1" in (await embedded.call("GET", "/readyz"))["warnings"][0]
        scraped = (await embedded.client.get("/metrics")).text
        assert 'keywright_edge_reads_older_format{edge="edge-1"} 1.0' in scraped


async def test_an_edge_reads_what_it_did_though_a_failure_has_it_report_in_the_first_format(embedded: Service) -> None:
    first = report_of(embedded, "edge-1", feed_format=3)
    await tell(embedded, first)
    await tell(embedded, report_of(embedded, "edge-1"))
    assert (await edges_of(embedded))["edge-1"]["feedFormat"] == 3
    await tell(embedded, report_of(embedded, "edge-1", start="1" * 16))
    assert (await edges_of(embedded))["edge-1"]["feedFormat"] == 2


async def test_an_edge_that_can_not_read_what_it_follows_is_shown_as_such(embedded: Service) -> None:
    await tell(embedded, report_of(embedded, "edge-1", feed_format=3, is_format_unknown=True, state=EdgeState.BEHIND))
    assert (await edges_of(embedded))["edge-1"]["formatUnknown"] is True
    async with visiting(embedded) as visitor:
        assert "read the feed" in await visitor.open("/admin/accounts/my-account/edges")


async def test_the_page_of_edges_tells_of_a_clock_that_is_wrong_and_of_no_other(embedded: Service) -> None:
    for name, offset in (("slow", -2_400_123), ("fast", 2_000), ("good", 1_999), ("unknown", None)):
        await tell(embedded, replace(report_of(embedded, name), clock_offset=offset))
    async with visiting(embedded) as visitor:
        page = await visitor.open("/admin/accounts/my-account/edges")
    assert re.findall(r"Clock [^<]*", page) == ["Clock 2 s ahead", "Clock 2400 s behind"]


async def test_an_edge_that_is_gone_for_good_is_retired_by_who_may_write_and_is_back_if_it_still_reports(
    embedded: Service,
) -> None:
    await embedded.call("POST", "/v1/accounts", json={"name": "partner"})
    mine = await embedded.new_management_key(**FOLLOW)
    reads, writes = [await embedded.new_management_key(account=access) for access in ("read", "write")]
    stranger = await embedded.new_management_key("partner", account="write")
    await tell(embedded, report_of(embedded, "mine", cursor=None), mine)
    await tell(embedded, report_of(embedded, "everything", cursor=None))
    url = "/v1/accounts/my-account/edges"
    one, other = (f"{url}/{report_of(embedded, name).instance}" for name in ("mine", "everything"))
    await embedded.call("DELETE", one, key=stranger, expect=404)
    await embedded.call("DELETE", one, key=reads, expect=403)
    await embedded.call("DELETE", other, key=writes, expect=403)
    await embedded.call("DELETE", f"{url}/nobody-has-this-id", expect=404)
    await embedded.call("DELETE", one, key=writes, expect=204)
    await embedded.call("DELETE", one, key=writes, expect=404)
    await embedded.call("DELETE", other, expect=204)
    assert set(await edges_of(embedded)) == {embedded.settings.edge_name}
    answer = await embedded.client.post(f"{embedded.consumers_url}?wait=all&timeout=1000", json={"name": "one"})
    assert (answer.headers["keywright-applied"], answer.headers.get("keywright-pending")) == ("1/1", None)
    logged = await embedded.call("GET", "/v1/accounts/my-account/audit-logs?action=edge.retire&success=true")
    assert [entry["resources"][0]["metadata"]["name"] for entry in logged["data"]] == ["everything", "mine"]
    await tell(embedded, report_of(embedded, "mine"), mine)
    assert set(await edges_of(embedded)) == {embedded.settings.edge_name, "mine"}


async def test_one_that_refuses_by_now_is_named_and_not_waited_for(embedded: Service) -> None:
    await tell(embedded, report_of(embedded, "strict", cursor=None, refuses_after=0))
    answer = await embedded.client.post(f"{embedded.consumers_url}?wait=all&timeout=20000", json={"name": "one"})
    assert answer.headers["keywright-applied"] == "1/1"
    assert answer.headers["keywright-refusing"] == "strict"
    assert (await edges_of(embedded))["strict"]["refusing"] is True


async def test_two_edges_of_one_name_are_two(embedded: Service) -> None:
    for instance in ("first-of-that-name", "second-of-that-name"):
        await tell(embedded, report_of(embedded, "twin", instance=instance))
    found = await embedded.call("GET", "/v1/accounts/my-account/edges")
    assert [edge["id"] for edge in found["data"] if edge["name"] == "twin"] == [
        "first-of-that-name", "second-of-that-name",
    ]  # fmt: skip


async def test_what_is_no_report_of_an_edge_of_this_deployment_is_refused(embedded: Service) -> None:
    reads = await embedded.new_management_key(account="write")
    good = report_of(embedded, "edge-1")
    await tell(embedded, good, "nobody-knows-it", expect=401)
    await tell(embedded, good, reads, expect=403)
    await tell(embedded, replace(good, deployment_id="dply_other"), expect=409)
    signer = ReportSigner(key_files.load_digester(embedded.settings))
    for body in (b"", b"{}", signer.encode(good)[:-1], signer.encode(replace(good, name="two\nlines"))):
        problem = await tell(embedded, body, expect=400)
        assert problem["status"] == 400
    await tell(embedded, b"x" * 5000, expect=413)
    assert set(await edges_of(embedded)) == {embedded.settings.edge_name}


async def test_a_revision_of_the_future_is_not_believed(embedded: Service) -> None:
    ahead = Cursor(10**9, "00" * 8, 10**13)
    await tell(embedded, report_of(embedded, "liar", cursor=ahead))
    edge = (await edges_of(embedded))["liar"]
    assert (edge["revision"], edge["state"]) == (None, "behind")
    answer = await embedded.client.post(f"{embedded.consumers_url}?wait=all&timeout=1000", json={"name": "one"})
    assert answer.headers["keywright-pending"] == "liar"


# -- staleness, as the owner of a bucket sets it ----------------------------------------------------------------------


async def test_how_stale_an_edge_may_be_is_the_owner_s_to_set_and_reaches_the_replica(service: Service) -> None:
    url = f"{service.account_url}/key-buckets"
    made = await service.call("POST", url, json={"name": "plain-bucket"})
    assert (made["maxStalenessSeconds"], made["whenStale"]) == (None, "serve")
    strict = {"name": "strict-bucket", "maxStalenessSeconds": 300, "whenStale": "refuse"}
    made = await service.call("POST", url, json=strict)
    assert {name: made[name] for name in strict} == strict
    assert limit_of(service, "strict-bucket") == 300
    assert limit_of(service, "plain-bucket") is None
    for body, expected in (
        ({"maxStalenessSeconds": 1}, 1),
        ({"description": "D"}, 1),
        ({"whenStale": "serve"}, None),
        ({"whenStale": "refuse"}, 1),
        ({"maxStalenessSeconds": 2.0}, 2),
        ({"whenStale": "serve", "maxStalenessSeconds": None}, None),
    ):
        changed = await service.call("PATCH", f"{url}/strict-bucket", json=body)
        assert limit_of(service, "strict-bucket") == expected, body
        assert changed == await service.call("GET", f"{url}/strict-bucket")
    # A replica that is filled anew hears of it, too, and sharing keeps it.
    await service.call("PATCH", f"{url}/strict-bucket", json={"maxStalenessSeconds": 7, "whenStale": "refuse"})
    await service.call("POST", "/v1/accounts", json={"name": "partner"})
    await service.call("POST", f"{url}/strict-bucket/grants", json={"account": "partner", "access": "read"})
    assert limit_of(service, "strict-bucket") == 7
    snapshot = await service.app._sync_loop._feed.snapshot()
    puts = [put async for page in snapshot.changes for put in page]
    await snapshot.changes.aclose()  # type: ignore[attr-defined]
    assert {put.name: put.refuse_after for put in puts if hasattr(put, "refuse_after")}["strict-bucket"] == 7


def limit_of(service: Service, name: str) -> int | None:
    record = service.app._replica.find_bucket(name)
    assert record is not None
    return record.refuse_after


@pytest.mark.parametrize(
    ("body", "field"),
    [({"maxStalenessSeconds": 0}, SECONDS), ({"maxStalenessSeconds": -1}, SECONDS),
     ({"maxStalenessSeconds": 1.5}, SECONDS), ({"maxStalenessSeconds": "1"}, SECONDS),
     ({"maxStalenessSeconds": True}, SECONDS), ({"maxStalenessSeconds": 10**30}, SECONDS),
     ({"whenStale": "perhaps"}, "body.whenStale"), ({"whenStale": 1}, "body.whenStale"),
     ({"whenStale": "refuse", "maxStalenessSeconds": None}, SECONDS)],
)  # fmt: skip
async def test_a_staleness_that_cannot_be_is_400_and_names_the_field(
    embedded: Service, body: dict[str, Any], field: str
) -> None:
    url = f"{embedded.account_url}/key-buckets"
    problem = await embedded.call("POST", url, json={"name": "new-bucket", **body}, expect=400)
    assert problem["errors"][0]["field"] == field
    problem = await embedded.call("PATCH", embedded.bucket_url, json=body, expect=400)
    assert problem["errors"][0]["field"] == field


async def test_refusing_without_a_limit_is_400_in_a_new_bucket_and_409_where_the_bucket_has_the_other_half(
    embedded: Service,
) -> None:
    url = f"{embedded.account_url}/key-buckets"
    refused = await embedded.call("POST", url, json={"name": "half-bucket", "whenStale": "refuse"}, expect=400)
    assert [one["field"] for one in refused["errors"]] == [SECONDS]
    await embedded.call("POST", url, json={"name": "half-bucket"})
    half = f"{url}/half-bucket"
    for before, change in (
        ({}, {"whenStale": "refuse"}),
        ({"whenStale": "refuse", "maxStalenessSeconds": 60}, {"maxStalenessSeconds": None}),
    ):
        kept = await embedded.call("PATCH", half, json=before)
        problem = await embedded.call("PATCH", half, json={**change, "description": "D"}, expect=409)
        assert [one["field"] for one in problem["errors"]] == [SECONDS]
        assert await embedded.call("GET", half) == kept


async def test_only_who_may_write_in_the_bucket_sets_its_staleness_and_it_is_audited(embedded: Service) -> None:
    reads = await embedded.new_management_key(account="read")
    body = {"maxStalenessSeconds": 5, "whenStale": "refuse"}
    await embedded.call("PATCH", embedded.bucket_url, json=body, key=reads, expect=403)
    await embedded.call("PATCH", embedded.bucket_url, json=body)
    logged = (await embedded.call("GET", f"{embedded.account_url}/audit-logs"))["data"]
    assert [(one["action"], one["success"]) for one in logged[:2]] == [
        ("bucket.update", True),
        ("bucket.update", False),
    ]
