"""The developer portal at /portal/{bucketName}: end users look after their own keys. A module for each noun."""

from __future__ import annotations

from fastapi import APIRouter

from keywright.origin.auth import portal_sign_in as sign_in
from keywright.origin.branding import portal as brand
from keywright.origin.consumers import managers_portal as managers
from keywright.origin.consumers import portal as consumers
from keywright.origin.keys import portal as keys
from keywright.origin.pipeline.route import Services
from keywright.origin.web import portal_layout
from keywright.origin.web.router import PageRouter


def new_router(services: Services) -> APIRouter:
    router = PageRouter(
        "portal",
        "/portal/{bucketName}",
        portal_layout.resume,
        portal_layout.describe_outcome,
        layout_template="developer/layout.html",
    )
    sign_in.register(router, services)
    for noun in (brand, consumers, keys, managers):
        noun.register(router)
    return router.close()
