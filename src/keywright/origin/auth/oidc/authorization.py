"""Owns signing in with the identity provider: leading a browser there, and what it brings back (RFC 6749, 7636, 9207).

The authorization code flow with PKCE. What a browser was sent away with (`AuthorizationRequest`) waits in a cookie that
only we can have made; whoever comes back without it did not begin here.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

import httpx2

from keywright.domain.keyformat import Secret
from keywright.origin.auth.oidc import tokens, userinfo
from keywright.origin.auth.oidc.provider import FETCH_SECONDS, MAX_ANSWER_BYTES, Provider, ProviderUnavailable
from keywright.origin.auth.oidc.tokens import Claims, TokenRefused

log = logging.getLogger("keywright.oidc")

SCOPE = "openid email profile"


class SignInRefused(Exception):
    """The browser came back with something that proves nothing; the message is for whoever sits before it."""


@dataclass(frozen=True, slots=True)
class Client:
    """This deployment as the identity provider knows it. Without a secret it is a public client, safe by PKCE alone."""

    provider: Provider
    id: str
    secret: Secret | None


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """What a browser was sent away with. `verifier` proves that the code is redeemed by who asked for it."""

    state: str
    nonce: str
    verifier: str
    issuer: str
    redirect_uri: str
    next: str

    def to_text(self) -> str:
        fields = [self.state, self.nonce, self.verifier, self.issuer, self.redirect_uri, self.next]
        return base64.urlsafe_b64encode(json.dumps(fields).encode()).decode()

    @classmethod
    def from_text(cls, text: str) -> AuthorizationRequest:
        return cls(*json.loads(base64.urlsafe_b64decode(text)))


async def begin(
    client: Client, *, redirect_uri: str, next: str, random_bytes: Callable[[int], bytes]
) -> tuple[str, AuthorizationRequest]:
    """The address at the provider to send the browser to, and what to remember. Raises ProviderUnavailable."""
    published = await client.provider.published()
    if published.authorization_endpoint is None or published.token_endpoint is None:
        raise ProviderUnavailable("it has no authorization_endpoint or no token_endpoint")
    state, nonce, verifier = (_random(random_bytes) for _ in range(3))
    pending = AuthorizationRequest(state, nonce, verifier, published.issuer, redirect_uri, next)
    query = urlencode(
        {
            "response_type": "code",
            "client_id": client.id,
            "redirect_uri": redirect_uri,
            "scope": SCOPE,
            "state": state,
            "nonce": nonce,
            "code_challenge": _challenge(verifier),
            "code_challenge_method": "S256",
        }
    )
    separator = "&" if urlsplit(published.authorization_endpoint).query else "?"
    return f"{published.authorization_endpoint}{separator}{query}", pending


def is_of(pending: AuthorizationRequest, answer: Mapping[str, str]) -> bool:
    """Whether the browser came back from where it was sent."""
    return hmac.compare_digest(answer.get("state", "").encode(), pending.state.encode())


async def complete(client: Client, pending: AuthorizationRequest, answer: Mapping[str, str], now: datetime) -> Claims:
    """Who has signed in, from the query that the browser came back with.

    Raises SignInRefused and ProviderUnavailable.
    """
    if not is_of(pending, answer):
        raise SignInRefused("This sign-in was not started in this browser, or has already been completed.")
    published = await client.provider.published()
    issuer = answer.get("iss")
    # RFC 9207: the code of another provider must not be handed to this one, nor the other way round.
    if pending.issuer != published.issuer or issuer not in {published.issuer, None}:
        raise SignInRefused("The response came from a different identity provider.")
    if issuer is None and published.tells_issuer:
        raise SignInRefused("The response does not name its identity provider.")
    if "error" in answer:
        is_denied = answer["error"] == "access_denied"
        raise SignInRefused("Sign-in canceled." if is_denied else "The identity provider refused the sign-in.")
    code = answer.get("code", "")
    if not 1 <= len(code) <= tokens.MAX_LENGTH:
        raise SignInRefused("The identity provider's response is not complete.")
    id_token, access_token = await _redeem(
        client, str(published.token_endpoint), code, pending, in_body=published.takes_secret_in_body
    )
    try:
        claims = await tokens.verify_signature(id_token, client.provider)
        tokens.check_claims(claims, issuer=published.issuer, audiences={client.id}, now=now)
    except TokenRefused as error:
        raise SignInRefused(f"The identity provider's response was not accepted: {error}.") from None
    nonce = claims.get("nonce")
    if not isinstance(nonce, str) or not hmac.compare_digest(nonce.encode(), pending.nonce.encode()):
        raise SignInRefused("The identity provider's response belongs to another sign-in.")
    # OpenID Connect Core section 3.1.3.7: with several audiences, the one that it was issued to is named.
    if claims.get("azp", None if tokens.has_several_audiences(claims) else client.id) != client.id:
        raise SignInRefused("The identity provider's response was made for another client.")
    email = tokens.verified_email(claims)
    if email is None and access_token is not None:
        try:
            email = await userinfo.ask(client.provider, access_token, claims["sub"])
        except ProviderUnavailable as error:
            log.warning("signed in without the address that userinfo may tell: %s", error)
    return Claims(claims["sub"], email, claims)


async def _redeem(
    client: Client, endpoint: str, code: str, pending: AuthorizationRequest, *, in_body: bool
) -> tuple[str, str | None]:
    """The ID token, and the access token if there is one."""
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": pending.redirect_uri,
        "client_id": client.id,
        "code_verifier": pending.verifier,
    }
    headers = {"Accept": "application/json"}
    if client.secret is not None and in_body:
        form["client_secret"] = client.secret.reveal()
    elif client.secret is not None:
        # RFC 6749 section 2.3.1: both parts are form-encoded first.
        pair = f"{quote_plus(client.id)}:{quote_plus(client.secret.reveal())}"
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    try:
        async with asyncio.timeout(2 * FETCH_SECONDS), httpx2.AsyncClient() as http:
            answer = await http.post(endpoint, data=form, headers=headers)
        document: Any = answer.json() if len(answer.content) <= MAX_ANSWER_BYTES else None
    except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError, OSError) as error:
        raise ProviderUnavailable(f"{endpoint} can't be reached: {type(error).__name__}") from None
    except (ValueError, RecursionError):
        raise ProviderUnavailable(f"{endpoint} answered something that is not JSON") from None
    if answer.status_code in {400, 401, 403}:
        raise SignInRefused("The identity provider did not accept the code: it was used or has expired. Sign in again.")
    id_token = document.get("id_token") if isinstance(document, dict) else None
    if answer.status_code != 200 or not isinstance(id_token, str):
        raise ProviderUnavailable(f"{endpoint} answered {answer.status_code} without an id_token")
    access_token = document.get("access_token")
    # Only what can be a header (RFC 6750 section 2.1).
    is_usable = isinstance(access_token, str) and access_token.isascii() and access_token.isprintable()
    return id_token, access_token if is_usable else None


def _random(random_bytes: Callable[[int], bytes]) -> str:
    return base64.urlsafe_b64encode(random_bytes(32)).rstrip(b"=").decode()


def _challenge(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
