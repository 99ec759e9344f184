"""The developer portal at /portal/{bucketName}: end users look after their own keys. A module for each noun."""

from __future__ import annotations

from fastapi import APIRouter

from keywright.origin.http import Services
from keywright.origin.portal.developer import brand, consumers, frame, keys, managers, sign_in
from keywright.origin.portal.door import Door


def new_router(services: Services) -> APIRouter:
    door = Door("portal", "/portal/{bucketName}", frame.resume, frame.applied, layout="developer/frame.html")
    sign_in.register(door, services)
    for noun in (brand, consumers, keys, managers):
        noun.register(door)
    return door.close()
