"""Edges of an account: who follows, and how far behind each may be."""

from __future__ import annotations

from datetime import timedelta

from fastapi import Response

from keywright.domain.models import from_millis
from keywright.origin.web.admin_layout import ACCOUNT, render_page
from keywright.origin.web.paging import offset_links, offset_page
from keywright.origin.web.request import PageRequest
from keywright.origin.web.routes import GetRoute

PAGE_SIZE = 100


async def edges(request: PageRequest) -> Response:
    part = offset_page(request, PAGE_SIZE)
    found, total = await request.edges.list_of(request.work, request.path_param("accountName"), part)
    rows = [
        {
            "report": one.report,
            "is_connected": one.is_connected,
            "seen_at": request.work.now - timedelta(seconds=one.age),
            "since": from_millis(one.report.since),
            "lag": None if one.report.lag is None else one.report.lag / 1000 + one.age,
        }
        for one in found
    ]
    return await render_page(request, "edges.html", found=rows, pages=offset_links(request, part, total))


ROUTES = (GetRoute(ACCOUNT + "/edges", edges),)
