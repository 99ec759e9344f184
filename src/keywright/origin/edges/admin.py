"""Edges of an account: who follows, and how far behind each may be."""

from __future__ import annotations

from datetime import timedelta

from fastapi import Response

from keywright.domain.models import from_millis
from keywright.origin.web.admin_layout import page
from keywright.origin.web.paging import links, page_at
from keywright.origin.web.request import Visit
from keywright.origin.web.router import Door

PAGE_SIZE = 100


def register(door: Door) -> None:
    @door.get("/accounts/{accountName}/edges")
    async def edges(visit: Visit) -> Response:
        part = page_at(visit, PAGE_SIZE)
        found, total = await visit.edges.list_of(visit.work, visit.at("accountName"), part)
        rows = [
            {
                "report": one.report,
                "is_connected": one.is_connected,
                "seen_at": visit.work.now - timedelta(seconds=one.age),
                "since": from_millis(one.report.since),
                "lag": None if one.report.lag is None else one.report.lag / 1000 + one.age,
            }
            for one in found
        ]
        return await page(visit, "edges.html", found=rows, pages=links(visit, part, total))
