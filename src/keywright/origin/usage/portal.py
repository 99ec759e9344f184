"""Usage in the developer portal: of a consumer that the user manages."""

from __future__ import annotations

from fastapi import Response

from keywright.origin.consumers.portal import CONSUMER, title_of
from keywright.origin.self_serve import rules as self_serve
from keywright.origin.usage import pictures, rules
from keywright.origin.web.portal_layout import consumer_ref, consumer_url, render_page, require_sign_in
from keywright.origin.web.request import PageRequest
from keywright.origin.web.routes import GetRoute


async def of_consumer(request: PageRequest) -> Response:
    portal = await require_sign_in(request)
    work = request.work
    bucket, view = await self_serve.get_consumer(work, consumer_ref(request))
    usage = await rules.of_found_consumer(work, bucket, view.consumer.number, pictures.BY_VERDICT)
    by_key = await rules.of_found_consumer(work, bucket, view.consumer.number, pictures.BY_KEY)
    return await render_page(
        request,
        "consumers/usage.html",
        portal,
        view=view,
        title=title_of(view.consumer),
        url=consumer_url(request),
        hints={key.id: key.hint for key in view.keys or ()},
        usage=usage,
        graph=pictures.graph_of(usage, work.now),
        sparks=pictures.sparks_of(by_key, work.now),
        by_key=by_key.groups,
        networks=await rules.of_found_consumer(work, bucket, view.consumer.number, pictures.BY_ADDRESS)
        if bucket.record_addresses
        else None,
    )


ROUTES = (GetRoute(CONSUMER + "/usage", of_consumer),)
