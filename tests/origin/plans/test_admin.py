"""Plans and rate limits in the portals: what is typed is what the API shows, and what is wrong is said beside it."""

from __future__ import annotations

import html
import itertools
from typing import Any

import pytest

from support.service import Service
from support.visitor import BUCKET, visiting

pytestmark = pytest.mark.asyncio(loop_scope="module")

PER_MINUTE = {"name": "per-minute", "limit": 600, "windowSeconds": 60, "scope": "global"}
BURST = {"name": "burst", "limit": 20, "windowSeconds": 1, "scope": "edge"}
_numbers = itertools.count()


def rows(*limits: dict[str, Any], of: int = 5) -> dict[str, list[str]]:
    """The fields of a form that has these limits, and empty rows behind them."""
    typed = [(one["name"], str(one["limit"]), str(one["windowSeconds"]), one["scope"]) for one in limits]
    typed += [("", "", "", "global")] * (of - len(typed))
    names = ("limit_name", "limit_count", "limit_seconds", "limit_scope")
    return {name: list(column) for name, column in zip(names, zip(*typed, strict=True), strict=True)}


def new_name() -> str:
    return f"plan-{next(_numbers)}"


async def plan_of(service: Service, name: str) -> Any:
    return await service.call("GET", f"{service.bucket_url}/plans/{name}")


async def test_a_bucket_without_plans_says_what_they_are_good_for(shared: Service) -> None:
    async with visiting(shared) as visitor:
        shown = await visitor.open(BUCKET.replace("production", "working-copy") + "/plans")
    assert "No plans yet" in shown
    assert "A plan is a name for scopes and limits" in shown


async def test_a_plan_is_made_changed_shown_and_deleted(shared: Service) -> None:
    name = new_name()
    async with visiting(shared) as visitor:
        fields = {"name": name, "description": "For who pays", "scopes_from": "own", "scopes": "orders:*\nitems:read"}
        await visitor.send(f"{BUCKET}/plans/new", **fields, **rows(PER_MINUTE, BURST))
        made = await plan_of(shared, name)
        assert (made["scopes"], made["rateLimits"]) == (["orders:*", "items:read"], [PER_MINUTE, BURST])
        shown = await visitor.open(f"{BUCKET}/plans")
        assert "<b>per-minute</b> 600 per minute</li>" in shown
        assert "<b>burst</b> 20 per second at each edge</li>" in shown
        edit = await visitor.open(f"{BUCKET}/plans/{name}/edit")
        assert 'value="burst"' in edit

        # A row that is emptied is gone, wherever it stands.
        typed = rows(PER_MINUTE, BURST)
        typed = {field: ["" if field != "limit_scope" else "global", *values[1:]] for field, values in typed.items()}
        await visitor.send(f"{BUCKET}/plans/{name}/edit", description="", scopes_from="inherited", scopes="", **typed)
        made = await plan_of(shared, name)
        assert (made["description"], made["scopes"], made["rateLimits"]) == (None, None, [BURST])
        # A form that does not ask, as of a page from before an upgrade, changes neither.
        await visitor.send(f"{BUCKET}/plans/{name}/edit", description="Again")
        assert (await plan_of(shared, name))["rateLimits"] == [BURST]

        await visitor.send(f"{BUCKET}/plans/{name}/delete")
        await shared.call("GET", f"{shared.bucket_url}/plans/{name}", expect=404)


async def test_a_plan_in_use_says_so_before_and_when_it_is_deleted(shared: Service) -> None:
    name = new_name()
    await shared.call("POST", f"{shared.bucket_url}/plans", json={"name": name})
    await shared.new_consumer(plan=name)
    async with visiting(shared) as visitor:
        assert "1 consumer has this plan" in await visitor.open(f"{BUCKET}/plans/{name}/edit")
        assert "1 consumer has it" in await visitor.open(f"{BUCKET}/plans/{name}/delete")
        answer = await visitor.send(f"{BUCKET}/plans/{name}/delete", expect=409)
    assert "1 consumer has it" in answer.text
    assert (await plan_of(shared, name))["consumers"] == 1


async def test_a_name_that_is_taken_is_said_beside_it(shared: Service) -> None:
    name = new_name()
    async with visiting(shared) as visitor:
        await visitor.send(f"{BUCKET}/plans/new", name=name, **rows())
        answer = await visitor.send(f"{BUCKET}/plans/new", expect=409, name=name, **rows(BURST))
        assert f"named {name!r} already" in html.unescape(answer.text).partition('id="f-name-error">')[2][:100]
        assert 'value="burst"' in answer.text
        answer = await visitor.send(f"{BUCKET}/plans/new", expect=400, name="Gold!", **rows())
        assert "Must be 1 to 40 characters" in answer.text.partition('id="f-name-error">')[2][:60]


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ((PER_MINUTE | {"name": ""},), "Each limit needs a name"),
        ((PER_MINUTE | {"name": "Per minute"},), "A name must be 1 to 40 characters"),
        ((PER_MINUTE | {"limit": ""},), "The requests of “per-minute” must be a whole number from 1 to 1,000,000,000"),
        ((PER_MINUTE | {"limit": "0"},), "The requests of “per-minute”"),
        ((PER_MINUTE | {"limit": "-1"},), "The requests of “per-minute”"),
        ((PER_MINUTE | {"limit": "²"},), "The requests of “per-minute”"),
        ((PER_MINUTE | {"limit": str(2**63)},), "The requests of “per-minute”"),
        ((PER_MINUTE | {"windowSeconds": "86401"},), "The seconds of “per-minute” must be a whole number from 1 to"),
        ((PER_MINUTE | {"windowSeconds": "9"},), "“per-minute” must have at least 10 seconds, or be counted at each"),
        ((PER_MINUTE | {"scope": "region"},), "“per-minute” must be counted in one of the ways"),
        ((PER_MINUTE, PER_MINUTE), "“per-minute” is repeated"),
        (tuple(PER_MINUTE | {"name": f"n{number}"} for number in range(6)), "Must be at most 5"),
    ],
)
async def test_a_limit_that_breaks_a_rule_is_said_beside_the_rows(
    shared: Service, typed: tuple[dict[str, Any], ...], words: str
) -> None:
    consumer = await shared.new_consumer()
    async with visiting(shared) as visitor:
        for url, more in (
            (f"{BUCKET}/plans/new", {"name": "never-made"}),
            (f"{BUCKET}/consumers/{consumer['name']}/edit", {"limits_from": "own"}),
            (f"{BUCKET}/consumers/{consumer['name']}/keys/new", {"expires": "never"}),
        ):
            answer = await visitor.send(url, expect=400, **more, **rows(*typed, of=max(5, len(typed))))
            _, _, said = html.unescape(answer.text).partition('id="f-limits-error">')
            assert said.startswith(words), said[:200]
    await shared.call("GET", f"{shared.bucket_url}/plans/never-made", expect=404)


async def test_a_consumer_and_its_keys_are_given_plan_and_limits(shared: Service) -> None:
    name, plan = f"limited-{next(_numbers)}", new_name()
    await shared.call("POST", f"{shared.bucket_url}/plans", json={"name": plan, "rateLimits": [PER_MINUTE]})
    url = f"{BUCKET}/consumers/{name}"
    async with visiting(shared) as visitor:
        fields = {"name": name, "plan": plan, "limits_from": "inherited", "expires": "never", "with_key": ""}
        await visitor.send(f"{BUCKET}/consumers/new", **fields, **rows(BURST))
        saved = await shared.call("GET", f"{shared.consumers_url}/{name}")
        assert (saved["plan"], saved["rateLimits"]) == (plan, None)
        shown = await visitor.open(url)
        assert f"<dd>{plan}</dd>" in shown
        assert "s: <ul" in shown
        assert "<b>per-minute</b> 600 per minute</li>" in shown

        await visitor.send(f"{url}/edit", plan="", limits_from="own", **rows())
        saved = await shared.call("GET", f"{shared.consumers_url}/{name}")
        assert (saved["plan"], saved["rateLimits"]) == (None, [])
        assert "No limit" in await visitor.open(url)
        # A form that does not ask changes neither.
        await visitor.send(f"{url}/edit", description="Acme")
        assert (await shared.call("GET", f"{shared.consumers_url}/{name}"))["rateLimits"] == []
        answer = await visitor.send(f"{url}/edit", expect=400, plan="not-there", limits_from="inherited", **rows())
        assert "Is no plan of the bucket" in answer.text

        await visitor.send(f"{url}/keys/new", expect=200, expires="never", **rows(BURST))
        (key,) = (await shared.call("GET", f"{shared.consumers_url}/{name}/keys"))["data"]
        assert key["rateLimits"] == [BURST]
        assert "<b>burst</b> 20 per second at each edge</li>" in await visitor.open(url)
        await visitor.send(f"{url}/keys/{key['id']}/edit", expires="never", **rows())
        (key,) = (await shared.call("GET", f"{shared.consumers_url}/{name}/keys"))["data"]
        assert key["rateLimits"] is None


async def test_who_may_only_read_the_bucket_sees_plans_and_no_way_to_change_them(shared: Service) -> None:
    name = new_name()
    await shared.call("POST", f"{shared.bucket_url}/plans", json={"name": name})
    key = await shared.new_management_key(buckets={shared.bucket: "read"})
    async with visiting(shared, key) as visitor:
        shown = await visitor.open(f"{BUCKET}/plans")
        assert name in shown
        assert "Create plan" not in shown
        assert f"/plans/{name}/" not in shown
        for page in ("new", f"{name}/edit", f"{name}/delete"):
            assert (await visitor.client.get(f"{BUCKET}/plans/{page}")).status_code == 403
