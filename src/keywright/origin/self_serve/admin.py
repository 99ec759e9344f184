"""What end users of a bucket may do by themselves, and how their portal looks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from fastapi import Response

from keywright.domain.text import EMAIL_LENGTH
from keywright.origin.branding import rules as branding
from keywright.origin.branding.rules import LINK_LENGTH, MAX_LOGO_BYTES, MOST_LINKS, NAME_LENGTH, URL_LENGTH, Link
from keywright.origin.buckets import rules as buckets
from keywright.origin.buckets.admin import BUCKET
from keywright.origin.buckets.rules import MAX_SELF_SERVE_COUNT
from keywright.origin.pipeline.unit_of_work import UNSET
from keywright.origin.web.admin_layout import bucket_url, get_bucket_layout, render_bucket_page
from keywright.origin.web.forms import Form
from keywright.origin.web.request import PageRequest
from keywright.origin.web.router import PageRouter

LINK = re.compile(r"(?P<text>.+?)\s*=\s*(?P<url>https?://\S+)")


def register(router: PageRouter) -> None:
    _register_rights(router)
    _register_looks(router)


def _register_rights(router: PageRouter) -> None:
    @router.get(BUCKET + "/self-serve")
    async def rights(request: PageRequest) -> Response:
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
            request, "buckets/self_serve.html", layout, form=form, portal_url=_portal_url(request)
        )

    @router.post(BUCKET + "/self-serve", form=rights, action="bucket.update")
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
        account, name = request.path_param("accountName"), request.path_param("bucketName")
        await buckets.update(request.work, account, name, description=UNSET, tags=UNSET, self_serve=settings)
        text = "What users may do is saved." if settings["enabled"] else "The bucket is closed to users."
        return request.redirect(bucket_url(request, "self-serve"), text)


def _register_looks(router: PageRouter) -> None:
    @router.get(BUCKET + "/portal")
    async def looks(request: PageRequest) -> Response:
        layout = await get_bucket_layout(request)
        brand = await branding.of_bucket(request.work, layout.bucket)
        form = request.form.or_initial(
            name=brand.name,
            color=brand.color,
            supportEmail=brand.support_email,
            apiUrl=brand.api_url,
            links=_links_text(brand.links),
        )
        portal_url = _portal_url(request)
        # The picture is shown from where users see it, which is nowhere while the bucket is closed to them.
        has_picture = brand.logo_digest is not None and layout.bucket.self_serve.enabled
        return await render_bucket_page(
            request,
            "buckets/portal.html",
            layout,
            form=form,
            brand=brand,
            portal_url=portal_url,
            picture_url=f"{portal_url}/logo?v={brand.logo_digest}" if has_picture else "",
            most_bytes=MAX_LOGO_BYTES,
        )

    @router.post(BUCKET + "/portal", form=looks, action="portal.update")
    async def update(request: PageRequest) -> Response:
        form = request.form
        changes: dict[str, Any] = {
            "name": form.line("name", most=NAME_LENGTH),
            "color": form.line("color", most=7),
            "support_email": form.line("supportEmail", most=EMAIL_LENGTH),
            "api_url": form.line("apiUrl", most=URL_LENGTH),
            "links": _links(form),
        }
        if form.is_on("removeLogo"):
            changes["logo"] = None
        elif form.get("logo"):
            changes["logo"] = form.get("logo")
        form.check()
        await branding.update(
            request.work, request.path_param("accountName"), request.path_param("bucketName"), changes
        )
        url = _portal_url(request)
        return request.redirect(
            bucket_url(request, "portal"), "The portal's looks are saved.", href=url, link="See the portal"
        )


def _portal_url(request: PageRequest) -> str:
    return f"/portal/{quote(request.path_param('bucketName'), safe='')}"


def _tick(is_on: bool) -> str:
    return "on" if is_on else ""


def _count(form: Form, name: str) -> int | None:
    count = form.whole(name, least=1, most=MAX_SELF_SERVE_COUNT)
    if count is None:
        form.fail(name, "is required")
    return count


def _links(form: Form) -> list[dict[str, str]]:
    """`Documentation=https://...` on each line."""
    links = []
    for line in filter(None, map(str.strip, form.get("links").splitlines())):
        found = LINK.fullmatch(line)
        if found is None:
            form.fail("links", "must be written words=address, with an address such as https://example.com/docs")
        elif len(found["text"]) > LINK_LENGTH:
            form.fail("links", f"the words of a link must have at most {LINK_LENGTH} characters")
        else:
            links.append(found.groupdict())
    if len(links) > MOST_LINKS:
        form.fail("links", f"must be at most {MOST_LINKS}")
    return links


def _links_text(links: Sequence[Link]) -> str:
    return "\n".join(f"{link.text}={link.url}" for link in links)
