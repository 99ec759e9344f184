"""The origin's composition root: builds the application from what it is handed. No logic."""

from __future__ import annotations

from dataclasses import replace

from fastapi import FastAPI

from keywright import __version__
from keywright.origin import http
from keywright.origin.api import accounts, audit, buckets, consumers, edges, keys, managers, openapi
from keywright.origin.feed.door import FeedDoor
from keywright.origin.http import Services
from keywright.origin.portal import reference


def create_app(services: Services) -> FastAPI:
    """The Developer API, its OpenAPI document at /openapi.json and its reference page at /docs; the feed of the edges.

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
    for noun in (accounts, buckets, consumers, keys, managers, edges, audit):
        app.include_router(noun.router)
    app.openapi = openapi.document_of(app)  # type: ignore[method-assign]
    app.include_router(reference.new_router(app.openapi))
    app.include_router(feed.router)
    return app
