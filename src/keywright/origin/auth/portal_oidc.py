"""Signing in to a developer portal with the identity provider: there, and back to one address for all portals."""

from __future__ import annotations

from fastapi import Request, Response

from keywright.domain.problems import ServiceUnavailable
from keywright.origin.audit import rules as audit
from keywright.origin.auth.attempts import AttemptLimit, Pace
from keywright.origin.auth.end_users import EndUser
from keywright.origin.auth.oidc.authorization import Client
from keywright.origin.auth.oidc.flow import OidcFlow
from keywright.origin.auth.portal_sign_in import begin_session
from keywright.origin.pipeline.context import request_source_of
from keywright.origin.pipeline.services import Services
from keywright.origin.pipeline.unit_of_work import AuditDraft
from keywright.origin.web.portal_layout import get_portal
from keywright.origin.web.router import PageRouter
from keywright.origin.web.routes import RawRoute

CALLBACKS = AttemptLimit(Pace(0.1, 3), Pace(2, 60), "Too many attempts to sign in have failed.")
"""Each has us ask the provider something."""
FLOW = OidcFlow("keywright-journey", "/sign-in/callback")


async def start(router: PageRouter, http_request: Request) -> Response:
    """Sends the browser to the provider."""
    services: Services = http_request.app.state.services
    async with services.database.read() as tx:
        request = await router.open_request(http_request, tx, AuditDraft())
        await get_portal(request)
        next = request.safe_url(request.query("next"))
    return await FLOW.start(http_request, _client(services), next=next, context=request.path_param("bucketName"))


async def callback(router: PageRouter, http_request: Request) -> Response:
    """Signs in whom the provider vouches for, to the portal in which they began."""
    services: Services = http_request.app.state.services
    # Known before the provider is asked, so that what goes wrong is told in this portal.
    http_request.path_params["bucketName"] = FLOW.context_of(http_request)
    result = await FLOW.finish(http_request, _client(services), router.counts(CALLBACKS))
    audit_draft = AuditDraft("portal.sign-in")
    async with services.database.write() as tx:
        request = await router.open_request(http_request, tx, audit_draft)
        portal = await get_portal(request)
        issuer = _client(services).provider.issuer
        user = EndUser.of_provider(issuer, result.claims.sub, result.claims.email)
        response = await begin_session(request, portal, user, request.safe_url(result.next))
        source = request_source_of(http_request, "portal")
        await audit.write(tx, actor=request.work.actor, audit_draft=audit_draft, source=source, now=request.work.now)
    FLOW.clear(http_request, response)
    return response


def _client(services: Services) -> Client:
    end_users = services.end_users
    if end_users is None or end_users.client is None:
        raise ServiceUnavailable("This deployment has no identity provider.")
    return end_users.client


ROUTES = (
    RawRoute("/sign-in/oidc", start),
    RawRoute(FLOW.callback_path, callback, is_absolute=True),
)
