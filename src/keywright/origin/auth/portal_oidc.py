"""Signing in to a developer portal with the identity provider: away, and back to one address for all portals."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import Request, Response

from keywright.domain.problems import ServiceUnavailable
from keywright.origin.audit import rules as audit
from keywright.origin.auth.end_users import EndUser
from keywright.origin.auth.oidc.authorization import Client
from keywright.origin.auth.oidc.flow import Journeys
from keywright.origin.pipeline.context import request_source_of
from keywright.origin.pipeline.services import Services
from keywright.origin.pipeline.unit_of_work import AuditDraft
from keywright.origin.web import portal_layout as frame
from keywright.origin.web.portal_layout import Place
from keywright.origin.web.request import Visit
from keywright.origin.web.router import Door

JOURNEYS = Journeys("keywright-journey", "/sign-in/callback")

Begin = Callable[[Visit, Place, EndUser, str], Awaitable[Response]]


def register(door: Door, begin_session: Begin) -> None:
    async def away(request: Request) -> Response:
        services: Services = request.app.state.services
        async with services.database.read() as tx:
            visit = await door.open_visit(request, tx, AuditDraft())
            await frame.look(visit)
            next = door.safe(request, visit.ask("next"))
        return await JOURNEYS.leave(request, _client(services), next=next, place=visit.at("bucketName"))

    async def back(request: Request) -> Response:
        services: Services = request.app.state.services
        # Told before the provider is asked, so that what goes wrong is told in this portal.
        request.path_params["bucketName"] = JOURNEYS.place_of(request)
        arrival = await JOURNEYS.arrive(request, _client(services))
        audit_draft = AuditDraft("portal.sign-in")
        async with services.database.write() as tx:
            visit = await door.open_visit(request, tx, audit_draft)
            place = await frame.look(visit)
            user = EndUser.of_provider(arrival.claims.sub, arrival.claims.email)
            response = await begin_session(visit, place, user, door.safe(request, arrival.next))
            origin = request_source_of(request, "portal")
            await audit.write(tx, actor=visit.work.actor, audit_draft=audit_draft, source=origin, now=visit.work.now)
        JOURNEYS.end(request, response)
        return response

    door.bare(door.prefix + "/sign-in/oidc", away)
    door.bare(JOURNEYS.way_back, back)


def _client(services: Services) -> Client:
    end_users = services.end_users
    if end_users is None or end_users.client is None:
        raise ServiceUnavailable("This deployment has no identity provider.")
    return end_users.client
