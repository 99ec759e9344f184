"""Owns the browser's side of signing in with the identity provider: redirect and callback, the same for every portal.

What a browser was sent away with waits in a signed cookie. The cookie, the callback path and the MAC are the portal's
own, so that a sign-in that begins in one portal can't end in another. No transaction is open meanwhile: a slow provider
must not use up the connections.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from keywright.domain.keyformat import Digester
from keywright.domain.problems import BadRequest, Problem, ServiceUnavailable
from keywright.origin.auth.attempts import Attempt, Attempts
from keywright.origin.auth.oidc import authorization
from keywright.origin.auth.oidc.authorization import AuthorizationRequest, Client, SignInRefused
from keywright.origin.auth.oidc.provider import ProviderUnavailable
from keywright.origin.auth.oidc.tokens import Claims
from keywright.origin.pipeline.context import client_address_of
from keywright.origin.pipeline.services import Services
from keywright.origin.web import cookies, rendering

SIGN_IN_SECONDS = 600

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class SignInResult:
    """Whom the provider vouches for, the `context` in which the sign-in began, and the address to go on to."""

    claims: Claims
    context: str
    next: str


@dataclass(frozen=True, slots=True)
class OidcFlow:
    """The sign-in of one portal. `callback_path` is the address that is registered with the provider."""

    cookie: str
    callback_path: str

    async def start(self, request: Request, client: Client, *, next: str, context: str = "") -> Response:
        """Sends the browser to the provider. `context` has no dots."""
        services: Services = request.app.state.services
        url, pending = await _asking(
            authorization.begin(
                client,
                redirect_uri=services.public_url + self.callback_path,
                next=next,
                random_bytes=services.dependencies.random_bytes,
            )
        )
        response = RedirectResponse(url, 303, headers=rendering.HEADERS)
        text = f"{context}.{pending.to_text()}"
        cookies.write(
            request, response, self.cookie, self._signed(services.dependencies.digester, text), seconds=SIGN_IN_SECONDS
        )
        return response

    def context_of(self, request: Request) -> str:
        """The context that the sign-in began in. Raises BadRequest where none did."""
        return self._read(request)[0]

    async def finish(self, request: Request, client: Client, attempts: Attempts, known: str = "") -> SignInResult:
        """What the browser has brought back, proved. Raises what the reader is to be told.

        Only who began here is counted, by its cookie: nothing that a stranger sends can use up another's attempts.
        """
        services: Services = request.app.state.services
        context, pending = self._read(request)
        answer = dict(request.query_params)
        now = services.dependencies.clock()
        if not authorization.is_of(pending, answer):
            raise _not_started()
        with attempts.judging(Attempt(pending.state, client_address_of(request), known)):
            claims = await _asking(authorization.complete(client, pending, answer, now))
        return SignInResult(claims, context, pending.next)

    def clear(self, request: Request, response: Response) -> None:
        cookies.delete(request, response, self.cookie)

    def _read(self, request: Request) -> tuple[str, AuthorizationRequest]:
        services: Services = request.app.state.services
        text, _, mac = cookies.read(request, self.cookie).rpartition(".")
        if not text or not hmac.compare_digest(
            f"{text}.{mac}".encode(), self._signed(services.dependencies.digester, text).encode()
        ):
            raise _not_started()
        context, _, pending = text.partition(".")
        return context, AuthorizationRequest.from_text(pending)

    def _signed(self, digester: Digester, text: str) -> str:
        return f"{text}.{digester.digest(f'{self.cookie}{chr(10)}{text}').hex()}"


async def _asking(question: Awaitable[Answer]) -> Answer:
    """The provider's answer, or the page that tells what is wrong with it."""
    try:
        return await question
    except SignInRefused as error:
        raise BadRequest(f"{error} You are not signed in.") from None
    except ProviderUnavailable:
        detail = "The identity provider is not available. You are not signed in."
        raise ServiceUnavailable(detail, headers={"Retry-After": "10"}) from None


def _not_started() -> Problem:
    return BadRequest(
        "This sign-in was not started in this browser, or took too long. You are not signed in. Try again."
    )
