"""Signing in to the admin portal with the identity provider, for those whose e-mail address has a role."""

from __future__ import annotations

import logging
from urllib.parse import quote

from fastapi import Request, Response

from keywright.domain.problems import Forbidden, NotFound
from keywright.origin.audit import rules as audit
from keywright.origin.auth import bearer as auth
from keywright.origin.auth.bearer import Team
from keywright.origin.auth.oidc.flow import OidcFlow
from keywright.origin.auth.sessions import SignedIn
from keywright.origin.pipeline.context import request_source_of
from keywright.origin.pipeline.route import RateLimiter, Services
from keywright.origin.pipeline.unit_of_work import AuditDraft
from keywright.origin.web.request import PageRequest
from keywright.origin.web.router import PageRouter, limit

log = logging.getLogger("keywright.origin")

FLOW = OidcFlow("keywright-admin-journey", "/admin/sign-in/callback")
RETURNS_PER_SECOND = 1
RETURNS_AT_ONCE = 20
"""From one address: each has us ask the provider something."""


def url_of(visit: PageRequest, next: str) -> str:
    """Where the way to the provider begins."""
    return f"{visit.base}/sign-in/oidc?next={quote(next, safe='')}"


def register(router: PageRouter) -> None:
    callbacks = RateLimiter(RETURNS_PER_SECOND, RETURNS_AT_ONCE)

    async def away(request: Request) -> Response:
        team = _team(request)
        return await FLOW.start(request, team.client, next=router.safe(request, request.query_params.get("next", "")))

    async def back(request: Request) -> Response:
        services: Services = request.app.state.services
        team = _team(request)
        limit(callbacks, request.client.host if request.client else "", "Too many sign-ins from your address.")
        result = await FLOW.finish(request, team.client)
        sub, email = result.claims.sub, result.claims.email
        audit_draft = AuditDraft("admin.sign-in")
        async with services.database.write() as tx:
            actor = await auth.find_member(tx, team, sub, email)
            if actor is None:
                log.warning("a sign-in without a role was refused (request %s)", request.state.request_id)
                raise Forbidden(
                    f"{email} has no role here. Ask whoever runs this service to give it one, "
                    "or sign in with a management key."
                )
            visit = await router.open_request(request, tx, audit_draft)
            audit_draft.account_id = actor.grantee.account_id
            who = SignedIn(auth.PROVIDER, sub=sub, email=email)
            response = await visit.sign_in(who, router.safe(request, result.next), actor)
            origin = request_source_of(request, "portal")
            await audit.write(tx, actor=actor, audit_draft=audit_draft, origin=origin, now=visit.work.now)
        FLOW.clear(request, response)
        return response

    router.raw(router.prefix + "/sign-in/oidc", away)
    router.raw(FLOW.callback_path, back)


def _team(request: Request) -> Team:
    services: Services = request.app.state.services
    if services.team is None:
        raise NotFound("Nobody signs in here with an identity provider.")
    return services.team
