"""Owns who an end user is: whom the identity provider vouches for with a token, or who opened a link sent by e-mail."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime

from keywright.domain.permissions import Grantee, Permissions
from keywright.domain.problems import Forbidden, NotFound, ServiceUnavailable, Unauthorized
from keywright.origin.auth.actors import EMAIL_LINK_ISSUER, EMAIL_LINK_SUBJECT, Actor, ActorKind
from keywright.origin.auth.bearer import challenge
from keywright.origin.auth.oidc import tokens
from keywright.origin.auth.oidc.authorization import Client
from keywright.origin.auth.oidc.provider import Provider, ProviderUnavailable
from keywright.origin.auth.oidc.tokens import TokenRefused
from keywright.origin.auth.oidc.userinfo import UserInfo

EMAIL_LINK = "email-link"


@dataclass(frozen=True, slots=True)
class EndUser:
    """Somebody who has proved who they are: `sub` as the identity provider has it, and a verified e-mail address.

    Without an address a user can use what they manage, but neither accept an invite nor create a consumer.
    """

    sub: str
    email: str | None
    issuer: str
    connection: str = "oidc"

    @classmethod
    def of_provider(cls, issuer: str, sub: str, email: str | None) -> EndUser:
        """Whom the identity provider vouches for. Raises Forbidden."""
        if sub.startswith(EMAIL_LINK_SUBJECT):
            # Subjects of this form are of users who came by link; no provider may name one of them.
            raise Forbidden("The identity provider names this user in a form that is reserved for sign-in links.")
        return cls(sub, email, issuer)

    @classmethod
    def of_link(cls, email: str) -> EndUser:
        """Whoever opened a link that was sent to this address."""
        return cls(EMAIL_LINK_SUBJECT + email.lower(), email.lower(), EMAIL_LINK_ISSUER, EMAIL_LINK)

    def to_actor(self) -> Actor:
        """No rights at all: what the user may do follows from being a manager."""
        email = self.email.lower() if self.email is not None else None
        return Actor(
            self.sub,
            ActorKind.USER,
            Grantee("", Permissions()),
            email=email,
            connection=self.connection,
            issuer=self.issuer,
        )


@dataclass(frozen=True, slots=True)
class EndUsers:
    """How end users prove who they are: the identity provider, and for whom its tokens must be meant."""

    provider: Provider
    audiences: frozenset[str] | None
    """None: tokens of the provider are taken whoever they are meant for."""
    parties: frozenset[str] = frozenset()
    """The clients that may hold a token which is meant for others besides us."""
    client: Client | None = None
    """How the developer portal signs users in; None where it sends links by e-mail."""
    userinfo: UserInfo = field(default_factory=UserInfo)


def portal_issuer(end_users: EndUsers | None) -> str:
    """By whose word users are signed in to the developer portals. A session by another's has ended."""
    client = end_users.client if end_users is not None else None
    return EMAIL_LINK_ISSUER if client is None else client.provider.issuer


async def authenticate_end_user(token: str, end_users: EndUsers | None, now: datetime) -> EndUser:
    """The user whom the identity provider vouches for. Raises Unauthorized, Forbidden and ServiceUnavailable."""
    if end_users is None:
        # 404, not 503: it is no matter of time, and clients try a 503 again for ever.
        raise NotFound(
            "Self-serve is off: this deployment has no identity provider for end users (KEYWRIGHT_OIDC_ISSUER)."
        )
    try:
        claims = await tokens.verify(token, end_users.provider, end_users.audiences, now, end_users.parties)
    except TokenRefused as error:
        raise Unauthorized(f"The token is refused: {error}.", headers=challenge("invalid_token")) from None
    except ProviderUnavailable:
        detail = "The identity provider can't be reached or answers garbage; nothing was changed."
        raise ServiceUnavailable(detail, headers={"Retry-After": "10"}) from None
    user = EndUser.of_provider(end_users.provider.issuer, claims.sub, claims.email)
    if user.email is not None:
        return user
    return replace(user, email=await end_users.userinfo.find_verified_email(end_users.provider, token, user.sub))
