"""The logo of a portal and its colours, as files of our own: no page asks another host, none has styles of its own."""

from __future__ import annotations

from fastapi import Response

from keywright.domain.problems import NotFound
from keywright.origin.branding.contrast import palette_of
from keywright.origin.web import portal_layout
from keywright.origin.web.assets import HEADERS
from keywright.origin.web.request import PageRequest
from keywright.origin.web.router import PageRouter


def register(router: PageRouter) -> None:
    @router.get("/logo", is_open=True)
    async def logo(request: PageRequest) -> Response:
        brand = (await portal_layout.get_portal(request)).brand
        if brand.logo is None:
            raise NotFound("This portal has no logo.")
        return Response(brand.logo, media_type=brand.logo_type, headers=HEADERS)

    @router.get("/colors.css", is_open=True)
    async def colours(request: PageRequest) -> Response:
        brand = (await portal_layout.get_portal(request)).brand
        return Response(_style(brand.color), media_type="text/css", headers=HEADERS)


def _style(colour: str | None) -> str:
    if colour is None:
        return ""
    found = palette_of(colour)
    return (
        f":root {{ --accent: light-dark({found.light}, {found.dark}); "
        f"--button: {found.button}; --button-hover: {found.button_hover}; }}\n"
    )
