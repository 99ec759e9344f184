"""How the developer portal of a bucket looks: its name, colour, logo, links and addresses."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from fastapi import Response

from keywright.domain.text import EMAIL_LENGTH
from keywright.origin.branding import rules as branding
from keywright.origin.branding.rules import LINK_LENGTH, MAX_LOGO_BYTES, MOST_LINKS, NAME_LENGTH, URL_LENGTH, Link
from keywright.origin.buckets.access import may_write_own_bucket
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

LINK = re.compile(r"(?P<text>.+?)\s*=\s*(?P<url>https?://\S+)")


async def branding_page(request: PageRequest) -> Response:
    layout = await get_bucket_layout(request)
    brand = await branding.of_bucket(request.work, layout.bucket)
    form = request.form.or_initial(
        name=brand.name,
        color=brand.color,
        supportEmail=brand.support_email,
        apiUrl=brand.api_url,
        links=_links_text(brand.links),
    )
    portal_url = developer_portal_url(request)
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
    await branding.update(request.work, *bucket_path(request), changes)
    url = developer_portal_url(request)
    return request.redirect(bucket_url(request, "portal"), "Branding saved.", href=url, link="View portal")


def _links(form: Form) -> list[dict[str, str]]:
    """`Documentation=https://...` on each line."""
    links = []
    for line in filter(None, map(str.strip, form.get("links").splitlines())):
        found = LINK.fullmatch(line)
        if found is None:
            form.fail("links", "must be text=URL, such as Docs=https://example.com/docs")
        elif len(found["text"]) > LINK_LENGTH:
            form.fail("links", f"the text of a link must have at most {LINK_LENGTH} characters")
        else:
            links.append(found.groupdict())
    if len(links) > MOST_LINKS:
        form.fail("links", f"must be at most {MOST_LINKS}")
    return links


def _links_text(links: Sequence[Link]) -> str:
    return "\n".join(f"{link.text}={link.url}" for link in links)


ROUTES = (
    GetRoute(BUCKET + "/portal", branding_page),
    PostRoute(BUCKET + "/portal", update, form=branding_page, action="portal.update", admission=may_write_own_bucket),
)
