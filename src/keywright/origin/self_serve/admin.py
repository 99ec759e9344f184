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
from keywright.origin.web.admin_layout import bucket_page, bucket_url, find_bucket
from keywright.origin.web.forms import Form
from keywright.origin.web.request import Visit
from keywright.origin.web.router import Door

LINK = re.compile(r"(?P<text>.+?)\s*=\s*(?P<url>https?://\S+)")


def register(door: Door) -> None:
    _register_rights(door)
    _register_looks(door)


def _register_rights(door: Door) -> None:
    @door.get(BUCKET + "/self-serve")
    async def rights(visit: Visit) -> Response:
        place = await find_bucket(visit)
        now = place.bucket.self_serve
        form = visit.form.or_of(
            enabled=_tick(now.enabled),
            createConsumers=_tick(now.create_consumers),
            deleteConsumers=_tick(now.delete_consumers),
            createKeys=_tick(now.create_keys),
            maxConsumers=str(now.max_consumers),
            maxKeys=str(now.max_keys),
        )
        return await bucket_page(visit, "buckets/self_serve.html", place, form=form, portal_url=_portal_url(visit))

    @door.post(BUCKET + "/self-serve", form=rights, action="bucket.update")
    async def update(visit: Visit) -> Response:
        form = visit.form
        settings = {
            "enabled": form.is_on("enabled"),
            "create_consumers": form.is_on("createConsumers"),
            "delete_consumers": form.is_on("deleteConsumers"),
            "create_keys": form.is_on("createKeys"),
            "max_consumers": _count(form, "maxConsumers"),
            "max_keys": _count(form, "maxKeys"),
        }
        form.check()
        account, name = visit.at("accountName"), visit.at("bucketName")
        await buckets.update(visit.work, account, name, description=UNSET, tags=UNSET, self_serve=settings)
        text = "What users may do is saved." if settings["enabled"] else "The bucket is closed to users."
        return visit.go(bucket_url(visit, "self-serve"), text)


def _register_looks(door: Door) -> None:
    @door.get(BUCKET + "/portal")
    async def looks(visit: Visit) -> Response:
        place = await find_bucket(visit)
        brand = await branding.of_bucket(visit.work, place.bucket)
        form = visit.form.or_of(
            name=brand.name,
            color=brand.color,
            supportEmail=brand.support_email,
            apiUrl=brand.api_url,
            links=_links_text(brand.links),
        )
        portal_url = _portal_url(visit)
        # The picture is shown from where users see it, which is nowhere while the bucket is closed to them.
        has_picture = brand.logo_digest is not None and place.bucket.self_serve.enabled
        return await bucket_page(
            visit,
            "buckets/portal.html",
            place,
            form=form,
            brand=brand,
            portal_url=portal_url,
            picture_url=f"{portal_url}/logo?v={brand.logo_digest}" if has_picture else "",
            most_bytes=MAX_LOGO_BYTES,
        )

    @door.post(BUCKET + "/portal", form=looks, action="portal.update")
    async def update(visit: Visit) -> Response:
        form = visit.form
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
        await branding.update(visit.work, visit.at("accountName"), visit.at("bucketName"), changes)
        url = _portal_url(visit)
        return visit.go(bucket_url(visit, "portal"), "The portal's looks are saved.", href=url, link="See the portal")


def _portal_url(visit: Visit) -> str:
    return f"/portal/{quote(visit.at('bucketName'), safe='')}"


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
