"""Edges of an account: who follows, how far behind each may be, and retiring one that is gone."""

from __future__ import annotations

from datetime import timedelta

from fastapi import Response

from keywright.domain.models import from_millis
from keywright.origin.edges import fleet
from keywright.origin.edges.rules import Reported
from keywright.origin.web.admin_layout import (
    ACCOUNT,
    MAY_NOT_WRITE_ACCOUNT,
    account_url,
    load_layout,
    render_confirmation,
    render_page,
    require,
)
from keywright.origin.web.paging import offset_links, offset_page
from keywright.origin.web.request import PageRequest
from keywright.origin.web.routes import GetRoute, PostRoute

PAGE_SIZE = 100
WRONG_CLOCK_MILLIS = 2000


async def edges(request: PageRequest) -> Response:
    part = offset_page(request, PAGE_SIZE)
    may_write = (await load_layout(request)).may_write
    found, total = await fleet.list_of(request.work, request.edges, request.path_param("accountName"), part)
    rows = [
        {
            "report": one.report,
            "is_connected": one.is_connected,
            "seen_at": request.work.now - timedelta(seconds=one.age),
            "since": from_millis(one.report.since),
            "lag": None if one.report.lag is None else one.report.lag / 1000 + one.age,
            "may_retire": may_write and fleet.may_retire(request.work, request.edges, one),
            "wrong_clock": _wrong_clock(one.report.clock_offset),
            "misses_powers": one.misses_powers,
        }
        for one in found
    ]
    return await render_page(request, "edges.html", found=rows, pages=offset_links(request, part, total))


async def ask_retire(request: PageRequest) -> Response:
    require((await load_layout(request)).may_write, MAY_NOT_WRITE_ACCOUNT)
    edge = await _get_edge(request)
    lines = ["Changes no longer wait for it. Retire an edge only when it is gone for good."]
    if edge.is_connected:
        lines.append(
            f"It was last seen {edge.age:.0f} seconds ago. If it is still running, it comes back: stop it first."
        )
    else:
        lines.append("If it is still running somewhere, cut off, it may go on accepting keys that are revoked.")
    return await render_confirmation(
        request,
        heading=f"Retire edge {edge.report.name}",
        lines=lines,
        button="Retire edge",
        back=_edges_url(request),
    )


async def retire(request: PageRequest) -> Response:
    name = request.path_param("accountName")
    gone = await fleet.retire(request.work, request.edges, name, request.path_param("edgeId"))
    return request.redirect(_edges_url(request), f"Edge {gone.report.name} retired.")


async def _get_edge(request: PageRequest) -> Reported:
    account, instance = request.path_param("accountName"), request.path_param("edgeId")
    return await fleet.get_retirable(request.work, request.edges, account, instance)


def _edges_url(request: PageRequest) -> str:
    return account_url(request, request.path_param("accountName"), "edges")


def _wrong_clock(offset: int | None) -> str | None:
    """What is said of a clock that differs from the origin's; nothing of one that hardly does."""
    if offset is None or abs(offset) < WRONG_CLOCK_MILLIS:
        return None
    return f"Clock {abs(offset) / 1000:.0f} s {'behind' if offset < 0 else 'ahead'}"


ROUTES = (
    GetRoute(ACCOUNT + "/edges", edges),
    GetRoute(ACCOUNT + "/edges/{edgeId}/retire", ask_retire),
    PostRoute(ACCOUNT + "/edges/{edgeId}/retire", retire, form=ask_retire, action="edge.retire"),
)
