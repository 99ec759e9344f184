"""The admin portal at /admin: the provider's team manages buckets, consumers and keys. A module for each noun."""

from __future__ import annotations

from fastapi import APIRouter

from keywright.origin.portal.admin import (
    accounts,
    audit_log,
    bucket_list,
    buckets,
    consumers,
    edges,
    frame,
    keys,
    management_keys,
    oidc,
    self_serve,
    sign_in,
)
from keywright.origin.portal.door import Door


def new_router() -> APIRouter:
    door = Door("admin", "/admin", sign_in.resume, frame.applied, layout="admin/frame.html")
    for noun in (
        sign_in, oidc, accounts, bucket_list, buckets, self_serve, consumers, keys, management_keys, audit_log, edges,
    ):  # fmt: skip
        noun.register(door)
    return door.close()
