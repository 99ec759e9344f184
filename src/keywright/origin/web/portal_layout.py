"""Owns what stands around every page of a developer portal: the bucket, its owner's brand, and who is signed in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fastapi import Request, Response

from keywright.domain.models import Bucket
from keywright.domain.problems import Unauthorized
from keywright.domain.text import is_email
from keywright.origin.auth import sessions
from keywright.origin.auth.actors import Actor
from keywright.origin.auth.end_users import EndUser, portal_issuer
from keywright.origin.auth.sessions import Session
from keywright.origin.branding import rules as branding
from keywright.origin.branding.rules import Branding
from keywright.origin.db.transaction import Transaction
from keywright.origin.edges.rules import Outcome
from keywright.origin.pipeline.services import Services
from keywright.origin.pipeline.unit_of_work import UnitOfWork
from keywright.origin.self_serve import rules as self_serve
from keywright.origin.self_serve.rules import ConsumerRef
from keywright.origin.web.request import PageRequest

PORTAL = "portal"


@dataclass(frozen=True, slots=True)
class DeveloperPortal:
    """The portal that a page belongs to. `name` is how it calls itself."""

    bucket: Bucket
    brand: Branding
    name: str


async def resume(tx: Transaction, token: str, request: Request, is_held: bool) -> tuple[Session, Actor] | None:
    services: Services = request.app.state.services
    session = await sessions.find(tx, services.dependencies, PORTAL, token)
    if session is None or session.sub is None or not (session.email is None or is_email(session.email)):
        return None
    issuer = portal_issuer(services.end_users)
    if session.issuer != issuer:
        # It ends with its provider: another one may give somebody else the same subject.
        return None
    return session, EndUser(session.sub, session.email, issuer, session.connection).to_actor()


async def may_send(work: UnitOfWork, path: Mapping[str, str]) -> None:
    """Whether the user manages the consumer in an address, if there is one. Raises NotFound."""
    if "consumerName" in path:
        await self_serve.may_manage(work, path)


def describe_outcome(outcome: Outcome) -> str:
    """As users see it, who know nothing of edges."""
    if outcome.is_reached:
        return "This has taken effect everywhere."
    return "This may take a moment to take effect everywhere."


async def get_portal(request: PageRequest) -> DeveloperPortal:
    """The portal in the address, for anybody. Raises NotFound."""
    bucket = await self_serve.get_bucket(request.work, request.path_param("bucketName"))
    brand = await branding.of_bucket(request.work, bucket)
    return DeveloperPortal(bucket, brand, brand.name or bucket.name)


async def frame_of(work: UnitOfWork, http_request: Request) -> Mapping[str, Any]:
    """What stands around a refusal at an address of this portal. Raises NotFound where there is none."""
    bucket = await self_serve.get_bucket(work, str(http_request.path_params.get("bucketName", "")))
    brand = await branding.of_bucket(work, bucket)
    portal = DeveloperPortal(bucket, brand, brand.name or bucket.name)
    return {"layout": "developer/standalone.html", "portal": portal, "brand": brand}


def is_signed_in(request: PageRequest, portal: DeveloperPortal) -> bool:
    """Whether the session was begun in this portal: one is good for one bucket."""
    return request.session is not None and request.session.bucket_number == portal.bucket.number


async def require_sign_in(request: PageRequest) -> DeveloperPortal:
    """The portal in the address, for who is signed in to it. Raises NotFound and Unauthorized."""
    portal = await get_portal(request)
    if not is_signed_in(request, portal):
        raise Unauthorized("You are not signed in to this portal.")
    return portal


async def render_page(
    request: PageRequest, template: str, portal: DeveloperPortal, /, *, status: int = 200, **values: Any
) -> Response:
    return await request.render(f"developer/{template}", status, portal=portal, brand=portal.brand, **values)


async def render_confirmation(
    request: PageRequest, portal: DeveloperPortal, *, heading: str, lines: Sequence[str], button: str
) -> Response:
    """Asks once more before what can't be taken back."""
    return await request.render(
        "confirm.html",
        portal=portal,
        brand=portal.brand,
        heading=heading,
        lines=lines,
        button=button,
        back=consumer_url(request),
        typed="",
    )


def consumer_ref(request: PageRequest) -> ConsumerRef:
    """The consumer in the address."""
    return ConsumerRef(request.path_param("bucketName"), name=request.path_param("consumerName"))


def consumer_url(request: PageRequest, *parts: str) -> str:
    """An address of the consumer in the address, or below it."""
    return url_of_consumer(request, request.path_param("consumerName"), *parts)


def url_of_consumer(request: PageRequest, name: str, *parts: str) -> str:
    return "/".join([f"{request.base}/consumers", *(quote(part, safe="") for part in (name, *parts))])
