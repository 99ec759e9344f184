"""Owns what stands around every page of a developer portal: the bucket, its owner's brand, and who is signed in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fastapi import Request, Response

from keywright.domain.models import Bucket
from keywright.domain.problems import Unauthorized
from keywright.origin.auth import sessions
from keywright.origin.auth.actors import Actor
from keywright.origin.auth.end_users import EndUser
from keywright.origin.auth.sessions import Session
from keywright.origin.branding import rules as branding
from keywright.origin.branding.rules import Branding
from keywright.origin.db.transaction import Transaction
from keywright.origin.edges.rules import Outcome
from keywright.origin.pipeline.services import Services
from keywright.origin.self_serve import rules as self_serve
from keywright.origin.self_serve.rules import ConsumerRef
from keywright.origin.web.request import Visit

PORTAL = "portal"


@dataclass(frozen=True, slots=True)
class Place:
    """The portal that a page belongs to. `name` is how it calls itself."""

    bucket: Bucket
    brand: Branding
    name: str


async def resume(tx: Transaction, token: str, request: Request, is_held: bool) -> tuple[Session, Actor] | None:
    services: Services = request.app.state.services
    session = await sessions.find(tx, services.dependencies, PORTAL, token)
    if session is None or session.sub is None or session.email is None:
        return None
    return session, EndUser(session.sub, session.email, session.connection).to_actor()


def applied(outcome: Outcome) -> str:
    """As users see it, who know nothing of edges."""
    if outcome.is_reached:
        return "That holds everywhere from now on."
    return "Not every place where keys are checked has heard of it yet: that may take a moment."


async def look(visit: Visit) -> Place:
    """The portal in the address, for anybody. Raises NotFound."""
    bucket = await self_serve.get_bucket(visit.work, visit.at("bucketName"))
    brand = await branding.of_bucket(visit.work, bucket)
    return Place(bucket, brand, brand.name or bucket.name)


def is_signed_in(visit: Visit, place: Place) -> bool:
    """Whether the session was begun in this portal: one is good for one bucket."""
    return visit.session is not None and visit.session.bucket_number == place.bucket.number


async def enter(visit: Visit) -> Place:
    """The portal in the address, for who is signed in to it. Raises NotFound and Unauthorized."""
    place = await look(visit)
    if not is_signed_in(visit, place):
        raise Unauthorized("You are not signed in to this portal.")
    return place


async def page(visit: Visit, template: str, place: Place, /, **values: Any) -> Response:
    return await visit.page(f"developer/{template}", place=place, brand=place.brand, **values)


async def confirm(visit: Visit, place: Place, *, heading: str, lines: Sequence[str], button: str) -> Response:
    """Asks once more before what can't be taken back."""
    return await visit.page(
        "confirm.html",
        place=place,
        brand=place.brand,
        heading=heading,
        lines=lines,
        button=button,
        back=consumer_url(visit),
        typed="",
    )


def ref(visit: Visit) -> ConsumerRef:
    """The consumer in the address."""
    return ConsumerRef(visit.at("bucketName"), name=visit.at("consumerName"))


def consumer_url(visit: Visit, *parts: str) -> str:
    names = (visit.at("consumerName"), *parts)
    return "/".join([f"{visit.base}/consumers", *(quote(part, safe="") for part in names)])
