"""Quotas in the portals: what is typed is what the API shows, what is wrong is said beside it; and adding to one."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest

from support.service import Service
from support.visitor import BUCKET, visiting

pytestmark = pytest.mark.asyncio(loop_scope="module")

CALLS = {
    "name": "calls", "limit": 1000, "period": "month", "timeZone": "Europe/Berlin", "anchor": 15, "defaultCost": 2,
}  # fmt: skip
EVER = {"name": "pages", "limit": 0, "period": "none", "timeZone": "UTC", "anchor": 1, "defaultCost": 1}
COLUMNS = ("name", "limit", "period", "timeZone", "anchor", "defaultCost")
FIELDS = ("quota_name", "quota_limit", "quota_period", "quota_zone", "quota_day", "quota_cost")
_numbers = itertools.count()


def rows(*quotas: dict[str, Any], of: int = 5) -> dict[str, list[str]]:
    """The fields of a form that has these quotas, and empty rows behind them."""
    typed = [[str(one[column]) for column in COLUMNS] for one in quotas]
    typed += [["", "", "month", "", "", ""]] * (of - len(typed))
    return {name: list(column) for name, column in zip(FIELDS, zip(*typed, strict=True), strict=True)}


async def test_a_plan_s_quotas_are_typed_shown_and_taken_away(shared: Service) -> None:
    name = f"quota-plan-{next(_numbers)}"
    url = f"{shared.bucket_url}/plans/{name}"
    async with visiting(shared) as visitor:
        await visitor.send(f"{BUCKET}/plans/new", name=name, **rows(CALLS, EVER))
        assert (await shared.call("GET", url))["quotas"] == [CALLS, EVER]
        edit = await visitor.open(f"{BUCKET}/plans/{name}/edit")
        for value in ("calls", "1000", "Europe/Berlin", "15", "2", "pages"):
            assert f'value="{value}"' in edit
        shown = await visitor.open(f"{BUCKET}/plans")
        assert "<b>calls</b> 1,000 a month</li>" in shown
        assert "<b>pages</b> 0 for ever</li>" in shown
        # A form that does not ask changes nothing.
        await visitor.send(f"{BUCKET}/plans/{name}/edit", description="Again")
        assert (await shared.call("GET", url))["quotas"] == [CALLS, EVER]
        # What is left empty is as the API has it.
        typed = rows(CALLS)
        typed["quota_zone"][0] = typed["quota_day"][0] = typed["quota_cost"][0] = ""
        await visitor.send(f"{BUCKET}/plans/{name}/edit", **typed)
        plain = {**CALLS, "timeZone": "UTC", "anchor": 1, "defaultCost": 1}
        assert (await shared.call("GET", url))["quotas"] == [plain]
        await visitor.send(f"{BUCKET}/plans/{name}/edit", **rows())
        assert (await shared.call("GET", url))["quotas"] is None


async def test_a_consumer_has_its_plan_s_quotas_or_its_own_or_none(shared: Service) -> None:
    name = f"quota-consumer-{next(_numbers)}"
    url = f"{shared.bucket_url}/consumers/{name}"
    async with visiting(shared) as visitor:
        await visitor.send(f"{BUCKET}/consumers/new", name=name, quotas_from="own", **rows(CALLS))
        assert (await shared.call("GET", url))["quotas"] == [CALLS]
        assert 'value="Europe/Berlin"' in await visitor.open(f"{BUCKET}/consumers/{name}/edit")
        await visitor.send(f"{BUCKET}/consumers/{name}/edit", description="Again")
        assert (await shared.call("GET", url))["quotas"] == [CALLS]
        await visitor.send(f"{BUCKET}/consumers/{name}/edit", quotas_from="own", **rows())
        assert (await shared.call("GET", url))["quotas"] == []
        await visitor.send(f"{BUCKET}/consumers/{name}/edit", quotas_from="inherited", **rows(CALLS))
        assert (await shared.call("GET", url))["quotas"] is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": ""}, "Each quota needs a name"),
        ({"name": "Calls"}, "A name must be"),
        ({"limit": ""}, "must be a whole number from 0"),
        ({"limit": "-1"}, "must be a whole number from 0"),
        ({"limit": "10**9"}, "must be a whole number from 0"),
        ({"limit": "1000000000000001"}, "must be a whole number from 0"),
        ({"period": "year"}, "one of the periods that are offered"),
        ({"timeZone": "Europe/Atlantis"}, "a time zone such as Europe/Berlin"),
        ({"anchor": "32"}, "must be from 1 to 31"),
        ({"anchor": "0"}, "must be from 1 to 31"),
        ({"defaultCost": "0"}, "must be a whole number from 1 to 1,000,000"),
        ({"defaultCost": "1000001"}, "must be a whole number from 1 to 1,000,000"),
    ],
)
async def test_what_is_no_quota_is_said_and_nothing_changes(
    shared: Service, changes: dict[str, str], said: str
) -> None:
    name = f"quota-plan-{next(_numbers)}"
    async with visiting(shared) as visitor:
        answer = await visitor.send(f"{BUCKET}/plans/new", name=name, **rows({**CALLS, **changes}), expect=400)
    assert said in answer.text
    # What was typed is there yet.
    assert 'value="Europe/' in answer.text
    await shared.call("GET", f"{shared.bucket_url}/plans/{name}", expect=404)


async def test_a_quota_that_is_repeated_is_said(shared: Service) -> None:
    async with visiting(shared) as visitor:
        answer = await visitor.send(f"{BUCKET}/plans/new", name="twice", **rows(CALLS, CALLS), expect=400)
    assert "“calls” is repeated" in answer.text


async def test_units_are_added_once_however_often_the_form_is_sent(shared: Service) -> None:
    made = await shared.new_consumer(quotas=[CALLS])
    page = f"{BUCKET}/consumers/{made['name']}"
    async with visiting(shared) as visitor:
        shown = await visitor.open(page)
        assert f'href="{page}/quotas/calls/top-up"' in shown
        form = await visitor.open(f"{page}/quotas/calls/top-up")
        assert "1,000 of 1,000 units are left" in form
        (key,) = re.findall(r'name="idempotency_key" value="([^"]+)"', form)
        for _ in range(2):
            await visitor.send(f"{page}/quotas/calls/top-up", units="500", idempotency_key=key)
        shown = await visitor.open(page)
        assert "1,500 of 1,500 left" in shown
        await visitor.send(f"{page}/quotas/calls/top-up", units="7", idempotency_key=key, expect=409)
        for units in ("", "0", "-5", "1.5"):
            answer = await visitor.send(
                f"{page}/quotas/calls/top-up", units=units, idempotency_key="portal-2", expect=400
            )
            assert "Must be a whole number from 1" in answer.text
        await visitor.open(f"{page}/quotas/none/top-up", expect=404)
    (state,) = (await shared.call("GET", f"{shared.bucket_url}/consumers/{made['name']}/quotas"))["data"]
    assert (state["added"], state["remaining"]) == (500, 1500)


async def test_who_may_only_read_is_shown_what_is_left_and_adds_nothing(shared: Service) -> None:
    made = await shared.new_consumer(quotas=[CALLS])
    page = f"{BUCKET}/consumers/{made['name']}"
    reading = await shared.call(
        "POST",
        "/v1/accounts/my-account/management-keys",
        json={"permissions": {"account": "read", "buckets": {"*": "read"}}},
    )
    async with visiting(shared, reading["key"]) as visitor:
        shown = await visitor.open(page)
        assert "1,000 of 1,000 left" in shown
        assert "top-up" not in shown
        await visitor.open(f"{page}/quotas/calls/top-up", expect=403)
