"""Owns authentication: a credential becomes an Actor.

A credential is a management key, judged like every other key (domain/verdict.py); the session of a portal, which stands
on such a key or on the role of somebody whom the identity provider vouches for; or an end user's token, judged by what
that provider publishes (origin/auth/oidc/tokens.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from keywright.domain import keyformat
from keywright.domain.keyformat import Digester
from keywright.domain.models import Key, to_millis
from keywright.domain.permissions import Grantee
from keywright.domain.problems import Forbidden, ServiceUnavailable, Unauthorized
from keywright.domain.roles import Held, Role, least
from keywright.domain.verdict import ConsumerRecord, KeyRecord, Verdict, decide
from keywright.origin.accounts import store as account_rows
from keywright.origin.auth import sessions
from keywright.origin.auth.oidc import tokens
from keywright.origin.auth.oidc.authorization import Client
from keywright.origin.auth.oidc.provider import Provider, ProviderUnavailable
from keywright.origin.auth.oidc.tokens import EmailNotVerified, TokenRefused
from keywright.origin.auth.sessions import Session, SignedIn
from keywright.origin.db.engine import Transaction
from keywright.origin.keys import store as key_rows
from keywright.origin.pipeline.unit_of_work import Actor, ActorKind, Dependencies
from keywright.origin.self_serve.rules import EndUser

PROVIDER = "oidc"
"""How somebody came in whom the identity provider vouches for."""

CHALLENGE = 'Bearer realm="keywright"'


@dataclass(frozen=True, slots=True)
class EndUsers:
    """How end users prove who they are: the identity provider, and for whom its tokens must be meant."""

    provider: Provider
    audiences: frozenset[str]
    client: Client | None = None
    """How the developer portal signs users in; None where it sends links by e-mail."""


@dataclass(frozen=True, slots=True)
class Team:
    """The provider's own people: how they sign in to the admin portal, and what each may do there, by e-mail."""

    client: Client
    members: Mapping[str, Held]


def parse_management_key(authorization: str | None) -> str:
    """The management key in an Authorization header. Raises Unauthorized for what can be none; asks no database."""
    secret = parse_bearer(authorization, "management key")
    # A root key that was brought along may have any form, a wrong checksum among them.
    if not keyformat.is_valid_custom(secret):
        raise _invalid()
    return secret


def parse_bearer(authorization: str | None, what: str) -> str:
    """What an Authorization header bears (RFC 6750 section 2.1). Raises Unauthorized."""
    if authorization is None:
        # RFC 6750 section 3.1: no error code where no credential was shown.
        raise Unauthorized(f"Send a {what}: Authorization: Bearer <{what}>.", headers=_challenge())
    scheme, _, borne = authorization.partition(" ")
    borne = borne.strip(" ")
    if scheme.lower() != "bearer" or not borne:
        raise Unauthorized(f"The Authorization header must be: Bearer <{what}>.", headers=_challenge())
    return borne


async def authenticate(
    tx: Transaction, secret: str, digester: Digester, now: datetime, *, is_held: bool = False
) -> Actor:
    """The actor behind a management key. Raises Unauthorized.

    With `is_held` the key can't be revoked until the transaction ends: what is done with it was done before.
    """
    found = await _find_actor(tx, digester.digest(secret), now, is_held=is_held)
    if found is None:
        raise _invalid()
    return found[0]


async def sign_in(tx: Transaction, secret: str, dependencies: Dependencies) -> tuple[Actor, SignedIn] | None:
    """Who a management key signs in to a portal, and what the session is to stand on; None if it is no good."""
    if not keyformat.is_valid_custom(secret):
        return None
    found = await _find_actor(tx, dependencies.digester.digest(secret), dependencies.clock(), is_held=True)
    return None if found is None else (found[0], SignedIn(found[0].connection or "", key_number=found[1].number))


async def resume(
    tx: Transaction,
    portal: str,
    token: str,
    dependencies: Dependencies,
    team: Team | None,
    *,
    account_name: str | None = None,
    is_held: bool = False,
) -> tuple[Session, Actor] | None:
    """The session of a cookie and who acts in it; None if it is over, or the key or the role that it stands on.

    Whoever has roles in several accounts acts in the one of that name.
    """
    session = await sessions.find(tx, dependencies, portal, token)
    if session is None:
        return None
    if session.key_number is None:
        # Asked anew each time: a role that was changed or taken away is so from the next request on.
        member = await find_member(tx, team, session.sub, session.email, account_name)
        return None if member is None else (session, member)
    found = await _find_actor(tx, session.key_number, dependencies.clock(), is_held=is_held)
    return None if found is None else (session, found[0])


async def find_member(
    tx: Transaction, team: Team | None, sub: str | None, email: str | None, account_name: str | None = None
) -> Actor | None:
    """The actor behind a verified e-mail address, if it has a role in an account that there is.

    Of several accounts the one of that name, else the first one that the setting names.
    """
    held = team.members.get(email) if team is not None and email is not None else None
    if held is None or sub is None:
        return None
    roles: dict[str, Role] = {}
    chosen = None
    for name, role in held.items():
        account = await (account_rows.find_first(tx) if name is None else account_rows.find_account(tx, name))
        if account is None:
            continue
        # The account that the deployment was started with may be named as well: two roles in it are the lesser one.
        roles[account.id] = least({role, roles.get(account.id, role)})
        if chosen is None or account.name == account_name:
            chosen = account.id
    if chosen is None:
        return None
    return Actor(
        sub,
        ActorKind.USER,
        Grantee(chosen, roles[chosen].permissions),
        email=email,
        connection=PROVIDER,
        owns_buckets=roles[chosen] is Role.ADMIN,
        account_ids=tuple(roles),
    )


async def _find_actor(
    tx: Transaction, digest_or_number: bytes | int, now: datetime, *, is_held: bool
) -> tuple[Actor, Key] | None:
    """The actor behind a management key, if the key is good now."""
    found = await key_rows.find_management_key(tx, digest_or_number, is_held=is_held)
    if found is None:
        return None
    key, name, metadata = found
    expires_at = None if key.expires_at is None else to_millis(key.expires_at)
    record = KeyRecord(key.id, key.consumer_number, expires_at)
    result = decide(record, ConsumerRecord(name, name, b""), to_millis(now))
    if result.verdict is not Verdict.VALID:
        return None
    grantee = Grantee.from_json(metadata)
    actor = Actor(
        key.id,
        ActorKind.SERVICE,
        grantee,
        connection="management-key",
        description=key.description,
        expires_at=key.expires_at,
    )
    return actor, key


async def authenticate_end_user(token: str, end_users: EndUsers | None, now: datetime) -> EndUser:
    """The user whom the identity provider vouches for. Raises Unauthorized, Forbidden and ServiceUnavailable."""
    if end_users is None:
        raise ServiceUnavailable("This deployment has no identity provider for end users (KEYWRIGHT_OIDC_ISSUER).")
    try:
        claims = await tokens.verify(token, end_users.provider, end_users.audiences, now)
    except TokenRefused as error:
        raise Unauthorized(f"The token is refused: {error}.", headers=_challenge("invalid_token")) from None
    except EmailNotVerified as error:
        raise Forbidden(str(error)) from None
    except ProviderUnavailable:
        detail = "The identity provider can't be reached or answers garbage; nothing was changed."
        raise ServiceUnavailable(detail, headers={"Retry-After": "10"}) from None
    return EndUser.of_provider(claims.sub, claims.email)


def _invalid() -> Unauthorized:
    return Unauthorized("The management key is not valid.", headers=_challenge("invalid_token"))


def _challenge(error: str | None = None) -> dict[str, str]:
    return {"WWW-Authenticate": CHALLENGE + (f', error="{error}"' if error else "")}
