"""The logo of a portal and its colours, as files of our own: no page asks another host, none has styles of its own."""

from __future__ import annotations

from fastapi import Response

from keywright.domain.problems import NotFound
from keywright.origin.branding.contrast import palette_of
from keywright.origin.web.assets import HEADERS
from keywright.origin.web.portal_layout import get_portal
from keywright.origin.web.request import PageRequest
from keywright.origin.web.routes import GetRoute


async def logo(request: PageRequest) -> Response:
    brand = (await get_portal(request)).brand
    if brand.logo is None:
        raise NotFound("This portal has no logo.")
    return Response(brand.logo, media_type=brand.logo_type, headers=HEADERS)


async def colours(request: PageRequest) -> Response:
    brand = (await get_portal(request)).brand
    return Response(_style(brand.color), media_type="text/css", headers=HEADERS)


def _style(colour: str | None) -> str:
    if colour is None:
        return ""
    found = palette_of(colour)
    return (
        f":root {{ --accent: light-dark({found.light}, {found.dark}); "
        f"--button: {found.button}; --button-hover: {found.button_hover}; }}\n"
    )


ROUTES = (
    GetRoute("/logo", logo, is_open=True),
    GetRoute("/colors.css", colours, is_open=True),
)
