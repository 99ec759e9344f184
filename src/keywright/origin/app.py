"""The origin's composition root: builds the application from what it is handed. No logic."""

from __future__ import annotations

from dataclasses import replace

from fastapi import FastAPI

from keywright import __version__
from keywright.origin import admin_portal as admin
from keywright.origin import developer_portal as developer
from keywright.origin.accounts import api as accounts
from keywright.origin.accounts import who_am_i_api as who_am_i
from keywright.origin.audit import api as audit
from keywright.origin.branding import api as branding
from keywright.origin.buckets import api as buckets
from keywright.origin.buckets import owner_keys_api as owner_keys
from keywright.origin.consumers import api as consumers
from keywright.origin.consumers import managers_api as managers
from keywright.origin.edges import api as edges
from keywright.origin.feed import http_endpoint as feed_endpoint
from keywright.origin.feed.http_endpoint import FeedEndpoint
from keywright.origin.grants import api as grants
from keywright.origin.keys import api as keys
from keywright.origin.management_keys import api as management_keys
from keywright.origin.openapi import document as openapi
from keywright.origin.pipeline import cors, respond
from keywright.origin.pipeline.services import Services
from keywright.origin.plans import api as plans
from keywright.origin.quotas import api as quotas
from keywright.origin.self_serve import api as self_serve
from keywright.origin.self_serve import quotas_api as self_serve_quotas
from keywright.origin.usage import api as usage
from keywright.origin.web import assets
from keywright.origin.web.reference import public_pages
from keywright.runtime.clock import Clock

NOUNS = (
    who_am_i, accounts, management_keys, buckets, owner_keys, grants, plans, consumers, quotas, keys, usage, managers,
    edges,
    audit, branding, self_serve, self_serve_quotas,
)  # fmt: skip
"""In the order in which the OpenAPI document tells of them."""


def create_app(services: Services, clock: Clock) -> FastAPI:
    """The Developer API, its OpenAPI document at /openapi.json and its reference page at /docs; the portals; the feed.

    The feed is in `state.feed`: whoever runs the application ends its streams with `stop`.
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
    feed = app.state.feed = FeedEndpoint(services, clock)
    # After a commit the readers of the feed are woken first, then whoever runs the application is told.
    app.state.services = replace(services, on_commit=(feed.wake, *services.on_commit))
    respond.install(app, services.client_addresses, services.request_counts)
    cors.install(app, services.cors_origins)
    app.openapi = openapi.document_of(app)  # type: ignore[method-assign]
    for router in (
        *(noun.router for noun in NOUNS),
        public_pages.new_router(app.openapi),
        assets.new_router(),
        admin.new_router(),
        developer.new_router(services),
        feed_endpoint.new_router(),
    ):
        # Their routes as they are. `include_router` would make each of them once more, with all that it validates by,
        # at the first request; and look for the one that a request is for twice.
        app.router.routes.extend(router.routes)
    return app
