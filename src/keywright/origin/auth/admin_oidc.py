"""Signing in to the admin portal with the identity provider, for those whose e-mail address has a role."""

from __future__ import annotations

import logging
from urllib.parse import quote

from fastapi import Request, Response

from keywright.domain.problems import Forbidden, NotFound
from keywright.origin.audit import rules as audit
from keywright.origin.auth import sessions
from keywright.origin.auth.attempts import AttemptLimit, Pace
from keywright.origin.auth.oidc.flow import OidcFlow
from keywright.origin.auth.sessions import SignedIn, Team
from keywright.origin.pipeline.context import client_address_of, request_source_of
from keywright.origin.pipeline.services import Services
from keywright.origin.pipeline.unit_of_work import AuditDraft
from keywright.origin.web import browsers, cookies
from keywright.origin.web.request import PageRequest
from keywright.origin.web.router import PageRouter
from keywright.origin.web.routes import RawRoute

log = logging.getLogger("keywright.origin")

FLOW = OidcFlow("keywright-admin-journey", "/admin/sign-in/callback")
CALLBACKS = AttemptLimit(Pace(0.1, 3), Pace(2, 60), "Too many attempts to sign in have failed.")
"""Each has us ask the provider something."""


def url_of(request: PageRequest, next: str) -> str:
    """Where the way to the provider begins."""
    return f"{request.base}/sign-in/oidc?next={quote(next, safe='')}"


async def start(router: PageRouter, http_request: Request) -> Response:
    """Sends the browser to the provider."""
    next = router.safe_url(http_request, http_request.query_params.get("next", ""))
    return await FLOW.start(http_request, _team(http_request).client, next=next)


async def callback(router: PageRouter, http_request: Request) -> Response:
    """Signs in whom the provider vouches for, if they have a role here. Raises Forbidden for others."""
    services: Services = http_request.app.state.services
    team = _team(http_request)
    token = cookies.read(http_request, router.known_cookie)
    known = browsers.known_as(services.dependencies.digester, token, router.name, "")
    result = await FLOW.finish(http_request, team.client, router.counts(CALLBACKS), known)
    sub, email = result.claims.sub, result.claims.email
    if email is None:
        # Roles are by address.
        raise Forbidden("Your e-mail address is not verified. Verify it with the identity provider, then sign in.")
    audit_draft = AuditDraft("admin.sign-in")
    async with services.database.write() as tx:
        actor = await sessions.find_member(tx, team, sub, email)
        if actor is None:
            source_address, request_id = client_address_of(http_request), http_request.state.request_id
            log.warning("a sign-in without a role was refused (%s, request %s)", source_address, request_id)
            raise Forbidden(
                f"{email} has no role here. Ask your administrator for one, or sign in with a management key."
            )
        request = await router.open_request(http_request, tx, audit_draft)
        audit_draft.account_id = actor.grantee.account_id
        who = SignedIn(sessions.PROVIDER, sub=sub, email=email, issuer=team.client.provider.issuer)
        response = await request.sign_in(who, router.safe_url(http_request, result.next), actor)
        source = request_source_of(http_request, "portal")
        await audit.write(tx, actor=actor, audit_draft=audit_draft, source=source, now=request.work.now)
    FLOW.clear(http_request, response)
    return response


def _team(http_request: Request) -> Team:
    services: Services = http_request.app.state.services
    if services.team is None:
        raise NotFound("This portal has no identity provider.")
    return services.team


ROUTES = (
    RawRoute("/sign-in/oidc", start),
    RawRoute(FLOW.callback_path, callback, is_absolute=True),
)
