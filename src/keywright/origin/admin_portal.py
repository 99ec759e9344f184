"""The admin portal at /admin: the provider's team manages buckets, consumers and keys. A module for each noun."""

from __future__ import annotations

from fastapi import APIRouter

from keywright.origin.accounts import admin as accounts
from keywright.origin.audit import admin as audit_log
from keywright.origin.auth import admin_oidc as oidc
from keywright.origin.auth import admin_sign_in as sign_in
from keywright.origin.buckets import admin as buckets
from keywright.origin.buckets import admin_list as bucket_list
from keywright.origin.consumers import admin as consumers
from keywright.origin.edges import admin as edges
from keywright.origin.keys import admin as keys
from keywright.origin.management_keys import admin as management_keys
from keywright.origin.self_serve import admin as self_serve
from keywright.origin.web import admin_layout
from keywright.origin.web.router import PageRouter


def new_router() -> APIRouter:
    router = PageRouter(
        "admin", "/admin", sign_in.resume, admin_layout.describe_outcome, layout_template="admin/layout.html"
    )
    for noun in (
        sign_in, oidc, accounts, bucket_list, buckets, self_serve, consumers, keys, management_keys, audit_log, edges,
    ):  # fmt: skip
        noun.register(router)
    return router.close()
