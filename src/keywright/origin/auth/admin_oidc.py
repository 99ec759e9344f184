"""Signing in to the admin portal with the identity provider, for those whose e-mail address has a role."""

from __future__ import annotations

import logging
from urllib.parse import quote

from fastapi import Request, Response

from keywright.domain.problems import Forbidden, NotFound
from keywright.origin.audit import rules as audit
from keywright.origin.auth import sessions
from keywright.origin.auth.oidc.flow import Journeys
from keywright.origin.auth.sessions import SignedIn, Team
from keywright.origin.pipeline.context import request_source_of
from keywright.origin.pipeline.rate_limit import RateLimiter
from keywright.origin.pipeline.services import Services
from keywright.origin.pipeline.unit_of_work import AuditDraft
from keywright.origin.web.request import Visit
from keywright.origin.web.router import Door, limit

log = logging.getLogger("keywright.origin")

JOURNEYS = Journeys("keywright-admin-journey", "/admin/sign-in/callback")
RETURNS_PER_SECOND = 1
RETURNS_AT_ONCE = 20
"""From one address: each has us ask the provider something."""


def url_of(visit: Visit, next: str) -> str:
    """Where the way to the provider begins."""
    return f"{visit.base}/sign-in/oidc?next={quote(next, safe='')}"


def register(door: Door) -> None:
    returns = RateLimiter(RETURNS_PER_SECOND, RETURNS_AT_ONCE)

    async def away(request: Request) -> Response:
        team = _team(request)
        return await JOURNEYS.leave(request, team.client, next=door.safe(request, request.query_params.get("next", "")))

    async def back(request: Request) -> Response:
        services: Services = request.app.state.services
        team = _team(request)
        limit(returns, request.client.host if request.client else "", "Too many sign-ins from your address.")
        arrival = await JOURNEYS.arrive(request, team.client)
        sub, email = arrival.claims.sub, arrival.claims.email
        audit_draft = AuditDraft("admin.sign-in")
        async with services.database.write() as tx:
            actor = await sessions.find_member(tx, team, sub, email)
            if actor is None:
                log.warning("a sign-in without a role was refused (request %s)", request.state.request_id)
                raise Forbidden(
                    f"{email} has no role here. Ask whoever runs this service to give it one, "
                    "or sign in with a management key."
                )
            visit = await door.open_visit(request, tx, audit_draft)
            audit_draft.account_id = actor.grantee.account_id
            who = SignedIn(sessions.PROVIDER, sub=sub, email=email)
            response = await visit.sign_in(who, door.safe(request, arrival.next), actor)
            origin = request_source_of(request, "portal")
            await audit.write(tx, actor=actor, audit_draft=audit_draft, source=origin, now=visit.work.now)
        JOURNEYS.end(request, response)
        return response

    door.bare(door.prefix + "/sign-in/oidc", away)
    door.bare(JOURNEYS.way_back, back)


def _team(request: Request) -> Team:
    services: Services = request.app.state.services
    if services.team is None:
        raise NotFound("Nobody signs in here with an identity provider.")
    return services.team
