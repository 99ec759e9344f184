"""The admin portal at /admin: the provider's team manages buckets, consumers and keys. A module for each noun."""

from __future__ import annotations

from fastapi import APIRouter

from keywright.origin.portal.admin import sign_in
from keywright.origin.portal.door import Door


def new_router() -> APIRouter:
    door = Door("admin", "/admin", sign_in.resume)
    for noun in (sign_in,):
        noun.register(door)
    return door.close()
