"""The origin's composition root: builds the application from what it is handed. No logic."""

from __future__ import annotations

from dataclasses import replace

from fastapi import FastAPI

from keywright import __version__
from keywright.origin import http
from keywright.origin.api import (
    accounts,
    audit,
    buckets,
    consumers,
    edges,
    keys,
    managers,
    openapi,
    portals,
    self_serve,
)
from keywright.origin.feed.door import FeedDoor
from keywright.origin.http import Services, cors
from keywright.origin.portal import admin, assets, developer, reference


def create_app(services: Services) -> FastAPI:
    """The Developer API, its OpenAPI document at /openapi.json and its reference page at /docs; the portals; the feed.

    The feed's door is in `state.feed`: whoever runs the application ends its streams with `stop`.
    """
    app = FastAPI(
        title="Keywright Developer API",
        version=__version__,
        description=openapi.DESCRIPTION,
        openapi_tags=openapi.TAGS,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    feed = app.state.feed = FeedDoor(services)
    app.state.services = replace(services, bell=feed.before(services.bell))
    http.install(app)
    cors.install(app, services.cors_origins)
    for noun in (accounts, buckets, consumers, keys, managers, edges, audit, portals, self_serve):
        app.include_router(noun.router)
    app.openapi = openapi.document_of(app)  # type: ignore[method-assign]
    app.include_router(reference.new_router(app.openapi))
    app.include_router(assets.new_router())
    app.include_router(admin.new_router())
    app.include_router(developer.new_router(services))
    app.include_router(feed.router)
    return app
