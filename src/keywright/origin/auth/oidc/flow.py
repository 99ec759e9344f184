"""Owns a browser's journey to the identity provider and back, the same for every portal.

A journey is of the portal that it began in: its cookie, its way back and its MAC are that portal's own, so that none
can end in another. Nobody holds a transaction meanwhile: a slow provider must not use up the connections.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from keywright.domain.keyformat import Digester
from keywright.domain.problems import BadRequest, Forbidden, Problem, ServiceUnavailable
from keywright.origin.auth.oidc import authorization as flow
from keywright.origin.auth.oidc.authorization import Client, Journey, SignInRefused
from keywright.origin.auth.oidc.provider import ProviderUnavailable
from keywright.origin.auth.oidc.tokens import Claims, EmailNotVerified
from keywright.origin.pipeline.services import Services
from keywright.origin.web import cookies, pages

JOURNEY_SECONDS = 600

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Arrival:
    """Whom the provider vouches for, the `place` where the journey began, and the address to go on to."""

    claims: Claims
    place: str
    next: str


@dataclass(frozen=True, slots=True)
class Journeys:
    """Those of one portal. `way_back` is the address that is registered with the provider."""

    cookie: str
    way_back: str

    async def leave(self, request: Request, client: Client, *, next: str, place: str = "") -> Response:
        """Sends the browser to the provider. `place` has no dots."""
        services: Services = request.app.state.services
        url, journey = await _asking(
            flow.begin(
                client,
                redirect_uri=services.public_url + self.way_back,
                next=next,
                random_bytes=services.dependencies.random_bytes,
            )
        )
        response = RedirectResponse(url, 303, headers=pages.HEADERS)
        text = f"{place}.{journey.to_text()}"
        cookies.write(
            request, response, self.cookie, self._signed(services.dependencies.digester, text), seconds=JOURNEY_SECONDS
        )
        return response

    def place_of(self, request: Request) -> str:
        """Where the journey began. Raises BadRequest where none did."""
        return self._read(request)[0]

    async def arrive(self, request: Request, client: Client) -> Arrival:
        """What the browser has brought back, proved. Raises what the reader is to be told."""
        services: Services = request.app.state.services
        place, journey = self._read(request)
        answer = dict(request.query_params)
        claims = await _asking(flow.complete(client, journey, answer, services.dependencies.clock()))
        return Arrival(claims, place, journey.next)

    def end(self, request: Request, response: Response) -> None:
        cookies.delete(request, response, self.cookie)

    def _read(self, request: Request) -> tuple[str, Journey]:
        services: Services = request.app.state.services
        text, _, mac = cookies.read(request, self.cookie).rpartition(".")
        if not text or not hmac.compare_digest(
            f"{text}.{mac}".encode(), self._signed(services.dependencies.digester, text).encode()
        ):
            raise _not_begun()
        place, _, journey = text.partition(".")
        return place, Journey.from_text(journey)

    def _signed(self, digester: Digester, text: str) -> str:
        return f"{text}.{digester.digest(f'{self.cookie}{chr(10)}{text}').hex()}"


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


def _not_begun() -> Problem:
    return BadRequest(
        "This sign-in was not begun in this browser, or took too long. Begin again. You are not signed in."
    )
