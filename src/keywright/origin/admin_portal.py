"""The admin portal at /admin, for the provider's team: puts the pages of all nouns together."""

from __future__ import annotations

from fastapi import APIRouter

from keywright.origin.accounts import admin as accounts
from keywright.origin.accounts import projects_admin as projects
from keywright.origin.audit import admin as audit_log
from keywright.origin.auth import admin_oidc, admin_sign_in
from keywright.origin.branding import admin as branding
from keywright.origin.buckets import admin as buckets
from keywright.origin.buckets import admin_list as bucket_list
from keywright.origin.buckets import owner_keys_admin as owner_keys
from keywright.origin.consumers import admin as consumers
from keywright.origin.consumers import managers_admin as managers
from keywright.origin.edges import admin as edges
from keywright.origin.keys import admin as keys
from keywright.origin.management_keys import admin as management_keys
from keywright.origin.plans import admin as plans
from keywright.origin.quotas import admin as quotas
from keywright.origin.self_serve import admin as self_serve
from keywright.origin.usage import admin as usage
from keywright.origin.web import admin_layout
from keywright.origin.web.router import PageRouter

ROUTES = (
    *admin_sign_in.ROUTES,
    *admin_oidc.ROUTES,
    *accounts.ROUTES,
    *projects.ROUTES,
    *bucket_list.ROUTES,
    *buckets.ROUTES,
    *owner_keys.ROUTES,
    *self_serve.ROUTES,
    *branding.ROUTES,
    *plans.ROUTES,
    *consumers.ROUTES,
    *quotas.ROUTES,
    *managers.ROUTES,
    *keys.ROUTES,
    *usage.ROUTES,
    *management_keys.ROUTES,
    *audit_log.ROUTES,
    *edges.ROUTES,
)


def new_router() -> APIRouter:
    return PageRouter(
        "admin",
        "/admin",
        admin_sign_in.resume,
        admin_layout.describe_outcome,
        ROUTES,
        admission=admin_layout.may_send,
        layout_template="admin/layout.html",
    ).router
