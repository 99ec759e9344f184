"""Signing in to a developer portal with the identity provider: away, and back to one address for all portals."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import TypeVar

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from keywright.core.keyformat import Digester
from keywright.core.problems import BadRequest, Forbidden, Problem, ServiceUnavailable
from keywright.origin.auth import EndUsers
from keywright.origin.http import Services
from keywright.origin.http.context import origin_of
from keywright.origin.oidc import sign_in as flow
from keywright.origin.oidc.provider import ProviderUnavailable
from keywright.origin.oidc.sign_in import Client, Journey, SignInRefused
from keywright.origin.oidc.tokens import EmailNotVerified
from keywright.origin.portal import cookies, pages
from keywright.origin.portal.developer import frame
from keywright.origin.portal.developer.frame import Place
from keywright.origin.portal.door import Door
from keywright.origin.portal.visit import Visit
from keywright.origin.service import audit
from keywright.origin.service.actor import Attempt
from keywright.origin.service.self_serve import EndUser

CALLBACK = "/sign-in/callback"
JOURNEY = "keywright-journey"
JOURNEY_SECONDS = 600

Begin = Callable[[Visit, Place, EndUser, str], Awaitable[Response]]
Answer = TypeVar("Answer")


def register(door: Door, services: Services, begin_session: Begin) -> None:
    # Neither holds a transaction while it waits for the provider: a slow one must not use up the connections.

    async def away(request: Request) -> Response:
        services = _services(request)
        async with services.database.read() as tx:
            visit = await door.open_visit(request, tx, Attempt())
            await frame.look(visit)
            next = door.safe(request, visit.ask("next"))
        url, journey = await _asking(
            flow.begin(
                _client(services),
                redirect_uri=services.public_url + CALLBACK,
                next=next,
                random_bytes=services.tools.random_bytes,
            )
        )
        response = RedirectResponse(url, 303, headers=pages.HEADERS)
        text = f"{request.path_params['bucketName']}.{journey.to_text()}"
        cookies.write(request, response, JOURNEY, _signed(services.tools.digester, text), seconds=JOURNEY_SECONDS)
        return response

    async def back(request: Request) -> Response:
        services = _services(request)
        bucket_name, journey = _read_journey(request, services.tools.digester)
        request.path_params["bucketName"] = bucket_name
        answer = dict(request.query_params)
        claims = await _asking(flow.complete(_client(services), journey, answer, services.tools.clock()))
        attempt = Attempt("portal.sign-in")
        async with services.database.write() as tx:
            visit = await door.open_visit(request, tx, attempt)
            place = await frame.look(visit)
            user = EndUser.of_provider(claims.sub, claims.email)
            response = await begin_session(visit, place, user, door.safe(request, journey.next))
            origin = origin_of(request, "portal")
            await audit.write(tx, actor=visit.work.actor, attempt=attempt, origin=origin, now=visit.work.now)
        cookies.delete(request, response, JOURNEY)
        return response

    door.bare(door.prefix + "/sign-in/oidc", away)
    door.bare(CALLBACK, back)


async def _asking(question: Awaitable[Answer]) -> Answer:
    """The provider's answer, or the page that tells what is wrong with it."""
    try:
        return await question
    except SignInRefused as error:
        raise BadRequest(f"{error} You are not signed in.") from None
    except EmailNotVerified:
        detail = "Your e-mail address is not verified there yet. Verify it with the identity provider, then sign in."
        raise Forbidden(detail) from None
    except ProviderUnavailable:
        detail = "The identity provider can't be reached or answers garbage. You are not signed in."
        raise ServiceUnavailable(detail, headers={"Retry-After": "10"}) from None


def _read_journey(request: Request, digester: Digester) -> tuple[str, Journey]:
    text, _, mac = cookies.read(request, JOURNEY).rpartition(".")
    if not text or not hmac.compare_digest(f"{text}.{mac}".encode(), _signed(digester, text).encode()):
        raise _not_begun()
    bucket_name, _, journey = text.partition(".")
    return bucket_name, Journey.from_text(journey)


def _not_begun() -> Problem:
    return BadRequest(
        "This sign-in was not begun in this browser, or took too long. Begin again. You are not signed in."
    )


def _signed(digester: Digester, text: str) -> str:
    return f"{text}.{digester.digest(f'keywright journey{chr(10)}{text}').hex()}"


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


def _client(services: Services) -> Client:
    end_users: EndUsers | None = services.end_users
    if end_users is None or end_users.client is None:
        raise ServiceUnavailable("This deployment has no identity provider.")
    return end_users.client
