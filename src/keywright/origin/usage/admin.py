"""Usage in the admin portal: a bucket's, with top consumers and keys that nobody uses; and a consumer's."""

from __future__ import annotations

from dataclasses import replace

from fastapi import Response

from keywright.domain.paging import Page
from keywright.origin.consumers import rules as consumers
from keywright.origin.consumers.admin import CONSUMER, path_of
from keywright.origin.consumers.rules import Include
from keywright.origin.keys import rules as keys
from keywright.origin.usage import pictures, rules
from keywright.origin.usage.parameters import UNUSED_DAYS
from keywright.origin.web.admin_layout import BUCKET, bucket_path, get_bucket_layout, render_bucket_page
from keywright.origin.web.request import PageRequest
from keywright.origin.web.routes import GetRoute

TOP = 10
MOST_UNUSED = 50


async def of_bucket(request: PageRequest) -> Response:
    layout = await get_bucket_layout(request)
    work, place = request.work, bucket_path(request)
    usage = await rules.of_bucket(work, *place, pictures.BY_VERDICT)
    top = await rules.of_bucket(work, *place, replace(pictures.TOP_CONSUMERS, page=Page(TOP)))
    since = rules.ago(work.now, UNUSED_DAYS)
    _, unused, total = await keys.list_of_bucket(work, *place, Page(MOST_UNUSED), unused_since=since)
    return await render_bucket_page(
        request,
        "buckets/usage.html",
        layout,
        usage=usage,
        graph=pictures.graph_of(usage, work.now),
        top=top.groups,
        unused=unused,
        unused_total=total,
        unused_days=UNUSED_DAYS,
    )


async def of_consumer(request: PageRequest) -> Response:
    layout = await get_bucket_layout(request)
    work = request.work
    view = await consumers.get(work, path_of(request), Include(keys=True))
    usage = await rules.of_consumer(work, path_of(request), pictures.BY_VERDICT)
    by_key = await rules.of_consumer(work, path_of(request), pictures.BY_KEY)
    by_edge = await rules.of_consumer(work, path_of(request), replace(pictures.BY_VERDICT, by=rules.By.EDGE))
    return await render_bucket_page(
        request,
        "consumers/usage.html",
        layout,
        consumer=view.consumer,
        hints={key.id: key.hint for key in view.keys or ()},
        usage=usage,
        graph=pictures.graph_of(usage, work.now),
        sparks=pictures.sparks_of(by_key, work.now),
        by_key=by_key.groups,
        by_edge=by_edge.groups,
        networks=await rules.of_consumer(work, path_of(request), pictures.BY_ADDRESS)
        if layout.bucket.record_addresses
        else None,
    )


ROUTES = (
    GetRoute(BUCKET + "/usage", of_bucket),
    GetRoute(CONSUMER + "/usage", of_consumer),
)
