"""What the origin counts of requests: by the route's template, so that no address, name or method makes a series."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from keywright.origin.pipeline.request_counts import METHODS, OTHER, RequestCounts

if TYPE_CHECKING:
    from support.service import Service

BUCKET = "/v1/accounts/{accountName}/key-buckets/{bucketName}"


async def counted(service: Service) -> dict[tuple[str, str, str], float]:
    text = (await service.client.get("/metrics")).text
    rows = re.findall(
        r'^keywright_management_requests_total\{method="(.*?)",route="(.*?)",status="(.*?)"\} (\S+)', text, re.M
    )
    return {(method, route, status): float(count) for method, route, status, count in rows}


async def test_requests_are_counted_by_template_and_status_whatever_stands_in_the_address(embedded: Service) -> None:
    before = await counted(embedded)
    for number in range(3):
        await embedded.call("GET", f"{embedded.account_url}/key-buckets/nobody-{number}", expect=404)
        await embedded.call("GET", f"/nothing/at/{number}", expect=404)
        await embedded.call("BREW", f"/nothing/at/{number}", expect=404)
    await embedded.call("GET", embedded.bucket_url)
    await embedded.call("HEAD", embedded.bucket_url)
    await embedded.call("GET", embedded.bucket_url, expect=401, key="no-key-of-anybody-here")
    await embedded.client.get("/admin/sign-in")
    await embedded.call("GET", f"/v1/accounts?x={'y' * 40_000}", expect=414)
    after = await counted(embedded)
    found = {key: count - before.get(key, 0) for key, count in after.items() if count != before.get(key, 0)}
    assert found == {
        ("GET", BUCKET, "404"): 3, ("GET", OTHER, "404"): 3, (OTHER, OTHER, "404"): 3,
        ("GET", BUCKET, "200"): 2, ("GET", BUCKET, "401"): 1, ("GET", "/admin/sign-in", "200"): 1,
        ("GET", OTHER, "414"): 1,
    }  # fmt: skip
    assert "nobody" not in str(after)


async def test_how_long_requests_take_is_told_by_method(embedded: Service) -> None:
    await embedded.new_consumer()
    text = (await embedded.client.get("/metrics")).text
    for method in (*METHODS, OTHER):
        name = "keywright_management_request_duration_seconds"
        count = re.search(rf'^{name}_count{{method="{method}"}} (\S+)$', text, re.M)
        assert count is not None
        assert float(count[1]) == sum(c for (m, _, _), c in (await counted(embedded)).items() if m == method)


def test_what_is_counted_has_no_more_series_than_there_are_routes_methods_and_statuses() -> None:
    counts = RequestCounts()
    for number in range(1000):
        counts.note(f"METHOD{number}", None, 404, 0)
    told = [key for key in counts.count() if key[0] == "keywright_management_requests"]
    assert told == [("keywright_management_requests", OTHER, OTHER, "404")]
