"""Whatever ends something tells whether every edge knows it, and what it ended is ended where it is told so."""

from __future__ import annotations

import re
from typing import Any

import pytest

from keywright.origin.edges import rules as edges
from keywright.origin.edges.rules import Outcome
from keywright.origin.web import admin_layout, form_submission, portal_layout
from support.reports import report_of, tell
from support.service import Service
from support.visitor import ACCOUNT, BUCKET, visiting

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def prepare(service: Service, what: str) -> tuple[str, dict[str, Any], str]:
    """Where the form that ends something is, what is typed into it, and the page that tells of it."""
    consumer = (await service.new_consumer())["name"]
    key = (await service.new_key(consumer))["id"]
    place, name = f"{BUCKET}/consumers/{consumer}", f"ends-{consumer}"
    ways: dict[str, tuple[str, dict[str, Any], str]] = {
        "key": (f"{place}/keys/{key}/revoke", {}, place),
        "roll": (f"{place}/roll", {"expires": "now"}, place),
        "consumer": (f"{place}/delete", {"typed": consumer}, BUCKET),
        "owner key": (f"{BUCKET}/owner-keys/{{id}}/revoke", {}, f"{BUCKET}/owner-keys"),
        "management key": (f"{ACCOUNT}/management-keys/{{id}}/revoke", {}, f"{ACCOUNT}/management-keys"),
        "bucket": (f"{ACCOUNT}/buckets/{name}/delete", {"typed": name}, f"{ACCOUNT}/buckets"),
        "project": (f"{ACCOUNT}/projects/{name}/delete", {"typed": name}, f"{ACCOUNT}/buckets"),
        "sharing": (f"{BUCKET}/sharing/{name}/end", {}, f"{BUCKET}/sharing"),
    }
    made: dict[str, tuple[str, dict[str, Any]]] = {
        "owner key": (f"{service.bucket_url}/owner-keys", {}),
        "management key": (f"{service.account_url}/management-keys", {"permissions": {"account": "read"}}),
        "bucket": (f"{service.account_url}/key-buckets", {"name": name}),
        "project": (f"{service.account_url}/projects", {"name": name}),
        "sharing": (f"{service.bucket_url}/grants", {"account": name, "access": "write"}),
    }
    answer = {"id": ""}
    if what == "sharing":
        await service.call("POST", "/v1/accounts", json={"name": name})
    if what in made:
        url, body = made[what]
        answer = await service.call("POST", url, json=body)
    address, fields, page = ways[what]
    return address.format(id=answer.get("id", "")), fields, page


ENDS = ["key", "roll", "consumer", "owner key", "management key", "bucket", "project", "sharing"]


@pytest.mark.parametrize("what", ENDS)
async def test_the_next_page_tells_how_far_it_has_got(
    shared: Service, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(form_submission, "EDGES_SECONDS", 0.5)
    # However slow this machine is, the edge counts as connected.
    monkeypatch.setattr(edges, "LIVE_SECONDS", 600.0)
    address, fields, page = await prepare(shared, what)
    async with visiting(shared) as visitor:
        fields |= await visitor.hidden(address)
        # An edge far away knows all this, and hears nothing of what comes.
        await tell(shared, report_of(shared, "frankfurt"))
        answer = await visitor.client.post(address, data=fields)
        assert answer.status_code == (200 if what == "roll" else 303)
        (told,) = re.findall(r'<div class="notice warning" role="status"><p>(.*?)</p>', await visitor.open(page))
        # On a slow machine it may not be known who there is, and that is told as well.
        assert "1 of 2 edges have not applied it" in told or "not known yet" in told


OUTCOMES = [Outcome(1, 1), Outcome(2, 2), Outcome(1, 3), Outcome(1, 1, is_known=False)]


@pytest.mark.parametrize(
    ("describe", "words"),
    [
        (
            admin_layout.describe_outcome,
            ["Applied on the edge", "Applied on all edges", "2 of 3 edges have not", "not known yet"],
        ),
        (
            portal_layout.describe_outcome,
            ["effect everywhere", "effect everywhere", "may take a moment", "may take a moment"],
        ),
    ],
    ids=["the team", "end users"],
)
async def test_what_is_not_known_to_hold_everywhere_is_not_said_to(describe: Any, words: list[str]) -> None:
    for outcome, expected in zip(OUTCOMES, words, strict=True):
        assert expected in describe(outcome)
