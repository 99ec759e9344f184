"""Signing in to a developer portal with the identity provider: away, and back to one address for all portals."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import Request, Response

from keywright.domain.problems import ServiceUnavailable
from keywright.origin.audit import rules as audit
from keywright.origin.auth.oidc.authorization import Client
from keywright.origin.auth.oidc.flow import OidcFlow
from keywright.origin.pipeline.context import request_source_of
from keywright.origin.pipeline.route import Services
from keywright.origin.pipeline.unit_of_work import AuditDraft
from keywright.origin.self_serve.rules import EndUser
from keywright.origin.web import portal_layout
from keywright.origin.web.portal_layout import DeveloperPortal
from keywright.origin.web.request import PageRequest
from keywright.origin.web.router import PageRouter

FLOW = OidcFlow("keywright-journey", "/sign-in/callback")

Begin = Callable[[PageRequest, DeveloperPortal, EndUser, str], Awaitable[Response]]


def register(router: PageRouter, begin_session: Begin) -> None:
    async def away(request: Request) -> Response:
        services: Services = request.app.state.services
        async with services.database.read() as tx:
            visit = await router.open_request(request, tx, AuditDraft())
            await portal_layout.get_portal(visit)
            next = router.safe(request, visit.query("next"))
        return await FLOW.start(request, _client(services), next=next, context=visit.path_param("bucketName"))

    async def back(request: Request) -> Response:
        services: Services = request.app.state.services
        # Told before the provider is asked, so that what goes wrong is told in this portal.
        request.path_params["bucketName"] = FLOW.context_of(request)
        result = await FLOW.finish(request, _client(services))
        audit_draft = AuditDraft("portal.sign-in")
        async with services.database.write() as tx:
            visit = await router.open_request(request, tx, audit_draft)
            portal = await portal_layout.get_portal(visit)
            user = EndUser.of_provider(result.claims.sub, result.claims.email)
            response = await begin_session(visit, portal, user, router.safe(request, result.next))
            origin = request_source_of(request, "portal")
            await audit.write(tx, actor=visit.work.actor, audit_draft=audit_draft, origin=origin, now=visit.work.now)
        FLOW.clear(request, response)
        return response

    router.raw(router.prefix + "/sign-in/oidc", away)
    router.raw(FLOW.callback_path, back)


def _client(services: Services) -> Client:
    end_users = services.end_users
    if end_users is None or end_users.client is None:
        raise ServiceUnavailable("This deployment has no identity provider.")
    return end_users.client
