"""Adding to a consumer's quota in the admin portal."""

from __future__ import annotations

from fastapi import Response

from keywright.domain.problems import NotFound
from keywright.origin.consumers.admin import CONSUMER, consumer_url, path_of
from keywright.origin.quotas import rules
from keywright.origin.quotas.fields import read_units
from keywright.origin.web.admin_layout import MAY_NOT_WRITE, get_bucket_layout, render_bucket_page, require
from keywright.origin.web.request import PageRequest
from keywright.origin.web.routes import GetRoute, PostRoute

TOP_UP = CONSUMER + "/quotas/{quotaName}/top-up"


async def ask_top_up(request: PageRequest) -> Response:
    layout = await get_bucket_layout(request)
    require(layout.may_write, MAY_NOT_WRITE)
    name = request.path_param("quotaName")
    views = await rules.list_of(request.work, path_of(request))
    view = next((one for one in views if one.quota.name == name), None)
    if view is None:
        raise NotFound("The consumer has no such quota.")
    # Drawn with the page: however often its form is sent, it adds once.
    form = request.form.or_initial(idempotency_key=f"portal-{request.work.dependencies.random_bytes(12).hex()}")
    consumer = path_of(request).consumer_name
    return await render_bucket_page(
        request, "consumers/top_up.html", layout, form=form, view=view, consumer_name=consumer
    )


async def top_up(request: PageRequest) -> Response:
    form = request.form
    units, key = read_units(form, "units"), form.get("idempotency_key")
    form.check()
    name = request.path_param("quotaName")
    await rules.top_up(request.work, path_of(request), name, units=units, idempotency_key=key)
    return request.redirect(consumer_url(request), f"{units:,} units added to {name}.")


ROUTES = (
    GetRoute(TOP_UP, ask_top_up),
    PostRoute(TOP_UP, top_up, form=ask_top_up, action="quota.top-up"),
)
