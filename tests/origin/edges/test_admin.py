"""Retiring an edge in the admin portal: who may, what is asked first, and what is told and logged."""

from __future__ import annotations

import pytest

from keywright.origin.edges import rules
from support.reports import report_of, tell
from support.service import Service
from support.visitor import ACCOUNT, visiting

EDGES = f"{ACCOUNT}/edges"
FOLLOW = {"buckets": {"*": "validate"}, "feed": True}


def page_of(service: Service, name: str) -> str:
    return f"{EDGES}/{report_of(service, name).instance}/retire"


async def names_of(service: Service) -> set[str]:
    return {one["name"] for one in (await service.call("GET", f"{service.account_url}/edges"))["data"]}


async def test_an_edge_that_is_gone_is_retired_after_a_confirmation_and_no_write_waits_for_it(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "LIVE_SECONDS", -1.0)
    await tell(service, report_of(service, "gone"), await service.new_management_key(**FOLLOW))
    address = page_of(service, "gone")
    async with visiting(service) as visitor:
        assert f'href="{address}" aria-label="Retire edge gone"' in await visitor.open(EDGES)
        page = await visitor.open(address)
        assert "Retire edge gone" in page
        assert "it may go on accepting keys that are revoked" in page
        assert "gone" in await names_of(service)
        answer = await visitor.send(address)
        assert answer.headers["location"] == EDGES
        assert "Edge gone retired." in await visitor.open(EDGES)
        await visitor.open(address, 404)
    assert await names_of(service) == {service.settings.edge_name}
    entry = (await service.call("GET", f"{service.account_url}/audit-logs"))["data"][0]
    assert (entry["action"], entry["success"], entry["route"]["source"]) == ("edge.retire", True, "portal")
    assert entry["resources"][0]["metadata"] == {"name": "gone"}
    made = await service.client.post(f"{service.consumers_url}?wait=all", json={"name": "one"})
    assert made.headers["keywright-applied"] == "1/1"


async def test_one_that_was_heard_of_lately_is_said_to_come_back(embedded: Service) -> None:
    await tell(embedded, report_of(embedded, "alive"))
    async with visiting(embedded) as visitor:
        assert "If it is still running, it comes back: stop it first." in await visitor.open(page_of(embedded, "alive"))


async def test_who_may_not_write_sees_no_button_and_retires_nothing(embedded: Service) -> None:
    await tell(embedded, report_of(embedded, "mine"), await embedded.new_management_key(**FOLLOW))
    async with visiting(embedded, await embedded.new_management_key(account="read")) as visitor:
        assert "Retire" not in await visitor.open(EDGES)
        await visitor.open(page_of(embedded, "mine"), 403)
        fields = await visitor.hidden(EDGES)
        await visitor.send_again(page_of(embedded, "mine"), {**fields, "form": "x"}, 403)
    assert "mine" in await names_of(embedded)


async def test_an_edge_of_the_deployment_is_retired_with_the_root_key_alone(embedded: Service) -> None:
    await tell(embedded, report_of(embedded, "everything"))
    address = page_of(embedded, "everything")
    async with visiting(embedded, await embedded.new_management_key(account="write")) as visitor:
        page = await visitor.open(EDGES)
        assert "everything" in page
        assert "/retire" not in page
        await visitor.open(address, 403)
    async with visiting(embedded) as visitor:
        await visitor.send(address)
    assert await names_of(embedded) == {embedded.settings.edge_name}


async def test_the_edge_beside_the_origin_has_no_button(embedded: Service) -> None:
    async with visiting(embedded) as visitor:
        assert "/retire" not in await visitor.open(EDGES)
        (own,) = (await embedded.call("GET", f"{embedded.account_url}/edges"))["data"]
        await visitor.open(f"{EDGES}/{own['id']}/retire", 404)


async def test_an_edge_of_another_account_is_not_there(embedded: Service) -> None:
    await embedded.call("POST", "/v1/accounts", json={"name": "partner"})
    await tell(embedded, report_of(embedded, "theirs"), await embedded.new_management_key("partner", **FOLLOW))
    async with visiting(embedded) as visitor:
        await visitor.open(page_of(embedded, "theirs"), 404)
