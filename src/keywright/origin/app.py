"""The origin's composition root: builds the application from what it is handed. No logic."""

from __future__ import annotations

from fastapi import FastAPI

from keywright import __version__
from keywright.origin import http
from keywright.origin.api import accounts, audit, buckets, consumers, keys, managers, openapi
from keywright.origin.http import Services
from keywright.origin.portal import reference


def create_app(services: Services) -> FastAPI:
    """The Developer API, its OpenAPI document at /openapi.json and its reference page at /docs."""
    app = FastAPI(
        title="Keywright Developer API",
        version=__version__,
        description=openapi.DESCRIPTION,
        openapi_tags=openapi.TAGS,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.services = services
    http.install(app)
    for noun in (accounts, buckets, consumers, keys, managers, audit):
        app.include_router(noun.router)
    app.openapi = openapi.document_of(app)  # type: ignore[method-assign]
    app.include_router(reference.new_router(app.openapi))
    return app
