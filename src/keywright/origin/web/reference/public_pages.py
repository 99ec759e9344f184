"""Owns the pages that tell what this service is: the landing page at / and the reference of the Developer API at /docs.

Both are rendered here from our own OpenAPI document. They load nothing but their own style sheet and icon, run no
script and name no other host, so that they work wherever the service does. Operations are read in operations.py,
schemas in schemas.py. Light or dark is as the reader chose in a portal.
"""

from __future__ import annotations

import hashlib
import re
from asyncio import to_thread
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from fastapi import APIRouter, Request, Response

from keywright.origin.web import cookies, rendering

SECURITY = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
}

# The ids that templates/reference.html uses itself.
ANCHORS = ("content", "start", "authentication", "errors", "paging", "menu")

_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252})|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?")
# Stands in a rendered page for what differs from request to request: pages are rendered once, whoever asks.
_BASE_URL = "http://base-url.invalid"
_DEFAULT_BASE_URL = "http://127.0.0.1:8080"


@dataclass(frozen=True, slots=True)
class RenderedPage:
    """A rendered page, whose examples lead to `_BASE_URL` until it is answered."""

    body: bytes
    digest: str
    base_url: str
    """Where the document says that its service is; empty if it is wherever the page is asked for."""


def new_router(document: Callable[[], Mapping[str, Any]]) -> APIRouter:
    """The routes of the pages; `document` gives the OpenAPI document, and is called at the first request."""

    @cache
    def render(template: str) -> RenderedPage:
        return _render(template, document())

    async def page(request: Request, template: str) -> Response:
        # In a thread: validations go on while the template engine is loaded and the page is made.
        found = await to_thread(render, template)
        base_url = found.base_url or base_url_of(request)
        theme = cookies.theme_of(request)
        etag = f'"{found.digest}-{hashlib.sha256(f"{base_url} {theme}".encode()).hexdigest()[:8]}"'
        headers = {**SECURITY, "Cache-Control": "no-cache", "ETag": etag, "Vary": "Cookie"}
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        body = found.body.replace(_BASE_URL.encode(), base_url.encode())
        if theme != "system":
            body = body.replace(b'<html lang="en">', f'<html lang="en" data-theme="{theme}">'.encode(), 1)
        return Response(body, media_type="text/html", headers=headers)

    async def landing(request: Request) -> Response:
        return await page(request, "public/landing.html")

    async def reference(request: Request) -> Response:
        return await page(request, "public/reference.html")

    async def portals(request: Request) -> Response:
        return await page(request, "public/portal.html")

    router = APIRouter()
    # Plain routes: no transaction, no actor, no place in the schema. Those of GET answer HEAD, too.
    router.add_route("/", landing, methods=["GET"], include_in_schema=False)
    router.add_route("/portal", portals, methods=["GET"], include_in_schema=False)
    router.add_route("/docs", reference, methods=["GET"], include_in_schema=False)
    return router


def base_url_of(request: Request) -> str:
    """The address that a page was asked at: the examples on it lead there. Nothing in it needs to be escaped."""
    host = request.headers.get("host", "")
    if not _HOST.fullmatch(host):
        return _DEFAULT_BASE_URL
    # No example may send the reader's key without TLS.
    return f"{'https' if cookies.is_secure(request) else 'http'}://{host.lower()}"


def _render(template: str, document: Mapping[str, Any]) -> RenderedPage:
    # Only who reads a page pays for what makes it.
    from keywright.origin.web.reference import operations

    model = operations.read(document, base_url=_BASE_URL, anchors=ANCHORS)
    body = rendering.environment().get_template(template).render(reference=model, base_url=_BASE_URL).encode()
    return RenderedPage(body, hashlib.sha256(body).hexdigest()[:32], model.server)
