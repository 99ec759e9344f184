"""Owns the files that pages load: style sheet, script, icon. The address of each holds the hash of its bytes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import APIRouter, Request, Response

from keywright.domain.problems import NotFound

HERE = Path(__file__).parent
ASSETS_URL = "/assets/"
MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "public, max-age=31536000, immutable",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file that pages load. Its address changes with its bytes, so that it can be kept for ever."""

    url: str
    media_type: str
    body: bytes


@cache
def load() -> dict[str, Asset]:
    """By file name."""
    assets = {}
    for path in sorted((HERE / "static").iterdir()):
        if path.suffix in MEDIA_TYPES:
            body = path.read_bytes()
            digest = hashlib.sha256(body).hexdigest()[:16]
            assets[path.name] = Asset(f"{ASSETS_URL}{path.stem}.{digest}{path.suffix}", MEDIA_TYPES[path.suffix], body)
    return assets


def urls() -> dict[str, str]:
    return {name: asset.url for name, asset in load().items()}


def new_router() -> APIRouter:
    by_url = {asset.url: asset for asset in load().values()}

    async def asset(request: Request) -> Response:
        found = by_url.get(ASSETS_URL + request.path_params["name"])
        if found is None:
            raise NotFound("There is nothing at this address.")
        return Response(found.body, media_type=found.media_type, headers=HEADERS)

    router = APIRouter()
    router.add_route(ASSETS_URL + "{name:path}", asset, methods=["GET"], include_in_schema=False)
    return router
