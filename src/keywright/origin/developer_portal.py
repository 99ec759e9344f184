"""The developer portal at /portal/{bucketName}, for end users: puts the pages of all nouns together."""

from __future__ import annotations

from fastapi import APIRouter

from keywright.origin.auth import portal_oidc, portal_sign_in
from keywright.origin.branding import portal as branding
from keywright.origin.consumers import managers_portal as managers
from keywright.origin.consumers import portal as consumers
from keywright.origin.keys import portal as keys
from keywright.origin.pipeline.services import Services
from keywright.origin.usage import portal as usage
from keywright.origin.web import portal_layout
from keywright.origin.web.router import PageRouter

ROUTES = (
    *portal_sign_in.ROUTES,
    *branding.ROUTES,
    *consumers.ROUTES,
    *keys.ROUTES,
    *usage.ROUTES,
    *managers.ROUTES,
)


def new_router(services: Services) -> APIRouter:
    """The pages; those of the identity provider only where users sign in with one."""
    has_provider = services.end_users is not None and services.end_users.client is not None
    return PageRouter(
        "portal",
        "/portal/{bucketName}",
        portal_layout.resume,
        portal_layout.describe_outcome,
        (*ROUTES, *portal_oidc.ROUTES) if has_provider else ROUTES,
        admission=portal_layout.may_send,
        layout_template="developer/layout.html",
        frame_of=portal_layout.frame_of,
    ).router
