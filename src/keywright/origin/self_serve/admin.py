"""What end users of a bucket may do by themselves."""

from __future__ import annotations

from fastapi import Response

from keywright.domain.unset import UNSET
from keywright.origin.buckets import rules as buckets
from keywright.origin.buckets.access import may_write_own_bucket
from keywright.origin.buckets.rules import MAX_SELF_SERVE_COUNT
from keywright.origin.web.admin_layout import (
    BUCKET,
    bucket_path,
    bucket_url,
    developer_portal_url,
    get_bucket_layout,
    render_bucket_page,
)
from keywright.origin.web.forms import Form
from keywright.origin.web.request import PageRequest
from keywright.origin.web.routes import GetRoute, PostRoute


async def settings_page(request: PageRequest) -> Response:
    layout = await get_bucket_layout(request)
    now = layout.bucket.self_serve
    form = request.form.or_initial(
        enabled=_tick(now.enabled),
        createConsumers=_tick(now.create_consumers),
        deleteConsumers=_tick(now.delete_consumers),
        createKeys=_tick(now.create_keys),
        maxConsumers=str(now.max_consumers),
        maxKeys=str(now.max_keys),
    )
    return await render_bucket_page(
        request, "buckets/self_serve.html", layout, form=form, portal_url=developer_portal_url(request)
    )


async def update(request: PageRequest) -> Response:
    form = request.form
    settings = {
        "enabled": form.is_on("enabled"),
        "create_consumers": form.is_on("createConsumers"),
        "delete_consumers": form.is_on("deleteConsumers"),
        "create_keys": form.is_on("createKeys"),
        "max_consumers": _count(form, "maxConsumers"),
        "max_keys": _count(form, "maxKeys"),
    }
    form.check()
    await buckets.update(request.work, *bucket_path(request), description=UNSET, tags=UNSET, self_serve=settings)
    text = "Settings saved." if settings["enabled"] else "Settings saved. Self-serve is off."
    return request.redirect(bucket_url(request, "self-serve"), text)


def _tick(is_on: bool) -> str:
    return "on" if is_on else ""


def _count(form: Form, name: str) -> int | None:
    count = form.whole(name, least=1, most=MAX_SELF_SERVE_COUNT)
    if count is None:
        form.fail(name, "is required")
    return count


ROUTES = (
    GetRoute(BUCKET + "/self-serve", settings_page),
    PostRoute(
        BUCKET + "/self-serve", update, form=settings_page, action="bucket.update", admission=may_write_own_bucket
    ),
)
